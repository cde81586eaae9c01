//! Bytes of answers that are kept until they can be read, out of one budget for all answers under way.
//!
//! Whoever finds no room drops what it has and goes on without: the answer passes to its agent all the same, and is
//! settled as one that could not be read. The first [`OWN_BYTES`] of each buffer are outside the budget, so that nobody
//! who fills it keeps an ordinary answer of somebody else's from being read.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes kept of all answers together. An ordinary one takes kilobytes, one with images some megabytes.
pub(crate) const KEPT_MAX: usize = 256 * 1024 * 1024;

/// Bytes of every buffer that are always there for it: a stream's event, a frame's head, an answer of some pages. How
/// many buffers there are is bounded by the connections, which have buffers of that size themselves.
pub(crate) const OWN_BYTES: usize = 16 * 1024;

/// The least that is made room for, since most buffers grow by a few bytes at a time: a stream's text, a split event.
const FIRST_BYTES: usize = 1024;

static ANSWERS: Budget = Budget::new(KEPT_MAX);

/// No room is left, for this answer or for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// Bytes that may be kept, and are.
#[derive(Debug)]
struct Budget {
    kept: AtomicUsize,
    max: usize,
}

impl Budget {
    const fn new(max: usize) -> Self {
        Self { kept: AtomicUsize::new(0), max }
    }

    fn take(&self, bytes: usize) -> Result<(), Full> {
        let room = |kept: usize| kept.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).map(|_| ()).map_err(|_| Full)
    }

    fn give_back(&self, bytes: usize) {
        self.kept.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A buffer whose capacity counts against the budget while it lives.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: Vec<u8>,
    /// The capacity as asked for; the allocator may have given a little more.
    room: usize,
    budget: &'static Budget,
}

impl Default for Kept {
    fn default() -> Self {
        Self { bytes: Vec::new(), room: 0, budget: &ANSWERS }
    }
}

impl Kept {
    /// Appends, if the whole is then at most `max` bytes and the budget has room.
    pub(crate) fn push(&mut self, part: &[u8], max: usize) -> Result<(), Full> {
        let length = self.bytes.len().checked_add(part.len()).filter(|length| *length <= max).ok_or(Full)?;
        if length > self.room {
            self.grow(length.max(self.room.saturating_mul(2)).max(FIRST_BYTES).min(max))?;
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    #[cold]
    fn grow(&mut self, room: usize) -> Result<(), Full> {
        let more = counted(room) - counted(self.room);
        if more > 0 {
            self.budget.take(more)?;
        }
        self.room = room;
        self.bytes.reserve_exact(room - self.bytes.len());
        Ok(())
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets the bytes and keeps the room.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let counted = counted(self.room);
        if counted > 0 {
            self.budget.give_back(counted);
        }
    }
}

/// What a buffer of that capacity takes of the budget.
const fn counted(room: usize) -> usize {
    room.saturating_sub(OWN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(budget: &'static Budget) -> Kept {
        Kept { bytes: Vec::new(), room: 0, budget }
    }

    #[test]
    fn a_buffer_ends_at_its_own_bound() {
        static BUDGET: Budget = Budget::new(1_000);
        let mut kept = kept(&BUDGET);
        assert_eq!(kept.push(&[1; 60], 100), Ok(()));
        assert_eq!(kept.push(&[2; 41], 100), Err(Full));
        assert_eq!((kept.push(&[2; 40], 100), kept.len(), kept.room), (Ok(()), 100, 100));
    }

    #[test]
    fn no_more_is_kept_than_the_budget_has_and_dropped_buffers_give_it_back() {
        static BUDGET: Budget = Budget::new(1_000);
        static LONG: [u8; OWN_BYTES + 600] = [0; OWN_BYTES + 600];
        let (mut first, mut second) = (kept(&BUDGET), kept(&BUDGET));
        assert_eq!((first.push(&LONG, 1 << 20), second.push(&LONG, 1 << 20)), (Ok(()), Err(Full)));
        drop(first);
        assert_eq!(second.push(&LONG, 1 << 20), Ok(()));
        drop(second);
        assert_eq!(BUDGET.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_ordinary_answer_has_room_when_the_budget_is_full() {
        static BUDGET: Budget = Budget::new(0);
        let mut kept = kept(&BUDGET);
        assert_eq!(kept.push(&[0; OWN_BYTES], 1 << 20), Ok(()));
        assert_eq!((kept.push(&[0; 1], 1 << 20), kept.len()), (Err(Full), OWN_BYTES));
    }
}
