//! Ollama's own API: `/api/chat`, `/api/generate`, `/api/embed`.
//!
//! A stream is one JSON document per line, and is what is sent unless the request says otherwise; the last document
//! says `done` and holds the counts. `prompt_eval_count` is left out when the whole prompt was cached: nothing of it
//! was read then. Managing models is free. The OpenAI-compatible paths of these servers are the `openai` dialect's.
//!
//! Source: docs.ollama.com/api.

use bytes::Bytes;
use memchr::memmem;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    AnswerHead, Billing, BodyEnd, Call, Dialect, Endpoint, Problem, Quality, Reader, Reading, RequestFacts, Rewrite,
    Unreadable, Usage,
    delivered::Text,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, parse, text},
    ndjson::LineReader,
    openai,
    read::{AbsentReader, Events, JsonReader, NothingReader, is_success},
};

/// The dialect.
pub struct Ollama;

const CHAT: &str = "ollama_chat";
const GENERATE: &str = "ollama_generate";
const EMBED: &str = "ollama_embed";

/// Tokens that a template adds around the conversation.
const FRAMING_TOKENS: u64 = 256;

impl Dialect for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        let of = |name, billing| Some(Endpoint { name, billing });
        if !method.eq_ignore_ascii_case("POST") {
            return None;
        }
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        match (before, last) {
            ("api", "chat") => of(CHAT, Billing::Metered),
            ("api", "generate") => of(GENERATE, Billing::Metered),
            ("api", "embed") => of(EMBED, Billing::Metered),
            // This one says no usage, and is read as the estimate that it is.
            ("api", "embeddings") => of(openai::EMBEDDINGS, Billing::Metered),
            ("api", "show" | "pull" | "push" | "create" | "copy") => of("ollama_admin", Billing::Free),
            ("blobs", digest) if digest.starts_with("sha256") => of("ollama_admin", Billing::Free),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        match call.endpoint.name {
            CHAT | GENERATE | EMBED => facts(call.endpoint.name, body),
            _ => openai::request(call, body),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        if !matches!(endpoint.name, CHAT | GENERATE) {
            return openai::rewrite_body(endpoint, body, rewrite);
        }
        let mut object = RawObject::parse(body)?;
        if let Some(ceiling) = rewrite.ceiling {
            let old = object.get("options").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
            let mut options = RawObject::parse(old.as_bytes())?;
            options.set("num_predict", ceiling.to_string());
            object.set("options", options.write());
        }
        Ok(object.write().into_bytes())
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || call.endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        match call.endpoint.name {
            CHAT | GENERATE | EMBED => reader(facts),
            openai::EMBEDDINGS => openai::reader(call, facts, head),
            _ => Box::new(AbsentReader),
        }
    }

    /// `{"error": "..."}`, with the budget facts beside it.
    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let mut body = serde_json::json!({ "error": problem.text(), "code": problem.code });
        if let Some(budget) = &problem.budget {
            body["meter"] = serde_json::json!(budget);
        }
        body.to_string().into_bytes()
    }
}

fn facts(name: &str, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let options = RawObject::parse(object.get("options").filter(|raw| *raw != "null").unwrap_or("{}").as_bytes())?;
    Ok(RequestFacts {
        model: object.text("model"),
        stream: name != EMBED && object.get("stream") != Some("false"),
        // Images are in it as text, which bounds them generously: what these models make of one differs widely.
        input_bound: (body.len() as u64).saturating_add(FRAMING_TOKENS),
        // Negative: as long as the model likes.
        ceiling: options.count("num_predict"),
        choices: 1,
        can_clamp: name != EMBED,
        no_output: name == EMBED,
        input_image: memmem::find(body, b"\"images\"").is_some(),
        ..RequestFacts::default()
    })
}

fn reader(facts: &RequestFacts) -> Box<dyn Reader> {
    let mut answer = Answer::of(facts);
    if facts.stream {
        return Box::new(LineReader::new(answer));
    }
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        answer.event("", body.unwrap_or(b""));
        answer.finish(end, u64::from(body.is_none()))
    }))
}

/// One document: a chunk, or a whole answer.
#[derive(Deserialize)]
struct Document {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default, deserialize_with = "text")]
    done_reason: Option<String>,
    #[serde(default)]
    embeddings: Option<IgnoredAny>,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

