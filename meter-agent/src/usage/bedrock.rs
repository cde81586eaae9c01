//! AWS Bedrock: Converse, InvokeModel, their streams, agents, and the calls around them.
//!
//! Owns the map from paths to calls and the error shape; the calls are one file each. The OpenAI-shaped paths
//! (`/openai/v1/...`) are that dialect's. Bodies signed with SigV4 are never rewritten; that is the proxy's to know.
//!
//! The model is the one of the URL (a model id, a region's profile, an ARN), since answers name it differently or
//! not at all.
//!
//! Source: docs.aws.amazon.com/bedrock/latest/APIReference.

mod agent;
mod converse;
mod counts;
mod invoke;
mod invoke_stream;
mod path;
mod request;
mod sonic;

use bytes::Bytes;

use self::path::model;
use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, Reading, Renamed, RequestFacts, Rewrite, Unreadable,
    anthropic, event_stream, openai,
    read::{AbsentReader, JsonReader, NothingReader, is_success},
    renamed,
};

/// The dialect.
pub struct Bedrock;

const CONVERSE: &str = "converse";
const CONVERSE_STREAM: &str = "converse_stream";
const INVOKE: &str = "invoke_model";
const INVOKE_STREAM: &str = "invoke_model_stream";
const BIDIRECTIONAL: &str = "invoke_model_bidirectional";
const COUNT_TOKENS: &str = "bedrock_count_tokens";
const AGENT: &str = "invoke_agent";
const ASYNC: &str = "async_invoke";

impl Dialect for Bedrock {
    fn name(&self) -> &'static str {
        "bedrock"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        path::endpoint(method, path)
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let model = || model(call.path());
        match call.endpoint.name {
            CONVERSE | CONVERSE_STREAM => request::converse(body, model(), call.endpoint.name == CONVERSE_STREAM),
            INVOKE | INVOKE_STREAM => request::invoke(body, model(), call.endpoint.name == INVOKE_STREAM),
            AGENT => Ok(agent::facts(body)),
            ASYNC => Ok(RequestFacts { background: true, ..openai::unknown_request(body) }),
            _ => Ok(openai::unknown_request(body)),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match endpoint.name {
            CONVERSE | CONVERSE_STREAM => request::rewrite_converse(body, rewrite),
            INVOKE | INVOKE_STREAM => anthropic::rewrite_body(body, rewrite),
            _ => Ok(body.to_vec()),
        }
    }

    /// The model is the path's. Bodies of `InvokeModel` are the model's own, so that only one of its family fits.
    fn renamed(&self, call: &Call<'_>, body: &[u8], model: &str) -> Result<Renamed, Unreadable> {
        match path::model_place(call.path()) {
            Some(place) => Ok(Renamed {
                path_and_query: Some(renamed::in_path(call.path_and_query, place, model)),
                body: body.to_vec(),
            }),
            None => Err(Unreadable("the path names no model".to_owned())),
        }
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        if !is_success(head) || call.endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        let model = model(call.path());
        match call.endpoint.name {
            COUNT_TOKENS => Box::new(JsonReader::new(|_: Option<&[u8]>, _| Reading::free("counting tokens is free"))),
            CONVERSE_STREAM if !is_json(head) => converse::stream(facts, model),
            CONVERSE | CONVERSE_STREAM => converse::document(facts, model),
            INVOKE_STREAM if !is_json(head) => invoke_stream::reader(facts, head, model),
            INVOKE | INVOKE_STREAM => invoke::document(facts, head, model),
            BIDIRECTIONAL => sonic::reader(model),
            AGENT => agent::stream(),
            ASYNC => agent::ordered(),
            _ => Box::new(AbsentReader),
        }
    }

    /// Of the exceptions that the streams declare, the one that no SDK takes for a passing trouble.
    fn cut_frame(&self, problem: &Problem) -> Option<Vec<u8>> {
        event_stream::exception("validationException", &self.error_body(problem))
    }

    /// `{"message": ..., "__type": ...}`: boto3 shows it as `ClientError` with the type as its code.
    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        let kind = match problem.status {
            402 => "ServiceQuotaExceededException",
            403 => "AccessDeniedException",
            404 => "ResourceNotFoundException",
            500 | 502 => "InternalServerException",
            503.. => "ServiceUnavailableException",
            _ => "ValidationException",
        };
        let mut body =
            serde_json::json!({ "message": problem.text(), "__type": kind, "code": kind, "meter_code": problem.code });
        if let Some(budget) = &problem.budget {
            body["meter"] = serde_json::json!(budget);
        }
        body.to_string().into_bytes()
    }
}

fn is_json(head: AnswerHead<'_>) -> bool {
    head.content_type.trim_start().to_ascii_lowercase().starts_with("application/json")
}

#[cfg(test)]
#[path = "bedrock_tests.rs"]
mod tests;
