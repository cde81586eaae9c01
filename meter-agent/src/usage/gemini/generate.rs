//! `generateContent` and `streamGenerateContent`: one answer, server-sent events, or one JSON array of chunks.
//!
//! Output is candidates plus thoughts; `toolUsePromptTokenCount` is input beyond `promptTokenCount`, which
//! includes the cached part. In a stream every chunk has the usage so far and the last object holds as a whole:
//! the input of earlier ones is an estimate that may go down. Without `alt=sse` a stream is one JSON array.
//!
//! Source: ai.google.dev/api/generate-content#UsageMetadata and .../gemini-api/docs/tokens.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::{Deserialize, de::IgnoredAny};

use super::usage::UsageMetadata;
use crate::usage::{
    AnswerHead, BodyEnd, Quality, Reader, Reading, RequestFacts,
    delivered::Delivered,
    estimate::Bounds,
    json::{items, lenient, parse, parse_prefix, text},
    kept::Kept,
    read::{Either, Events, JsonReader, SseReader, is_sse},
    sse::MAX_EVENT_BYTES,
};

/// Reads an answer, or a stream of either kind. `requested` is the model that the path names.
pub(super) fn reader(facts: &RequestFacts, requested: Option<String>, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    let stream = SseReader::new(Stream { bounds, requested: requested.clone(), ..Stream::default() });
    let document = JsonReader::new(move |body: Option<&[u8]>, end| match body {
        Some(body) => document(body, end, bounds, requested),
        None => Reading::absent(),
    });
    Either::of(is_sse(head, false), Box::new(stream), Box::new(document))
}

/// One answer, or the array of chunks that a stream without `alt=sse` is.
fn document(body: &[u8], end: BodyEnd, bounds: Bounds, requested: Option<String>) -> Reading {
    let mut all = Chunks::default();
    let is_array = body.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    if is_array {
        if let Some(chunks) = parse::<Vec<Chunk>>(body) {
            for chunk in chunks {
                all.add(chunk);
            }
            return all.reading(bounds, body.len() as u64, BodyEnd::Complete, requested);
        }
    } else if let Some(chunk) = parse::<Chunk>(body) {
        all.add(chunk);
        return all.reading(bounds, body.len() as u64, BodyEnd::Complete, requested);
    }
    // Cut within a chunk: the last usage that was said in full.
    all.usage = memmem::rfind_iter(body, b"\"usageMetadata\"").find_map(|at| {
        let rest = &body[at + b"\"usageMetadata\"".len()..];
        parse_prefix(rest.trim_ascii_start().strip_prefix(b":")?)
    });
    let (bounds, end) = if is_array { (bounds, BodyEnd::Cut) } else { (bounds.of_document(end), end) };
    all.reading(bounds, body.len() as u64, end, requested)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Chunk {
    #[serde(default, alias = "usage_metadata", deserialize_with = "lenient")]
    usage_metadata: Option<UsageMetadata>,
    #[serde(default, alias = "model_version", deserialize_with = "text")]
    model_version: Option<String>,
    #[serde(default, deserialize_with = "items")]
    candidates: Vec<Candidate>,
    #[serde(default)]
    error: Option<IgnoredAny>,
    /// The whole chunk once more, as Code Assist wraps it.
    #[serde(default, deserialize_with = "lenient")]
    response: Option<Box<Chunk>>,
}

impl Chunk {
    fn usage(self) -> Option<UsageMetadata> {
        let inner = self.response.and_then(|inner| inner.usage());
        inner.or(self.usage_metadata).filter(UsageMetadata::counts)
    }

    fn counts(&self) -> bool {
        self.usage_metadata.as_ref().is_some_and(UsageMetadata::counts)
            || self.response.as_ref().is_some_and(|inner| inner.counts())
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default, alias = "grounding_metadata", deserialize_with = "lenient")]
    grounding_metadata: Option<Grounding>,
    #[serde(default, alias = "finish_reason")]
    finish_reason: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default, alias = "web_search_queries", deserialize_with = "items")]
    web_search_queries: Vec<IgnoredAny>,
}

