//! llama.cpp's own server API: `/completion`, `/infill`, `/embedding`.
//!
//! The last event of a stream, like a whole answer, says `stop` and holds the counts.
//!
//! Source: github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md.

use bytes::Bytes;
use memchr::memmem;
use serde::Deserialize;

use super::{Service, free, metered};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Endpoint, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    delivered::Text,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, parse, text},
    read::{Either, Events, JsonReader, SseReader, is_sse},
};

const COMPLETION: &str = "llama_cpp_completion";
const EMBEDDING: &str = "llama_cpp_embedding";

/// The service.
pub(super) struct LlamaCpp;

impl Service for LlamaCpp {
    fn names(&self) -> &'static [&'static str] {
        &[COMPLETION, EMBEDDING]
    }

    fn endpoint(&self, method: &str, [last, before, _]: [&str; 3]) -> Option<Endpoint> {
        if !method.eq_ignore_ascii_case("POST") {
            return None;
        }
        match (before, last) {
            ("", "completion" | "infill") => Some(metered(COMPLETION)),
            ("", "embedding") => Some(metered(EMBEDDING)),
            ("", "tokenize" | "detokenize" | "apply-template" | "props" | "lora-adapters") | ("slots", _) => {
                Some(free("llama_cpp_admin"))
            }
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let request = RawObject::parse(body)?;
        let no_output = call.endpoint.name == EMBEDDING;
        Ok(RequestFacts {
            model: request.text("model"),
            stream: request.is_true("stream"),
            // A prompt given as numbers has at least two bytes a token.
            input_bound: body.len() as u64,
            // Negative: as long as the model likes.
            ceiling: request.count("n_predict"),
            choices: 1,
            can_clamp: !no_output,
            no_output,
            ..RequestFacts::default()
        })
    }

    fn rewrite(&self, _: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        let mut request = RawObject::parse(body)?;
        if let Some(ceiling) = rewrite.ceiling {
            request.set("n_predict", ceiling.to_string());
        }
        Ok(request.write().into_bytes())
    }

    fn reader(&self, _: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        answer(facts, head)
    }
}

fn answer(facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let bounds = Bounds::of(facts);
    let of = |bounds| Answer { bounds, model: facts.model.clone(), ..Answer::default() };
    let mut whole = of(bounds.of_document(BodyEnd::Cut));
    let document = JsonReader::new(move |body: Option<&[u8]>, end| {
        whole.event("", body.unwrap_or(b""));
        whole.finish(end, u64::from(body.is_none()))
    });
    Either::of(is_sse(head, facts.stream), Box::new(SseReader::new(of(bounds))), Box::new(document))
}

#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    tokens_evaluated: Count,
    #[serde(default)]
    tokens_predicted: Count,
    #[serde(default)]
    stop: Option<bool>,
}

/// What the events of one answer say; a whole answer is a stream of one.
#[derive(Default)]
struct Answer {
    bounds: Bounds,
    model: Option<String>,
    last: Option<Document>,
    visible_bytes: u64,
    text: Text,
}

/// A piece of the answer; the last event quotes the prompt and the settings instead.
const PIECE: &[u8] = b"\"stop\":false";

impl Events for Answer {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        if memmem::find(data, b"\"tokens_evaluated\"").is_some() {
            self.last = parse(data).or(self.last.take());
        }
        if memmem::find(data, PIECE).is_some() {
            self.text.event(data, &[b"content"]);
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let counted = self.last.as_ref().map_or(0, |last| last.tokens_predicted.get());
        Some(self.bounds.so_far(self.model.clone(), counted.max(self.text.whole_tokens())))
    }

    fn finish(&mut self, end: BodyEnd, _: u64) -> Reading {
        let Some(last) = self.last.take().filter(|last| last.tokens_evaluated.0.is_some()) else {
            return self.bounds.reading(self.model.take(), self.visible_bytes, end);
        };
        let exact = last.stop != Some(false);
        let (input, output) = (last.tokens_evaluated.get(), last.tokens_predicted.get());
        let output_tokens = if exact { output } else { self.bounds.output_after(output) };
        let usage = Usage { input_tokens: input, input_uncached: input, output_tokens, ..Usage::default() };
        let quality = if exact { Quality::Exact } else { Quality::Estimated };
        Reading { model: last.model.or(self.model.take()), ..Reading::of(quality, usage) }
    }
}
