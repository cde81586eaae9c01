//! Writer: `POST /v1/chat`, which is Chat Completions under another path.
//!
//! Its `/v1/completions` is the `openai` dialect's.
//!
//! Source: dev.writer.com/api-reference.

use bytes::Bytes;

use super::{Service, metered};
use crate::usage::{AnswerHead, Call, Endpoint, Reader, RequestFacts, Rewrite, Unreadable, edit::RawObject, openai};

/// The service.
pub(super) struct Writer;

impl Service for Writer {
    fn names(&self) -> &'static [&'static str] {
        &[openai::CHAT]
    }

    fn endpoint(&self, method: &str, [last, before, _]: [&str; 3]) -> Option<Endpoint> {
        let known = (before, last) == ("v1", "chat") && method.eq_ignore_ascii_case("POST");
        known.then_some(metered(openai::CHAT))
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        openai::request(call, body)
    }

    /// Its ceiling is `max_tokens` alone.
    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        let asked = openai::rewrite_body(endpoint, body, Rewrite { ceiling: None, ..rewrite })?;
        let mut request = RawObject::parse(&asked)?;
        if let Some(ceiling) = rewrite.ceiling {
            request.set("max_tokens", ceiling.to_string());
        }
        Ok(request.write().into_bytes())
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        openai::reader(call, facts, head)
    }
}
