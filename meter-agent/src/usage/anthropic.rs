//! Anthropic Messages: `POST .../v1/messages`.
//!
//! `input_tokens` excludes cache reads and writes: the input is the sum of the three. Writes are split by time
//! to live; where the split is smaller than the whole (server tools) the rest is the default, 5 minutes. In a
//! stream `message_delta` replaces what `message_start` said. `iterations` that the top level does not hold
//! (compaction, an advisor's or a fallback's model) are lines of their own.
//!
//! Gateways answer the same path, and OpenRouter adds its own charge to the usage. Vertex and Bedrock put the same
//! bodies behind paths of their own; their dialects use the readers here. Batches and the legacy completions are
//! files of their own.
//!
//! Source: platform.claude.com/docs/en/api/messages and .../build-with-claude/prompt-caching.

mod batches;
mod complete;
mod request;
mod usage;

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::Deserialize;

use self::usage::{Described, MessageUsage};
use super::{
    AnswerHead, Billing, BodyEnd, Call, Dialect, Endpoint, Problem, Quality, Reader, Reading, RequestFacts, Rewrite,
    Unreadable,
    delivered::Delivered,
    edit::RawObject,
    estimate::Bounds,
    json::{lenient, parse, text},
    openai,
    read::{
        AbsentReader, Either, Events, JsonReader, NothingReader, SseReader, is_sse, is_success, leading_type, visible,
    },
    reported::Charged,
};

/// The dialect.
pub struct Anthropic;

const MESSAGES: &str = "messages";

/// Bytes of a `content_block_delta` without its text, at least: its type, index and the delta's own type.
const DELTA_FRAMING: usize = 64;

/// A path that is no part of this API.
const OTHER: &str = "other";

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        let of = |name, billing| (name != OTHER).then_some(Endpoint { name, billing });
        if !method.eq_ignore_ascii_case("POST") {
            if method.eq_ignore_ascii_case("GET") && batches::id(path).is_some() {
                return of(batches::RESULTS, Billing::Result);
            }
            if method.eq_ignore_ascii_case("GET") && batches::is_state(path) {
                return of(batches::STATE, Billing::Result);
            }
            let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
            return of(section(path), if reads { Billing::Free } else { Billing::Unknown });
        }
        match (before, last) {
            (_, MESSAGES) => of(MESSAGES, Billing::Metered),
            (MESSAGES, "count_tokens") => of("messages_count_tokens", Billing::Free),
            (MESSAGES, "batches") => of(batches::CREATE, Billing::Metered),
            ("chat", "completions") => of(openai::CHAT, Billing::Metered),
            ("v1", "complete") => of(complete::NAME, Billing::Metered),
            (_, "cancel") => of(section(path), Billing::Free),
            _ => match section(path) {
                name @ ("files" | "models" | "skills" | "organizations") => of(name, Billing::Free),
                name => of(name, Billing::Unknown),
            },
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        match call.endpoint.name {
            MESSAGES => facts(body),
            batches::CREATE => batches::facts(body),
            complete::NAME => complete::facts(body),
            openai::CHAT => openai::request(call, body),
            _ => Ok(openai::unknown_request(body)),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match endpoint.name {
            MESSAGES => rewrite_body(body, rewrite),
            complete::NAME => complete::rewrite(body, rewrite),
            _ => openai::rewrite_body(endpoint, body, rewrite),
        }
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        let endpoint = call.endpoint;
        if !is_success(head) || endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        match endpoint.name {
            MESSAGES => reader(facts, head),
            batches::CREATE => batches::created(),
            batches::STATE => batches::state(),
            batches::RESULTS => batches::results(call.path()),
            complete::NAME => complete::reader(facts, head),
            openai::CHAT => openai::reader(call, facts, head),
            _ => Box::new(AbsentReader),
        }
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let kind = match problem.status {
            402 => "billing_error",
            413 => "request_too_large",
            500.. => "api_error",
            _ => "invalid_request_error",
        };
        let mut error = serde_json::json!({ "type": kind, "message": problem.text(), "code": problem.code });
        if let Some(budget) = &problem.budget {
            error["meter"] = serde_json::json!(budget);
        }
        serde_json::json!({ "type": "error", "error": error, "request_id": null }).to_string().into_bytes()
    }
}

fn section(path: &str) -> &'static str {
    const SECTIONS: &[&str] = &["batches", MESSAGES, "models", "files", "skills", "organizations", "complete"];
    SECTIONS.iter().copied().find(|known| path.split('/').any(|s| s == *known)).unwrap_or(OTHER)
}

/// Facts of a Messages request.
pub(crate) fn facts(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    request::facts(body, None)
}

/// Facts of a Messages request whose model the URL names (Vertex, Bedrock).
pub(crate) fn facts_for(body: &[u8], model: &str) -> Result<RequestFacts, Unreadable> {
    request::facts(body, Some(model))
}

/// The request with another ceiling and nothing else changed.
pub(crate) fn rewrite_body(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        object.set("max_tokens", ceiling.to_string());
    }
    Ok(object.write().into_bytes())
}

