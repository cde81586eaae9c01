//! Gemini: `models/NAME:generateContent` and `:streamGenerateContent`.
//!
//! Output is candidates plus thoughts; `toolUsePromptTokenCount` is input beyond `promptTokenCount`, which
//! includes the cached part. In a stream every chunk has the usage so far and the last object holds as a whole:
//! the input of earlier ones is an estimate that may go down. Without `alt=sse` a stream is one JSON array.
//!
//! Source: ai.google.dev/api/generate-content#UsageMetadata and .../gemini-api/docs/tokens.

mod request;
mod usage;

use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};

use self::usage::UsageMetadata;
use super::{
    AnswerHead, Billing, BodyEnd, Dialect, Endpoint, Line, Problem, Quality, Reader, Reading, RequestFacts, Rewrite,
    Unreadable, Usage,
    estimate::Bounds,
    json::{or_default, parse, parse_prefix, text},
    openai,
    read::{AbsentReader, Events, JsonReader, NothingReader, SseReader, is_sse, is_success},
};

/// The dialect.
pub struct Gemini;

const GENERATE: &str = "generate_content";
const STREAM: &str = "stream_generate_content";

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn endpoint(&self, method: &str, path: &str) -> Endpoint {
        let of = |name, billing| Endpoint { name, billing };
        if compatible(path) {
            return openai::endpoint(method, path);
        }
        if !method.eq_ignore_ascii_case("POST") {
            let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
            let opens_socket = path.contains("GenerateContent");
            return of("other", if reads && !opens_socket { Billing::Free } else { Billing::Unknown });
        }
        match request::action(path) {
            "generateContent" => of(GENERATE, Billing::Tokens),
            "streamGenerateContent" => of(STREAM, Billing::Tokens),
            "countTokens" => of("count_tokens", Billing::Free),
            "cancel" => of("cancel", Billing::Free),
            "embedContent" => of("embed_content", Billing::Unknown),
            "batchEmbedContents" => of("batch_embed_contents", Billing::Unknown),
            "" if path.trim_end_matches('/').ends_with("/files") => of("files", Billing::Free),
            _ => of("other", Billing::Unknown),
        }
    }

    fn request(&self, endpoint: Endpoint, path_and_query: &str, body: &[u8]) -> Result<RequestFacts, Unreadable> {
        match endpoint.name {
            GENERATE | STREAM => request::facts(endpoint.name == STREAM, path_and_query, body),
            _ => openai::request(endpoint, body),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match endpoint.name {
            GENERATE | STREAM => request::rewrite(body, rewrite),
            _ => openai::rewrite_body(endpoint, body, rewrite),
        }
    }

    fn reader(&self, endpoint: Endpoint, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        match endpoint.name {
            GENERATE | STREAM => reader(facts, head),
            openai::CHAT | openai::EMBEDDINGS => {
                openai::reader(endpoint, facts, head, openai::chat::Totals::ThinkingInTotal)
            }
            _ => Box::new(AbsentReader),
        }
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let status = match problem.status {
            402 | 429 => "RESOURCE_EXHAUSTED",
            413 | 421 | 400 => "INVALID_ARGUMENT",
            500.. => "UNAVAILABLE",
            _ => "FAILED_PRECONDITION",
        };
        let mut detail = serde_json::json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": problem.code.to_ascii_uppercase(),
            "domain": "meter",
        });
        if let Some(budget) = &problem.budget {
            // The metadata of an ErrorInfo holds strings alone.
            detail["metadata"] = serde_json::json!({
                "account": budget.account,
                "limit": budget.limit,
                "category": budget.category,
                "spent_usd": budget.spent_usd,
                "held_usd": budget.held_usd,
                "needed_usd": budget.needed_usd,
                "reset": budget.reset.as_deref().unwrap_or(""),
            });
        }
        let error = serde_json::json!({
            "code": problem.status,
            "message": problem.text(),
            "status": status,
            "details": [detail],
        });
        serde_json::json!({ "error": error }).to_string().into_bytes()
    }
}

/// The OpenAI-compatible paths of this host.
fn compatible(path: &str) -> bool {
    path.split('/').any(|s| s == "openai")
}

