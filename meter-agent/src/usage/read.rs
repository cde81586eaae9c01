//! The two shapes of an answer's body: one JSON document, or server-sent events.
//!
//! Owns the bytes and their bounds; what they mean is the dialect's. `feed` may be called with any split.

use super::{AnswerHead, BodyEnd, Reader, Reading, sse::SseParser};

/// Largest JSON answer that is kept for reading. Answers with images reach tens of megabytes; one beyond this
/// is settled as absent.
pub(crate) const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Reads a whole JSON document when it has ended.
pub(crate) struct JsonReader<F> {
    body: Vec<u8>,
    over: bool,
    /// Called once, with `None` when the body passed the bound.
    read: Option<F>,
}

impl<F: FnOnce(Option<&[u8]>, BodyEnd) -> Reading + Send> JsonReader<F> {
    pub(crate) fn new(read: F) -> Self {
        Self { body: Vec::new(), over: false, read: Some(read) }
    }
}

impl<F: FnOnce(Option<&[u8]>, BodyEnd) -> Reading + Send> Reader for JsonReader<F> {
    fn feed(&mut self, chunk: &[u8]) {
        if self.over {
            return;
        }
        if self.body.len() + chunk.len() > MAX_ANSWER_BYTES {
            self.over = true;
            self.body = Vec::new();
            return;
        }
        self.body.extend_from_slice(chunk);
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        let body = std::mem::take(&mut self.body);
        match self.read.take() {
            Some(read) => read((!self.over).then_some(&body), end),
            None => Reading::absent(),
        }
    }
}

/// What a dialect makes of a stream's events.
pub(crate) trait Events: Send {
    fn event(&mut self, name: &str, data: &[u8]);
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
