//! Hugging Face text generation: `POST .../generate`, `.../generate_stream` and `.../models/OWNER/NAME`.
//!
//! An answer states the tokens that it generated where the request asks for details, and never those of its input:
//! it is estimated. The compute behind it is paid by the second.
//!
//! Source: huggingface.co/docs/text-generation-inference and .../inference-providers.

use bytes::Bytes;

use super::{Service, estimate, metered, object};
use crate::usage::{AnswerHead, Call, Endpoint, Reader, RequestFacts, Unreadable, edit::RawObject};

const GENERATION: &str = "huggingface_generation";

/// The service.
pub(super) struct HuggingFace;

impl Service for HuggingFace {
    fn names(&self) -> &'static [&'static str] {
        &[GENERATION]
    }

    fn endpoint(&self, method: &str, [last, before, above]: [&str; 3]) -> Option<Endpoint> {
        let known = matches!((before, last), ("", "generate" | "generate_stream"))
            || (above == "models" && !last.contains(':'));
        (known && method.eq_ignore_ascii_case("POST")).then_some(metered(GENERATION))
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let mut segments = call.path().rsplit('/').filter(|s| !s.is_empty());
        let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        let model = (!before.is_empty()).then(|| format!("{before}/{last}"));
        let Ok(request) = RawObject::parse(body) else {
            // A sound or an image.
            return Ok(RequestFacts { model, input_unbounded: true, hidden_output: true, ..RequestFacts::default() });
        };
        Ok(RequestFacts {
            model,
            stream: last == "generate_stream" || request.is_true("stream"),
            input_bound: body.len() as u64,
            ceiling: object(&request, "parameters").count("max_new_tokens"),
            choices: 1,
            ..RequestFacts::default()
        })
    }

    fn reader(&self, _: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
        estimate(facts, "generated_tokens")
    }
}