fn reader(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    let model = facts.model.clone();
    if is_sse(head, false) {
        return Box::new(SseReader::new(Stream { bounds, requested: model, ..Stream::default() }));
    }
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| match body {
        Some(body) => document(body, end, bounds, model),
        None => Reading::absent(),
    }))
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
struct Chunk {
    #[serde(default, alias = "usage_metadata")]
    usage_metadata: Option<UsageMetadata>,
    #[serde(default, alias = "model_version", deserialize_with = "text")]
    model_version: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    candidates: Vec<Candidate>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    #[serde(default)]
    grounding_metadata: Option<Grounding>,
    #[serde(default, alias = "finish_reason")]
    finish_reason: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default, deserialize_with = "or_default")]
    web_search_queries: Vec<IgnoredAny>,
}

/// What the chunks of one answer add up to.
#[derive(Default)]
struct Chunks {
    model: Option<String>,
    usage: Option<UsageMetadata>,
    queries: u64,
    candidates: bool,
    /// A chunk said why the answer ended.
    finished: bool,
    failed: bool,
}

impl Chunks {
    fn add(&mut self, chunk: Chunk) {
        self.usage = chunk.usage_metadata.or(self.usage.take());
        self.model = chunk.model_version.or(self.model.take());
        self.failed |= chunk.error.is_some();
        self.candidates |= !chunk.candidates.is_empty();
        self.finished |= chunk.candidates.iter().any(|c| c.finish_reason.is_some());
        let queries = chunk.candidates.iter().filter_map(|c| c.grounding_metadata.as_ref());
        self.queries = self.queries.max(queries.map(|g| g.web_search_queries.len() as u64).sum());
    }

    fn reading(self, bounds: Bounds, visible: u64, end: BodyEnd, requested: Option<String>) -> Reading {
        let model = self.model.or(requested);
        let Some(metadata) = self.usage else {
            return if self.failed && !self.candidates {
                Reading { model, ..Reading::nothing() }
            } else {
                bounds.reading(model, visible, end)
            };
        };
        let (mut line, service_tier) = metadata.describe();
        line.web_searches = billed_searches(model.as_deref(), self.queries);
        // Gemini 1 said a reason to end in every chunk.
        let finished = self.finished && !model.as_deref().is_some_and(|m| m.starts_with("gemini-1"));
        let exact = end == BodyEnd::Complete || finished;
        if !exact {
            line.usage.output_tokens = bounds.output_after(line.usage.output_tokens);
        }
        let quality = if exact { Quality::Exact } else { Quality::Estimated };
        let usage: Usage = line.usage;
        let lines: Vec<Line> = if line.is_plain() { Vec::new() } else { vec![line] };
        Reading { model, service_tier, lines, ..Reading::of(quality, usage) }
    }
}

/// Gemini 3 bills every query; earlier ones bill a grounded prompt once.
fn billed_searches(model: Option<&str>, queries: u64) -> u64 {
    let per_prompt = model.is_some_and(|m| m.starts_with("gemini-1") || m.starts_with("gemini-2"));
    if per_prompt { queries.min(1) } else { queries }
}

#[derive(Default)]
struct Stream {
    bounds: Bounds,
    requested: Option<String>,
    all: Chunks,
    /// The latest event with usage, decoded at the end: every event has some, and only the last one holds.
    last: Vec<u8>,
    visible_bytes: u64,
}

impl Events for Stream {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        let has = |key: &[u8]| memmem::find(data, key).is_some();
        if has(b"groundingMetadata") || has(b"finishReason") || has(b"\"error\"") {
            if let Some(chunk) = parse::<Chunk>(data) {
                if chunk.usage_metadata.is_some() {
                    self.last.clear();
                }
                self.all.add(chunk);
            }
        } else if has(b"usageMetadata") || has(b"usage_metadata") {
            // A half event at a cut must not displace the whole one before it.
            if data.trim_ascii_end().ends_with(b"}") {
                self.last.clear();
                self.last.extend_from_slice(data);
            }
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let mut all = std::mem::take(&mut self.all);
        if let Some(chunk) = parse::<Chunk>(&self.last) {
            all.add(chunk);
        }
        let requested = self.requested.take();
        if dropped > 0 && !all.finished {
            return Reading { model: all.model.or(requested), ..Reading::absent() };
        }
        all.reading(self.bounds, self.visible_bytes, end, requested)
    }
}

#[cfg(test)]
#[path = "gemini_tests.rs"]
mod tests;
