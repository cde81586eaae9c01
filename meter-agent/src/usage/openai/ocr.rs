//! Document reading: `POST .../ocr` (Mistral), priced by the page.
//!
//! Source: the OCR reference at docs.mistral.ai.

use serde::{Deserialize, de::IgnoredAny};

use super::{
    ask::Ask,
    tokens::{Tokens, lenient},
};
use crate::usage::{
    BodyEnd, Call, Quality, Quantity, Reader, Reading, RequestFacts, Units, Unreadable,
    json::{Count, or_default, parse, text},
    read::JsonReader,
    reported::Charged,
};

/// Most pages of one document.
const PAGES_MAX: u64 = 1_000;

pub(super) fn request(call: &Call<'_>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let ask = Ask::of(call, body)?;
    Ok(RequestFacts {
        model: ask.text("model"),
        // How many pages a document has shows only when it is read.
        units: Units::from([("ocr_pages".into(), Quantity::whole(PAGES_MAX))]),
        choices: 1,
        no_output: true,
        ..RequestFacts::default()
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage_info: Option<Pages>,
    #[serde(deserialize_with = "or_default")]
    pages: Vec<IgnoredAny>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Charged<Tokens>>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Pages {
    pages_processed: Count,
}

pub(super) fn reader(facts: &RequestFacts) -> Box<dyn Reader> {
    let asked = facts.model.clone();
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        let answer: Answer = body.and_then(parse).unwrap_or_default();
        let stated = answer.usage_info.and_then(|info| info.pages_processed.0);
        let pages = stated.unwrap_or(answer.pages.len() as u64);
        let quality = match stated {
            Some(_) => Quality::Exact,
            None if pages > 0 => Quality::Estimated,
            None => Quality::Absent,
        };
        let units = (pages > 0).then(|| ("ocr_pages".into(), Quantity::whole(pages)));
        Reading {
            model: answer.model.or(asked),
            usage: answer.usage.unwrap_or_default().usage.usage(),
            reported: answer.usage.and_then(|u| u.charge),
            units: units.into_iter().collect::<Units>(),
            quality,
            ..Reading::nothing()
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Reading {
        let facts = RequestFacts { model: Some("mistral-ocr-latest".to_owned()), ..RequestFacts::default() };
        let mut reader = reader(&facts);
        reader.feed(body.as_bytes());
        reader.finish(BodyEnd::Complete)
    }

    #[test]
    fn pages_are_what_is_billed() {
        let got = read(r#"{"model":"mistral-ocr-2505","pages":[{},{}],"usage_info":{"pages_processed":3}}"#);
        assert_eq!((got.quality, got.units["ocr_pages"]), (Quality::Exact, Quantity::whole(3)));
        let got = read(r#"{"pages":[{},{}]}"#);
        assert_eq!((got.quality, got.units["ocr_pages"]), (Quality::Estimated, Quantity::whole(2)));
        assert_eq!(read("{").quality, Quality::Absent);
    }
}
