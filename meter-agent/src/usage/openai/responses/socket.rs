//! Responses over a WebSocket: every `response.create` of the agent is a turn, with a stream's events as its answer.

use memchr::memmem;
use serde::Deserialize;

use super::{
    answer::{Context, Role},
    request,
    stream::Stream,
};
use crate::usage::{
    BodyEnd, Reading, RequestFacts, SocketReader,
    estimate::Bounds,
    json::{parse, text},
    read::Events,
};

/// Turns on one connection run one after the other.
#[derive(Default)]
pub(super) struct Socket {
    facts: Option<RequestFacts>,
    turn: Option<Stream>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
}

impl SocketReader for Socket {
    fn facts(&self) -> RequestFacts {
        let unknown =
            || RequestFacts { input_unbounded: true, hidden_output: true, choices: 1, ..RequestFacts::default() };
        self.facts.clone().unwrap_or_else(unknown)
    }

    fn sent(&mut self, message: &[u8]) {
        let head: Head = parse(message).unwrap_or_default();
        if head.kind.as_deref() != Some("response.create") {
            return;
        }
        let Ok(mut facts) = request(false, message) else { return };
        // The connection keeps the conversation, whose earlier turns are input again.
        facts.input_unbounded = true;
        let context = Context {
            role: if facts.background { Role::Background } else { Role::Made },
            bounds: Bounds::of(&facts),
            asked_model: facts.model.clone(),
            visible_bytes: 0,
        };
        self.facts = Some(facts);
        self.turn = Some(Stream::new(context));
    }

    fn received(&mut self, message: &[u8]) -> Option<Reading> {
        if self.turn.is_none() && memmem::find(message, b"\"response.created\"").is_some() {
            self.turn = Some(Stream::default());
        }
        let turn = self.turn.as_mut()?;
        turn.event("", message);
        if !turn.is_over() {
            return None;
        }
        Some(self.turn.take()?.finish(BodyEnd::Complete, 0))
    }

    fn finish(&mut self) -> Option<Reading> {
        Some(self.turn.take()?.finish(BodyEnd::Cut, 0))
    }
}
