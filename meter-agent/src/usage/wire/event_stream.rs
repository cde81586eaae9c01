//! AWS event streams (`application/vnd.amazon.eventstream`): frames of headers and a payload.
//!
//! Owns the framing only: lengths, headers, and both checksums, at any split of the bytes. What a payload means is
//! the dialect's; a frame comes as an event with its `:event-type`, an exception or error frame as [`EXCEPTION`].
//!
//! A frame whose checksum is wrong is dropped and counted. When the lengths themselves cannot be believed no later
//! frame can be found, so the rest of the stream is dropped. Memory is bounded by [`MAX_FRAME_BYTES`] and by what all
//! answers may keep ([`super::kept`]): a frame for which there is no room is dropped too.
//!
//! Source: smithy.io/2.0/aws/amazon-eventstream.html.

use super::{kept::Kept, read::Events};
use crate::usage::{BodyEnd, Reader, Reading};

/// Largest frame that is kept; the format allows 24 MiB, the services send far less.
pub(crate) const MAX_FRAME_BYTES: usize = 16 * 1024 * 1024;

/// The name of an event that is an exception or an error instead.
pub(crate) const EXCEPTION: &str = ":exception";

/// Total length, length of the headers, and the checksum of both.
const PRELUDE_BYTES: usize = 12;

/// The prelude and the frame's checksum, with no headers and no payload between.
const LEAST_FRAME_BYTES: usize = PRELUDE_BYTES + 4;

/// Reads frames as events.
pub(crate) struct FrameReader<E> {
    parser: Parser,
    events: E,
}

impl<E: Events> FrameReader<E> {
    pub(crate) fn new(events: E) -> Self {
        Self { parser: Parser::default(), events }
    }
}

impl<E: Events> Reader for FrameReader<E> {
    fn feed(&mut self, chunk: &[u8]) {
        let events = &mut self.events;
        self.parser.feed(chunk, &mut |name, payload| events.event(name, payload));
    }

    fn so_far(&self) -> Option<Reading> {
        self.events.so_far()
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        let end = if self.parser.is_between_frames() { end } else { BodyEnd::Cut };
        self.events.finish(end, self.parser.dropped)
    }
}

#[derive(Default)]
struct Parser {
    /// The start of a frame that is not complete yet.
    frame: Kept,
    /// Bytes still to come of a frame that is not kept.
    skip: usize,
    /// The lengths were wrong: what follows cannot be told apart.
    lost: bool,
    dropped: u64,
}

type Sink<'s> = dyn FnMut(&str, &[u8]) + 's;

impl Parser {
    fn feed(&mut self, mut chunk: &[u8], sink: &mut Sink<'_>) {
        while !chunk.is_empty() && !self.lost {
            if self.skip > 0 {
                let n = self.skip.min(chunk.len());
                self.skip -= n;
                chunk = &chunk[n..];
            } else if self.frame.is_empty() {
                chunk = self.take_whole(chunk, sink);
            } else {
                chunk = self.take_part(chunk, sink);
            }
        }
    }

    fn is_between_frames(&self) -> bool {
        self.frame.is_empty() && self.skip == 0 && !self.lost
    }

    /// At the start of a frame: it is read in place if the chunk holds all of it.
    fn take_whole<'c>(&mut self, chunk: &'c [u8], sink: &mut Sink<'_>) -> &'c [u8] {
        let Some(prelude) = chunk.get(..PRELUDE_BYTES) else {
            self.keep(chunk, PRELUDE_BYTES);
            return &[];
        };
        let Some(size) = self.size(prelude) else { return chunk };
        let Some(frame) = chunk.get(..size) else {
            self.keep(chunk, size);
            return &[];
        };
        self.deliver(frame, sink);
        &chunk[size..]
    }

    /// Within a frame.
    fn take_part<'c>(&mut self, chunk: &'c [u8], sink: &mut Sink<'_>) -> &'c [u8] {
        let want = match self.frame.as_slice().get(..PRELUDE_BYTES) {
            Some(prelude) => frame_size(prelude).unwrap_or(PRELUDE_BYTES),
            None => PRELUDE_BYTES,
        };
        let (now, later) = chunk.split_at(chunk.len().min(want.saturating_sub(self.frame.len())));
        self.keep(now, want);
        if self.frame.len() < want {
            return later;
        }
        let frame = std::mem::take(&mut self.frame);
        if want == PRELUDE_BYTES {
            match self.size(frame.as_slice()) {
                Some(_) => self.frame = frame,
                None => self.skip = self.skip.saturating_sub(PRELUDE_BYTES),
            }
        } else {
            self.deliver(frame.as_slice(), sink);
            // The buffer is kept for the next frame that comes in parts.
            self.frame = frame;
            self.frame.clear();
        }
        later
    }

    /// Keeps a part of a frame of `want` bytes; without room what is left of the frame is skipped. A prelude always has
    /// room, so that the size is known when there is none.
    fn keep(&mut self, part: &[u8], want: usize) {
        if self.frame.push(part, MAX_FRAME_BYTES).is_err() {
            self.skip = want.saturating_sub(self.frame.len() + part.len());
            self.frame = Kept::default();
            self.dropped += 1;
        }
    }

