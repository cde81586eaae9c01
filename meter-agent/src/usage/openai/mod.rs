//! The OpenAI API and what imitates it: Chat Completions, Completions, Embeddings, Rerank, Responses.
//!
//! Owns the map from paths to calls ([`CALLS`], [`FREE`], and [`beyond`] for all that is not text from text) and the
//! error shape. A call is a file here and a line there.
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
mod realtime;
mod rerank;
pub(crate) mod responses;
mod threads;
mod tokens;
mod usage;

use bytes::Bytes;

use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, Reading, Renamed, RequestFacts, Rewrite,
    SocketReader, Unreadable,
    edit::RawObject,
    read::{AbsentReader, JsonReader, NothingReader, is_success},
    renamed,
    sse::error_event,
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

/// POSTs that cost nothing, by the ends of their paths.
static FREE: &[(&str, &str)] = &[
    ("responses/input_tokens", "responses_count_tokens"),
    ("models", "models"),
    ("moderations", "moderations"),
    ("tokenize", "tokenize"),
    ("tokenize-text", "tokenize"),
    ("detokenize", "tokenize"),
    ("fine_tuning/jobs/*/pause", FINE_TUNING),
    ("fine_tuning/jobs/*/resume", FINE_TUNING),
    ("uploads/*/complete", "uploads"),
];

/// Classifies by the path's end, so that any prefix (`/v1`, `/openai/v1`, `/api/v1`, a deployment) fits.
pub(crate) fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
    if let Some(found) = beyond::endpoint(method, path) {
        return Some(found);
    }
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let last = segments.next().unwrap_or("");
    let before = segments.next().unwrap_or("");
    let above = segments.next().unwrap_or("");
    let of = |name, billing| (name != OTHER).then_some(Endpoint { name, billing });
    if !method.eq_ignore_ascii_case("POST") {
        return of(section(path), reading(method));
    }
    if let Some(call) = CALLS.iter().find(|call| call.ends.iter().any(|end| ends_in(path, end))) {
        return of(call.name, Billing::Metered);
    }
    if let Some((_, name)) = FREE.iter().find(|(end, _)| ends_in(path, end)) {
        return of(name, Billing::Free);
    }
    match (before, last) {
        (_, "cancel") if CANCELLED.contains(&above) => of(section(path), Billing::Free),
        // Changing the metadata of a stored completion.
        ("completions", id) if above == "chat" && id.starts_with("chatcmpl") => of("chat", Billing::Free),
        // Stores are billed by size and time, a search in one perhaps by itself.
        (_, "search") if above == "vector_stores" => of("vector_stores", Billing::Unknown),
        // The part nearest to the end decides: a prefix of the host's own may be called as one of them.
        _ => match part(path.rsplit('/')) {
            name @ ("files" | "uploads" | "conversations" | "org_admin" | "assistants" | "vector_stores") => {
                of(name, Billing::Free)
            }
            _ => of(section(path), Billing::Unknown),
        },
    }
}

/// Whether the path's last segments are those of `end`; a `*` is any one.
fn ends_in(path: &str, end: &str) -> bool {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    end.rsplit('/').all(|wanted| segments.next().is_some_and(|s| wanted == "*" || s == wanted))
}

fn call(name: &str) -> Option<&'static ApiCall> {
    CALLS.iter().find(|call| call.name == name)
}

/// The model that the body names, else the path (`/deployments/NAME/...`, `/engines/NAME/...`).
fn model_of(call: &Call<'_>, object: &RawObject<'_>) -> Option<String> {
    let mut segments = call.path().split('/');
    let named = segments.find(|s| matches!(*s, "deployments" | "engines")).and_then(|_| segments.next());
    object.text("model").filter(|m| !m.is_empty()).or_else(|| named.map(str::to_owned))
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

/// Calls other than POST. Those that read or delete cost nothing.
fn reading(method: &str) -> Billing {
    let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
    if reads { Billing::Free } else { Billing::Unknown }
}

/// What can be cancelled, which costs nothing by itself.
const CANCELLED: [&str; 6] = ["responses", "batches", "uploads", "runs", "jobs", "file_batches"];

/// The part of the API that a path belongs to, for the ledger.
fn section(path: &str) -> &'static str {
    part(path.split('/'))
}

