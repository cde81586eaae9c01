//! Answers of InvokeModelWithResponseStream: frames whose payload holds a family's own chunk in base64.
//!
//! Messages are read by Anthropic's rules. Of other families the body's numbers are the truth where the last chunk
//! says them, and else the service's own metrics, which are in the last chunk of every answer that was completed.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem;
use serde::Deserialize;

use super::{
    counts::{Counts, Served},
    invoke::Body,
};
use crate::usage::{
    AnswerHead, BodyEnd, Quality, Reader, Reading, RequestFacts, anthropic,
    delivered::Text,
    estimate::Bounds,
    event_stream::{EXCEPTION, FrameReader},
    json::parse,
    read::{Events, visible},
};

/// The members of all families' chunks that hold what was generated: Nova's, then those of OpenAI's shape, Llama's,
/// Titan's, Claude's before it spoke in messages, and Cohere's.
const GENERATED: &[&[u8]] =
    &[b"text", b"input", b"content", b"reasoning_content", b"arguments", b"generation", b"outputText", b"completion"];

/// Bytes of any family's chunk without its text, at least.
const CHUNK_FRAMING: usize = 30;

pub(super) fn reader(facts: &RequestFacts, head: AnswerHead<'_>, model: Option<String>) -> Box<dyn Reader> {
    Box::new(FrameReader::new(Stream {
        facts: RequestFacts { text: None, ..facts.clone() },
        model,
        tier: Served::of_headers(head),
        messages: None,
        body: Body::default(),
        metrics: None,
        visible_bytes: 0,
        text: Text::default(),
        started: false,
        failed: false,
    }))
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

/// What a frame holds in base64.
pub(super) fn payload(frame: &[u8]) -> Option<Vec<u8>> {
    let chunk: Chunk<'_> = serde_json::from_slice(frame).ok()?;
    STANDARD.decode(chunk.bytes.as_bytes()).ok()
}

#[derive(Deserialize)]
struct Last {
    #[serde(rename = "amazon-bedrock-invocationMetrics")]
    metrics: Counts,
}

struct Stream {
    facts: RequestFacts,
    model: Option<String>,
    tier: Option<String>,
    /// Anthropic's messages, once one has started.
    messages: Option<anthropic::Stream>,
    body: Body,
    metrics: Option<Counts>,
    visible_bytes: u64,
    text: Text,
    started: bool,
    failed: bool,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        if name == EXCEPTION {
            self.failed = true;
            return;
        }
        self.started = true;
        match payload(data) {
            Some(chunk) => self.chunk(&chunk),
            // Whatever it was, it cannot have been more tokens than bytes.
            None => self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64),
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let reading = match (&self.messages, &self.metrics) {
            (Some(messages), _) => messages.so_far()?,
            (None, Some(metrics)) => Reading::of(Quality::Estimated, metrics.usage()),
            (None, None) => self.counted_so_far(),
        };
        Some(Reading { model: self.model.clone(), service_tier: self.tier.clone().or(reading.service_tier), ..reading })
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let reading = self.read(end, dropped);
        Reading { model: self.model.take(), service_tier: self.tier.take().or(reading.service_tier), ..reading }
    }
}

impl Stream {
    fn chunk(&mut self, chunk: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(visible(chunk, CHUNK_FRAMING));
        if memmem::find(chunk, b"invocationMetrics").is_none() {
            self.text.event(chunk, GENERATED);
        } else if let Some(last) = parse::<Last>(chunk) {
            self.metrics = Some(last.metrics).filter(Counts::is_stated).or(self.metrics.take());
        }
        if self.messages.is_none() && memmem::find(chunk, b"\"message_start\"").is_some() {
            self.messages = Some(anthropic::Stream::new(&self.facts));
        }
        if let Some(messages) = &mut self.messages {
            messages.event("", chunk);
        } else if says_usage(chunk)
            && let Some(later) = parse::<Body>(chunk)
        {
            self.body.replace(later);
        }
    }

    /// Some families count as they go.
    fn counted_so_far(&self) -> Reading {
        let seen = self.text.tokens();
        let stated = self.body.usage().map(|usage| Reading::of(Quality::Estimated, usage));
        let mut reading = stated.unwrap_or_else(|| Bounds::of(&self.facts).so_far(None, seen));
        reading.raise_output(seen);
        reading
    }

    fn read(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let metrics = self.metrics.take().map(|m| Reading::of(Quality::Exact, m.usage()));
        if let Some(mut messages) = self.messages.take() {
            let own = messages.finish(end, dropped);
            return if own.quality == Quality::Exact { own } else { metrics.unwrap_or(own) };
        }
        let whole = end == BodyEnd::Complete && dropped == 0 && !self.failed;
        let complete = metrics.is_some() || (whole && self.body.is_final());
        if let Some(usage) = self.body.usage().filter(|_| complete) {
            return Reading::of(Quality::Exact, usage);
        }
        if let Some(metrics) = metrics {
            return metrics;
        }
        if self.failed && !self.started && dropped == 0 {
            return Reading::free("the provider failed before the answer began");
        }
        let end = if whole { end } else { BodyEnd::Cut };
        Bounds::of(&self.facts).reading(None, self.visible_bytes, end)
    }
}

/// Whether a chunk can hold numbers of any family; most hold a piece of text alone.
fn says_usage(chunk: &[u8]) -> bool {
    ["\"usage\"", "token_count\"", "TokenCount\"", "\"billed_units\""]
        .iter()
        .any(|mark| memmem::find(chunk, mark.as_bytes()).is_some())
}
