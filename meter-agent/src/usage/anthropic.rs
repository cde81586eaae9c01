//! Anthropic Messages: `POST .../v1/messages`.
//!
//! `input_tokens` excludes cache reads and writes: the input is the sum of the three. Writes are split by time
//! to live; where the split is smaller than the whole (server tools) the rest is the default, 5 minutes. In a
//! stream `message_delta` replaces what `message_start` said. `iterations` that the top level does not hold
//! (compaction, an advisor's or a fallback's model) are lines of their own.
//!
//! Source: platform.claude.com/docs/en/api/messages and .../build-with-claude/prompt-caching.

mod request;
mod usage;

use memchr::memmem;
use serde::Deserialize;

use self::usage::{Described, MessageUsage};
use super::{
    AnswerHead, Billing, BodyEnd, Dialect, Endpoint, Problem, Quality, Reader, Reading, RequestFacts, Rewrite,
    Unreadable,
    edit::RawObject,
    estimate::Bounds,
    json::{parse, text},
    openai,
    read::{AbsentReader, Events, JsonReader, NothingReader, SseReader, is_sse, is_success},
};

/// The dialect.
pub struct Anthropic;

const MESSAGES: &str = "messages";

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn endpoint(&self, method: &str, path: &str) -> Endpoint {
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        let of = |name, billing| Endpoint { name, billing };
        if !method.eq_ignore_ascii_case("POST") {
            let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
            return of(section(path), if reads { Billing::Free } else { Billing::Unknown });
        }
        match (before, last) {
            (_, MESSAGES) => of(MESSAGES, Billing::Tokens),
            (MESSAGES, "count_tokens") => of("messages_count_tokens", Billing::Free),
            ("chat", "completions") => of(openai::CHAT, Billing::Tokens),
            (_, "cancel") => of(section(path), Billing::Free),
            _ => match section(path) {
                name @ ("files" | "models" | "skills" | "organizations") => of(name, Billing::Free),
                name => of(name, Billing::Unknown),
            },
        }
    }

    fn request(&self, endpoint: Endpoint, _: &str, body: &[u8]) -> Result<RequestFacts, Unreadable> {
        match endpoint.name {
            MESSAGES => request::facts(body),
            openai::CHAT => openai::request(endpoint, body),
            _ => Ok(openai::unknown_request(body)),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        if endpoint.name != MESSAGES {
            return openai::rewrite_body(endpoint, body, rewrite);
        }
        let mut object = RawObject::parse(body)?;
        if let Some(ceiling) = rewrite.ceiling {
            object.set("max_tokens", ceiling.to_string());
        }
        Ok(object.write().into_bytes())
    }

    fn reader(&self, endpoint: Endpoint, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        match endpoint.name {
            MESSAGES => reader(facts, head),
            openai::CHAT => openai::reader(endpoint, facts, head, openai::chat::Totals::Plain),
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
    SECTIONS.iter().copied().find(|known| path.split('/').any(|s| s == *known)).unwrap_or("other")
}

fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    if is_sse(head, facts.stream) {
        let stream = Stream { bounds, server_tools: facts.server_tools, ..Stream::default() };
        return Box::new(SseReader::new(stream));
    }
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let Some(body) = body else { return Reading::absent() };
        let (bounds, size) = (bounds.of_document(end), body.len() as u64);
        match parse::<Message>(body) {
            Some(Message { model, usage: Some(usage) }) => usage.describe(model).reading(Quality::Exact),
            Some(Message { model, usage: None }) => bounds.reading(model, size, end),
            None => bounds.reading(None, size, end),
        }
    }))
}

#[derive(Deserialize)]
struct Message {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default)]
    usage: Option<MessageUsage>,
}

#[derive(Deserialize)]
struct Start {
    message: Message,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    delta: DeltaBody,
    #[serde(default)]
    usage: Option<MessageUsage>,
}

#[derive(Default, Deserialize)]
struct DeltaBody {
    #[serde(default, deserialize_with = "text")]
    stop_reason: Option<String>,
}

#[derive(Default)]
struct Stream {
    bounds: Bounds,
    server_tools: bool,
    model: Option<String>,
    usage: Option<MessageUsage>,
    /// The numbers are final: the message said why it stopped.
    stopped: bool,
    failed: bool,
    visible_bytes: u64,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        match if name.is_empty() { kind(data) } else { name } {
            "message_start" => {
                if let Some(start) = parse::<Start>(data) {
                    self.model = start.message.model;
                    self.usage = start.message.usage;
                }
            }
            "message_delta" => {
                let Some(delta) = parse::<Delta>(data) else { return };
                self.stopped |= delta.delta.stop_reason.is_some();
                if let Some(later) = delta.usage {
                    self.usage.get_or_insert_default().replace(later);
                }
            }
            "content_block_start" | "content_block_delta" => {
                self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
            }
            "error" => self.failed = true,
            _ => {}
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        let Some(usage) = self.usage.take() else {
            return if self.failed { Reading::nothing() } else { self.bounds.reading(None, self.visible_bytes, end) };
        };
        let described = usage.describe(model);
        if self.stopped && dropped == 0 {
            return described.reading(Quality::Exact);
        }
        self.unfinished(described)
    }
}

impl Stream {
    /// Input as the start said it, unless server tools can have added to it; output by its bound.
    fn unfinished(&self, mut described: Described) -> Reading {
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

/// The `type` in the data of an event that has no name, as some gateways send it.
fn kind(data: &[u8]) -> &'static str {
    const KINDS: [&str; 5] = ["content_block_delta", "content_block_start", "message_start", "message_delta", "error"];
    KINDS.into_iter().find(|kind| memmem::find(data, format!("\"{kind}\"").as_bytes()).is_some()).unwrap_or("other")
}

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod tests;
