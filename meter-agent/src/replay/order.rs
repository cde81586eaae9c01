//! The file's order, kept while background work waits for its result.
//!
//! A row that is decided leaves at once unless one before it is not; what waits is rows, never bodies.

use std::collections::{HashMap, VecDeque};

use super::{BadEntry, Replayed};
use crate::exchange::{End, Exchange};

/// Provider and id of a result.
pub(super) type Key = (String, String);

/// An exchange whose result was announced and has not been seen.
pub(super) struct Waiting {
    pub(super) index: usize,
    pub(super) exchange: Exchange,
    pub(super) end: End,
    pub(super) ended_ns: u64,
}

enum Slot {
    Ready(Box<Replayed>),
    /// `None` only while it is being made a row.
    Waiting(Option<Box<Waiting>>),
}

#[derive(Default)]
pub(super) struct Order {
    slots: VecDeque<Slot>,
    /// Slots that have left.
    gone: usize,
    /// Numbers of the slots that wait for a result.
    waiting: HashMap<Key, Vec<usize>>,
}

impl Order {
    pub(super) fn push(&mut self, row: Replayed) {
        self.slots.push_back(Slot::Ready(Box::new(row)));
    }

    pub(super) fn wait(&mut self, key: Key, waiting: Waiting) {
        self.waiting.entry(key).or_default().push(self.gone + self.slots.len());
        self.slots.push_back(Slot::Waiting(Some(Box::new(waiting))));
    }

    /// The result has been seen: makes rows of what waited for it.
    pub(super) fn resolve(&mut self, key: &Key, row: impl Fn(Waiting) -> Replayed) {
        for number in self.waiting.remove(key).unwrap_or_default() {
            let Some(slot) = number.checked_sub(self.gone).and_then(|at| self.slots.get_mut(at)) else { continue };
            if let Slot::Waiting(waiting) = slot
                && let Some(waiting) = waiting.take()
            {
                *slot = Slot::Ready(Box::new(row(*waiting)));
            }
        }
    }

    /// Hands out what nothing before waits for.
    pub(super) fn ready(&mut self, each: &mut dyn FnMut(Result<Replayed, BadEntry>)) {
        while let Some(Slot::Ready(_)) = self.slots.front() {
            if let Some(Slot::Ready(row)) = self.slots.pop_front() {
                each(Ok(*row));
                self.gone += 1;
            }
        }
    }

    /// Hands out the rest; what still waits, as `row` makes of it.
    pub(super) fn finish(
        &mut self,
        row: impl Fn(Waiting) -> Replayed,
        each: &mut dyn FnMut(Result<Replayed, BadEntry>),
    ) {
        self.waiting.clear();
        self.gone += self.slots.len();
        for slot in self.slots.drain(..) {
            match slot {
                Slot::Ready(done) => each(Ok(*done)),
                Slot::Waiting(waiting) => waiting.into_iter().for_each(|waiting| each(Ok(row(*waiting)))),
            }
        }
    }
}
