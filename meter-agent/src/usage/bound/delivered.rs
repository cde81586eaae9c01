//! What a stream has delivered, as a bound from below, while it passes.
//!
//! An estimate at an answer's end must not be too low; this one must not be too high, because an answer is cut by it.
//! So it knows nothing of what is hidden, and leaves the benefit of the doubt with the answer.

/// Bytes of text that are a token at least: ordinary text has four or five to one, program text with its indentation
/// fewer than seven.
const BYTES_PER_TOKEN: u64 = 8;

/// Most services send a token or several with each event; the arguments of a call may come in smaller pieces.
const EVENTS_PER_TOKEN: u64 = 2;

/// Events that brought a part of the answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delivered {
    events: u64,
    bytes: u64,
    /// Of the shortest event, which is what all of them have beside their text, or more.
    least: u64,
}

impl Delivered {
    /// An event that brought a part of the answer, with everything that is around it.
    pub(crate) fn event(&mut self, data: &[u8]) {
        let bytes = data.len() as u64;
        self.least = if self.events == 0 { bytes } else { self.least.min(bytes) };
        self.events += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// By the number of events alone, for what may be something else than text.
    pub(crate) fn parts(&self) -> u64 {
        self.events / EVENTS_PER_TOKEN
    }

    pub(crate) fn tokens(&self) -> u64 {
        tokens(self.parts(), self.bytes.saturating_sub(self.events.saturating_mul(self.least)))
    }
}

/// Tokens that so many parts with so many bytes of text have at least.
pub(crate) fn tokens(parts: u64, text_bytes: u64) -> u64 {
    parts.max(text_bytes / BYTES_PER_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_around_the_text_is_not_counted_as_text() {
        let mut delivered = Delivered::default();
        assert_eq!(delivered.tokens(), 0);
        for text in ["a", "b", "c"] {
            delivered.event(format!("{}{text}", "x".repeat(200)).as_bytes());
        }
        assert_eq!(delivered.tokens(), 1);
        delivered.event(format!("{}{}", "x".repeat(200), "word".repeat(200)).as_bytes());
        assert_eq!(delivered.tokens(), 99, "800 bytes, one of them in what every event has");
    }
}
