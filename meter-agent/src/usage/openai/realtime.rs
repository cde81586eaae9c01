//! Realtime: a WebSocket at `.../realtime`.
//!
//! Every `response.done` ends a turn, whose usage is the whole context again, with cached tokens split by what they
//! were. Input transcription is billed to a model of its own, in tokens or seconds, by events between the turns: it
//! becomes a line of the turn that follows. xAI states the usage beside the response and not in it. Sound itself is
//! never decoded: what matters is told in a few kinds of events.
//!
//! Sources: the Realtime server events at developers.openai.com/api/reference, the "Voice Live" reference at
//! learn.microsoft.com, the Voice API reference at docs.x.ai.

use std::borrow::Cow;

use memchr::memmem;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::value::RawValue;

use super::{
    responses::tools::{self, Item},
    socket_error,
    tokens::{Tokens, lenient, seconds},
};
use crate::{
    money::Pico,
    usage::{
        Call, Line, Problem, Quality, Quantity, Reading, RequestFacts, SocketReader, Tools, Units,
        json::{Count, or_default, parse, text},
        percent::parameters,
        reported,
        session_models::{SessionModels, may_name},
    },
};

/// Most models that transcribe in one turn; a session has one, and may change it.
const TRANSCRIBERS_MAX: usize = 8;

/// Transcriptions that wait for a turn to be billed with. A session that only transcribes has no turns.
const TRANSCRIPTIONS_MAX: u32 = 16;

/// Kinds of events that are decoded, as they stand in the message.
const DECODED: [&[u8]; 7] = [
    b"\"session.created\"",
    b"\"session.updated\"",
    b"\"transcription_session.created\"",
    b"\"transcription_session.updated\"",
    b"\"response.created\"",
    b"\"response.done\"",
    b"input_audio_transcription.completed\"",
];
/// The same of what the agent says.
const DECODED_OF_AGENT: [&[u8]; 2] = [b"session.update\"", b"\"response.create\""];

/// The reader of a call's socket.
pub(super) fn socket(call: &Call<'_>) -> Box<dyn SocketReader> {
    let query = call.path_and_query.split_once('?').map_or("", |(_, query)| query);
    let models =
        SessionModels::opened_with(["deployment", "model"].into_iter().flat_map(|name| parameters(query, name)));
    let transcribes = parameters(query, "intent").iter().any(|intent| intent == "transcription");
    Box::new(Socket { models, only_transcribes: transcribes, ..Socket::default() })
}

#[derive(Default)]
struct Socket {
    models: SessionModels,
    transcriber: Option<String>,
    /// Output ceiling of a turn, where the session states one.
    ceiling: Ceiling,
    /// That of the response that was ordered last, where it states its own.
    ordered: Option<Ceiling>,
    only_transcribes: bool,
    /// A response has begun and not ended.
    under_way: bool,
    /// Transcriptions since the last turn, one line per model.
    heard: Vec<Line>,
    transcriptions: u32,
}

/// Output tokens of one response at most; `None`: as many as the model makes.
#[derive(Clone, Copy, Default)]
struct Ceiling(Option<u64>);

impl SocketReader for Socket {
    fn facts(&self) -> RequestFacts {
        self.models.named_in(RequestFacts {
            // Of a session that only transcribes that is its model.
            model: self.transcriber.clone().filter(|_| self.only_transcribes),
            stream: true,
            input_unbounded: true,
            input_audio: true,
            ceiling: self.ordered.unwrap_or(self.ceiling).0,
            choices: 1,
            hidden_output: true,
            ..RequestFacts::default()
        })
    }

    fn sent(&mut self, message: &[u8]) {
        self.models.asked_by(message);
        if !may_name(message, &DECODED_OF_AGENT) {
            return;
        }
        let Some(event) = parse::<Event>(message) else { return };
        if let Some(session) = event.session {
            self.learn(session);
        }
        if let Some(response) = event.response {
            self.ordered = response.max_output_tokens.map(|stated| ceiling(&stated));
        }
    }

    fn received(&mut self, message: &[u8]) -> Option<Reading> {
        if !DECODED.iter().any(|kind| memmem::find(message, kind).is_some()) {
            return None;
        }
        let event: Event = parse(message)?;
        match event.kind.as_deref()? {
            "response.created" => self.under_way = true,
            "response.done" => return Some(self.turn(event)),
            "conversation.item.input_audio_transcription.completed" => return self.heard(&event.usage?),
            kind => {
                self.only_transcribes |= kind.starts_with("transcription_session.");
                let mut session = event.session?;
                self.models.say(session.model.take());
                self.learn(session);
            }
        }
        None
    }

    fn is_under_way(&self) -> bool {
        self.under_way
    }

    fn refusal(&self, problem: &Problem) -> Option<Vec<u8>> {
        Some(socket_error(problem))
    }

    fn finish(&mut self) -> Option<Reading> {
        if !self.under_way {
            return self.transcribed();
        }
        self.under_way = false;
        let mut reading = Reading { model: self.models.billed(), ..Reading::absent() };
        self.add_heard(Line::default(), &mut reading);
        Some(reading)
    }
}

impl Socket {
    fn learn(&mut self, session: Session) {
        let input = session.audio.and_then(|audio| audio.input);
        let transcription = session.input_audio_transcription.or_else(|| input.and_then(|input| input.transcription));
        self.transcriber = transcription.and_then(|t| t.model).or(self.transcriber.take());
        self.only_transcribes |= session.kind.as_deref() == Some("transcription");
        if let Some(stated) = session.max_output_tokens.or(session.max_response_output_tokens) {
            self.ceiling = ceiling(&stated);
        }
    }

