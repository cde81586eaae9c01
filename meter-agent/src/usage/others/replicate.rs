//! Replicate: predictions, which are ordered by a POST and read by GETs.
//!
//! A prediction is billed once, by whichever answer first shows it done: by its tokens where the model counts them,
//! else by the seconds that it ran, which have no price here.
//!
//! Source: replicate.com/docs/reference/http.

use bytes::Bytes;
use serde::Deserialize;

use super::{Service, free, metered};
use crate::usage::{
    AnswerHead, Billing, BodyEnd, Call, Endpoint, Quality, Quantity, Reader, Reading, RequestFacts, ResultRef,
    Standing, Unreadable, Usage,
    edit::RawObject,
    json::{Count, or_default, parse, text},
    openai,
    read::JsonReader,
};

const PREDICTIONS: &str = "predictions";

/// The service.
pub(super) struct Replicate;

impl Service for Replicate {
    fn names(&self) -> &'static [&'static str] {
        &[PREDICTIONS]
    }

    fn endpoint(&self, method: &str, [last, before, above]: [&str; 3]) -> Option<Endpoint> {
        let post = method.eq_ignore_ascii_case("POST");
        match (above, before, last) {
            (PREDICTIONS, _, "cancel") if post => Some(free(PREDICTIONS)),
            (_, _, PREDICTIONS) if post => Some(metered(PREDICTIONS)),
            (_, PREDICTIONS, _) if method.eq_ignore_ascii_case("GET") => {
                Some(Endpoint { name: PREDICTIONS, billing: Billing::Result })
            }
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        if call.endpoint.billing == Billing::Result {
            return Ok(RequestFacts::default());
        }
        let request = RawObject::parse(body)?;
        let model = named(call.path()).or_else(|| request.text("version"));
        Ok(RequestFacts { model, background: true, hidden_output: true, ..openai::unknown_request(body) })
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
        answer(call, facts)
    }
}

/// The model of `.../models/OWNER/NAME/predictions`.
fn named(path: &str) -> Option<String> {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty()).skip(1);
    let (name, owner, section) = (segments.next()?, segments.next()?, segments.next()?);
    (section == "models").then(|| format!("{owner}/{name}"))
}

fn answer(call: &Call<'_>, facts: &RequestFacts) -> Box<dyn Reader> {
    let (requested, again) = (facts.model.clone(), call.endpoint.billing == Billing::Result);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| match body.and_then(parse::<Prediction>) {
        Some(prediction) => prediction.reading(requested, again),
        None => Reading { model: requested, ..Reading::absent() },
    }))
}

#[derive(Deserialize)]
struct Prediction {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    metrics: Metrics,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metrics {
    predict_time: Option<f64>,
    input_token_count: Count,
    output_token_count: Count,
}

impl Prediction {
    fn reading(self, requested: Option<String>, again: bool) -> Reading {
        let running = matches!(self.status.as_deref(), Some("starting" | "processing" | "queued"));
        let standing = match (running, again) {
            (true, _) => Standing::Pending,
            (false, true) => Standing::Repeat,
            (false, false) => Standing::Final,
        };
        let result = self.id.map(|id| ResultRef { id, standing });
        let reading = if running { Reading::nothing() } else { self.metrics.reading() };
        Reading { model: self.model.or(requested), result, ..reading }
    }
}

impl Metrics {
    fn reading(&self) -> Reading {
        let counted = self.input_token_count.0.is_some() || self.output_token_count.0.is_some();
        let input = self.input_token_count.get();
        let usage = Usage {
            input_tokens: input,
            input_uncached: input,
            output_tokens: self.output_token_count.get(),
            ..Usage::default()
        };
        let mut reading = if counted { Reading::of(Quality::Exact, usage) } else { Reading::absent() };
        if let Some(seconds) = self.predict_time.and_then(Quantity::from_f64) {
            reading.units.insert("predict_seconds".into(), seconds);
        }
        reading
    }
}
