//! Gemini: the Gemini API and the model garden of Vertex AI.
//!
//! Owns the hand-over from a call to the file that reads it, and the error shape. Which path is which call is
//! `gemini/paths.rs`; each group of calls is one file. The OpenAI-compatible paths of these hosts are the `openai`
//! dialect's, and Claude on Vertex is the `anthropic` dialect's.

mod embed;
mod generate;
mod interactions;
mod jobs;
mod live;
mod paths;
mod publisher;
mod request;
mod usage;

use bytes::Bytes;

use super::{
    AnswerHead, Billing, Call, Dialect, Endpoint, Problem, Reader, Renamed, RequestFacts, Rewrite, SocketReader,
    Unreadable, openai,
    read::{AbsentReader, NothingReader, is_success},
    renamed,
    sse::error_event,
};

/// The dialect.
pub struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        if paths::compatible(path) {
            return openai::endpoint(method, path);
        }
        paths::endpoint(method, path)
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let model = paths::model(call.path());
        match call.endpoint.name {
            paths::GENERATE | paths::STREAM => {
                request::facts(call.endpoint.name == paths::STREAM, call.path_and_query, body)
            }
            paths::EMBED | paths::BATCH_EMBED => embed::facts(model, body),
            paths::PREDICT => embed::predict_facts(model, body),
            paths::INTERACTIONS if call.endpoint.billing == Billing::Metered => interactions::facts(body),
            paths::CACHED_CONTENTS if call.endpoint.billing == Billing::Metered => jobs::cache_facts(body),
            paths::BATCH_GENERATE => Ok(jobs::batch_facts(model, body)),
            paths::LONG_RUNNING => jobs::video_facts(model, body),
            paths::RAW_PREDICT | paths::STREAM_RAW_PREDICT => publisher::facts(call, body),
            _ if call.endpoint.billing == Billing::Result => Ok(RequestFacts::default()),
            _ => openai::request(call, body),
        }
    }

    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        match endpoint.name {
            paths::GENERATE | paths::STREAM => request::rewrite(body, rewrite),
            paths::INTERACTIONS => interactions::rewrite(body, rewrite),
            paths::RAW_PREDICT | paths::STREAM_RAW_PREDICT => publisher::rewrite(body, rewrite),
            _ => openai::rewrite_body(endpoint, body, rewrite),
        }
    }

    /// The model is the path's where that names one.
    fn renamed(&self, call: &Call<'_>, body: &[u8], model: &str) -> Result<Renamed, Unreadable> {
        let Some(old) = paths::model_place(call.path()) else { return openai::renamed_call(call, body, model) };
        let at = call.path().rfind('/').map_or(0, |slash| slash + 1);
        let path = renamed::in_path(call.path_and_query, at..at + old.len(), model);
        Ok(Renamed { path_and_query: Some(path), body: body.to_vec() })
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        let endpoint = call.endpoint;
        if !is_success(head) || endpoint.billing == Billing::Free {
            return Box::new(NothingReader);
        }
        let model = facts.model.clone().or_else(|| paths::model(call.path()));
        match endpoint.name {
            paths::GENERATE | paths::STREAM => generate::reader(facts, model, head),
            paths::EMBED | paths::BATCH_EMBED => embed::reader(facts, model),
            paths::PREDICT => embed::predict_reader(model),
            paths::INTERACTIONS => interactions::reader(endpoint.billing, facts, head),
            paths::CACHED_CONTENTS => jobs::cache_reader(facts),
            paths::BATCH_GENERATE | paths::ASYNC_EMBED => jobs::ordered_reader(model),
            paths::BATCHES => jobs::batch_reader(),
            paths::LONG_RUNNING => jobs::video_reader(facts, model),
            paths::RAW_PREDICT | paths::STREAM_RAW_PREDICT => publisher::reader(call, facts, head),
            _ if paths::compatible(call.path()) => openai::reader(call, facts, head),
            _ => Box::new(AbsentReader),
        }
    }

    fn socket(&self, call: &Call<'_>) -> Option<Box<dyn SocketReader>> {
        (call.endpoint.name == paths::LIVE).then(|| Box::new(live::Session::default()) as Box<dyn SocketReader>)
    }

    fn cut_event(&self, _: Endpoint, problem: &Problem) -> Vec<u8> {
        // Its events have no names, and its SDK knows an error by how its data begins.
        error_event("", &self.error_body(problem))
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
            let mut metadata = serde_json::json!({
                "account": budget.account,
                "limit": budget.limit,
                "category": budget.category,
                "reset": budget.reset.as_deref().unwrap_or(""),
            });
            for (name, value) in budget.fields() {
                metadata[name] = value.into();
            }
            detail["metadata"] = metadata;
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

#[cfg(test)]
#[path = "gemini_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "gemini_calls_tests.rs"]
mod calls_tests;
