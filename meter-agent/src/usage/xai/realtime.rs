//! xAI's realtime sessions: a WebSocket in the shape of OpenAI's, billed by the second of sound.
//!
//! The usage of a turn is on the `response.done` event itself; the response in it has an empty one. A turn that the
//! session ends in has no usage: it is absent.
//!
//! Source: docs.x.ai, voice agent API.

use memchr::memmem;
use serde::Deserialize;

use crate::usage::{
    Problem, Quality, Quantity, Reading, RequestFacts, SocketReader, Usage,
    json::{Count, or_default, parse, text},
    openai::socket_error,
    percent::parameters,
    session_models::SessionModels,
};

/// One session.
pub(super) struct Session {
    models: SessionModels,
    /// An answer was begun, and is not billed yet.
    open: bool,
}

impl Session {
    pub(super) fn of(path_and_query: &str) -> Self {
        let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
        Self { models: SessionModels::opened_with(parameters(query, "model")), open: false }
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default, deserialize_with = "text")]
    kind: Option<String>,
    #[serde(default)]
    session: Option<Named>,
    #[serde(default)]
    usage: Option<TurnUsage>,
    #[serde(default)]
    response: Option<Response>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    usage: Option<TurnUsage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TurnUsage {
    input_tokens: Count,
    output_tokens: Count,
    #[serde(alias = "input_tokens_details", deserialize_with = "or_default")]
    input_token_details: Details,
    #[serde(alias = "output_tokens_details", deserialize_with = "or_default")]
    output_token_details: Details,
    billable_audio_seconds: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    audio_tokens: Count,
    cached_tokens: Count,
}

impl TurnUsage {
    fn is_said(&self) -> bool {
        self.input_tokens.0.is_some() || self.output_tokens.0.is_some() || self.billable_audio_seconds.is_some()
    }

    fn reading(&self, model: Option<String>) -> Reading {
        let (input, output) = (self.input_tokens.get(), self.output_tokens.get());
        let cache_read = self.input_token_details.cached_tokens.get().min(input);
        let usage = Usage {
            input_tokens: input,
            input_uncached: input - cache_read,
            cache_read,
            input_audio: self.input_token_details.audio_tokens.get().min(input),
            output_tokens: output,
            output_audio: self.output_token_details.audio_tokens.get().min(output),
            ..Usage::default()
        };
        let mut reading = Reading { model, ..Reading::of(Quality::Exact, usage) };
        if let Some(seconds) = self.billable_audio_seconds.and_then(Quantity::from_f64) {
            reading.units.insert("billable_audio_seconds".into(), seconds);
        }
        reading
    }
}

impl SocketReader for Session {
    fn facts(&self) -> RequestFacts {
        self.models.named_in(RequestFacts {
            stream: true,
            choices: 1,
            // The whole session so far is the input of a turn.
            input_unbounded: true,
            input_audio: true,
            hidden_output: true,
            ..RequestFacts::default()
        })
    }

    fn sent(&mut self, message: &[u8]) {
        self.models.asked_by(message);
        self.open |= memmem::find(message, b"\"response.create\"").is_some();
    }

    fn received(&mut self, message: &[u8]) -> Option<Reading> {
        // Sound comes in many messages, which say nothing here.
        let has = |key: &[u8]| memmem::find(message, key).is_some();
        if !(has(b"\"session") || has(b"\"response.created\"") || has(b"\"response.done\"")) {
            return None;
        }
        let event: Event = parse(message)?;
        self.models.say(event.session.and_then(|s| s.model));
        match event.kind.as_deref() {
            Some("response.created") => {
                self.open = true;
                None
            }
            Some("response.done") => {
                self.open = false;
                let usage = event.usage.or_else(|| event.response?.usage).filter(TurnUsage::is_said);
                let model = self.models.billed();
                Some(match usage {
                    Some(usage) => usage.reading(model),
                    None => Reading { model, ..Reading::absent() },
                })
            }
            _ => None,
        }
    }

    fn is_under_way(&self) -> bool {
        self.open
    }

    fn refusal(&self, problem: &Problem) -> Option<Vec<u8>> {
        Some(socket_error(problem))
    }

    fn finish(&mut self) -> Option<Reading> {
        std::mem::take(&mut self.open).then(|| Reading { model: self.models.billed(), ..Reading::absent() })
    }
}
