//! The framing of a WebSocket (RFC 6455, section 5): one direction's bytes in, its whole messages out.
//!
//! Reads beside the way and changes nothing. Bounded: of a message beyond [`MESSAGE_MAX`], of one for which there is no
//! room among what all answers keep ([`super::kept`]), and of one that an extension has changed, the frames are
//! followed and the content is not kept; that it was missed is told.

use std::{fmt, ops::Deref};

use super::kept::Kept;

/// Longest message that is read. The realtime APIs take events up to 15 MiB, base64 audio included.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// Longest reason of a close frame: a control frame carries 125 bytes, of which the code takes two (section 5.5.1).
pub const CLOSE_REASON_MAX: usize = 123;

/// The bytes of a whole message. They count among what is kept of all answers while it lives.
#[derive(Default)]
pub struct Message(Kept);

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Message {}

/// What a direction said.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole text or binary message.
    Message(Message),
    /// A whole message that could not be kept.
    Missed,
    /// A close frame: nothing follows.
    Close,
}

/// Follows one direction. What it is given may be split anywhere.
#[derive(Debug, Default)]
pub struct Decoder {
    head: Head,
    /// Of the frame that is being read: bytes still to come.
    left: u64,
    frame: Frame,
    /// How far into the frame the mask has come.
    at: usize,
    message: Kept,
    missed: bool,
    /// The last data frame is not the last of its message.
    unfinished: bool,
}

/// A frame's head as far as it is there: 14 bytes at most.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    bytes: [u8; 14],
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// Its head is complete, its payload is not.
    open: bool,
    last: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

impl Decoder {
    /// Takes bytes up to the end of the next event, or all of them. Returns how many were taken, and the event.
    pub fn advance(&mut self, bytes: &[u8]) -> (usize, Option<Event>) {
        let mut taken = 0;
        loop {
            if !self.frame.open {
                let Some(used) = self.head(&bytes[taken..]) else { return (bytes.len(), None) };
                taken += used;
            }
            taken += self.payload(&bytes[taken..]);
            if self.left > 0 {
                return (taken, None);
            }
            self.frame.open = false;
            if let Some(event) = self.end_of_frame() {
                return (taken, Some(event));
            }
            if taken == bytes.len() {
                return (taken, None);
            }
        }
    }

    /// Whether what was taken ends with a message, so that another may follow it.
    pub fn is_between_messages(&self) -> bool {
        !self.frame.open && self.head.len == 0 && !self.unfinished
    }

    /// Takes the bytes of a frame's head; `None` when it needs more than there are.
    fn head(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while self.head.len < self.head.wanted() {
            self.head.bytes[self.head.len] = *bytes.get(taken)?;
            self.head.len += 1;
            taken += 1;
        }
        (self.frame, self.left) = self.head.read();
        self.head = Head::default();
        self.at = 0;
        // Of a reserved bit nobody knows what it makes of the payload.
        self.missed |= self.frame.is_data() && self.frame.opcode & 0x70 != 0;
        self.frame.opcode &= 0x0f;
        Some(taken)
    }

    fn payload(&mut self, bytes: &[u8]) -> usize {
        let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= taken as u64;
        if !self.frame.is_data() {
            return taken;
        }
        let start = self.message.len();
        self.missed = self.missed || self.message.push(&bytes[..taken], MESSAGE_MAX).is_err();
        if self.missed {
            self.message = Kept::default();
            return taken;
        }
        if let Some(mask) = self.frame.mask {
            for (index, byte) in self.message.as_mut_slice()[start..].iter_mut().enumerate() {
                *byte ^= mask[(self.at + index) % 4];
            }
            self.at = (self.at + taken) % 4;
        }
        taken
    }

    fn end_of_frame(&mut self) -> Option<Event> {
        if self.frame.opcode == CLOSE {
            return Some(Event::Close);
        }
        if !self.frame.is_data() {
            return None;
        }
        self.unfinished = !self.frame.last;
        if self.unfinished {
            return None;
        }
        let message = std::mem::take(&mut self.message);
        Some(if std::mem::take(&mut self.missed) { Event::Missed } else { Event::Message(Message(message)) })
    }
}

