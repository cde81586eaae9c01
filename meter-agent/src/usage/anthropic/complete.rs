//! The legacy Text Completions: `POST /v1/complete`.
//!
//! Its answers say no usage: input is bounded by the request, output by the text that was sent.
//!
//! Source: platform.claude.com/docs/en/api/completions.

use serde::Deserialize;

use crate::usage::{
    AnswerHead, BodyEnd, Reader, Reading, RequestFacts, Rewrite, Unreadable,
    edit::RawObject,
    estimate::Bounds,
    json::{parse, text},
    read::{Either, Events, JsonReader, SseReader, is_sse},
};

pub(super) const NAME: &str = "complete";

/// The frame of one turn.
const FRAMING_TOKENS: u64 = 64;

pub(super) fn facts(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    Ok(RequestFacts {
        model: object.text("model"),
        stream: object.is_true("stream"),
        input_bound: body.len() as u64 + FRAMING_TOKENS,
        ceiling: object.count("max_tokens_to_sample"),
        choices: 1,
        can_clamp: true,
        ..RequestFacts::default()
    })
}

/// The request with another ceiling and nothing else changed.
pub(super) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        object.set("max_tokens_to_sample", ceiling.to_string());
    }
    Ok(object.write().into_bytes())
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Completion {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "text")]
    completion: Option<String>,
}

impl Completion {
    fn bytes(&self) -> u64 {
        self.completion.as_ref().map_or(0, |text| text.len() as u64)
    }
}

pub(super) fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    let stream = SseReader::new(Stream { bounds, model: None, visible_bytes: 0, failed: false });
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading::absent() };
        match parse::<Completion>(body) {
            Some(said) => bounds.of_document(end).reading(said.model.clone(), said.bytes(), end),
            None => bounds.of_document(end).reading(None, body.len() as u64, end),
        }
    });
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

struct Stream {
    bounds: Bounds,
    model: Option<String>,
    visible_bytes: u64,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        if name == "error" {
            self.failed = true;
            return;
        }
        let Some(said) = parse::<Completion>(data) else { return };
        self.visible_bytes = self.visible_bytes.saturating_add(said.bytes());
        self.model = said.model.or(self.model.take());
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        if self.failed && self.visible_bytes == 0 {
            return Reading::free("the provider failed before the answer began");
        }
        let end = if dropped > 0 { BodyEnd::Cut } else { end };
        self.bounds.reading(self.model.take(), self.visible_bytes, end)
    }
}