/// What the chunks of one answer add up to.
#[derive(Default)]
pub(super) struct Chunks {
    model: Option<String>,
    usage: Option<UsageMetadata>,
    queries: u64,
    candidates: bool,
    /// A chunk said why the answer ended.
    finished: bool,
    failed: bool,
}

impl Chunks {
    pub(super) fn add(&mut self, chunk: Chunk) {
        if let Some(inner) = chunk.response {
            return self.add(*inner);
        }
        self.usage = chunk.usage_metadata.filter(UsageMetadata::counts).or(self.usage.take());
        self.model = chunk.model_version.or(self.model.take());
        self.failed |= chunk.error.is_some();
        self.candidates |= !chunk.candidates.is_empty();
        self.finished |= chunk.candidates.iter().any(|c| c.finish_reason.is_some());
        let queries = chunk.candidates.iter().filter_map(|c| c.grounding_metadata.as_ref());
        self.queries = self.queries.max(queries.map(|g| g.web_search_queries.len() as u64).sum());
    }

    pub(super) fn reading(self, bounds: Bounds, visible: u64, end: BodyEnd, requested: Option<String>) -> Reading {
        let model = self.model.or(requested);
        let Some(metadata) = self.usage else {
            return if self.failed && !self.candidates {
                Reading { model, ..Reading::nothing() }
            } else {
                bounds.reading(model, visible, end)
            };
        };
        let mut described = metadata.describe();
        // Gemini 1 said a reason to end in every chunk.
        let finished = self.finished && !model.as_deref().is_some_and(|m| m.starts_with("gemini-1"));
        let exact = end == BodyEnd::Complete || finished;
        if !exact {
            let usage = &mut described.line.usage;
            usage.output_tokens = bounds.output_after(usage.output_tokens);
        }
        let mut reading = described.reading(model, if exact { Quality::Exact } else { Quality::Estimated });
        if self.queries > 0 {
            reading.server_tools.insert("google_search".into(), self.queries);
        }
        reading
    }
}

/// What makes an event one that has to be decoded at once, in either spelling. Text that looks so costs a decoding.
static SPECIAL: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| [&b"\"finish"[..], b"\"grounding", b"\"error\""].map(Finder::new));
/// With both quotes: within a text one of them would be escaped, and the other not.
static USAGE: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [&b"\"usageMetadata\""[..], b"\"usage_metadata\""].map(Finder::new));
static COUNT: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [&b"TokenCount\""[..], b"_token_count\""].map(Finder::new));
/// What an event without usage may be the only one to say.
static ONCE: LazyLock<[Finder<'static>; 3]> =
    LazyLock::new(|| [&b"\"modelVersion\""[..], b"\"model_version\"", b"\"candidates\""].map(Finder::new));

#[derive(Default)]
struct Stream {
    bounds: Bounds,
    requested: Option<String>,
    all: Chunks,
    /// The latest event with usage, decoded at the end: every event has some, and only the last one holds.
    last: Kept,
    visible_bytes: u64,
    delivered: Delivered,
}

impl Events for Stream {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        self.delivered.event(data);
        let counts = counts(data);
        if SPECIAL.iter().any(|member| member.find(data).is_some()) || self.is_news(data, counts) {
            self.decode(data);
        } else if counts {
            self.keep(data);
        }
    }

    /// By the provider's own word where it says any: of an image or a sound the bytes say nothing.
    fn so_far(&self) -> Option<Reading> {
        let last = parse::<Chunk>(self.last.as_slice()).and_then(Chunk::usage);
        let model = self.all.model.clone().or_else(|| self.requested.clone());
        let Some(usage) = last.or_else(|| self.all.usage.clone()) else {
            return Some(self.bounds.so_far(model, self.delivered.parts()));
        };
        let mut described = usage.describe();
        let output = &mut described.line.usage.output_tokens;
        *output = if *output > 0 { *output } else { self.delivered.parts() };
        Some(described.reading(model, Quality::Estimated))
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let mut all = std::mem::take(&mut self.all);
        if let Some(chunk) = parse::<Chunk>(self.last.as_slice()) {
            all.add(chunk);
        }
        let requested = self.requested.take();
        if dropped > 0 && !all.finished {
            return Reading { model: all.model.or(requested), ..Reading::absent() };
        }
        all.reading(self.bounds, self.visible_bytes, end, requested)
    }
}

