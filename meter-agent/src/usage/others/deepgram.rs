//! Deepgram: speech from text by its characters, text from speech by its seconds.
//!
//! Neither answer states what it costs: the characters are the request's, the seconds are the answer's. Both are
//! estimates. Its sessions over WebSockets are not read by this version.
//!
//! Source: developers.deepgram.com/reference and deepgram.com/pricing.

use bytes::Bytes;
use serde::Deserialize;

use super::{Service, metered};
use crate::usage::{
    AnswerHead, Billing, BodyEnd, Call, Endpoint, Quality, Quantity, Reader, Reading, RequestFacts, Unreadable, Usage,
    edit::RawObject,
    json::{Count, or_default, parse},
    read::JsonReader,
};

const SPEAK: &str = "audio_speech";
const LISTEN: &str = "audio_transcriptions";

/// The service.
pub(super) struct Deepgram;

impl Service for Deepgram {
    fn names(&self) -> &'static [&'static str] {
        &[SPEAK, LISTEN]
    }

    fn endpoint(&self, method: &str, [last, before, _]: [&str; 3]) -> Option<Endpoint> {
        let socket = |name| Some(Endpoint { name, billing: Billing::Unknown });
        let post = method.eq_ignore_ascii_case("POST");
        match (before, last) {
            ("v1", "speak") if post => Some(metered(SPEAK)),
            ("v1", "listen") if post => Some(metered(LISTEN)),
            // A GET of these opens a WebSocket.
            ("v1", "speak") => socket(SPEAK),
            ("v1" | "v2", "listen") => socket(LISTEN),
            ("agent", "converse") => socket("realtime_ws"),
            _ => None,
        }
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let model = query(call.path_and_query, "model").map(str::to_owned);
        let mut facts = RequestFacts { model, choices: 1, no_output: true, ..RequestFacts::default() };
        if call.endpoint.name == SPEAK {
            let text = RawObject::parse(body).ok().and_then(|request| request.text("text"));
            // A body that is no JSON is the text itself.
            let characters = text.map_or(body.len(), |text| text.chars().count()) as u64;
            facts.units.insert("billable_characters".into(), Quantity::whole(characters));
        } else {
            facts.input_audio = true;
            facts.input_unbounded = true;
        }
        Ok(facts)
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, _: AnswerHead<'_>) -> Box<dyn Reader> {
        if call.endpoint.name == SPEAK { speech(facts) } else { transcript(call, facts) }
    }
}

fn query<'a>(path_and_query: &'a str, name: &str) -> Option<&'a str> {
    let query = path_and_query.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The answer is the sound itself, which says nothing.
fn speech(facts: &RequestFacts) -> Box<dyn Reader> {
    Box::new(Ordered(Reading {
        model: facts.model.clone(),
        units: facts.units.clone(),
        ..Reading::of(if facts.units.is_empty() { Quality::Absent } else { Quality::Estimated }, Usage::default())
    }))
}

/// The reading that the request alone makes.
struct Ordered(Reading);

impl Reader for Ordered {
    fn feed(&mut self, _: &[u8]) {}

    fn finish(&mut self, _: BodyEnd) -> Reading {
        self.0.clone()
    }
}

fn transcript(call: &Call<'_>, facts: &RequestFacts) -> Box<dyn Reader> {
    let model = facts.model.clone();
    let by_channel = query(call.path_and_query, "multichannel") == Some("true");
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        let metadata = body.and_then(parse::<Transcript>).map(|t| t.metadata).unwrap_or_default();
        let channels = if by_channel { metadata.channels.get().max(1) } else { 1 };
        let Some(seconds) = metadata.duration.and_then(Quantity::from_f64) else {
            return Reading { model, ..Reading::absent() };
        };
        let seconds = Quantity::from_micros(seconds.micros().saturating_mul(channels));
        let mut reading = Reading { model, ..Reading::of(Quality::Estimated, Usage::default()) };
        reading.units.insert("audio_seconds".into(), seconds);
        reading
    }))
}

#[derive(Deserialize)]
struct Transcript {
    #[serde(default, deserialize_with = "or_default")]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    duration: Option<f64>,
    channels: Count,
}
