//! Legacy Completions: `POST .../completions`, and what has kept its path (fill in the middle, prompt templates).
//!
//! The answer has the shape of a chat's, with `text` in place of messages; `completion_tokens` may be missing when
//! nothing was generated. Every prompt of a list gets its own answers.

use bytes::Bytes;

use super::{chat, fallback::kept_text, input, model_of};
use crate::usage::{
    AnswerHead, Call, Reader, RequestFacts, Rewrite, Unreadable, edit::RawObject, fallbacks, json::parse,
};

/// Around the prompts: marks of beginning, and of fill in the middle.
const FRAMING_TOKENS: u64 = 16;

pub(super) fn request(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let stream = object.is_true("stream");
    let asked = object.count("n").unwrap_or(1).max(1);
    let generated = object.count("best_of").unwrap_or(1).max(asked);
    let prompts = object.get("prompt").map_or(1, prompts);
    let mut model = model_of(call, &object);
    let fallbacks = fallbacks::read(&object, &mut model)?;
    Ok(RequestFacts {
        stream,
        model,
        fallbacks,
        // A prompt may also be given as token numbers, which count by their digits.
        input_bound: input::text(body)?.saturating_add(FRAMING_TOKENS.saturating_mul(prompts)),
        // A template that the provider holds is not in the request, nor are the messages of a chat that it makes.
        input_unbounded: !object.has("prompt"),
        ceiling: object.count("max_tokens").max(object.count("max_completion_tokens")),
        choices: generated.saturating_mul(prompts),
        service_tier: object.text("service_tier"),
        must_ask_usage: stream && !chat::asks_usage(&object),
        can_clamp: true,
        // Of `best_of` only the best are seen.
        hidden_output: generated > asked,
        text: kept_text(body),
        ..RequestFacts::default()
    })
}

/// How many prompts the member holds: a text or a list of token numbers is one.
fn prompts(raw: &str) -> u64 {
    if !raw.starts_with('[') {
        return 1;
    }
    let items: Vec<serde_json::Value> = parse(raw.as_bytes()).unwrap_or_default();
    let one = items.iter().all(serde_json::Value::is_number);
    if one { 1 } else { items.len() as u64 }
}

pub(super) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if rewrite.ask_usage {
        chat::ask_usage(&mut object)?;
    }
    if let Some(ceiling) = rewrite.ceiling {
        object.set("max_tokens", ceiling.to_string());
        if object.has("max_completion_tokens") {
            object.set("max_completion_tokens", ceiling.to_string());
        }
    }
    Ok(object.write().into_bytes())
}

pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    chat::reader(call, facts, head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, BodyEnd, Endpoint, Quality, Reading};

    const CALL: Call<'_> =
        Call::new(Endpoint { name: "completions", billing: Billing::Metered }, "/v1/engines/davinci/completions");

    fn facts(body: &str) -> RequestFacts {
        request(&CALL, &Bytes::from(body.to_owned())).unwrap()
    }

    fn read(facts: &RequestFacts, kind: &str, body: &str) -> Reading {
        let mut reader = reader(&CALL, facts, AnswerHead::new(200, kind));
        reader.feed(body.as_bytes());
        reader.finish(BodyEnd::Complete)
    }

    #[test]
    fn completion_tokens_may_be_missing() {
        let facts = facts(r#"{"model":"gpt-3.5-turbo-instruct","prompt":"Hi"}"#);
        let body = r#"{"model":"m","choices":[{"text":""}],"usage":{"prompt_tokens":7,"total_tokens":7}}"#;
        let got = read(&facts, "application/json", body);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 7, 0));
    }

    #[test]
    fn every_prompt_has_its_own_answers() {
        for (body, choices, hidden) in [
            (r#"{"prompt":"a"}"#, 1, false),
            (r#"{"prompt":["a","b"],"n":3}"#, 6, false),
            (r#"{"prompt":[1,2,3]}"#, 1, false),
            (r#"{"prompt":[[1,2],[3]],"best_of":4}"#, 8, true),
        ] {
            let got = facts(body);
            assert_eq!((got.choices, got.hidden_output, got.input_unbounded), (choices, hidden, false), "{body}");
        }
        assert!(facts(r#"{"variables":{}}"#).input_unbounded);
    }

    #[test]
    fn a_stream_without_usage_is_counted() {
        let facts = facts(r#"{"prompt":"Hello, world","max_tokens":100,"stream":true}"#);
        assert_eq!(facts.model.as_deref(), Some("davinci"));
        assert!(facts.must_ask_usage);
        let body = "data: {\"choices\":[{\"text\":\" that\"}],\"model\":\"davinci-002\"}\n\ndata: [DONE]\n\n";
        let got = read(&facts, "text/event-stream", body);
        assert_eq!(got.quality, Quality::Estimated);
        assert!((3..20).contains(&got.usage.input_tokens), "{}", got.usage.input_tokens);
        assert!((1..=100).contains(&got.usage.output_tokens), "{}", got.usage.output_tokens);
    }

    #[test]
    fn a_ceiling_goes_into_the_fields_own_name() {
        let all = Rewrite { ask_usage: true, ceiling: Some(7) };
        let done = rewrite(br#"{"prompt":"a"}"#, all).unwrap();
        let want = r#"{"prompt":"a","stream_options":{"include_usage":true},"max_tokens":7}"#;
        assert_eq!(String::from_utf8(done).unwrap(), want);
    }
}
