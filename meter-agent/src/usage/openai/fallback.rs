//! What an answer without usage must have used: counted from the request and from the text that was generated.
//!
//! Not on the way of an answer that says its usage: the request's bytes are only held, and looked at when the answer
//! has ended without. The count is never below what can have been billed: framing is added per message, tool and
//! object, a chunk is a token at least, and a cut adds what `estimate` allows for it. Nor is it above what was held:
//! the input bound and the ceiling still bound it.
//!
//! Source of the framing: "How to count tokens with tiktoken" in OpenAI's cookbook (three or four tokens a message,
//! three before the answer).

use bytes::Bytes;
use serde_json::Value;

use super::{delta::Generated, input::preamble};
use crate::usage::{
    BodyEnd, Call, Quality, Reading, RequestFacts,
    estimate::Bounds,
    tokens::{self, MAX_COUNTED_BYTES, Tokenizer},
};

/// Around an input that is no chat: marks of its beginning and end.
const PROMPT_FRAMING: u64 = 8;

/// Around a message or a part of one: its marks, role and name.
const OBJECT_FRAMING: u64 = 6;

/// Around a tool's definition as the model sees it.
const TOOL_FRAMING: u64 = 16;

/// The request's body, where an answer without usage may have to be counted from it: no more than can be counted, and
/// no copy of it.
pub(super) fn kept_text(body: &Bytes) -> Option<Bytes> {
    (body.len() <= MAX_COUNTED_BYTES).then(|| body.clone())
}

/// What an estimate is made from.
#[derive(Clone, Debug, Default)]
pub(super) struct Fallback {
    bounds: Bounds,
    text: Option<Bytes>,
    /// Of the request; also the reading's model where the answer names none.
    model: Option<String>,
    choices: u64,
    /// Of the provider's own, beside the model's.
    preamble_tokens: u64,
}

