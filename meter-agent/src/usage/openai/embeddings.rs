//! Embeddings: `POST .../embeddings`. Input only, in one document.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    fallback::{Fallback, kept_text},
    input, model_of,
    usage::ChatUsage,
};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Quality, Quantity, Reader, Reading, RequestFacts, Unreadable,
    edit::RawObject,
    json::{Count, lenient, parse, text},
    read::JsonReader,
    reported::Charged,
};

/// Around the inputs: marks of their beginning and end, beyond those of each.
const FRAMING_TOKENS: u64 = 16;

/// What some providers put before every input when told what it is for: a sentence.
const PURPOSE_TOKENS: u64 = 24;

pub(super) fn request(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let purposes = if object.has("input_type") { items(object.get("input")).saturating_mul(PURPOSE_TOKENS) } else { 0 };
    Ok(RequestFacts {
        model: model_of(call, &object),
        // Inputs may also be given as token numbers, which count by their digits.
        input_bound: input::text(body)?.saturating_add(FRAMING_TOKENS).saturating_add(purposes),
        choices: 1,
        no_output: true,
        // What a purpose adds is not in the text.
        text: kept_text(body).filter(|_| purposes == 0),
        ..RequestFacts::default()
    })
}

/// Elements of a list; anything else is one.
pub(super) fn items(raw: Option<&str>) -> u64 {
    raw.and_then(|raw| parse::<Vec<IgnoredAny>>(raw.as_bytes())).map_or(1, |all| all.len() as u64)
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Charged<ChatUsage>>,
    /// Cohere's place for it, which some gateways keep.
    #[serde(default, deserialize_with = "lenient")]
    meta: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    #[serde(deserialize_with = "lenient")]
    billed_units: Option<BilledUnits>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BilledUnits {
    search_units: Count,
}

/// Also Rerank's, whose answer says its usage in the same way.
pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
    let (fallback, quirks) = (Fallback::of(call, facts), call.quirks);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end: BodyEnd| {
        let Some(answer) = body.and_then(parse::<Answer>) else { return fallback.of_document(None, b"", end) };
        let searches = answer.meta.and_then(|m| m.billed_units).unwrap_or_default().search_units.get();
        let mut reading = match answer.usage.filter(|u| u.usage.is_stated() || u.charge.is_some()) {
            Some(usage) => {
                let tokens = usage.usage.usage(quirks);
                Reading { reported: usage.charge, ..Reading::of(Quality::Exact, tokens) }
            }
            None if searches > 0 => Reading::nothing(),
            None => return fallback.of_document(answer.model, b"", end),
        };
        if searches > 0 {
            reading.units.insert("search_units".into(), Quantity::whole(searches));
        }
        Reading { model: fallback.model(answer.model), ..reading }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        money::Pico,
        usage::{Billing, Endpoint},
    };

    const CALL: Call<'_> =
        Call::new(Endpoint { name: "embeddings", billing: Billing::Metered }, "/openai/deployments/ada/embeddings");

    fn facts() -> RequestFacts {
        request(&CALL, &Bytes::from_static(br#"{"model":"text-embedding-3-small","input":"hi"}"#)).unwrap()
    }

    fn read(body: &str, end: BodyEnd) -> Reading {
        let mut reader = reader(&CALL, &facts(), AnswerHead::new(200, "application/json"));
        reader.feed(body.as_bytes());
        reader.finish(end)
    }

    #[test]
    fn input_is_read_and_nothing_else() {
        assert!(facts().no_output && !facts().can_clamp);
        let body = r#"{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":2,"total_tokens":2}}"#;
        let got = read(body, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 2, 0));
        assert_eq!(got.model.as_deref(), Some("text-embedding-3-small"), "the request's, where the answer has none");
    }

    #[test]
    fn a_charge_and_a_total_alone_are_enough() {
        let got = read(r#"{"model":"v","usage":{"total_tokens":12,"cost":1.4e-7}}"#, BodyEnd::Complete);
        assert_eq!((got.usage.input_tokens, got.reported), (12, Some(Pico::new(140_000))));
        assert_eq!(got.model.as_deref(), Some("v"));
    }

    #[test]
    fn without_usage_the_input_is_counted() {
        for body in ["", "{\"data\":[", "{\"embedding\":[1]}"] {
            let got = read(body, BodyEnd::Complete);
            assert_eq!((got.quality, got.usage.output_tokens), (Quality::Estimated, 0), "{body}");
            assert!((1..20).contains(&got.usage.input_tokens), "{}", got.usage.input_tokens);
        }
    }

    #[test]
    fn a_deployment_names_the_model_where_the_body_does_not() {
        let got = request(&CALL, &Bytes::from_static(br#"{"input":"hi"}"#)).unwrap();
        assert_eq!(got.model.as_deref(), Some("ada"));
    }
}