impl Head {
    /// Bytes of the whole head, as far as those that are there say.
    fn wanted(&self) -> usize {
        if self.len < 2 {
            return 2;
        }
        let mask = if self.bytes[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn read(&self) -> (Frame, u64) {
        let masked = self.bytes[1] & 0x80 != 0;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n: u64, byte| n << 8 | u64::from(*byte));
        let (length, end) = match self.bytes[1] & 0x7f {
            126 => (number(&self.bytes[2..4]), 4),
            127 => (number(&self.bytes[2..10]), 10),
            short => (u64::from(short), 2),
        };
        let mask = masked.then(|| [self.bytes[end], self.bytes[end + 1], self.bytes[end + 2], self.bytes[end + 3]]);
        let first = self.bytes[0];
        (Frame { open: true, last: first & 0x80 != 0, opcode: first & 0x7f, mask }, length)
    }
}

impl Frame {
    fn is_data(self) -> bool {
        matches!(self.opcode & 0x0f, CONTINUATION..=2)
    }
}

/// A text message in one frame, as a server sends it.
pub fn text(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match (u8::try_from(message.len()), u16::try_from(message.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(middle)) => {
            frame.push(126);
            frame.extend_from_slice(&middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend_from_slice(&(message.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(message);
    frame
}

/// A close frame with a reason, which is cut at a character's end where it is too long. `mask` is for a client's.
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_MAX)];
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    let length = u8::try_from(payload.len()).unwrap_or(125);
    let mut frame = vec![0x80 | CLOSE, length | if mask.is_some() { 0x80 } else { 0 }];
    if let Some(mask) = mask {
        frame.extend_from_slice(&mask);
        payload.iter_mut().enumerate().for_each(|(index, byte)| *byte ^= mask[index % 4]);
    }
    frame.extend_from_slice(&payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One frame as section 5.2 lays it out.
    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let bit = if mask.is_some() { 0x80 } else { 0 };
        let mut out = vec![first];
        match payload.len() {
            short @ 0..=125 => out.push(bit | u8::try_from(short).unwrap()),
            middle @ 126..=65_535 => {
                out.push(bit | 0x7e);
                out.extend_from_slice(&u16::try_from(middle).unwrap().to_be_bytes());
            }
            long => {
                out.push(bit | 0x7f);
                out.extend_from_slice(&(long as u64).to_be_bytes());
            }
        }
        out.extend(mask.into_iter().flatten());
        out.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask.map_or(0, |m| m[i % 4])));
        out
    }

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() {
                let (taken, event) = decoder.advance(piece);
                all.extend(event);
                piece = &piece[taken..];
            }
        }
        all
    }

    fn message(text: &str) -> Event {
        let mut kept = Kept::default();
        kept.push(text.as_bytes(), MESSAGE_MAX).unwrap();
        Event::Message(Message(kept))
    }

    /// A masked message in three fragments with a ping in between, an empty one, a binary one, and a close.
    fn conversation() -> (Vec<u8>, Vec<Event>) {
        let mask = Some([0x37, 0xfa, 0x21, 0x3d]);
        let bytes = [
            frame(0x01, b"one ", mask),
            frame(0x89, b"ping", mask),
            frame(0x00, b"mess", mask),
            frame(0x80, b"age", mask),
            frame(0x81, b"", None),
            frame(0x82, &[b'x'; 300], mask),
            frame(0x88, &[3, 232], mask),
        ];
        (bytes.concat(), vec![message("one message"), message(""), message(&"x".repeat(300)), Event::Close])
    }

    #[test]
    fn messages_are_whole_at_any_split() {
        let (bytes, expected) = conversation();
        assert_eq!(events(&[&bytes]), expected);
        for at in 0..=bytes.len() {
            assert_eq!(events(&[&bytes[..at], &bytes[at..]]), expected, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(events(&single), expected);
    }

    #[test]
    fn the_example_of_the_standard_is_understood() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(events(&[&hello]), [message("Hello")]);
    }

    #[test]
    fn it_is_known_where_a_message_ends() {
        let (bytes, _) = conversation();
        let mut decoder = Decoder::default();
        let (taken, event) = decoder.advance(&bytes);
        assert!(event.is_some() && decoder.is_between_messages());
        assert_eq!(bytes[taken], 0x81, "the next frame begins there");
        for half in 1..taken {
            let mut decoder = Decoder::default();
            decoder.advance(&bytes[..half]);
            assert!(!decoder.is_between_messages(), "{half}");
        }
    }

    #[test]
    fn what_is_too_long_or_changed_is_passed_over_and_told() {
        let piece = vec![b'x'; 5 * 1024 * 1024];
        let (first, more, last) = (frame(0x01, &piece, None), frame(0x00, &piece, None), frame(0x80, b"", None));
        let after = frame(0x81, b"after", None);
        let all: Vec<&[u8]> = vec![&first, &more, &more, &more, &last, &after];
        assert_eq!(events(&all), [Event::Missed, message("after")]);
        // A frame that claims to be far longer than memory is followed without it.
        let mut decoder = Decoder::default();
        decoder.advance(&[0x82, 127, 0, 1, 0, 0, 0, 0, 0, 0]);
        (0..4).for_each(|_| assert_eq!(decoder.advance(&piece), (piece.len(), None)));
        assert!(decoder.message.is_empty() && decoder.missed);
        assert_eq!(events(&[&frame(0xc1, b"deflated", None), &after]), [Event::Missed, message("after")]);
    }

    #[test]
    fn a_message_of_the_meters_own_is_read_as_one() {
        for length in [0, 125, 126, 300, 65_535, 65_536] {
            let said = "x".repeat(length);
            assert_eq!(events(&[&text(said.as_bytes())]), [message(&said)], "{length}");
        }
    }

    #[test]
    fn a_close_frame_carries_its_sentence_and_no_half_character() {
        let mask = Some([1, 2, 3, 4]);
        for reason in ["too dear", &"ü".repeat(100)] {
            let frame = close(1008, reason, None);
            let text = std::str::from_utf8(&frame[4..]).unwrap();
            assert_eq!((frame[0], usize::from(frame[1])), (0x88, frame.len() - 2));
            assert!(reason.starts_with(text) && text.len() <= CLOSE_REASON_MAX && text.len() + 2 > 9);
            assert_eq!(close(1008, reason, mask).len(), frame.len() + 4);
        }
        assert_eq!(events(&[&close(1008, "x", mask)]), [Event::Close]);
    }
}
