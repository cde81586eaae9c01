//! How the meter ends a socket, and the row of a turn that it did not admit.

use super::turns::SWITCHING_PROTOCOLS;
use crate::{
    exchange::End,
    usage::{Problem, websocket},
};

/// Close codes of RFC 6455, section 7.4.1.
const NORMAL: u16 = 1000;
pub(super) const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;
const INTERNAL_ERROR: u16 = 1011;

/// Why the meter ends a socket, in the words of its close frame.
#[derive(Debug)]
pub(super) struct Closing {
    code: u16,
    pub(super) sentence: String,
    /// What is said before it in the provider's own shape: a close frame has no room for how a limit stands.
    message: Option<Vec<u8>>,
}

impl Closing {
    /// The account may not, or has nothing left.
    pub(super) fn refused(problem: &Problem, message: Option<Vec<u8>>) -> Self {
        Self { message, ..Self::cut(problem.text()) }
    }

    pub(super) fn cut(sentence: String) -> Self {
        Self { code: POLICY_VIOLATION, sentence, message: None }
    }

    pub(super) fn fault(sentence: String) -> Self {
        Self { code: INTERNAL_ERROR, sentence, message: None }
    }

    pub(super) fn late() -> Self {
        Self { code: GOING_AWAY, sentence: "meter: the turn took too long to end".to_owned(), message: None }
    }

    /// The answer to a close frame.
    pub(super) fn echo() -> Self {
        Self { code: NORMAL, sentence: String::new(), message: None }
    }

    /// What the agent gets.
    pub(super) fn frames(&self) -> Vec<u8> {
        let mut frames = self.message.as_deref().map(websocket::text).unwrap_or_default();
        frames.extend_from_slice(&websocket::close(self.code, &self.sentence, None));
        frames
    }
}

/// How a turn ends that is refused: for want of money, or for what it is.
pub(super) fn end(status: u16, why: String) -> End {
    match status {
        403 => End::RefusedRequest { status: SWITCHING_PROTOCOLS, why },
        _ => End::RefusedBudget { status: SWITCHING_PROTOCOLS, why },
    }
}
