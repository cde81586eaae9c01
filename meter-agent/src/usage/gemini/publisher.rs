//! Other publishers' models on Vertex AI: `rawPredict` and `streamRawPredict`.
//!
//! The bodies are the publisher's own: Anthropic's Messages, and Chat Completions of Mistral and AI21. The path
//! names the publisher and the model.

use bytes::Bytes;

use super::paths;
use crate::usage::{
    AnswerHead, Call, Endpoint, Reader, RequestFacts, Rewrite, Unreadable, anthropic, edit::RawObject, openai,
};

pub(super) fn facts(call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
    let model = paths::model(call.path());
    let mut facts = if speaks_chat(call) {
        openai::request(&chat(call), body)?
    } else {
        anthropic::facts_for(body, model.as_deref().unwrap_or(""))?
    };
    facts.model = model.or(facts.model);
    facts.stream = call.endpoint.name == paths::STREAM_RAW_PREDICT;
    // What these models' servers take beside their own fields is not documented.
    facts.must_ask_usage = false;
    Ok(facts)
}

pub(super) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        object.set("max_tokens", ceiling.to_string());
    }
    Ok(object.write().into_bytes())
}

pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    if speaks_chat(call) { openai::reader(&chat(call), facts, head) } else { anthropic::reader(facts, head) }
}

fn speaks_chat(call: &Call<'_>) -> bool {
    call.path().split('/').any(|segment| matches!(segment, "mistralai" | "ai21"))
}

fn chat<'a>(call: &Call<'a>) -> Call<'a> {
    Call { endpoint: Endpoint { name: openai::CHAT, ..call.endpoint }, ..*call }
}