impl Fallback {
    pub(super) fn of(call: &Call<'_>, facts: &RequestFacts) -> Self {
        // What images and sounds become is not in the text.
        let only_text = !(facts.input_image || facts.input_audio || facts.input_unbounded);
        Self {
            bounds: Bounds::of(facts),
            text: facts.text.clone().filter(|_| only_text),
            model: facts.model.clone(),
            choices: facts.choices,
            preamble_tokens: if facts.no_output { 0 } else { call.quirks.preamble_tokens },
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// For the text that a stream generates.
    pub(super) fn generated(&self) -> Generated {
        let known = self.model.as_deref().is_some_and(|m| Tokenizer::of(m).is_some());
        Generated::new(known && self.text.is_some(), self.choices)
    }

    /// The model to price: the answer's, else the request's.
    pub(super) fn model(&self, answered: Option<String>) -> Option<String> {
        answered.filter(|m| !m.is_empty()).or_else(|| self.model.clone())
    }

    /// A stream, or what came of it.
    pub(super) fn of_stream(&self, model: Option<String>, generated: &Generated, end: BodyEnd) -> Reading {
        let tokenizer = self.tokenizer(model.as_deref());
        let counted = tokenizer.and_then(|t| Some(tokens::count(Some(t), &generated.text()?) + generated.framing()));
        self.reading(model, tokenizer, counted, generated.bytes, generated.parts, end)
    }

    /// A whole document, or what came of it.
    pub(super) fn of_document(&self, model: Option<String>, body: &[u8], end: BodyEnd) -> Reading {
        let tokenizer = self.tokenizer(model.as_deref());
        let answer: Option<Value> = serde_json::from_slice(body).ok();
        let choices = answer.as_ref().and_then(|a| a.get("choices")).map(strings);
        let (counted, bytes) = match &choices {
            Some(texts) => {
                let bytes = texts.iter().map(|t| t.len() as u64).sum();
                let counted = tokenizer.map(|t| texts.iter().map(|text| tokens::count(Some(t), text)).sum());
                (counted, bytes)
            }
            None => (None, body.len() as u64),
        };
        let fallback = Self { bounds: self.bounds.of_document(end), ..self.clone() };
        fallback.reading(model, tokenizer, counted, bytes, 0, end)
    }

    fn reading(
        &self,
        model: Option<String>,
        tokenizer: Option<Tokenizer>,
        counted: Option<u64>,
        bytes: u64,
        parts: u64,
        end: BodyEnd,
    ) -> Reading {
        let mut bounds = self.bounds;
        let named = self.model.as_deref().unwrap_or("");
        if let Some(input) = self.text.as_ref().and_then(|body| request_tokens(body, named, tokenizer)) {
            bounds = bounds.with_input(input.saturating_add(self.preamble_tokens));
        }
        let reading = match counted {
            Some(tokens) => bounds.counted(tokens.max(parts), end),
            None => bounds.reading(None, bytes, end),
        };
        let reason = match (reading.quality, end) {
            (Quality::Estimated, BodyEnd::Complete) => Some("the answer states no usage"),
            (Quality::Estimated, BodyEnd::Cut) => Some("the answer was cut before it stated its usage"),
            (Quality::Exact | Quality::Absent, _) => None,
        };
        Reading { model: self.model(model), reason, ..reading }
    }

    fn tokenizer(&self, answered: Option<&str>) -> Option<Tokenizer> {
        answered.and_then(Tokenizer::of).or_else(|| self.model.as_deref().and_then(Tokenizer::of))
    }
}

/// Upper bound of what the request's own text becomes; `None` if it is not an object that we know.
fn request_tokens(body: &[u8], model: &str, tokenizer: Option<Tokenizer>) -> Option<u64> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let count = |text: &str| tokens::count(tokenizer, text);
    let mut sum = 0_u64;
    let (mut any, mut instructed) = (false, false);
    for (name, value) in request.as_object()? {
        match name.as_str() {
            "messages" | "prompt" | "suffix" | "input" | "documents" | "query" => {
                any = true;
                sum = sum.saturating_add(prose(value, &count));
            }
            // These are written out for the model, in a form that is no longer than their JSON.
            "tools" | "functions" | "response_format" | "tool_choice" | "function_call" if !value.is_null() => {
                instructed = true;
                let items = value.as_array().map_or(1, Vec::len) as u64;
                sum = sum.saturating_add(count(&value.to_string())).saturating_add(TOOL_FRAMING * (items + 1));
            }
            _ => {}
        }
    }
    let before = if request.get("messages").is_some() { preamble(model, instructed) } else { PROMPT_FRAMING };
    any.then_some(sum.saturating_add(before))
}

/// Every string below `value`, with framing around objects. A number stands for a token that is given as such.
fn prose(value: &Value, count: &impl Fn(&str) -> u64) -> u64 {
    match value {
        Value::Null | Value::Bool(_) => 0,
        Value::Number(_) => 1,
        Value::String(text) => count(text),
        Value::Array(items) => items.iter().map(|item| prose(item, count)).sum(),
        Value::Object(members) => {
            let said = members.iter().filter(|(name, _)| !matches!(name.as_str(), "type" | "role"));
            OBJECT_FRAMING + said.map(|(_, value)| prose(value, count)).sum::<u64>()
        }
    }
}

/// The text of an answer's choices. A structured output may be JSON instead of a string.
fn strings(choices: &Value) -> Vec<String> {
    let of = |choice: &Value| {
        let said = choice.get("message").or_else(|| choice.get("text")).unwrap_or(choice);
        match said {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    };
    choices.as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    const CALL: Call<'_> =
        Call::new(Endpoint { name: "chat_completions", billing: Billing::Metered }, "/v1/chat/completions");

    fn facts(model: &str, body: &str) -> RequestFacts {
        let body = Bytes::from(body.to_owned());
        RequestFacts {
            model: Some(model.to_owned()),
            input_bound: body.len() as u64 + 256,
            ceiling: Some(500),
            choices: 1,
            text: kept_text(&body),
            ..RequestFacts::default()
        }
    }

    const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"system","content":"You are a helpful assistant."},
        {"role":"user","content":"What is four plus five?"}]}"#;

    #[test]
    fn a_known_model_is_counted_closely_and_never_below() {
        // Billed as 24 tokens.
        let known =
            Fallback::of(&CALL, &facts("gpt-4o", CHAT)).of_stream(None, &Generated::default(), BodyEnd::Complete);
        assert_eq!(known.quality, Quality::Estimated);
        assert!((24..=64).contains(&known.usage.input_tokens), "{}", known.usage.input_tokens);
        let unknown =
            Fallback::of(&CALL, &facts("some-model", CHAT)).of_stream(None, &Generated::default(), BodyEnd::Cut);
        assert!((51..=260).contains(&unknown.usage.input_tokens), "{}", unknown.usage.input_tokens);
        assert_eq!(unknown.reason, Some("the answer was cut before it stated its usage"));
        assert_eq!(unknown.model.as_deref(), Some("some-model"));
    }

    #[test]
    fn a_chunk_is_a_token_at_least() {
        let fallback = Fallback::of(&CALL, &facts("gpt-4o", CHAT));
        let mut generated = fallback.generated();
        for _ in 0..40 {
            generated.chunk(br#"{"choices":[{"delta":{"content":"a"}}]}"#);
        }
        let got = fallback.of_stream(None, &generated, BodyEnd::Complete).usage.output_tokens;
        assert!((40..80).contains(&got), "{got}");
    }

    #[test]
    fn the_estimate_is_never_above_what_was_held() {
        let mut facts = facts("gpt-4o", CHAT);
        facts.input_bound = 20;
        facts.ceiling = Some(5);
        let body = br#"{"choices":[{"message":{"content":"one two three four five six seven eight nine ten"}}]}"#;
        let got = Fallback::of(&CALL, &facts).of_document(None, body, BodyEnd::Complete).usage;
        assert_eq!((got.input_tokens, got.output_tokens), (20, 5));
    }

    #[test]
    fn a_structured_output_is_counted_too() {
        let body = br#"{"model":"m","choices":[{"message":{"content":{"title":"Apples"}}}]}"#;
        let got = Fallback::of(&CALL, &facts("m", CHAT)).of_document(Some("m".to_owned()), body, BodyEnd::Complete);
        assert!((28..150).contains(&got.usage.output_tokens), "{}", got.usage.output_tokens);
    }

    #[test]
    fn token_numbers_count_by_their_number() {
        assert_eq!(request_tokens(br#"{"input":[[1,2,30000],[4]]}"#, "m", None), Some(PROMPT_FRAMING + 4));
        assert_eq!(request_tokens(br#"{"model":"m"}"#, "m", None), None);
        assert_eq!(request_tokens(b"[]", "m", None), None);
    }

    #[test]
    fn a_request_with_more_than_text_keeps_its_bound() {
        let facts = RequestFacts { input_image: true, ..facts("gpt-4o", CHAT) };
        let got = Fallback::of(&CALL, &facts).of_stream(None, &Generated::default(), BodyEnd::Complete);
        assert_eq!(got.usage.input_tokens, facts.input_bound);
    }
}
