//! The OpenAI API and what imitates it: Chat Completions, Responses, Embeddings.
//!
//! Owns the map from paths to calls and the error shape. The calls are one file each. Other providers' hosts
//! answer some of these paths too; their dialects delegate here.
//!
//! Source: the API reference at developers.openai.com/api/reference.

pub(crate) mod chat;
pub(crate) mod embeddings;
pub(crate) mod input;
pub(crate) mod responses;

use super::{
    AnswerHead, Billing, Dialect, Endpoint, Problem, Reader, RequestFacts, Rewrite, Unreadable,
    read::{AbsentReader, NothingReader, is_success},
};

/// The dialect.
pub struct OpenAi;

pub(crate) const CHAT: &str = "chat_completions";
pub(crate) const RESPONSES: &str = "responses";
pub(crate) const COMPACT: &str = "responses_compact";
pub(crate) const EMBEDDINGS: &str = "embeddings";

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn endpoint(&self, method: &str, path: &str) -> Endpoint {
        endpoint(method, path)
    }

    fn request(&self, endpoint: Endpoint, _: &str, body: &[u8]) -> Result<RequestFacts, Unreadable> {
        request(endpoint, body)
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        rewrite_body(endpoint, body, rewrite)
    }

    fn reader(&self, endpoint: Endpoint, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        reader(endpoint, facts, head, chat::Totals::Plain)
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        error_body(problem)
    }
}

/// Classifies by the path's end, so that any prefix (`/v1`, `/openai/v1`, `/api/v1`, a deployment) fits.
pub(crate) fn endpoint(method: &str, path: &str) -> Endpoint {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let last = segments.next().unwrap_or("");
    let before = segments.next().unwrap_or("");
    let above = segments.next().unwrap_or("");
    let of = |name, billing| Endpoint { name, billing };
    if !method.eq_ignore_ascii_case("POST") {
        return of(section(path), reading(method, last));
    }
    match (before, last) {
        ("chat", "completions") => of(CHAT, Billing::Tokens),
        (_, "responses") => of(RESPONSES, Billing::Tokens),
        ("responses", "compact") => of(COMPACT, Billing::Tokens),
        (_, "embeddings") => of(EMBEDDINGS, Billing::Tokens),
        ("responses", "input_tokens") => of("responses_input_tokens", Billing::Free),
        (_, "moderations") => of("moderations", Billing::Free),
        (_, "cancel") if CANCELLED.contains(&above) => of(section(path), Billing::Free),
        (_, "complete") if above == "uploads" => of("uploads", Billing::Free),
        // Changing the metadata of a stored completion.
        ("completions", id) if above == "chat" && id.starts_with("chatcmpl") => of("chat", Billing::Free),
        // The part nearest to the end decides: a prefix of the host's own may be called as one of them.
        _ => match part(path.rsplit('/')) {
            name @ ("files" | "uploads" | "conversations" | "organization") => of(name, Billing::Free),
            _ => of(section(path), Billing::Unknown),
        },
    }
}

/// Calls other than POST. Those that read or delete cost nothing, but a GET that opens a WebSocket does.
fn reading(method: &str, last: &str) -> Billing {
    let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
    let opens_socket = method.eq_ignore_ascii_case("GET") && matches!(last, "realtime" | "responses");
    if reads && !opens_socket { Billing::Free } else { Billing::Unknown }
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
    ];
    segments.find_map(|s| SECTIONS.iter().copied().find(|known| *known == s)).unwrap_or("other")
}

pub(crate) fn request(endpoint: Endpoint, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    match endpoint.name {
        CHAT => chat::request(body),
        RESPONSES | COMPACT => responses::request(endpoint.name == RESPONSES, body),
        EMBEDDINGS => embeddings::request(body),
        _ => Ok(unknown_request(body)),
    }
}

/// A call that this version can't read: nothing is known but its size.
pub(crate) fn unknown_request(body: &[u8]) -> RequestFacts {
    RequestFacts { input_bound: body.len() as u64, input_unbounded: true, choices: 1, ..RequestFacts::default() }
}

pub(crate) fn rewrite_body(endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    match endpoint.name {
        CHAT => chat::rewrite(body, rewrite),
        RESPONSES => responses::rewrite(body, rewrite),
        _ => Ok(body.to_vec()),
    }
}

pub(crate) fn reader(
    endpoint: Endpoint,
    facts: &RequestFacts,
    head: AnswerHead<'_>,
    totals: chat::Totals,
) -> Box<dyn Reader> {
    if !is_success(head) || endpoint.billing == Billing::Free {
        return Box::new(NothingReader);
    }
    match endpoint.name {
        CHAT => chat::reader(facts, head, totals),
        RESPONSES | COMPACT => responses::reader(facts, head),
        EMBEDDINGS => embeddings::reader(facts),
        _ => Box::new(AbsentReader),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{money::Pico, usage::BudgetFacts};

    #[test]
    fn calls_are_known_behind_any_prefix() {
        for (method, path, name, billing) in [
            ("POST", "/v1/chat/completions", CHAT, Billing::Tokens),
            ("POST", "/openai/deployments/x/chat/completions", CHAT, Billing::Tokens),
            ("POST", "/api/v1/responses", RESPONSES, Billing::Tokens),
            ("POST", "/v1/responses/", RESPONSES, Billing::Tokens),
            ("POST", "/v1/embeddings", EMBEDDINGS, Billing::Tokens),
            ("POST", "/v1/responses/input_tokens", "responses_input_tokens", Billing::Free),
            ("POST", "/v1/responses/resp_1/cancel", "responses", Billing::Free),
            ("GET", "/v1/responses/resp_1", "responses", Billing::Free),
            ("GET", "/v1/responses", "responses", Billing::Unknown),
            ("GET", "/v1/realtime", "realtime", Billing::Unknown),
            ("GET", "/v1/models", "models", Billing::Free),
            ("POST", "/v1/moderations", "moderations", Billing::Free),
            ("POST", "/v1/images/generations", "images", Billing::Unknown),
            ("POST", "/v1/something/new", "other", Billing::Unknown),
            ("PUT", "/v1/models", "models", Billing::Unknown),
            ("POST", "/v1/files", "files", Billing::Free),
            ("POST", "/v1/uploads/upload_1/complete", "uploads", Billing::Free),
            ("POST", "/v1/batches/batch_1/cancel", "batches", Billing::Free),
            ("POST", "/v1/chat/completions/chatcmpl-1", "chat", Billing::Free),
        ] {
            assert_eq!(endpoint(method, path), Endpoint { name, billing }, "{method} {path}");
        }
    }

    #[test]
    fn a_call_is_not_free_for_a_segment_that_only_looks_like_a_free_one() {
        for path in [
            "/models/some-model/v1/completions",
            "/files/images/generations",
            "/v1/chat/%63ompletions",
            "/v1/chat/completions/.",
            "/v1/complete",
            "/v1/generate/cancel",
            "/publishers/openai/models/x:generateContent",
        ] {
            assert_eq!(endpoint("POST", path).billing, Billing::Unknown, "{path}");
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
                spent_usd: Pico::new(1),
                held_usd: Pico::ZERO,
                needed_usd: Pico::new(2),
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
}
