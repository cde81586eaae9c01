//! What a stream has delivered, as a bound from below, while it passes.
//!
//! Where a piece is measured with what is around it there is [`Delivered`], and where its text is at hand [`Text`].
//!
//! An estimate at an answer's end must not be too low; this one must not be too high, because an answer is cut by it.
//! So it knows nothing of what is hidden, and leaves the benefit of the doubt with the answer.

use crate::usage::strings;

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

/// Pieces of text, by the text alone: what stands around them may differ from piece to piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Text {
    pieces: u64,
    bytes: u64,
}

impl Text {
    /// A piece of so many bytes, as JSON writes them. Without any it is none.
    pub(crate) fn piece(&mut self, bytes: u64) {
        self.pieces += u64::from(bytes > 0);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// An event, whose text is in these members.
    pub(crate) fn event(&mut self, event: &[u8], members: &[&[u8]]) {
        let mut bytes = 0;
        strings::each(event, &mut |name, text| {
            if members.contains(&name) {
                bytes += text.len() as u64;
            }
        });
        self.piece(bytes);
    }

    /// Of a service that may send a token in pieces.
    pub(crate) fn tokens(&self) -> u64 {
        tokens(self.pieces / EVENTS_PER_TOKEN, self.bytes)
    }

    /// Of a service that sends each token when it is there, and none in pieces.
    pub(crate) fn whole_tokens(&self) -> u64 {
        tokens(self.pieces, self.bytes)
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

    #[test]
    fn text_is_counted_where_it_stands_and_nothing_beside_it() {
        let mut text = Text::default();
        text.event(br#"{"type":"text","text":"a"}"#, &[b"text"]);
        text.event(br#"{"type":"start","id":"0123456789012345678901234567890123456789"}"#, &[b"text"]);
        text.event(br#"{"text":""}"#, &[b"text"]);
        assert_eq!((text.tokens(), text.whole_tokens()), (0, 1));
        text.event(br#"{"arguments":"01234567890123456789012345678901","text":"b"}"#, &[b"text", b"arguments"]);
        assert_eq!((text.tokens(), text.whole_tokens()), (34 / 8, 34 / 8));
    }
}