impl Document {
    /// The end, if it says what was used: loading a model, or dropping it, uses nothing.
    fn is_last(&self) -> bool {
        let counted = self.prompt_eval_count.0.is_some() || self.eval_count.0.is_some();
        let loads = matches!(self.done_reason.as_deref(), Some("load" | "unload"));
        (self.done || self.embeddings.is_some()) && (counted || loads)
    }

    fn reading(self) -> Reading {
        let input = self.prompt_eval_count.get();
        let usage = Usage {
            input_tokens: input,
            input_uncached: input,
            output_tokens: self.eval_count.get(),
            ..Usage::default()
        };
        Reading { model: self.model, ..Reading::of(Quality::Exact, usage) }
    }
}

/// What the documents of one answer say; a whole answer is a stream of one.
struct Answer {
    bounds: Bounds,
    model: Option<String>,
    last: Option<Document>,
    visible_bytes: u64,
    text: Text,
    /// It comes as a stream.
    stream: bool,
    failed: bool,
}

impl Answer {
    fn of(facts: &RequestFacts) -> Self {
        // One document shows nothing of an answer before all of it is there.
        let bounds = Bounds::of(facts);
        let bounds = if facts.stream { bounds } else { bounds.of_document(BodyEnd::Cut) };
        Self {
            bounds,
            model: facts.model.clone(),
            last: None,
            visible_bytes: 0,
            text: Text::default(),
            stream: facts.stream,
            failed: false,
        }
    }
}

/// The members of a chunk that hold what was generated.
const GENERATED: &[&[u8]] = &[b"content", b"thinking", b"response"];

impl Events for Answer {
    fn event(&mut self, _: &str, data: &[u8]) {
        self.visible_bytes = self.visible_bytes.saturating_add(data.len() as u64);
        let has = |key: &[u8]| memmem::find(data, key).is_some();
        // Chunks are many, and say nothing but text.
        if has(b"\"done\":false") && !has(b"\"error\"") {
            self.text.event(data, GENERATED);
            return;
        }
        let Some(document) = parse::<Document>(data) else { return };
        self.failed |= document.error.is_some();
        if document.is_last() {
            self.last = Some(document);
        }
    }