/// Reads a Messages answer: JSON or server-sent events, as its head says.
pub(crate) fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let stream = SseReader::new(Stream::new(facts));
    let bounds = Bounds::of(facts);
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading::absent() };
        let (bounds, size) = (bounds.of_document(end), body.len() as u64);
        document(body).unwrap_or_else(|| match parse::<Message>(body) {
            Some(message) if message.has_failed() => Reading::free("the provider answered with an error"),
            message => bounds.reading(message.and_then(|m| m.model), size, end),
        })
    });
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

/// What a whole Messages answer says; `None` if it has no usage.
pub(crate) fn document(body: &[u8]) -> Option<Reading> {
    let message = parse::<Message>(body)?;
    let usage = MessageUsage::from(message.usage?);
    usage.is_stated().then(|| usage.describe(message.model).reading(Quality::Exact))
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Charged<MessageUsage>>,
    /// `error` for what stands in a message's place.
    #[serde(rename = "type", default, deserialize_with = "text")]
    kind: Option<String>,
}

impl Message {
    fn has_failed(&self) -> bool {
        self.kind.as_deref() == Some("error")
    }
}

#[derive(Deserialize)]
struct Start {
    message: Message,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    delta: DeltaBody,
    #[serde(default, deserialize_with = "lenient")]
    usage: Option<Charged<MessageUsage>>,
}

#[derive(Default, Deserialize)]
struct DeltaBody {
    #[serde(default, deserialize_with = "text")]
    stop_reason: Option<String>,
}

/// The events of a stream.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about the stream by itself")]
pub(crate) struct Stream {
    bounds: Bounds,
    server_tools: bool,
    model: Option<String>,
    usage: Option<MessageUsage>,
    /// The numbers are final: the message said why it stopped.
    stopped: bool,
    /// The output was said after the start, which knows only of its first token.
    says_output: bool,
    failed: bool,
    visible_bytes: u64,
    delivered: Delivered,
}

/// Pieces that nobody generated: quotes of what the request held, and signatures of what was thought.
static BESIDE: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [&b"\"citations_delta\""[..], b"\"signature_delta\""].map(Finder::new));
/// None of them is shorter.
const BESIDE_MIN: usize = 128;

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        let name = if NAMES.contains(&name) { name } else { kind(data) };
        match name {
            "message_start" => {
                if let Some(start) = parse::<Start>(data) {
                    self.model = start.message.model.or(self.model.take());
                    self.usage = start.message.usage.map(MessageUsage::from).or(self.usage.take());
                }
            }
            "message_delta" => {
                let Some(delta) = parse::<Delta>(data) else { return };
                self.stopped |= delta.delta.stop_reason.is_some();
                if let Some(later) = delta.usage.map(MessageUsage::from) {
                    self.says_output |= later.says_output();
                    self.usage.get_or_insert_default().replace(later);
                }
            }
            "content_block_start" | "content_block_delta" => {
                self.visible_bytes = self.visible_bytes.saturating_add(visible(data, DELTA_FRAMING));
                if name == "content_block_delta"
                    && (data.len() < BESIDE_MIN || BESIDE.iter().all(|kind| kind.find(data).is_none()))
                {
                    self.delivered.event(data);
                }
            }
            "error" => self.failed = true,
            _ => {}
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let delivered = self.delivered.tokens();
        let described = self.usage.clone().map(|usage| usage.describe(self.model.clone()));
        let Some(mut described) = described.filter(Described::has_input) else {
            return Some(self.bounds.so_far(self.model.clone(), delivered));
        };
        described.raise_whole_output(delivered);
        Some(described.reading(Quality::Estimated))
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        let Some(usage) = self.usage.take() else {
            return if self.failed { Reading::nothing() } else { self.bounds.reading(None, self.visible_bytes, end) };
        };
        let described = usage.describe(model);
        if self.stopped && self.says_output && dropped == 0 {
            return described.reading(Quality::Exact);
        }
        self.unfinished(described)
    }
}

impl Stream {
    pub(crate) fn new(facts: &RequestFacts) -> Self {
        Self { bounds: Bounds::of(facts), server_tools: facts.server_tools, ..Self::default() }
    }

    /// Input as the start said it, unless server tools can have added to it; output by its bound.
    fn unfinished(&self, mut described: Described) -> Reading {
        if !described.has_input() {
            return self.bounds.reading(described.model, self.visible_bytes, BodyEnd::Cut);
        }
        let output = self.bounds.output(self.visible_bytes, BodyEnd::Cut);
        match output {
            Some(output) if !self.server_tools => {
                described.raise_output(output);
                described.reading(Quality::Estimated)
            }
            _ => Reading { model: described.model, ..Reading::absent() },
        }
    }
}

/// Every event that the API names.
const NAMES: [&str; 8] = [
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "message_start",
    "message_delta",
    "message_stop",
    "ping",
    "error",
];

/// The `type` in the data of an event that has no name, or one of a gateway's own.
fn kind(data: &[u8]) -> &str {
    const KINDS: [&str; 5] = ["content_block_delta", "content_block_start", "message_start", "message_delta", "error"];
    static FINDERS: LazyLock<[Finder<'static>; 5]> =
        LazyLock::new(|| KINDS.map(|kind| Finder::new(&format!("\"{kind}\"")).into_owned()));
    leading_type(data).unwrap_or_else(|| {
        let found = FINDERS.iter().position(|finder| finder.find(data).is_some());
        found.map_or("other", |at| KINDS[at])
    })
}

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod tests;
