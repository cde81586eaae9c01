//! Aleph Alpha: `POST /complete`.
//!
//! The answer counts tokens, by which its price is not stated: they are an estimate of what is billed.
//!
//! Source: docs.aleph-alpha.com/api/complete.

use bytes::Bytes;
use serde::Deserialize;

use super::{Service, metered};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Endpoint, Quality, Reader, Reading, RequestFacts, Rewrite, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, parse},
    read::JsonReader,
};

const COMPLETE: &str = "aleph_alpha_complete";

/// The service.
pub(super) struct AlephAlpha;

impl Service for AlephAlpha {
    fn names(&self) -> &'static [&'static str] {
        &[COMPLETE]
    }

    fn endpoint(&self, method: &str, [last, before, _]: [&str; 3]) -> Option<Endpoint> {
        let known = before.is_empty() && last == "complete" && method.eq_ignore_ascii_case("POST");
        known.then_some(metered(COMPLETE))
    }

    fn request(&self, _: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let request = RawObject::parse(body)?;
        Ok(RequestFacts {
            model: request.text("model"),
            stream: request.is_true("stream"),
            input_bound: body.len() as u64,
            ceiling: request.count("maximum_tokens"),
            choices: request.count("n").max(request.count("best_of")).unwrap_or(1).max(1),
            can_clamp: true,
            ..RequestFacts::default()
        })
    }

    fn rewrite(&self, _: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
        let mut request = RawObject::parse(body)?;
        if let Some(ceiling) = rewrite.ceiling {
            request.set("maximum_tokens", ceiling.to_string());
        }
        Ok(request.write().into_bytes())
    }

    fn reader(&self, _: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
        answer(facts)
    }
}

fn answer(facts: &RequestFacts) -> Box<dyn Reader> {
    let (bounds, model, stream) = (Bounds::of(facts), facts.model.clone(), facts.stream);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end: BodyEnd| {
        let Some(body) = body else { return Reading { model, ..Reading::absent() } };
        match parse::<Answer>(body) {
            Some(Answer { num_tokens_prompt_total: Count(Some(input)), num_tokens_generated: Count(Some(output)) }) => {
                let usage =
                    Usage { input_tokens: input, input_uncached: input, output_tokens: output, ..Usage::default() };
                Reading { model, ..Reading::of(Quality::Estimated, usage) }
            }
            _ if stream => bounds.reading(model, body.len() as u64, end),
            _ => bounds.of_document(end).reading(model, body.len() as u64, end),
        }
    }))
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    num_tokens_prompt_total: Count,
    #[serde(default)]
    num_tokens_generated: Count,
}
