//! Streams of one JSON document per line (Cohere v1, Ollama, batch results).
//!
//! Owns the framing only: line ends at any split of the bytes, blank lines, a missing last line end. What a line
//! means is the dialect's; it comes as an event without a name.
//!
//! Memory is bounded by [`MAX_LINE_BYTES`] and by what all answers may keep ([`super::kept`]): a line for which there is
//! no room is dropped and counted as dropped, and reading goes on with the next one.

use memchr::memchr;

use super::{kept::Kept, read::Events};
use crate::usage::{BodyEnd, Reader, Reading};

/// Longest line that is kept. The last line of a stream can repeat the whole answer, and one of batch results
/// holds a whole message; both are far smaller.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// Reads lines as events.
pub(crate) struct LineReader<E> {
    /// Bytes of a line that has no end yet.
    line: Kept,
    /// The rest of the current line is skipped, because there was no room for it.
    skipping: bool,
    dropped: u64,
    events: E,
}

impl<E: Events> LineReader<E> {
    pub(crate) fn new(events: E) -> Self {
        Self { line: Kept::default(), skipping: false, dropped: 0, events }
    }

    fn grow(&mut self, part: &[u8]) {
        if self.skipping {
            return;
        }
        if self.line.push(part, MAX_LINE_BYTES).is_err() {
            self.skipping = true;
            self.dropped += 1;
            self.line = Kept::default();
        }
    }

    fn end_line(&mut self) {
        self.skipping = false;
        let mut line = std::mem::take(&mut self.line);
        self.deliver(line.as_slice());
        line.clear();
        self.line = line;
    }

    fn deliver(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if !line.is_empty() {
            self.events.event("", line);
        }
    }
}

impl<E: Events> Reader for LineReader<E> {
    fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(at) = memchr(b'\n', chunk) {
            if self.line.is_empty() && !self.skipping && at <= MAX_LINE_BYTES {
                self.deliver(&chunk[..at]);
            } else {
                self.grow(&chunk[..at]);
                self.end_line();
            }
            chunk = &chunk[at + 1..];
        }
        self.grow(chunk);
    }

    fn so_far(&self) -> Option<Reading> {
        self.events.so_far()
    }

    fn finish(&mut self, end: BodyEnd) -> Reading {
        // The last line of a cut stream may be half a document; it then fails to decode and is ignored.
        self.end_line();
        self.events.finish(end, self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Keeps the lines, and says in the reading how many were dropped.
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Events for Lines {
        fn event(&mut self, name: &str, data: &[u8]) {
            assert!(name.is_empty());
            self.0.lock().unwrap().push(String::from_utf8_lossy(data).into_owned());
        }

        fn finish(&mut self, _: BodyEnd, dropped: u64) -> Reading {
            let mut reading = Reading::nothing();
            reading.usage.output_tokens = dropped;
            reading
        }
    }

    fn lines(chunks: &[&[u8]]) -> (Vec<String>, u64) {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let mut reader = LineReader::new(Lines(Arc::clone(&kept)));
        for chunk in chunks {
            reader.feed(chunk);
        }
        let dropped = reader.finish(BodyEnd::Complete).usage.output_tokens;
        let got = kept.lock().unwrap().clone();
        (got, dropped)
    }

    const MIXED: &[u8] = b"\n{\"a\":1}\r\n\r\n  \n{\"b\":\"\\n\"}\n{\"c\":3}";

    #[test]
    fn any_split_gives_the_same_lines_and_the_last_needs_no_end() {
        let want = ["{\"a\":1}", "{\"b\":\"\\n\"}", "{\"c\":3}"].map(str::to_owned).to_vec();
        for at in 0..MIXED.len() {
            assert_eq!(lines(&[&MIXED[..at], &MIXED[at..]]), (want.clone(), 0), "split at {at}");
        }
        assert_eq!(lines(&MIXED.chunks(1).collect::<Vec<_>>()), (want, 0));
    }

    #[test]
    fn a_line_past_the_bound_is_dropped_and_the_next_one_is_read() {
        let long = vec![b'x'; MAX_LINE_BYTES / 2 + 1];
        assert_eq!(lines(&[b"a\n", &long, &long, b"tail\nb\n"]), (vec!["a".to_owned(), "b".to_owned()], 1));
    }
}
