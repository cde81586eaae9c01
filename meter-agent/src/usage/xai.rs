//! xAI: its gRPC API and its realtime sessions.
//!
//! Owns the map from paths to calls. The JSON paths of these hosts are the `openai` dialect's. A gRPC answer's error is
//! in its trailers, which the proxy writes; a refusal is JSON.
//!
//! Source: github.com/xai-org/xai-proto and docs.x.ai.

mod answer;
mod realtime;
mod request;

use bytes::Bytes;

use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, Renamed, RequestFacts, Rewrite, SocketReader,
    Unreadable, openai,
    read::{AbsentReader, NothingReader, is_success},
};

/// The dialect.
pub struct Xai;

const CHAT: &str = "grpc_chat";
const SAMPLE: &str = "grpc_sample";
const COMPACT: &str = "grpc_compact";
const IMAGE: &str = "grpc_image";
const DEFERRED: &str = "grpc_deferred";
const REALTIME: &str = "realtime_ws";

impl Dialect for Xai {
    fn name(&self) -> &'static str {
        "xai"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        let of = |name, billing| Some(Endpoint { name, billing });
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        if method.eq_ignore_ascii_case("GET") && last == "realtime" {
            return of(REALTIME, Billing::Socket);
        }
        let service = before.strip_prefix("xai_api.").filter(|_| method.eq_ignore_ascii_case("POST"))?;
        match (service, last) {
            ("Chat", "GetCompletion" | "GetCompletionChunk") => of(CHAT, Billing::Metered),
            ("Chat", "StartDeferredCompletion") => of(DEFERRED, Billing::Metered),
            ("Chat", "GetDeferredCompletion") => of(DEFERRED, Billing::Result),
            ("Chat", "CompactContext") => of(COMPACT, Billing::Metered),
            ("Chat", "GetStoredCompletion" | "DeleteStoredCompletion") => of("grpc_stored", Billing::Free),
            ("Sample", "SampleText" | "SampleTextStreaming") => of(SAMPLE, Billing::Metered),
            ("Image", "GenerateImage") => of(IMAGE, Billing::Metered),
            ("Models", _) => of("grpc_models", Billing::Free),
            ("Tokenize", _) => of("grpc_tokenize", Billing::Free),
            ("Auth", _) => of("grpc_auth", Billing::Free),
            ("Files", _) => of("grpc_files", Billing::Free),
            _ => of("grpc_other", Billing::Unknown),
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        match call.endpoint.name {
            CHAT | DEFERRED | COMPACT | SAMPLE | IMAGE => request::facts(call, body),
            _ => Ok(openai::unknown_request(body)),
        }
    }

    /// A message is left as it is: its ceiling does not bound what reasoning and tool calls cost.
    fn rewrite(&self, _: Endpoint, body: &[u8], _: Rewrite) -> Result<Vec<u8>, Unreadable> {
        Ok(body.to_vec())
    }

    /// Not for these calls.
    fn renamed(&self, _: &Call<'_>, _: &[u8], _: &str) -> Result<Renamed, Unreadable> {
        Err(Unreadable("the model of this call can't be another one".to_owned()))
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || call.endpoint.billing == Billing::Free || failed(head) {
            return Box::new(NothingReader);
        }
        match call.endpoint.name {
            CHAT | DEFERRED | COMPACT | SAMPLE | IMAGE => answer::reader(call, facts),
            _ => Box::new(AbsentReader),
        }
    }

    fn socket(&self, call: &Call<'_>) -> Option<Box<dyn SocketReader>> {
        let session = || Box::new(realtime::Session::of(call.path_and_query)) as Box<dyn SocketReader>;
        (call.endpoint.name == REALTIME).then(session)
    }

    /// `{"code": "...", "error": "..."}`.
    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let mut body = serde_json::json!({ "code": problem.code, "error": problem.text() });
        if let Some(budget) = &problem.budget {
            body["meter"] = serde_json::json!(budget);
        }
        body.to_string().into_bytes()
    }
}

/// Whether the head itself says that the call failed, as it does where there is nothing else to say.
fn failed(head: AnswerHead<'_>) -> bool {
    (head.header)("grpc-status").is_some_and(|status| status.trim() != "0")
}

/// The last segment of a path: the method of a gRPC call.
fn method<'a>(call: &Call<'a>) -> &'a str {
    call.path().rsplit('/').find(|s| !s.is_empty()).unwrap_or("")
}

#[cfg(test)]
#[path = "xai_tests.rs"]
mod tests;
