//! The OpenAI API and what imitates it: Chat Completions, Completions, Embeddings, Rerank, Responses.
//!
//! Owns the calls ([`CALLS`], and [`beyond`] for all that is not text from text): a call is a file here and a line
//! there. Which path is which call is said by `paths.rs`, what a refusal looks like by `refusal.rs`.
//! Other providers' hosts answer some of these paths too; their dialects delegate here.
//!
//! Source: the API reference at developers.openai.com/api/reference.

mod ask;
mod audio;
mod batches;
pub(crate) mod beyond;
pub(crate) mod chat;
mod completions;
mod delta;
pub(crate) mod embeddings;
mod fallback;
mod images;
pub(crate) mod input;
mod ocr;
mod paths;
mod realtime;
mod refusal;
mod rerank;
pub(crate) mod responses;
mod threads;
mod tokens;
mod usage;

use bytes::Bytes;

pub(crate) use self::{
    paths::endpoint,
    refusal::{cut_event, error_body, socket_error},
};
use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, Reading, Renamed, RequestFacts, Rewrite,
    SocketReader, Unreadable,
    edit::RawObject,
    percent::decoded,
    read::{AbsentReader, JsonReader, NothingReader, is_success},
    renamed,
};

/// The dialect.
pub struct OpenAi;

pub(crate) const CHAT: &str = "chat_completions";
pub(crate) const RESPONSES: &str = "responses";
pub(crate) const COMPACT: &str = "responses_compact";
pub(crate) const EMBEDDINGS: &str = "embeddings";
const COMPLETIONS: &str = "completions";
const RERANK: &str = "rerank";
const FINE_TUNING: &str = "fine_tuning";
/// A path that is no part of this API.
const OTHER: &str = "other";

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        endpoint(method, path)
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        request(call, body)
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        rewrite_body(endpoint, body, rewrite)
    }

    fn renamed(&self, call: &Call<'_>, body: &[u8], model: &str) -> Result<Renamed, Unreadable> {
        renamed_call(call, body, model)
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        reader(call, facts, head)
    }

    fn socket(&self, call: &Call<'_>) -> Option<Box<dyn SocketReader>> {
        beyond::socket(call)
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        error_body(problem)
    }

    fn cut_event(&self, endpoint: Endpoint, problem: &Problem) -> Vec<u8> {
        cut_event(endpoint, problem)
    }
}

/// A call that costs by what its answer says: the ends of the paths that a POST makes it by, and its module.
struct ApiCall {
    name: &'static str,
    /// Whole segments; the first call whose end fits is taken.
    ends: &'static [&'static str],
    request: fn(&Call<'_>, &Bytes) -> Result<RequestFacts, Unreadable>,
    rewrite: fn(&[u8], Rewrite) -> Result<Vec<u8>, Unreadable>,
    reader: fn(&Call<'_>, &RequestFacts, AnswerHead<'_>) -> Box<dyn Reader>,
}

#[rustfmt::skip]
static CALLS: &[ApiCall] = &[
    ApiCall { name: CHAT, ends: &["chat/completions"], request: chat::request, rewrite: chat::rewrite, reader: chat::reader },
    ApiCall { name: COMPLETIONS, ends: &["completions"], request: completions::request, rewrite: completions::rewrite, reader: completions::reader },
    ApiCall { name: EMBEDDINGS, ends: &["embeddings", "multimodalembeddings", "contextualizedembeddings"], request: embeddings::request, rewrite: unchanged, reader: embeddings::reader },
    ApiCall { name: RERANK, ends: &["rerank", "reranking"], request: rerank::request, rewrite: unchanged, reader: rerank::reader },
    ApiCall { name: RESPONSES, ends: &["responses"], request: |_, body| responses::request(true, body), rewrite: responses::rewrite, reader: |_, facts, head| responses::reader(facts, head) },
    ApiCall { name: COMPACT, ends: &["responses/compact"], request: |_, body| responses::request(false, body), rewrite: unchanged, reader: |_, facts, head| responses::reader(facts, head) },
    ApiCall { name: FINE_TUNING, ends: &["fine_tuning/jobs"], request: |_, body| Ok(unknown_request(body)), rewrite: unchanged, reader: |_, _, _| ordered_training() },
];

fn call(name: &str) -> Option<&'static ApiCall> {
    CALLS.iter().find(|call| call.name == name)
}

/// The model that the body names, else the path (`/deployments/NAME/...`, `/engines/NAME/...`).
fn model_of(call: &Call<'_>, object: &RawObject<'_>) -> Option<String> {
    let mut segments = call.path().split('/');
    let named = segments.find(|s| matches!(*s, "deployments" | "engines")).and_then(|_| segments.next());
    object.text("model").filter(|m| !m.is_empty()).or_else(|| named.map(decoded))
}

/// In the path where that names the model, and in the body where that does.
pub(crate) fn renamed_call(call: &Call<'_>, body: &[u8], model: &str) -> Result<Renamed, Unreadable> {
    let in_body = renamed::in_body(body, "model", model);
    let after = |part: &str| Some(call.path().find(part)? + part.len());
    let Some(at) = ["/deployments/", "/engines/"].into_iter().find_map(after) else { return in_body };
    let length = call.path()[at..].find('/').unwrap_or(call.path().len() - at);
    let path = renamed::in_path(call.path_and_query, at..at + length, model);
    Ok(Renamed { path_and_query: Some(path), body: in_body.map_or_else(|_| body.to_vec(), |renamed| renamed.body) })
}

#[expect(clippy::unnecessary_wraps, reason = "as `ApiCall::rewrite` has it")]
fn unchanged(body: &[u8], _: Rewrite) -> Result<Vec<u8>, Unreadable> {
    Ok(body.to_vec())
}

/// The order of a training costs nothing yet.
fn ordered_training() -> Box<dyn Reader> {
    Box::new(JsonReader::new(|_: Option<&[u8]>, _| Reading::free("training is billed by the provider when it has run")))
}

pub(crate) fn request(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    match self::call(call.endpoint.name) {
        Some(api) => (api.request)(call, body),
        None => beyond::request(call, body).unwrap_or_else(|| Ok(unknown_request(body))),
    }
}

/// A call that this version can't read: nothing is known but its size.
pub(crate) fn unknown_request(body: &[u8]) -> RequestFacts {
    RequestFacts { input_bound: body.len() as u64, input_unbounded: true, choices: 1, ..RequestFacts::default() }
}

pub(crate) fn rewrite_body(endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    (call(endpoint.name).map_or(unchanged as fn(&[u8], Rewrite) -> _, |api| api.rewrite))(body, rewrite)
}

pub(crate) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    if !is_success(head) || call.endpoint.billing == Billing::Free {
        return Box::new(NothingReader);
    }
    match self::call(call.endpoint.name).filter(|_| call.endpoint.billing == Billing::Metered) {
        Some(api) => (api.reader)(call, facts, head),
        None => beyond::reader(call, facts, head).unwrap_or_else(|| Box::new(AbsentReader)),
    }
}
