//! The two shapes of an answer's body: one JSON document, or server-sent events.
//!
//! Owns the bytes and their bounds; what they mean is the dialect's. `feed` may be called with any split. A document is
//! kept up to [`MAX_ANSWER_BYTES`] and while there is room among what all answers keep ([`super::kept`]).

use memchr::memchr2;

use super::{json::BYTE_ORDER_MARK, kept::Kept, sse::SseParser};
use crate::usage::{AnswerHead, BodyEnd, Reader, Reading};

/// Largest JSON answer that is kept for reading. Answers with images reach tens of megabytes; one beyond this
/// is settled as absent.
pub(crate) const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Reads a whole JSON document when it has ended.
pub(crate) struct JsonReader<F> {
    body: Kept,
    over: bool,
    /// Called once, with `None` when the body passed the bound.
    read: Option<F>,
}

impl<F: FnOnce(Option<&[u8]>, BodyEnd) -> Reading + Send> JsonReader<F> {
    pub(crate) fn new(read: F) -> Self {
        Self { body: Kept::default(), over: false, read: Some(read) }
    }
}

impl<F: FnOnce(Option<&[u8]>, BodyEnd) -> Reading + Send> Reader for JsonReader<F> {
    fn feed(&mut self, chunk: &[u8]) {
        if self.over {
            return;
        }
        if self.body.push(chunk, MAX_ANSWER_BYTES).is_err() {
            self.over = true;
            self.body = Kept::default();
        }
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        let body = std::mem::take(&mut self.body);
        match self.read.take() {
            Some(read) => read((!self.over).then_some(body.as_slice()), end),
            None => Reading::absent(),
        }
    }
}

/// What a dialect makes of a stream's events.
pub(crate) trait Events: Send {
    fn event(&mut self, name: &str, data: &[u8]);
    /// As [`Reader::so_far`].
    fn so_far(&self) -> Option<Reading> {
        None
    }
    /// `dropped`: events that were too long to be kept; usage may have been in one of them.
    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading;
}

/// Reads server-sent events.
pub(crate) struct SseReader<E> {
    parser: SseParser,
    events: E,
}

impl<E: Events> SseReader<E> {
    pub(crate) fn new(events: E) -> Self {
        Self { parser: SseParser::default(), events }
    }
}

impl<E: Events> Reader for SseReader<E> {
    fn feed(&mut self, chunk: &[u8]) {
        let events = &mut self.events;
        self.parser.feed(chunk, &mut |name, data| events.event(name, data));
    }

    fn so_far(&self) -> Option<Reading> {
        self.events.so_far()
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        let events = &mut self.events;
        // The last event of a cut stream may be half an event; its JSON then fails to decode and is ignored.
        self.parser.finish(&mut |name, data| events.event(name, data));
        self.events.finish(end, self.parser.dropped())
    }
}

/// An answer that costs nothing, whatever its body says: errors and redirects.
pub(crate) struct NothingReader;

impl Reader for NothingReader {
    fn feed(&mut self, _: &[u8]) {}

    fn finish(&mut self, _: BodyEnd) -> Reading {
        Reading::nothing()
    }
}

/// A billable answer that this version can't read.
pub(crate) struct AbsentReader;

impl Reader for AbsentReader {
    fn feed(&mut self, _: &[u8]) {}

    fn finish(&mut self, _: BodyEnd) -> Reading {
        Reading::absent()
    }
}

/// Whether the answer has a body that can be billed.
pub(crate) fn is_success(head: AnswerHead<'_>) -> bool {
    (200..300).contains(&head.status)
}

/// Whether the body is server-sent events; where the head does not say, what the request asked for decides.
pub(crate) fn is_sse(head: AnswerHead<'_>, asked_stream: bool) -> bool {
    let kind = head.content_type.trim_start();
    let starts = |prefix: &str| kind.get(..prefix.len()).is_some_and(|k| k.eq_ignore_ascii_case(prefix));
    starts("text/event-stream") || (asked_stream && !starts("application/json"))
}

/// Reads a body as what it is seen to be: a JSON document begins with a bracket, and server-sent events never do. What
/// the head says decides only where nothing came. Some gateways name no type, or the other one.
pub(crate) struct Either {
    /// `None` once one of the two was chosen.
    choice: Option<(Box<dyn Reader>, bool)>,
    reader: Box<dyn Reader>,
}

impl Either {
    /// `is_events`: whether the head says that the body is server-sent events.
    pub(crate) fn of(is_events: bool, events: Box<dyn Reader>, document: Box<dyn Reader>) -> Box<dyn Reader> {
        let (reader, other) = if is_events { (events, document) } else { (document, events) };
        Box::new(Self { choice: Some((other, is_events)), reader })
    }
}

impl Reader for Either {
    fn feed(&mut self, chunk: &[u8]) {
        if self.choice.is_none() {
            return self.reader.feed(chunk);
        }
        // Blank lines and a byte order mark come before either, and mean nothing.
        let blank = |b: &u8| b.is_ascii_whitespace() || BYTE_ORDER_MARK.contains(b);
        let Some(at) = chunk.iter().position(|b| !blank(b)) else { return };
        if let Some((other, is_events)) = self.choice.take()
            && is_events == matches!(chunk[at], b'{' | b'[')
        {
            self.reader = other;
        }
        self.reader.feed(&chunk[at..]);
    }

    fn so_far(&self) -> Option<Reading> {
        self.reader.so_far()
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        self.reader.finish(end)
    }
}

/// Upper bound of the tokens in a stream's event that holds a piece of the answer: its bytes without the `framing` that
/// every such event has at least, and one where nothing is left. Events that say no usage are not decoded for it.
pub(crate) fn visible(event: &[u8], framing: usize) -> u64 {
    event.len().saturating_sub(framing).max(1) as u64
}

/// The `type` of an event whose JSON begins with it, as most do: what it is, without decoding it.
pub(crate) fn leading_type(event: &[u8]) -> Option<&str> {
    let mut rest = event;
    for part in [&b"{"[..], b"\"type\"", b":", b"\""] {
        rest = rest.trim_ascii_start().strip_prefix(part)?;
    }
    let at = memchr2(b'"', b'\\', rest)?;
    (rest[at] == b'"').then(|| std::str::from_utf8(&rest[..at]).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_read_where_it_leads_and_nowhere_else() {
        for (event, want) in [
            (r#"{"type":"error","x":1}"#, Some("error")),
            ("\n{ \"type\" :\r\n \"a.b\"", Some("a.b")),
            (r#"{"type":"a\u0062"}"#, None),
            (r#"{"type":null}"#, None),
            (r#"{"type":"half"#, None),
            (r#"{"id":1,"type":"a"}"#, None),
            ("", None),
        ] {
            assert_eq!(leading_type(event.as_bytes()), want, "{event}");
        }
    }
}