    fn so_far(&self) -> Option<Reading> {
        let delivered = || self.bounds.so_far(self.model.clone(), self.text.whole_tokens());
        (self.stream && self.last.is_none() && !self.failed).then(delivered)
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        match self.last.take() {
            Some(last) => Reading { model: last.model.clone().or(model), ..last.reading() },
            None if self.failed => Reading { model, ..Reading::nothing() },
            None if dropped > 0 => Reading { model, ..Reading::absent() },
            None => self.bounds.reading(model, self.visible_bytes, end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT_PATH: &str = "/api/chat";

    fn read(path: &str, request: &str, body: &str, end: BodyEnd) -> Reading {
        let call = Call::new(Ollama.endpoint("POST", path).unwrap(), path);
        let facts = Ollama.request(&call, &request.to_owned().into()).unwrap();
        let head = AnswerHead::new(200, "application/x-ndjson");
        let whole = |chunks: Vec<&[u8]>| {
            let mut reader = Ollama.reader(&call, &facts, head);
            for chunk in chunks {
                reader.feed(chunk);
            }
            reader.finish(end)
        };
        let reading = whole(vec![body.as_bytes()]);
        for at in 0..body.len() {
            let (left, right) = body.as_bytes().split_at(at);
            assert_eq!(whole(vec![left, right]), reading, "split at {at}");
        }
        reading
    }

    const REQUEST: &str = r#"{"model":"m","options":{"num_predict":9000}}"#;
    const CHUNK: &str = r#"{"model":"m","message":{"content":"hi"},"done":false}"#;
    const LAST: &str = r#"{"model":"m","done":true,"done_reason":"stop","prompt_eval_count":11,"eval_count":7}"#;

    #[test]
    fn the_last_document_holds_the_counts() {
        for body in [format!("{CHUNK}\n{LAST}\n"), LAST.to_owned()] {
            let got = read(CHAT_PATH, REQUEST, &body, BodyEnd::Complete);
            assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 11, 7));
            assert_eq!(got.model.as_deref(), Some("m"));
        }
        let cached = LAST.replace(r#""prompt_eval_count":11,"#, "");
        let got = read(CHAT_PATH, REQUEST, &cached, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 0, 7));
    }

    #[test]
    fn a_cut_is_bounded_by_what_was_seen() {
        let got = read(CHAT_PATH, REQUEST, &format!("{CHUNK}\n{}", &LAST[..LAST.len() - 3]), BodyEnd::Cut);
        assert_eq!(got.quality, Quality::Estimated);
        assert!(got.usage.output_tokens > 4_096 && got.usage.input_tokens > 40);
        let whole = read(CHAT_PATH, r#"{"stream":false}"#, &LAST[..20], BodyEnd::Cut);
        assert_eq!(whole.quality, Quality::Absent, "a document that was cut may have been any length");
    }

    #[test]
    fn a_stream_has_used_a_token_for_each_chunk_so_far() {
        let call = Call::new(Ollama.endpoint("POST", CHAT_PATH).unwrap(), CHAT_PATH);
        let so_far = |request: &'static str, lines: &[&str]| {
            let facts = Ollama.request(&call, &request.into()).unwrap();
            let mut reader = Ollama.reader(&call, &facts, AnswerHead::new(200, "application/x-ndjson"));
            for line in lines {
                reader.feed(format!("{line}\n").as_bytes());
            }
            reader.so_far().map(|reading| (reading.quality, reading.usage.output_tokens))
        };
        let thought = r#"{"message":{"role":"assistant","content":"","thinking":"Hm"},"done":false}"#;
        let empty = r#"{"message":{"role":"assistant","content":""},"done":false}"#;
        assert_eq!(so_far(REQUEST, &[CHUNK, thought, empty]), Some((Quality::Estimated, 2)));
        let long = CHUNK.replace("hi", &"word ".repeat(16_000));
        assert_eq!(so_far(REQUEST, &[&long]), Some((Quality::Estimated, 10_000)), "whatever the ceiling is");
        assert_eq!(so_far(REQUEST, &[CHUNK, LAST]), None, "it is over");
        assert_eq!(so_far(r#"{"model":"m","stream":false}"#, &[CHUNK]), None);
    }

    #[test]
    fn an_error_within_a_stream_costs_nothing() {
        let got = read("/api/generate", REQUEST, "{\"error\":\"no such model\"}\n", BodyEnd::Complete);
        assert_eq!((got.quality, got.is_empty()), (Quality::Exact, true));
    }

    #[test]
    fn embeddings_are_input_alone() {
        let body = r#"{"model":"e","embeddings":[[0.1]],"prompt_eval_count":8}"#;
        let got = read("/api/embed", r#"{"model":"e","input":"hi"}"#, body, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 8, 0));
        let older =
            read("/api/embeddings", r#"{"model":"e","prompt":"hi"}"#, r#"{"embedding":[0.1]}"#, BodyEnd::Complete);
        assert_eq!(older.quality, Quality::Estimated);
    }

    #[test]
    fn managing_models_is_free_and_other_calls_are_not_known() {
        let billing = |path| Ollama.endpoint("POST", path).map(|e| e.billing);
        assert_eq!(billing("/api/pull"), Some(Billing::Free));
        assert_eq!(billing("/api/blobs/sha256:29fd"), Some(Billing::Free));
        assert_eq!(billing("/api/web_search"), None);
        assert_eq!(billing("/v1/chat/completions"), None);
        assert_eq!(billing("/api/v1/chat"), None);
    }

    #[test]
    fn a_ceiling_is_an_option() {
        let endpoint = Ollama.endpoint("POST", CHAT_PATH).unwrap();
        let set = |body: &str| {
            let rewrite = Rewrite { ask_usage: false, ceiling: Some(5) };
            String::from_utf8(Ollama.rewrite(endpoint, body.as_bytes(), rewrite).unwrap()).unwrap()
        };
        assert_eq!(set(r#"{"model":"m"}"#), r#"{"model":"m","options":{"num_predict":5}}"#);
        assert_eq!(set(r#"{"options":{"seed":1}}"#), r#"{"options":{"seed":1,"num_predict":5}}"#);
    }

    #[test]
    fn a_refusal_has_the_servers_shape() {
        let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
        let body: serde_json::Value = serde_json::from_slice(&Ollama.error_body(&problem)).unwrap();
        assert_eq!(body["error"], "spent");
    }
}