impl Stream {
    /// In place of what was kept before. Without room it is decoded instead.
    fn keep(&mut self, data: &[u8]) {
        // A half event at a cut must not displace the whole one before it.
        if !data.trim_ascii_end().ends_with(b"}") {
            return;
        }
        self.last.clear();
        if self.last.push(data, MAX_EVENT_BYTES).is_err() {
            self.decode(data);
        }
    }

    fn decode(&mut self, data: &[u8]) {
        let Some(chunk) = parse::<Chunk>(data) else { return };
        if chunk.counts() {
            self.last.clear();
        }
        self.all.add(chunk);
    }

    /// Whether an event is the first to name the model, or to hold a part of an answer that has no usage so far.
    fn is_news(&self, data: &[u8], counts: bool) -> bool {
        let [model, snake, candidates] = &*ONCE;
        let has = |member: &Finder<'_>| member.find(data).is_some();
        (self.all.model.is_none() && (has(model) || has(snake))) || (!self.all.candidates && !counts && has(candidates))
    }
}

/// Whether an event has usage with a count in it.
fn counts(data: &[u8]) -> bool {
    let Some(at) = USAGE.iter().find_map(|usage| usage.find(data)) else { return false };
    COUNT.iter().any(|count| count.find(&data[at..]).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}],"modelVersion":"m-1",
        "usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":1}}"#;
    const SECOND: &str = r#"{"candidates":[{"content":{"parts":[{"text":"usageMetadata"},{"text":"xTokenCount"}]}}],
        "usage_metadata":{"prompt_token_count":8,"candidates_token_count":5}}"#;

    fn read(events: &[&str], end: BodyEnd) -> Reading {
        let facts = RequestFacts { choices: 1, input_bound: 100, ceiling: Some(50), ..RequestFacts::default() };
        let mut reader = reader(&facts, Some("m".to_owned()), AnswerHead::new(200, "text/event-stream"));
        for event in events {
            reader.feed(format!("data: {}\r\n\r\n", event.replace('\n', "")).as_bytes());
        }
        reader.finish(end)
    }

    #[test]
    fn the_last_event_with_counts_holds_in_either_spelling() {
        for events in
            [&[FIRST, SECOND][..], &[FIRST, FIRST, SECOND, r#"{"usageMetadata":{"trafficType":"ON_DEMAND"}}"#]]
        {
            let got = read(events, BodyEnd::Complete);
            assert_eq!((got.quality, got.usage.output_tokens), (Quality::Exact, 5));
            assert_eq!(got.model.as_deref(), Some("m-1"));
        }
    }

    #[test]
    fn a_last_word_is_exact_after_a_cut_and_half_an_event_is_none() {
        let done = r#"{"candidates":[{"finish_reason":"STOP"}],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":9}}"#;
        assert_eq!(read(&[FIRST, SECOND, done], BodyEnd::Cut).quality, Quality::Exact);
        let got = read(&[FIRST, SECOND, &SECOND[..SECOND.len() - 1].replace(":5", ":7")], BodyEnd::Cut);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Estimated, 8, 50));
    }

    #[test]
    fn text_without_usage_before_an_error_is_not_free() {
        let text = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
        let error = r#"{"error":{"code":500}}"#;
        assert_eq!(read(&[text, text, error], BodyEnd::Complete).quality, Quality::Estimated);
        assert_eq!(read(&[error], BodyEnd::Complete).usage.output_tokens, 0);
    }
}