    /// The size of the frame that starts so; `None` if it is not to be read.
    fn size(&mut self, prelude: &[u8]) -> Option<usize> {
        match frame_size(prelude) {
            Some(size) if size <= MAX_FRAME_BYTES => return Some(size),
            Some(size) => self.skip = size,
            None => self.lost = true,
        }
        self.dropped += 1;
        None
    }

    fn deliver(&mut self, frame: &[u8], sink: &mut Sink<'_>) {
        match open(frame) {
            Some((name, payload)) => sink(name, payload),
            None => self.dropped += 1,
        }
    }
}

/// The whole frame's size by its prelude; `None` if the prelude contradicts itself.
fn frame_size(prelude: &[u8]) -> Option<usize> {
    let total = usize::try_from(number(prelude.get(..4)?)?).ok()?;
    let headers = usize::try_from(number(prelude.get(4..8)?)?).ok()?;
    let sum = number(prelude.get(8..PRELUDE_BYTES)?)?;
    let fits = headers.checked_add(LEAST_FRAME_BYTES)? <= total;
    (fits && crc32fast::hash(&prelude[..8]) == sum).then_some(total)
}

/// The event's name and payload of a whole frame; `None` if it is damaged.
fn open(frame: &[u8]) -> Option<(&str, &[u8])> {
    let (body, sum) = frame.split_at(frame.len().checked_sub(4)?);
    if crc32fast::hash(body) != number(sum)? {
        return None;
    }
    let headers = usize::try_from(number(frame.get(4..8)?)?).ok()?;
    let (headers, payload) = body.get(PRELUDE_BYTES..)?.split_at_checked(headers)?;
    Some((name(headers)?, payload))
}

/// What the headers say the frame is; `None` if they are malformed.
fn name(mut headers: &[u8]) -> Option<&str> {
    /// Headers with values of a fixed size, by their type.
    const SIZES: [Option<usize>; 10] =
        [Some(0), Some(0), Some(1), Some(2), Some(4), Some(8), None, None, Some(8), Some(16)];
    let (mut event, mut exception) = ("", false);
    while let Some((length, rest)) = headers.split_first() {
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        let (kind, rest) = rest.split_first()?;
        let (size, rest) = match SIZES.get(usize::from(*kind))? {
            Some(size) => (*size, rest),
            None => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), &rest[2..]),
        };
        let (value, rest) = rest.split_at_checked(size)?;
        match key {
            b":event-type" => event = std::str::from_utf8(value).ok()?,
            b":message-type" => exception = value != b"event",
            _ => {}
        }
        headers = rest;
    }
    Some(if exception { EXCEPTION } else { event })
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// An exception in its frame, as the service ends a stream with one; `None` if it is longer than a frame can be.
pub(crate) fn exception(kind: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let headers = [(":exception-type", kind), (":content-type", "application/json"), (":message-type", "exception")];
    frame(&headers, payload)
}

/// Headers of text and a payload in their frame; `None` where a part is longer than its length can say.
fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Option<Vec<u8>> {
    const TEXT: u8 = 7;
    let mut named = Vec::new();
    for (key, value) in headers {
        named.push(u8::try_from(key.len()).ok()?);
        named.extend_from_slice(key.as_bytes());
        named.push(TEXT);
        named.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
        named.extend_from_slice(value.as_bytes());
    }
    let total = u32::try_from(LEAST_FRAME_BYTES + named.len() + payload.len()).ok()?;
    let mut out = total.to_be_bytes().to_vec();
    out.extend_from_slice(&u32::try_from(named.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&named);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    Some(out)
}

/// Where the bytes of a stream stand between its frames, without a look into them.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameEnds {
    /// Of the frame's length, as far as it has come.
    length: [u8; 4],
    have: usize,
    /// Bytes that the frame still has.
    left: usize,
}

impl FrameEnds {
    pub fn pass(&mut self, mut chunk: &[u8]) {
        while !chunk.is_empty() {
            if self.left > 0 {
                let n = self.left.min(chunk.len());
                self.left -= n;
                chunk = &chunk[n..];
                continue;
            }
            self.length[self.have] = chunk[0];
            self.have += 1;
            chunk = &chunk[1..];
            if self.have == self.length.len() {
                let total = usize::try_from(u32::from_be_bytes(self.length)).unwrap_or(usize::MAX);
                // A length that can't be leaves nothing to stand between.
                self.left = if total < LEAST_FRAME_BYTES { usize::MAX } else { total - self.length.len() };
                self.have = 0;
            }
        }
    }

    pub fn is_between_frames(&self) -> bool {
        self.left == 0 && self.have == 0
    }
}

/// A frame as the service sends it, for tests of what reads them.
#[cfg(test)]
pub(crate) fn framed(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    frame(headers, payload).unwrap()
}

