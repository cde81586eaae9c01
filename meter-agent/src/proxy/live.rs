//! An exchange under way, with its hold: whatever happens to it, it ends once, with a row and a settlement.

use std::sync::Arc;

use super::{
    Shared,
    answer::Tap,
    body::{Sent, Taken},
};
use crate::{
    cashier::Hold,
    clock,
    exchange::{End, Exchange, Opening, body_end},
};

/// Ends by [`Live::end`], or by being dropped, which says that the agent has left.
pub(crate) struct Live {
    open: Option<Open>,
    shared: Arc<Shared>,
}

pub(crate) struct Open {
    pub(crate) exchange: Exchange,
    pub(crate) hold: Option<Hold>,
    pub(crate) tap: Option<Tap>,
    pub(crate) sent: Sent,
    /// The request's body in memory; it may be sent a second time.
    pub(crate) body: Taken,
}

impl Live {
    pub(crate) fn new(opening: Opening, shared: &Arc<Shared>) -> Self {
        let open = Open {
            exchange: Exchange::new(opening),
            hold: None,
            tap: None,
            sent: Sent::default(),
            body: Taken::default(),
        };
        Self { open: Some(open), shared: Arc::clone(shared) }
    }

    pub(crate) fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("only end and drop take it, and both take the whole value")
    }

    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        if let Some(tap) = &mut self.open().tap {
            tap.feed(chunk);
        }
    }

    pub(crate) fn end(mut self, end: &End) {
        self.finish(end);
    }

    fn finish(&mut self, end: &End) {
        let Some(mut open) = self.open.take() else { return };
        if open.sent.is_set() {
            open.exchange.sent();
        }
        let reading = open.tap.take().map(|tap| tap.finish(body_end(end)));
        let row = open.exchange.end(end, reading, &self.shared.prices, clock::monotonic_ns());
        match open.hold {
            Some(hold) => hold.settle(row),
            None => self.shared.cashier.record(row),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish(&End::AgentGone);
    }
}
