//! IBM watsonx: text generation, chat and embeddings below `/ml/v1/text`.
//!
//! A stream says the input in its first event and the output so far in each. Chat has the shape of Chat Completions,
//! with its usage in the last event of a stream unasked.
//!
//! Source: cloud.ibm.com/apidocs/watsonx-ai.

use bytes::Bytes;
use serde::Deserialize;

use super::{Service, free, metered, nested_ceiling, object};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Endpoint, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, or_default, parse, text},
    openai,
    read::{Either, Events, JsonReader, SseReader, is_sse},
};

const GENERATION: &str = "watsonx_generation";
const STREAM: &str = "watsonx_generation_stream";
const CHAT: &str = "watsonx_chat";
const CHAT_STREAM: &str = "watsonx_chat_stream";
const EMBEDDINGS: &str = "watsonx_embeddings";

/// The service.
pub(super) struct Watsonx;

impl Service for Watsonx {
    fn names(&self) -> &'static [&'static str] {
        &[GENERATION, STREAM, CHAT, CHAT_STREAM, EMBEDDINGS]
    }

    fn endpoint(&self, method: &str, [last, before, above]: [&str; 3]) -> Option<Endpoint> {
        if !method.eq_ignore_ascii_case("POST") {
            return None;
        }
        match (above, before, last) {
            (_, "text", "generation") | (_, "generation", "text") => Some(metered(GENERATION)),
            (_, "text", "generation_stream") | (_, "generation", "text_stream") => Some(metered(STREAM)),
            (_, "text", "chat") => Some(metered(CHAT)),
            (_, "text", "chat_stream") => Some(metered(CHAT_STREAM)),
            (_, "text", "embeddings") => Some(metered(EMBEDDINGS)),
            (_, "text", "tokenization") => Some(free("watsonx_tokenization")),
            ("ml", "v1", "models") => Some(free("models")),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let object_of_body = RawObject::parse(body)?;
        let model = object_of_body.text("model_id");
        if let CHAT | CHAT_STREAM = call.endpoint.name {
            let facts = openai::request(&as_chat(call), body)?;
            let stream = call.endpoint.name == CHAT_STREAM;
            return Ok(RequestFacts { model: model.or(facts.model), stream, must_ask_usage: false, ..facts });
        }
        let parameters = object(&object_of_body, "parameters");
        let no_output = call.endpoint.name == EMBEDDINGS;
        Ok(RequestFacts {
            model,
            stream: call.endpoint.name == STREAM,
            input_bound: body.len() as u64,
            ceiling: parameters.count("max_new_tokens"),
            choices: 1,
            can_clamp: !no_output,
            no_output,
            ..RequestFacts::default()
        })
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match (endpoint.name, rewrite.ceiling) {
            (CHAT | CHAT_STREAM, _) => openai::rewrite_body(Endpoint { name: openai::CHAT, ..endpoint }, body, rewrite),
            (GENERATION | STREAM, Some(ceiling)) => nested_ceiling(body, "parameters", "max_new_tokens", ceiling),
            _ => Ok(body.to_vec()),
        }
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if let CHAT | CHAT_STREAM = call.endpoint.name {
            return openai::reader(&as_chat(call), facts, head);
        }
        let bounds = Bounds::of(facts);
        let of = |bounds| Answer { bounds, model: facts.model.clone(), ..Answer::default() };
        let mut whole = of(bounds.of_document(BodyEnd::Cut));
        let document = JsonReader::new(move |body: Option<&[u8]>, end| {
            whole.event("", body.unwrap_or(b""));
            whole.finish(end, u64::from(body.is_none()))
        });
        Either::of(is_sse(head, facts.stream), Box::new(SseReader::new(of(bounds))), Box::new(document))
    }
}

fn as_chat<'a>(call: &Call<'a>) -> Call<'a> {
    Call { endpoint: Endpoint { name: openai::CHAT, ..call.endpoint }, ..*call }
}

/// An answer, or an event of one. Embeddings say their input at the top.
#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "text")]
    model_id: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    results: Vec<Generation>,
    #[serde(default)]
    input_token_count: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Generation {
    generated_token_count: Count,
    input_token_count: Count,
    #[serde(deserialize_with = "text")]
    stop_reason: Option<String>,
}

/// What the events of one answer say; a whole answer is a stream of one.
#[derive(Default)]
struct Answer {
    bounds: Bounds,
    model: Option<String>,
    input: Option<u64>,
    output: u64,
    finished: bool,
    visible_bytes: u64,
}

impl Events for Answer {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        let Some(document) = parse::<Document>(data) else { return };
        self.model = document.model_id.or(self.model.take());
        let sum = |of: fn(&Generation) -> Count| {
            document.results.iter().filter_map(|r| of(r).0).fold(None, |sum: Option<u64>, n| Some(sum.unwrap_or(0) + n))
        };
        let input = document.input_token_count.0.or_else(|| sum(|r| r.input_token_count));
        self.input = self.input.max(input);
        self.output = self.output.max(sum(|r| r.generated_token_count).unwrap_or(0));
        let ended = |r: &Generation| r.stop_reason.as_deref().is_some_and(|s| !s.eq_ignore_ascii_case("not_finished"));
        self.finished |= document.results.iter().any(ended) || document.input_token_count.0.is_some();
    }

    fn so_far(&self) -> Option<Reading> {
        let mut reading = self.bounds.so_far(self.model.clone(), self.output);
        if let Some(input) = self.input {
            reading.usage = Usage { input_tokens: input, input_uncached: input, ..reading.usage };
        }
        Some(reading)
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        let Some(input) = self.input.filter(|_| dropped == 0) else {
            return self.bounds.reading(model, self.visible_bytes, end);
        };
        let exact = self.finished || end == BodyEnd::Complete;
        let output_tokens = if exact { self.output } else { self.bounds.output_after(self.output) };
        let usage = Usage { input_tokens: input, input_uncached: input, output_tokens, ..Usage::default() };
        Reading { model, ..Reading::of(if exact { Quality::Exact } else { Quality::Estimated }, usage) }
    }
}
