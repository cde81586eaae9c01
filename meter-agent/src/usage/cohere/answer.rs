//! Cohere's answers: where each of them holds `billed_units`.

use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::Deserialize;

use crate::usage::{
    AnswerHead, BodyEnd, Quality, Quantity, Reader, Reading, RequestFacts, Units, Usage,
    delivered::Text,
    estimate::Bounds,
    json::{Count, parse},
    ndjson::LineReader,
    read::{Either, Events, JsonReader, SseReader, leading_type, visible},
};

/// Bytes of an event without its text, at least: its type and the objects around the text.
const EVENT_FRAMING: usize = 48;

/// A whole answer, or the last event of a stream.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    /// Chat v2.
    usage: Option<Meta>,
    /// Everything else.
    meta: Option<Meta>,
    /// The end of a stream in v2.
    delta: Option<Nested>,
    /// The end of a stream in v1.
    response: Option<Nested>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Nested {
    usage: Option<Meta>,
    meta: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(default)]
struct Billed {
    input_tokens: Count,
    output_tokens: Count,
    image_tokens: Count,
    images: Count,
    search_units: Count,
    classifications: Count,
}

impl Answer {
    fn billed(self) -> Option<Billed> {
        let nested = |n: Option<Nested>| n.map_or([None, None], |n| [n.usage, n.meta]);
        let [delta, response] = [nested(self.delta), nested(self.response)];
        [self.usage, self.meta]
            .into_iter()
            .chain(delta)
            .chain(response)
            .flatten()
            .filter_map(|meta| meta.billed_units)
            .find(Billed::is_stated)
    }
}

impl Billed {
    /// Whether it says anything; an empty object does not.
    fn is_stated(&self) -> bool {
        [self.input_tokens, self.output_tokens, self.image_tokens, self.images, self.search_units, self.classifications]
            .iter()
            .any(|n| n.0.is_some())
    }

    fn reading(self, model: Option<String>) -> Reading {
        let image = self.image_tokens.get();
        let input = self.input_tokens.get().saturating_add(image);
        let usage = Usage {
            input_tokens: input,
            input_uncached: input,
            input_image: image,
            output_tokens: self.output_tokens.get(),
            ..Usage::default()
        };
        let counted =
            [("images", self.images), ("search_units", self.search_units), ("classifications", self.classifications)];
        let units: Units = counted
            .into_iter()
            .filter(|(_, n)| n.get() > 0)
            .map(|(name, n)| (name.into(), Quantity::whole(n.get())))
            .collect();
        Reading { model, units, ..Reading::of(Quality::Exact, usage) }
    }
}

/// `events`: whether a stream whose head does not say its kind is server-sent events (v2), or lines (v1).
pub(super) fn reader(facts: &RequestFacts, head: AnswerHead<'_>, events: bool) -> Box<dyn Reader> {
    let kind = head.content_type.trim_start().to_ascii_lowercase();
    let unstated = Unstated { bounds: Bounds::of(facts), units: facts.units.clone(), model: facts.model.clone() };
    let stream = facts.stream && !kind.starts_with("application/json");
    let is_events = kind.starts_with("text/event-stream") || (stream && events && kind.is_empty());
    let sse = Box::new(SseReader::new(Stream::new(unstated.clone())));
    if stream || kind.starts_with("application/stream+json") {
        return Either::of(is_events, sse, Box::new(LineReader::new(Stream::new(unstated))));
    }
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading { model: unstated.model, ..Reading::absent() } };
        // The lines of a stream whose head calls them one document: the last one says it.
        let lines = || body.rsplit(|b| *b == b'\n').find_map(|line| parse::<Answer>(line)?.billed());
        match parse::<Answer>(body).and_then(Answer::billed).or_else(lines) {
            Some(billed) => billed.reading(unstated.model),
            None => Unstated { bounds: unstated.bounds.of_document(end), ..unstated }.reading(body.len() as u64, end),
        }
    });
    Either::of(is_events, sse, Box::new(document))
}

/// What is taken for an answer that does not say what it billed.
#[derive(Clone)]
struct Unstated {
    bounds: Bounds,
    units: Units,
    model: Option<String>,
}

impl Unstated {
    fn reading(self, visible_bytes: u64, end: BodyEnd) -> Reading {
        if self.units.is_empty() {
            return self.bounds.reading(self.model, visible_bytes, end);
        }
        Reading { model: self.model, units: self.units, ..Reading::of(Quality::Estimated, Usage::default()) }
    }
}

struct Stream {
    unstated: Option<Unstated>,
    billed: Option<Billed>,
    visible_bytes: u64,
    text: Text,
}

impl Stream {
    fn new(unstated: Unstated) -> Self {
        Self { unstated: Some(unstated), billed: None, visible_bytes: 0, text: Text::default() }
    }
}

/// The members of a piece that hold what was generated: text, thoughts, plans and calls of tools.
const GENERATED: &[&[u8]] = &[b"text", b"thinking", b"tool_plan", b"name", b"arguments", b"parameters"];

/// Whether an event brings a piece of the answer. Citations quote what the request held, and the end repeats the whole.
fn is_piece(data: &[u8]) -> bool {
    const V2: [&str; 4] = ["content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"];
    static V1: LazyLock<[Finder<'static>; 2]> =
        LazyLock::new(|| [&b"\"text-generation\""[..], b"\"tool-calls-chunk\""].map(Finder::new));
    match leading_type(data) {
        Some(kind) => V2.contains(&kind),
        None => V1.iter().any(|kind| kind.find(data).is_some()),
    }
}

impl Events for Stream {
    fn event(&mut self, _: &str, data: &[u8]) {
        if is_piece(data) {
            self.text.event(data, GENERATED);
        }
        self.visible_bytes = self.visible_bytes.saturating_add(visible(data, EVENT_FRAMING));
        // The end repeats the whole answer; no other event holds the numbers.
        if memmem::find(data, b"\"billed_units\"").is_some() {
            self.billed = parse::<Answer>(data).and_then(Answer::billed).or(self.billed);
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let Unstated { bounds, units, model } = self.unstated.as_ref()?;
        match self.billed {
            Some(billed) => Some(billed.reading(model.clone())),
            // What is priced by something else than tokens is not known before the end.
            None => units.is_empty().then(|| bounds.so_far(model.clone(), self.text.whole_tokens())),
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let Some(unstated) = self.unstated.take() else { return Reading::absent() };
        match self.billed {
            Some(billed) => billed.reading(unstated.model),
            None => unstated.reading(self.visible_bytes, if dropped > 0 { BodyEnd::Cut } else { end }),
        }
    }
}
