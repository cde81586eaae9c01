//! gRPC messages in a body: a flag, a length of four bytes, and the message, one after the other.
//!
//! Owns the framing and its bounds at any split of the bytes; what a message holds is the dialect's. A compressed
//! message is counted as dropped, since the body does not say how it was compressed. How a call ended is in the
//! trailers, which are no part of the body.
//!
//! Memory is bounded by [`MAX_MESSAGE_BYTES`] and by what all answers may keep ([`super::kept`]): a message for which
//! there is no room is dropped, and reading goes on with the next one.
//!
//! Source: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.

use super::{kept::Kept, read::Events};
use crate::usage::{BodyEnd, Reader, Reading};

/// Longest message that is kept. Answers can repeat what tools have read, images included.
pub(crate) const MAX_MESSAGE_BYTES: usize = 32 * 1024 * 1024;

const HEAD_BYTES: usize = 5;

/// Reads messages as events without a name.
pub(crate) struct MessageReader<E> {
    /// The start of a frame that is not complete yet.
    frame: Kept,
    /// Bytes of a message that is not kept and has not passed yet.
    skip: usize,
    dropped: u64,
    events: E,
}

impl<E: Events> MessageReader<E> {
    pub(crate) fn new(events: E) -> Self {
        Self { frame: Kept::default(), skip: 0, dropped: 0, events }
    }

    /// At the start of a frame: the message is read in place if the chunk holds all of it.
    fn take_whole<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        match head(chunk) {
            Some((compressed, len)) if !is_read(compressed, len) => self.pass_over(HEAD_BYTES + len),
            Some((_, len)) if chunk.len() >= HEAD_BYTES + len => {
                let (frame, rest) = chunk.split_at(HEAD_BYTES + len);
                self.events.event("", &frame[HEAD_BYTES..]);
                return rest;
            }
            found => {
                self.keep(chunk, HEAD_BYTES + found.map_or(0, |(_, len)| len));
                return &[];
            }
        }
        chunk
    }

    /// Within a frame: takes what its head or its message still needs.
    fn take_part<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let want = HEAD_BYTES + head(self.frame.as_slice()).map_or(0, |(_, len)| len);
        let (now, rest) = chunk.split_at(chunk.len().min(want - self.frame.len()));
        self.keep(now, want);
        let frame = self.frame.as_slice();
        let Some((compressed, len)) = head(frame) else { return rest };
        if !is_read(compressed, len) {
            self.pass_over(len);
        } else if frame.len() == HEAD_BYTES + len {
            self.events.event("", &frame[HEAD_BYTES..]);
            self.frame.clear();
        }
        rest
    }

    /// Keeps a part of a frame of `want` bytes, or passes over the rest of it where there is no room. A head always
    /// has room, so that the size is known when there is none.
    fn keep(&mut self, part: &[u8], want: usize) {
        if self.frame.push(part, HEAD_BYTES + MAX_MESSAGE_BYTES).is_err() {
            self.pass_over(want.saturating_sub(self.frame.len() + part.len()));
        }
    }

    fn pass_over(&mut self, bytes: usize) {
        self.frame = Kept::default();
        self.skip = bytes;
        self.dropped += 1;
    }
}

impl<E: Events> Reader for MessageReader<E> {
    fn feed(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(chunk.len());
                self.skip -= passed;
                chunk = &chunk[passed..];
            } else if self.frame.is_empty() {
                chunk = self.take_whole(chunk);
            } else {
                chunk = self.take_part(chunk);
            }
        }
    }

    fn so_far(&self) -> Option<Reading> {
        self.events.so_far()
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        let end = if self.frame.is_empty() && self.skip == 0 { end } else { BodyEnd::Cut };
        self.events.finish(end, self.dropped)
    }
}

/// Whether a message is one that can be read and kept.
fn is_read(compressed: bool, len: usize) -> bool {
    !compressed && len <= MAX_MESSAGE_BYTES
}

/// Whether the message is compressed, and its length; `None` while the head is not whole.
fn head(frame: &[u8]) -> Option<(bool, usize)> {
    let [flag, len @ ..] = frame.first_chunk::<HEAD_BYTES>()?;
    Some((*flag & 1 == 1, usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX - HEAD_BYTES)))
}

/// The one message of a request; `None` where it is compressed or broken.
pub(crate) fn message(body: &[u8]) -> Option<&[u8]> {
    let (compressed, len) = head(body)?;
    body[HEAD_BYTES..].get(..len).filter(|_| !compressed)
}

/// A message in its frame, for tests.
#[cfg(test)]
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the messages, and says in the reading how many were dropped and whether the body was cut.
    struct Messages(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Events for Messages {
        fn event(&mut self, _: &str, data: &[u8]) {
            self.0.lock().unwrap().push(data.to_vec());
        }

        fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
            let mut reading = if end == BodyEnd::Cut { Reading::absent() } else { Reading::nothing() };
            reading.usage.output_tokens = dropped;
            reading
        }
    }

    fn messages(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Reading) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let mut reader = MessageReader::new(Messages(Arc::clone(&kept)));
        for chunk in chunks {
            reader.feed(chunk);
        }
        let reading = reader.finish(BodyEnd::Complete);
        let got = kept.lock().unwrap().clone();
        (got, reading)
    }

    #[test]
    fn any_split_gives_the_same_messages() {
        let body = [frame(b"one"), frame(b""), frame(b"three")].concat();
        let want = [&b"one"[..], b"", b"three"].map(<[u8]>::to_vec).to_vec();
        for at in 0..=body.len() {
            assert_eq!(messages(&[&body[..at], &body[at..]]), (want.clone(), Reading::nothing()), "split at {at}");
        }
        assert_eq!(messages(&body.chunks(1).collect::<Vec<_>>()).0, want);
    }

    #[test]
    fn a_body_that_ends_within_a_message_is_cut() {
        let body = frame(b"one");
        for at in 1..body.len() {
            assert_eq!(messages(&[&body[..at]]), (Vec::new(), Reading::absent()), "cut at {at}");
        }
    }

    #[test]
    fn what_is_not_kept_is_passed_over() {
        let compressed = [&[1, 0, 0, 0, 2][..], b"xx", &frame(b"one")].concat();
        for size in [1, 3, 100] {
            let (got, reading) = messages(&compressed.chunks(size).collect::<Vec<_>>());
            assert_eq!((got, reading.usage.output_tokens), (vec![b"one".to_vec()], 1));
        }
        let (got, reading) = messages(&[&[0, 0xff, 0xff, 0xff, 0xff], b"abc"]);
        assert!(got.is_empty());
        assert_eq!((reading.quality, reading.usage.output_tokens), (crate::usage::Quality::Absent, 1));
    }

    #[test]
    fn a_request_is_its_one_message() {
        assert_eq!(message(&frame(b"one")), Some(&b"one"[..]));
        assert_eq!(message(&frame(b"one")[..6]), None);
        assert_eq!(message(&[1, 0, 0, 0, 0]), None);
        assert_eq!(message(b""), None);
    }
}
