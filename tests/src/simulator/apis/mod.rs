//! The providers' APIs: one file each, and one line in [`APIS`].
//!
//! Pure: a request's JSON in, the answer's JSON or events out. To add one: write the file, add the line, and a
//! path in [`find`]'s test.

mod anthropic;
mod bedrock;
mod gemini;
mod openai_chat;
mod openai_embeddings;
mod openai_responses;

use http::request::Parts;
use serde_json::Value;

use super::turn::{Asked, Turn};

/// One API.
pub trait Api: Sync {
    /// Whether a POST to this path (without query) is this API's.
    fn serves(&self, path: &str) -> bool;
    /// Whether a request may come in at all: of a service that checks more than that there is a key.
    ///
    /// # Errors
    /// A sentence for the provider's own 403.
    fn admits(&self, _parts: &Parts, _body: &[u8]) -> Result<(), String> {
        Ok(())
    }
    /// Reads a request. `path` and `query` are the URL's.
    ///
    /// # Errors
    /// A sentence for the provider's own 400.
    fn read(&self, path: &str, query: &str, body: &Value) -> Result<Asked, String>;
    /// The whole answer.
    fn whole(&self, turn: &Turn) -> Value;
    /// The events of a streamed answer, framing included.
    fn events(&self, turn: &Turn) -> Vec<Vec<u8>>;
    /// The content type of a stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }
    /// Headers of the answer beside those that all have.
    fn headers(&self, _turn: &Turn, _stream: bool) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Whether a streamed answer to this turn tells its usage.
    fn stream_tells_usage(&self, _turn: &Turn) -> bool {
        true
    }
    /// The provider's error body.
    fn error(&self, status: u16, message: &str) -> Value;
    /// Headers of such an error.
    fn error_headers(&self, _status: u16) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Name of the header that carries the provider's id of the request.
    fn request_id_header(&self) -> &'static str;
}

static APIS: [&dyn Api; 7] = [
    &openai_chat::Chat,
    &openai_responses::Responses,
    &openai_embeddings::Embeddings,
    &anthropic::Messages,
    &gemini::GenerateContent,
    &bedrock::Converse,
    &bedrock::InvokeModel,
];

/// The API behind a path.
pub fn find(path: &str) -> Option<&'static dyn Api> {
    APIS.into_iter().find(|api| api.serves(path))
}

/// Text of a message's content: a string, or a list of parts with a `text`.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

/// The last user message's text in a list of `{role, content}`.
fn last_user_text(messages: &Value) -> String {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    messages.iter().rev().find(|m| m["role"] == "user").map(|m| content_text(&m["content"])).unwrap_or_default()
}

/// OpenAI's error body.
fn openai_error(status: u16, message: &str) -> Value {
    let kind = match status {
        429 => "rate_limit_exceeded",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
}

/// One server-sent event with a name.
fn named_event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_finds_its_api_and_no_other() {
        for path in [
            "/v1/chat/completions",
            "/v1/responses",
            "/v1/embeddings",
            "/v1/messages",
            "/v1beta/models/gemini-2.0-flash:generateContent",
            "/v1beta/models/gemini-2.0-flash:streamGenerateContent",
            "/model/amazon.nova-lite-v1%3A0/converse",
            "/model/amazon.nova-lite-v1%3A0/converse-stream",
            "/model/amazon.nova-lite-v1%3A0/invoke",
            "/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream",
        ] {
            assert_eq!(APIS.iter().filter(|api| api.serves(path)).count(), 1, "{path}");
        }
        assert!(find("/v1/models").is_none());
    }
}
