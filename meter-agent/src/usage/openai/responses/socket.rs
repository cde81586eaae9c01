//! Responses over a WebSocket: every `response.create` of the agent is a turn, with a stream's events as its answer.

use memchr::memmem;

use super::{
    answer::{Context, Role},
    request,
    stream::Stream,
};
use crate::usage::{
    BodyEnd, Problem, Reading, RequestFacts, SocketReader, edit::RawObject, estimate::Bounds, openai::socket_error,
    read::Events, session_models::may_name,
};

/// Turns on one connection run one after the other.
#[derive(Default)]
pub(super) struct Socket {
    facts: Option<RequestFacts>,
    turn: Option<Stream>,
}

impl SocketReader for Socket {
    fn facts(&self) -> RequestFacts {
        let unknown =
            || RequestFacts { input_unbounded: true, hidden_output: true, choices: 1, ..RequestFacts::default() };
        self.facts.clone().unwrap_or_else(unknown)
    }

    fn sent(&mut self, message: &[u8]) {
        if !may_name(message, &[b"\"response.create\""]) {
            return;
        }
        let Ok(event) = RawObject::parse(message) else { return };
        if event.text("type").as_deref() != Some("response.create") {
            return;
        }
        // Of one that can't be read nothing is known, its model neither.
        let Ok(mut facts) = request(false, message) else {
            self.facts = None;
            return;
        };
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

    fn is_under_way(&self) -> bool {
        self.turn.is_some()
    }

    fn refusal(&self, problem: &Problem) -> Option<Vec<u8>> {
        Some(socket_error(problem))
    }

    fn finish(&mut self) -> Option<Reading> {
        Some(self.turn.take()?.finish(BodyEnd::Cut, 0))
    }
}
