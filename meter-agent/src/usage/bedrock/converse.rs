//! Answers of Converse and ConverseStream.
//!
//! One shape for all models. In a stream the `metadata` event says everything, and is the last one.

use memchr::{memchr, memmem};
use serde::Deserialize;

use super::counts::{Counts, Served};
use crate::usage::{
    BodyEnd, Quality, Reader, Reading, RequestFacts,
    delivered::Text,
    estimate::Bounds,
    event_stream::{EXCEPTION, FrameReader},
    json::parse,
    read::{Events, JsonReader, visible},
};

/// Bytes of a `contentBlockDelta` event without its text, at least.
const DELTA_FRAMING: usize = 40;

/// The members of a delta that hold what was generated: text, thoughts, and the arguments of a call. Signatures and what
/// is kept secret are in others, and a citation quotes what the request held.
const GENERATED: &[&[u8]] = &[b"text", b"input"];

/// A whole answer, and a stream's `metadata` event.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    usage: Option<Counts>,
    #[serde(flatten)]
    served: Served,
}

impl Answer {
    fn reading(self, model: Option<String>) -> Option<Reading> {
        let usage = self.usage.filter(Counts::is_stated)?.usage();
        Some(Reading { model, service_tier: self.served.tier(), ..Reading::of(Quality::Exact, usage) })
    }
}

pub(super) fn document(facts: &RequestFacts, model: Option<String>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading { model, ..Reading::absent() } };
        let exact = parse::<Answer>(body).and_then(|answer| answer.reading(model.clone()));
        exact.unwrap_or_else(|| bounds.of_document(end).reading(model, body.len() as u64, end))
    }))
}

pub(super) fn stream(facts: &RequestFacts, model: Option<String>) -> Box<dyn Reader> {
    Box::new(FrameReader::new(Stream {
        bounds: Bounds::of(facts),
        model,
        read: None,
        visible_bytes: 0,
        text: Text::default(),
        started: false,
        failed: false,
    }))
}

struct Stream {
    bounds: Bounds,
    model: Option<String>,
    read: Option<Reading>,
    visible_bytes: u64,
    text: Text,
    /// The model has begun to answer.
    started: bool,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        match name {
            "metadata" => {
                let said = parse::<Answer>(data).and_then(|answer| answer.reading(self.model.clone()));
                self.read = said.or(self.read.take());
            }
            EXCEPTION => self.failed = true,
            _ => {
                self.started = true;
                let data = unpadded(data);
                self.visible_bytes = self.visible_bytes.saturating_add(visible(data, DELTA_FRAMING));
                if name == "contentBlockDelta" && memmem::find(data, b"\"citation\":").is_none() {
                    self.text.event(data, GENERATED);
                }
            }
        }
    }

    fn so_far(&self) -> Option<Reading> {
        Some(self.read.clone().unwrap_or_else(|| self.bounds.so_far(self.model.clone(), self.text.tokens())))
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        if let Some(read) = self.read.take() {
            return read;
        }
        if self.failed && !self.started && dropped == 0 {
            return Reading::free("the provider failed before the answer began");
        }
        // After an exception the rest of the answer may have been made and not sent.
        let end = if self.failed || dropped > 0 { BodyEnd::Cut } else { end };
        self.bounds.reading(self.model.take(), self.visible_bytes, end)
    }
}

/// The event without the padding `p` that hides its length on the wire, which is its last member.
fn unpadded(event: &[u8]) -> &[u8] {
    let at = memmem::rfind(event, b"\"p\":\"");
    // Only where the member's value is the last thing before the closing brace.
    let is_last = |at: &usize| memchr(b'"', &event[at + 5..]) == Some(event.len().saturating_sub(at + 7));
    at.filter(is_last).map_or(event, |at| &event[..at])
}

#[cfg(test)]
mod tests {
    use super::unpadded;

    #[test]
    fn only_padding_is_taken_off() {
        for (event, want) in [
            (r#"{"delta":{"text":"hi"},"p":"abcDE"}"#, r#"{"delta":{"text":"hi"},"#),
            (r#"{"p":"abc","role":"assistant"}"#, r#"{"p":"abc","role":"assistant"}"#),
            (r#"{"delta":{"text":"\"p\":\"x"}}"#, r#"{"delta":{"text":"\"p\":\"x"}}"#),
            (r#"{"p":""#, r#"{"p":""#),
        ] {
            assert_eq!(unpadded(event.as_bytes()), want.as_bytes());
        }
    }
}