/// An event's frame.
#[cfg(test)]
pub(crate) fn event(name: &str, payload: &str) -> Vec<u8> {
    framed(
        &[(":event-type", name), (":content-type", "application/json"), (":message-type", "event")],
        payload.as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn parse(chunks: &[&[u8]]) -> (Vec<(String, Vec<u8>)>, Parser) {
        let (mut parser, mut seen) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.feed(chunk, &mut |name, payload| seen.push((name.to_owned(), payload.to_vec())));
        }
        (seen, parser)
    }

    fn stream() -> Vec<u8> {
        let broken = framed(&[(":message-type", "exception"), (":exception-type", "throttlingException")], b"{}");
        [event("messageStart", "{\"a\":1}"), event("contentBlockDelta", ""), broken].concat()
    }

    #[test]
    fn any_split_gives_the_same_frames() {
        let bytes = stream();
        let want: Vec<(String, Vec<u8>)> =
            [("messageStart", "{\"a\":1}"), ("contentBlockDelta", ""), (EXCEPTION, "{}")]
                .map(|(name, payload)| (name.to_owned(), payload.as_bytes().to_vec()))
                .to_vec();
        for at in 0..=bytes.len() {
            let (seen, parser) = parse(&[&bytes[..at], &bytes[at..]]);
            assert_eq!((seen, parser.dropped, parser.is_between_frames()), (want.clone(), 0, true), "split at {at}");
        }
        assert_eq!(parse(&bytes.chunks(1).collect::<Vec<_>>()).0, want);
        assert!(!parse(&[&bytes[..bytes.len() - 1]]).1.is_between_frames());
    }

    #[test]
    fn the_ends_of_frames_are_known_at_every_split() {
        let bytes = stream();
        let mut ends = vec![0];
        while let Some(size) = bytes.get(ends[ends.len() - 1]..).and_then(frame_size) {
            ends.push(ends[ends.len() - 1] + size);
        }
        assert_eq!((ends.len(), ends.last()), (4, Some(&bytes.len())));
        for at in 0..=bytes.len() {
            let mut passed = FrameEnds::default();
            passed.pass(&bytes[..at / 2]);
            passed.pass(&bytes[at / 2..at]);
            assert_eq!(passed.is_between_frames(), ends.contains(&at), "{at}");
        }
    }

    #[test]
    fn an_exception_is_read_as_one() {
        let bytes = exception("throttlingException", br#"{"message":"spent"}"#).unwrap();
        assert_eq!(parse(&[&bytes]).0, [(EXCEPTION.to_owned(), br#"{"message":"spent"}"#.to_vec())]);
        assert!(exception(&"x".repeat(70_000), b"").is_none());
    }

    #[test]
    fn a_frame_with_a_wrong_checksum_is_dropped_and_the_next_one_is_read() {
        let mut bytes = stream();
        let first = event("messageStart", "{\"a\":1}").len();
        bytes[first - 6] ^= 1;
        let (seen, parser) = parse(&[&bytes]);
        assert_eq!((seen.len(), parser.dropped, parser.lost), (2, 1, false));
    }

    #[test]
    fn nothing_is_read_after_lengths_that_cannot_be_believed() {
        for at in [0, 5, 9] {
            let mut bytes = stream();
            bytes[at] ^= 1;
            for size in [1, 1_000] {
                let (seen, parser) = parse(&bytes.chunks(size).collect::<Vec<_>>());
                assert_eq!((seen.len(), parser.dropped, parser.is_between_frames()), (0, 1, false), "byte {at}");
            }
        }
    }

    #[test]
    fn a_frame_past_the_bound_is_skipped_and_the_next_one_is_read() {
        let bytes = [event("big", &"x".repeat(MAX_FRAME_BYTES)), event("next", "{}")].concat();
        for size in [7, 65_536, usize::MAX] {
            let (seen, parser) = parse(&bytes.chunks(size.min(bytes.len())).collect::<Vec<_>>());
            assert_eq!(seen, [("next".to_owned(), b"{}".to_vec())]);
            assert!(parser.dropped == 1 && parser.frame.is_empty());
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_read_the_same_at_every_split(
            damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            keep in any::<prop::sample::Index>(),
            size in 1_usize..40,
        ) {
            let mut bytes = stream();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(keep.index(bytes.len()) + 1);
            let (seen, whole) = parse(&[&bytes]);
            let (parts, split) = parse(&bytes.chunks(size).collect::<Vec<_>>());
            prop_assert_eq!(seen, parts);
            prop_assert_eq!(whole.dropped, split.dropped);
            prop_assert_eq!(whole.is_between_frames(), split.is_between_frames());
        }
    }

    #[test]
    fn headers_of_every_type_are_passed_over() {
        let mut headers = Vec::new();
        for (kind, size) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)] {
            headers.extend_from_slice(&[1, b'x', kind]);
            headers.extend(std::iter::repeat_n(0, size));
        }
        headers.extend_from_slice(&[1, b'y', 6, 0, 2, 1, 2]);
        headers.extend_from_slice(b"\x0b:event-type\x07\x00\x05chunk");
        assert_eq!(name(&headers), Some("chunk"));
        assert_eq!(name(&headers[..headers.len() - 1]), None);
        assert_eq!(name(&[1, b'x', 10]), None);
    }
}
