//! Cohere: chat (v1 and v2), generate, embed, rerank, classify, summarize.
//!
//! `billed_units` is what is charged; the `tokens` beside it count the provider's own prompts too and are not.
//! Streams are server-sent events in v2 and lines of JSON in v1. Answers name no model: the request's is the one.
//!
//! Source: docs.cohere.com/reference.

mod answer;
mod request;

use bytes::Bytes;

pub(crate) use self::request::search_units;
use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, RequestFacts, Rewrite, Unreadable,
    dialect::only_reads,
    edit::RawObject,
    openai,
    read::{AbsentReader, NothingReader, is_success},
};

/// The dialect.
pub struct Cohere;

const CHAT_V1: &str = "cohere_chat_v1";
const CHAT_V2: &str = "cohere_chat_v2";
const GENERATE: &str = "cohere_generate";
const EMBED: &str = "embed";
const RERANK: &str = "rerank";
const CLASSIFY: &str = "classify";
const SUMMARIZE: &str = "summarize";

impl Dialect for Cohere {
    fn name(&self) -> &'static str {
        "cohere"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next()?, segments.next().unwrap_or(""));
        let of = |name, billing| Some(Endpoint { name, billing });
        if only_reads(method) {
            return None;
        }
        match (before, last) {
            ("v1", "chat") => of(CHAT_V1, Billing::Metered),
            ("v2", "chat") => of(CHAT_V2, Billing::Metered),
            ("v1", "generate") => of(GENERATE, Billing::Metered),
            ("v1" | "v2", "embed") => of(EMBED, Billing::Metered),
            (_, "rerank") => of(RERANK, Billing::Metered),
            ("v1", "classify") => of(CLASSIFY, Billing::Metered),
            ("v1", "summarize") => of(SUMMARIZE, Billing::Metered),
            (_, "tokenize") => of("tokenize", Billing::Free),
            (_, "detokenize") => of("detokenize", Billing::Free),
            ("v1", "check-api-key") => of("check_api_key", Billing::Free),
            ("v1", "connectors" | "datasets") => of("datasets", Billing::Free),
            ("v1", "embed-jobs") => of("embed_jobs", Billing::Unknown),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        match call.endpoint.name {
            CHAT_V1 | CHAT_V2 | GENERATE | SUMMARIZE => request::text(body, call.endpoint.name == GENERATE),
            EMBED | CLASSIFY => request::embed(body),
            RERANK => request::rerank(body),
            _ => Ok(openai::unknown_request(body)),
        }
    }

    fn rewrite(&self, _: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        let mut object = RawObject::parse(body)?;
        if let Some(ceiling) = rewrite.ceiling {
            object.set("max_tokens", ceiling.to_string());
        }
        Ok(object.write().into_bytes())
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || call.endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        match call.endpoint.name {
            CHAT_V1 | CHAT_V2 | GENERATE | EMBED | RERANK | CLASSIFY | SUMMARIZE => {
                answer::reader(facts, head, call.endpoint.name == CHAT_V2)
            }
            _ => Box::new(AbsentReader),
        }
    }

    /// `{"message": ...}`, which the official SDKs show as the error's body.
    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let mut body = serde_json::json!({ "message": problem.text(), "code": problem.code });
        if let Some(budget) = &problem.budget {
            body["meter"] = serde_json::json!(budget);
        }
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
#[path = "cohere_tests.rs"]
mod tests;
