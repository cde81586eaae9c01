//! Recorded traffic metered and priced offline: what would this have cost, per exchange and in total.
//!
//! From an answer's bytes on it is the live sidecar's way: the same dialects, the same exchange, the same prices.
//! Every entry of a recording has a row, also one that costs nothing, with the reason. Hosts that are not listed are
//! looked at too, by endpoint and shape; what no dialect knows there is not taken for a paid API.
//!
//! Pure but for the bytes it is handed: no files, no sockets, no clock. One entry is in memory at a time, at most
//! [`har::ENTRY_MAX`] bytes of JSON and about three times that while it is decoded; beside it only rows that wait.

mod base64;
mod body;
mod content;
mod entry;
mod frames;
mod har;
mod meter;
mod order;
mod party;
mod payment;
mod socket;
mod target;

use std::io::Read;

use serde::Serialize;

pub use self::har::HarError;
use self::{entry::Recorded, meter::Meter};
use crate::{clock::Timestamp, exchange::Row, pricing::Prices, usage::hosts::HostTable};

/// What recordings are metered with.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub hosts: &'a HostTable,
    pub prices: &'a Prices,
    /// When an entry that does not say its time is taken to have been made.
    pub now: Timestamp,
}

/// An exchange of a recording. Serializes to the line of `meter replay --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Replayed {
    /// The entry's number in the file, from 0. The turns of a WebSocket share theirs.
    pub index: usize,
    #[serde(flatten)]
    pub row: Row,
}

/// An entry that says too little to be metered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {index}: {why}")]
pub struct BadEntry {
    pub index: usize,
    pub why: String,
}

/// Meters a HAR 1.2 file. `each` gets the rows in the file's order; those behind background work whose result has not
/// been seen wait for it, or for the file's end.
///
/// An entry that can't be used is handed to `each` as an error and the others go on.
pub fn replay(
    file: impl Read,
    setting: Setting<'_>,
    each: &mut dyn FnMut(Result<Replayed, BadEntry>),
) -> Result<(), HarError> {
    let mut meter = Meter::new(setting);
    let end = har::entries(file, &mut |index, text| {
        match Recorded::read(text, setting.now) {
            Ok(recorded) => meter.entry(index, &recorded),
            Err(why) => each(Err(BadEntry { index, why })),
        }
        meter.ready(each);
    });
    meter.finish(each);
    end
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