/// The first segment that names a part of the API.
fn part<'a>(mut segments: impl Iterator<Item = &'a str>) -> &'static str {
    const SECTIONS: &[&str] = &[
        "models",
        "files",
        "uploads",
        "conversations",
        "organization",
        "batches",
        "fine_tuning",
        "assistants",
        "threads",
        "vector_stores",
        "images",
        "audio",
        "videos",
        "realtime",
        "evals",
        "containers",
        "responses",
        "chat",
        "completions",
        "embeddings",
        "moderations",
    ];
    let named = segments.find_map(|s| SECTIONS.iter().copied().find(|known| *known == s)).unwrap_or(OTHER);
    if named == "organization" { "org_admin" } else { named }
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

/// `{"error": {message, type, param, code, meter}}`, as the official SDKs read it.
pub(crate) fn error_body(problem: &Problem) -> Vec<u8> {
    let kind = match problem.status {
        402 => "insufficient_quota",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    let mut error = serde_json::json!({
        "message": problem.text(),
        "type": kind,
        "param": null,
        "code": problem.code,
    });
    if let Some(budget) = &problem.budget {
        error["meter"] = serde_json::json!(budget);
    }
    serde_json::json!({ "error": error }).to_string().into_bytes()
}

/// An error in a stream's event. Of Responses it is an event of its own kind too, with the same facts beside its type:
/// who reads events by their type finds it there, and the SDKs raise what has an `error`.
pub(crate) fn cut_event(endpoint: Endpoint, problem: &Problem) -> Vec<u8> {
    let body = error_body(problem);
    if endpoint.name != RESPONSES {
        return error_event("", &body);
    }
    let mut event: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    event["type"] = "error".into();
    event["code"] = problem.code.into();
    event["message"] = problem.text().into();
    event["param"] = serde_json::Value::Null;
    error_event("error", event.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::{Measure, Unit},
        usage::{BudgetFacts, detect},
    };

    #[test]
    fn calls_are_known_behind_any_prefix() {
        for (method, path, name, billing) in [
            ("POST", "/v1/chat/completions", CHAT, Billing::Metered),
            ("POST", "/openai/deployments/x/chat/completions", CHAT, Billing::Metered),
            ("POST", "/api/v1/responses", RESPONSES, Billing::Metered),
            ("POST", "/v1/responses/", RESPONSES, Billing::Metered),
            ("POST", "/v1/embeddings", EMBEDDINGS, Billing::Metered),
            ("POST", "/v1/responses/input_tokens", "responses_count_tokens", Billing::Free),
            ("POST", "/v1/responses/resp_1/cancel", "responses_cancel", Billing::Result),
            ("GET", "/v1/responses/resp_1", "responses_get", Billing::Result),
            ("GET", "/v1/responses", "responses_ws", Billing::Socket),
            ("GET", "/v1/realtime", "realtime_ws", Billing::Socket),
            ("GET", "/v1/models", "models", Billing::Free),
            ("POST", "/v1/moderations", "moderations", Billing::Free),
            ("POST", "/v1/images/generations", "images_generations", Billing::Metered),
            ("POST", "/v1/videos", "videos", Billing::Unknown),
            ("POST", "/v1/something/new", "other", Billing::Unknown),
            ("PUT", "/v1/models", "models", Billing::Unknown),
            ("POST", "/v1/files", "files", Billing::Free),
            ("POST", "/v1/uploads/upload_1/complete", "uploads", Billing::Free),
            ("POST", "/v1/batches/batch_1/cancel", "batches", Billing::Free),
            ("POST", "/v1/chat/completions/chatcmpl-1", "chat", Billing::Free),
            ("POST", "/models/some-model/v1/completions", COMPLETIONS, Billing::Metered),
            ("POST", "/v1/prompts/pp-1/completions", COMPLETIONS, Billing::Metered),
            ("POST", "//openai/deployments/x/completions", COMPLETIONS, Billing::Metered),
            ("POST", "/api/v1/rerank", RERANK, Billing::Metered),
            ("POST", "/v1/models", "models", Billing::Free),
            ("POST", "/v1/fine_tuning/jobs", FINE_TUNING, Billing::Metered),
            ("POST", "/v1/fine_tuning/jobs/ftjob-1/cancel", FINE_TUNING, Billing::Free),
            ("POST", "/v1/fine_tuning/jobs/ftjob-1/pause", FINE_TUNING, Billing::Free),
            ("POST", "/v1/fine_tuning/alpha/graders/run", FINE_TUNING, Billing::Unknown),
            ("GET", "/v1/organization/usage/completions", "org_admin", Billing::Free),
            ("POST", "/v1/vector_stores", "vector_stores", Billing::Free),
            ("POST", "/v1/vector_stores/vs_1/search", "vector_stores", Billing::Unknown),
            ("POST", "/v1/assistants/asst_1", "assistants", Billing::Free),
            ("POST", "/v1/tokenize", "tokenize", Billing::Free),
        ] {
            let (_, found) = detect(Some(&OpenAi), method, path);
            assert_eq!(found, Endpoint { name, billing }, "{method} {path}");
        }
    }

    #[test]
    fn a_call_is_not_free_for_a_segment_that_only_looks_like_a_free_one() {
        for path in [
            "/files/images/inpaintings",
            "/v1/chat/%63ompletions",
            "/v1/chat/completions/.",
            "/v1/generate/cancel",
            "/publishers/openai/models/x:generateContent",
        ] {
            assert_eq!(detect(Some(&OpenAi), "POST", path).1.billing, Billing::Unknown, "{path}");
        }
    }

    #[test]
    fn a_refusal_has_the_providers_shape_and_the_budget_facts() {
        let problem = Problem {
            status: 402,
            code: "budget_exceeded",
            message: "spent".to_owned(),
            budget: Some(BudgetFacts {
                account: "research".to_owned(),
                limit: "total $0.5".to_owned(),
                category: "any",
                spent: Measure { unit: Unit::Usd, amount: 1 },
                held: Measure { unit: Unit::Usd, amount: 0 },
                needed: Measure { unit: Unit::Usd, amount: 2 },
                reset: None,
            }),
        };
        let body: serde_json::Value = serde_json::from_slice(&error_body(&problem)).unwrap();
        assert_eq!(body["error"]["type"], "insufficient_quota");
        assert_eq!(body["error"]["code"], "budget_exceeded");
        assert_eq!(body["error"]["meter"]["account"], "research");
        let sentence = "spent Account research, limit total $0.5 (any): $0.000000000001 spent, $0 held, \
            $0.000000000002 needed; it does not reset.";
        assert_eq!(body["error"]["message"], sentence);
        assert_eq!(body["error"]["meter"]["needed_usd"], "0.000000000002");
    }

    #[test]
    fn a_cut_stream_ends_with_an_error_in_its_own_shape() {
        let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
        let event = |name| {
            let event = cut_event(Endpoint { name, billing: Billing::Metered }, &problem);
            let text = String::from_utf8(event).unwrap();
            let (named, data) = text.split_once("data: ").unwrap();
            (named.to_owned(), serde_json::from_str::<serde_json::Value>(data.strip_suffix("\n\n").unwrap()).unwrap())
        };
        let (named, data) = event(CHAT);
        assert_eq!((named.as_str(), &data["error"]["code"]), ("", &serde_json::json!("budget_exceeded")));
        let (named, data) = event(RESPONSES);
        assert_eq!(named, "event: error\n");
        assert_eq!((&data["type"], &data["message"]), (&serde_json::json!("error"), &serde_json::json!("spent")));
        assert_eq!(data["error"]["code"], "budget_exceeded");
    }
}