    /// A response has ended.
    fn turn(&mut self, event: Event) -> Reading {
        (self.under_way, self.ordered) = (false, None);
        let response = event.response.unwrap_or_default();
        let stated = response.usage.filter(Used::is_stated).or_else(|| event.usage.filter(Used::is_stated));
        let model = response.model.or_else(|| self.models.billed());
        let mut reading = Reading { model, server_tools: Tools::new(), ..Reading::absent() };
        tools::count(&response.output, &mut reading.server_tools);
        let mut own = Line::default();
        if let Some(used) = stated {
            own = used.tokens.line();
            own.units = used.billable().into_iter().collect();
            reading.quality = Quality::Exact;
            reading.reported = used.charge;
        } else if matches!(response.status.as_deref(), Some("failed" | "cancelled")) {
            reading.quality = Quality::Exact;
            reading.reason = Some("the response did not complete and states no usage");
        }
        self.add_heard(own, &mut reading);
        reading
    }

    fn heard(&mut self, used: &Used) -> Option<Reading> {
        if !used.is_stated() {
            return None;
        }
        let line = Line {
            model: self.transcriber.clone(),
            units: used.seconds.map(|n| (Cow::Borrowed("transcription_seconds"), n)).into_iter().collect(),
            ..used.tokens.line()
        };
        self.transcriptions += 1;
        let is_full = self.heard.len() >= TRANSCRIBERS_MAX;
        match self.heard.iter_mut().find(|known| known.model == line.model) {
            Some(known) => merge(known, &line),
            None if is_full => merge(&mut self.heard[0], &line),
            None => self.heard.push(line),
        }
        if self.only_transcribes || self.transcriptions >= TRANSCRIPTIONS_MAX { self.transcribed() } else { None }
    }

    /// The transcriptions that no turn has taken with it, as a turn of their own.
    fn transcribed(&mut self) -> Option<Reading> {
        self.transcriptions = 0;
        let first = self.heard.first()?;
        let mut reading = Reading { model: first.model.clone().or_else(|| self.models.billed()), ..Reading::nothing() };
        let lines = std::mem::take(&mut self.heard);
        for line in &lines {
            add(&mut reading, line);
        }
        if lines.len() > 1 {
            reading.lines = lines;
        }
        Some(reading)
    }

    /// Makes `own` and what was heard since the last turn the reading's lines.
    fn add_heard(&mut self, own: Line, reading: &mut Reading) {
        self.transcriptions = 0;
        add(reading, &own);
        let heard = std::mem::take(&mut self.heard);
        let own_is_plain = Line { units: Units::new(), ..own.clone() }.is_plain();
        if heard.is_empty() && own_is_plain {
            return;
        }
        for line in &heard {
            add(reading, line);
        }
        reading.lines = std::iter::once(own).chain(heard).collect();
    }
}

/// `inf` is no ceiling.
fn ceiling(stated: &RawValue) -> Ceiling {
    Ceiling(serde_json::from_str::<Count>(stated.get()).ok().and_then(|count| count.0))
}

fn add(reading: &mut Reading, line: &Line) {
    reading.usage = reading.usage.plus(line.usage);
    add_units(&mut reading.units, &line.units);
}

fn merge(known: &mut Line, line: &Line) {
    known.usage = known.usage.plus(line.usage);
    add_units(&mut known.units, &line.units);
    known.cache_read_audio = known.cache_read_audio.saturating_add(line.cache_read_audio);
    known.cache_read_image = known.cache_read_image.saturating_add(line.cache_read_image);
}

fn add_units(sum: &mut Units, units: &Units) {
    for (name, n) in units {
        let known: &mut Quantity = sum.entry(name.clone()).or_default();
        *known = known.plus(*n);
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(deserialize_with = "lenient")]
    session: Option<Session>,
    #[serde(deserialize_with = "lenient")]
    response: Option<Response>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Used>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Session {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    max_output_tokens: Option<Box<RawValue>>,
    max_response_output_tokens: Option<Box<RawValue>>,
    #[serde(deserialize_with = "lenient")]
    audio: Option<Audio>,
    #[serde(deserialize_with = "lenient")]
    input_audio_transcription: Option<Transcription>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Audio {
    #[serde(deserialize_with = "lenient")]
    input: Option<AudioInput>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AudioInput {
    #[serde(deserialize_with = "lenient")]
    transcription: Option<Transcription>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Transcription {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "text")]
    status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Used>,
    #[serde(deserialize_with = "or_default")]
    output: Vec<Item>,
    max_output_tokens: Option<Box<RawValue>>,
}

/// A usage object: tokens, seconds and a charge stand side by side in it.
#[derive(Default)]
struct Used {
    tokens: Tokens,
    seconds: Option<Quantity>,
    billable_audio_seconds: Option<Quantity>,
    charge: Option<Pico>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Lengths {
    #[serde(deserialize_with = "seconds")]
    seconds: Option<Quantity>,
    #[serde(deserialize_with = "seconds")]
    billable_audio_seconds: Option<Quantity>,
}

impl<'de> Deserialize<'de> for Used {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        let tokens = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        let Lengths { seconds, billable_audio_seconds } = serde_json::from_str(raw.get()).unwrap_or_default();
        Ok(Self { tokens, seconds, billable_audio_seconds, charge: reported::charge(raw.get().as_bytes()) })
    }
}

impl Used {
    fn is_stated(&self) -> bool {
        self.tokens.is_stated() || self.seconds.is_some() || self.billable_audio_seconds.is_some()
    }

    fn billable(&self) -> Option<(Cow<'static, str>, Quantity)> {
        self.billable_audio_seconds.map(|n| (Cow::Borrowed("billable_audio_seconds"), n))
    }
}

#[cfg(test)]
#[path = "realtime_tests.rs"]
mod tests;
