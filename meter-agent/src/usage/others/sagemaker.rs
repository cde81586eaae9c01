//! Amazon SageMaker: `POST .../endpoints/NAME/invocations`.
//!
//! A body is whatever the model behind the endpoint takes: it is exact where the answer has the usage of a chat
//! completion, and estimated otherwise. The endpoint is paid by the hour. Its requests are signed, and left as they are.
//!
//! Source: docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html.

use bytes::Bytes;
use memchr::memmem;

use super::{Service, estimate, metered, object};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Endpoint, Quality, Reader, Reading, RequestFacts, Unreadable, edit::RawObject, openai,
    read::JsonReader,
};

const INVOCATION: &str = "sagemaker_invocation";
const STREAM: &str = "sagemaker_invocation_stream";

/// The service.
pub(super) struct SageMaker;

impl Service for SageMaker {
    fn names(&self) -> &'static [&'static str] {
        &[INVOCATION, STREAM]
    }

    fn endpoint(&self, method: &str, [last, _, above]: [&str; 3]) -> Option<Endpoint> {
        if above != "endpoints" || !method.eq_ignore_ascii_case("POST") {
            return None;
        }
        match last {
            "invocations" => Some(metered(INVOCATION)),
            "invocations-response-stream" => Some(metered(STREAM)),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let request = RawObject::parse(body).unwrap_or_default();
        let nested = object(&request, "parameters");
        let ceiling =
            ["max_new_tokens", "max_tokens"].into_iter().find_map(|n| nested.count(n).or_else(|| request.count(n)));
        Ok(RequestFacts {
            model: call.path().rsplit('/').filter(|s| !s.is_empty()).nth(1).map(str::to_owned),
            stream: call.endpoint.name == STREAM,
            input_bound: body.len() as u64,
            ceiling,
            choices: 1,
            ..RequestFacts::default()
        })
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
        let mut plain = estimate(facts, "generated_tokens");
        if call.endpoint.name == STREAM {
            return plain;
        }
        let chat = Call { endpoint: Endpoint { name: openai::CHAT, ..call.endpoint }, ..*call };
        let mut chat = openai::reader(&chat, facts, AnswerHead::new(200, "application/json"));
        let endpoint = facts.model.clone();
        Box::new(JsonReader::new(move |body: Option<&[u8]>, end: BodyEnd| {
            let Some(body) = body else { return Reading::absent() };
            if memmem::find(body, b"\"completion_tokens\"").is_some() {
                chat.feed(body);
                let reading = chat.finish(end);
                if reading.quality == Quality::Exact {
                    return Reading { model: reading.model.or(endpoint), ..reading };
                }
            }
            plain.feed(body);
            plain.finish(end)
        }))
    }
}
