//! Whether an answer still costs no more than is held for it, while it passes.
//!
//! A hold is the worst case of its request, so this is about answers that pass it all the same: a provider that does not
//! keep to the ceiling, reasoning that nobody bounds, a price list that is wrong. Looked at now and then: an answer may
//! run past its hold by as much as passes between two looks.

use super::{problem, tap::Tap};
use crate::{
    cashier::Hold,
    exchange::Exchange,
    money::Pico,
    pricing::Prices,
    usage::{Problem, Reading},
};

/// An answer is looked at after so many bytes of it: a look costs some microseconds, which is little beside what it
/// takes to pass them on.
const LOOK_BYTES: usize = 16 * 1024;
/// What a chunk counts beside its bytes: a short one may have been as dear to make.
const CHUNK_BYTES: usize = 256;
/// An answer that passes its hold gets so much more of it at one time (a quarter), or what it needs.
const HEADROOM: i64 = 4;

/// An answer that is watched.
#[derive(Default)]
pub(super) struct Running {
    /// Bytes since it was looked at.
    passed: usize,
    /// Output that was seen when it cost more than its request could.
    over: Option<u64>,
}

impl Running {
    /// Takes notice of a chunk of so many bytes, after its tap. Why the answer is to be cut, where it is.
    pub(super) fn passed(
        &mut self,
        bytes: usize,
        tap: &Tap,
        exchange: &mut Exchange,
        hold: Option<&mut Hold>,
        prices: &Prices,
    ) -> Option<Box<Problem>> {
        self.passed = self.passed.saturating_add(bytes + CHUNK_BYTES);
        if self.passed < LOOK_BYTES {
            return None;
        }
        self.passed = 0;
        let hold = hold?;
        let reading = tap.so_far()?;
        let cost = exchange.cost_of(&reading, prices);
        let excess = cost.saturating_sub(hold.amount);
        if !excess.is_positive() {
            return None;
        }
        self.over = self.over.max(Some(reading.usage.output_tokens));
        let headroom = Pico::new(hold.amount.get() / HEADROOM);
        if grow(hold, excess.saturating_add(headroom), exchange) || grow(hold, excess, exchange) {
            return None;
        }
        Some(Box::new(problem::over_its_hold(exchange.account(), cost, hold.amount)))
    }

    /// An estimate whose ceiling was passed is not below what was seen.
    pub(super) fn corrected(&self, mut reading: Reading) -> Reading {
        if let Some(seen) = self.over {
            reading.raise_output(seen);
        }
        reading
    }
}

/// Sets more aside for an exchange, on both its records.
pub(super) fn grow(hold: &mut Hold, more: Pico, exchange: &mut Exchange) -> bool {
    let grown = hold.grow(more);
    if grown {
        exchange.grown(hold.amount);
    }
    grown
}
