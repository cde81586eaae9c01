//! An exchange under way, with its hold: whatever happens to it, it ends once, with a row and a settlement.

use std::sync::Arc;

use super::{
    Shared,
    body::{Sent, Taken},
    running::{self, Running},
    tap::Tap,
};
use crate::{
    cashier::Hold,
    clock,
    exchange::{
        End, Exchange, Opening, body_end,
        results::{self, Verdict},
    },
    money::Pico,
    pricing::Prices,
    usage::{Billing, Problem, Quality, Reading, ResultRef, Standing},
};

/// Ends by [`Live::end`], or by being dropped, which says that the agent has left.
pub(crate) struct Live {
    open: Option<Open>,
    shared: Arc<Shared>,
}

pub(crate) struct Open {
    pub(crate) exchange: Exchange,
    /// Those of its start: it is held and charged by the same.
    pub(crate) prices: Prices,
    pub(crate) hold: Option<Hold>,
    pub(crate) tap: Option<Tap>,
    /// What the request pays by x402.
    pub(crate) payment: Option<Pico>,
    /// A subscription pays for it.
    pub(crate) on_plan: bool,
    /// What is known of the answer without a tap.
    pub(crate) reading: Option<Reading>,
    pub(crate) sent: Sent,
    /// The request's body in memory; it may be sent a second time.
    pub(crate) body: Taken,
    running: Running,
}

impl Live {
    pub(crate) fn new(opening: Opening, shared: &Arc<Shared>) -> Self {
        let open = Open {
            exchange: Exchange::new(opening),
            prices: shared.prices.pinned(),
            hold: None,
            tap: None,
            payment: None,
            on_plan: false,
            reading: None,
            sent: Sent::default(),
            body: Taken::default(),
            running: Running::default(),
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

    /// Whether what was fed still costs no more than is held, or can be. Why the answer is to be cut, where not.
    pub(crate) fn passed(&mut self, bytes: usize) -> Option<Box<Problem>> {
        let Open { exchange, prices, hold, tap, running, .. } = self.open();
        running.passed(bytes, tap.as_ref()?, exchange, hold.as_mut(), prices)
    }

    /// Sets more aside. `false` when a limit has no room for it, or nothing is held.
    pub(crate) fn grow(&mut self, more: Pico) -> bool {
        let Open { exchange, hold, .. } = self.open();
        hold.as_mut().is_some_and(|hold| running::grow(hold, more, exchange))
    }

    pub(crate) fn end(mut self, end: &End) {
        self.finish(end);
    }

    /// Ends it with what was read elsewhere.
    pub(crate) fn end_with(mut self, reading: Reading, end: &End) {
        self.open().reading = Some(reading);
        self.finish(end);
    }

    /// It never began: its hold is given back, and there is no row.
    pub(crate) fn release(mut self) {
        if let Some(hold) = self.open.take().and_then(|open| open.hold) {
            hold.release();
        }
    }

    fn finish(&mut self, end: &End) {
        let Some(mut open) = self.open.take() else { return };
        if open.sent.is_set() {
            open.exchange.sent();
        }
        let reading = open.reading.take().or_else(|| open.tap.take().map(|tap| tap.finish(body_end(end))));
        let reading = reading.map(|reading| open.running.corrected(results::bounded(reading)));
        // Of an answer that could not be read nobody knows whether the result was in it.
        let result = reading.as_ref().and_then(|r| {
            let known = |result: &&ResultRef| r.quality != Quality::Absent || result.standing == Standing::Pending;
            r.result.as_ref().filter(known).cloned()
        });
        match (result, reading) {
            (Some(result), Some(reading)) => self.finish_result(open, reading, &result, end),
            (_, reading) => self.settle(open, reading, end),
        }
    }

    fn settle(&self, open: Open, reading: Option<Reading>, end: &End) {
        let row = open.exchange.end(end, reading, &open.prices, clock::monotonic_ns());
        match open.hold {
            Some(hold) => hold.settle(row),
            None => self.shared.cashier.record(row),
        }
    }

    /// The answer holds or announces a result that can be read again: it is charged once.
    fn finish_result(&self, open: Open, reading: Reading, result: &ResultRef, end: &End) {
        // What another host says of an id, and be it of the same dialect, is not what this one says.
        let (shared, provider) = (&self.shared, open.exchange.host().to_ascii_lowercase());
        let free = |reason, reading: Reading| Reading { model: reading.model, ..Reading::free(reason) };
        let prices = &open.prices;
        let row = |exchange: Exchange, reading| exchange.end(end, Some(reading), prices, clock::monotonic_ns());
        let made_now = open.exchange.billing() == Billing::Metered && result.standing == Standing::Final;
        match shared.cashier.see_result(&provider, result) {
            Verdict::Charge => {
                shared.cashier.bill_result(row(open.exchange, reading), open.hold, &provider, result);
            }
            // Whatever id it carries, this answer was made for this request.
            Verdict::Repeat if made_now => self.settle(open, Some(reading), end),
            Verdict::Repeat if result.standing == Standing::Pending => {
                self.settle(open, Some(free("its result is not there yet", reading)), end);
            }
            Verdict::Repeat => self.settle(open, Some(free("billed before", reading)), end),
            Verdict::Wait => {
                let reading = free("charged when its result is seen, or in full after 24 hours", reading);
                match open.hold {
                    Some(hold) => shared.cashier.park(hold, row(open.exchange, reading), &provider, result),
                    None => shared.cashier.record(row(open.exchange, reading)),
                }
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.finish(&End::AgentGone);
    }
}
