//! An incremental parser of server-sent events (WHATWG HTML, section 9.2.6).
//!
//! Owns the framing only: lines that end in LF, CRLF or CR at any split of the bytes, comments, several `data`
//! fields, a missing final blank line. Does not decode what an event holds.
//!
//! Memory is bounded by [`MAX_EVENT_BYTES`]: an event longer than that is dropped and remembered as dropped,
//! and reading goes on with the next one.

use memchr::memchr2;

/// Largest event that is kept. Final events of the Responses API repeat the whole answer with its instructions
/// and may hold an image, so this is far above the few hundred bytes of an ordinary one.
pub(crate) const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Parser state between chunks.
#[derive(Default)]
pub(crate) struct SseParser {
    /// Bytes of a line that has no end yet.
    line: Vec<u8>,
    name: String,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    /// The rest of the current event is skipped, because it passed the bound.
    skipping: bool,
    /// Events that passed the bound.
    dropped: u64,
}

impl SseParser {
    /// Calls `event(name, data)` for every event that the chunk completes. `name` is empty when none was given.
    pub(crate) fn feed(&mut self, mut chunk: &[u8], event: &mut dyn FnMut(&str, &[u8])) {
        if self.after_cr && !chunk.is_empty() {
            self.after_cr = false;
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(at) = memchr2(b'\n', b'\r', chunk) {
            if self.line.is_empty() {
                self.end_line(&chunk[..at], event);
            } else {
                self.grow_line(&chunk[..at]);
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, event);
                self.line = line;
                self.line.clear();
            }
            let ends_in_cr = chunk[at] == b'\r';
            chunk = &chunk[at + 1..];
            if ends_in_cr {
                if chunk.is_empty() {
                    self.after_cr = true;
                } else {
                    chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
                }
            }
        }
        self.grow_line(chunk);
    }

    /// Delivers an event whose final line end or blank line never came. The standard drops such an event, but
    /// a provider that ends its stream so has still billed what the event says.
    pub(crate) fn finish(&mut self, event: &mut dyn FnMut(&str, &[u8])) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.end_line(&line, event);
        }
        self.dispatch(event);
    }

    /// Events that were dropped because they passed [`MAX_EVENT_BYTES`].
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn grow_line(&mut self, part: &[u8]) {
        if self.skipping {
            // Only whether the line is blank matters while skipping.
            if self.line.is_empty() {
                self.line.extend(part.first());
            }
            return;
        }
        if self.line.len() + self.data.len() + part.len() > MAX_EVENT_BYTES {
            self.skip_event();
            self.line.push(b':');
            return;
        }
        self.line.extend_from_slice(part);
    }

    fn skip_event(&mut self) {
        self.skipping = true;
        self.dropped += 1;
        self.line = Vec::new();
        self.data = Vec::new();
    }

    fn end_line(&mut self, line: &[u8], event: &mut dyn FnMut(&str, &[u8])) {
        if line.is_empty() {
            self.dispatch(event);
            return;
        }
        if self.skipping {
            return;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" if self.data.len() + value.len() >= MAX_EVENT_BYTES => self.skip_event(),
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(value));
            }
            // Comments (an empty field name), `id`, `retry` and whatever else say nothing about usage.
            _ => {}
        }
    }

    fn dispatch(&mut self, event: &mut dyn FnMut(&str, &[u8])) {
        if self.has_data && !self.skipping {
            event(&self.name, &self.data);
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.skipping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = SseParser::default();
        let mut events = Vec::new();
        let mut push =
            |name: &str, data: &[u8]| events.push((name.to_owned(), String::from_utf8(data.to_vec()).unwrap()));
        for chunk in chunks {
            parser.feed(chunk, &mut push);
        }
        parser.finish(&mut push);
        events
    }

    const MIXED: &[u8] =
        b": hello\r\n\r\nevent: a\rdata: 1\r\rdata:2\ndata: 3\n\nid: 7\ndata\n\nevent: b\r\ndata: {\"x\":1}";

    #[test]
    fn every_line_end_comment_and_missing_blank_line_is_read() {
        let got = parse(&[MIXED]);
        let want = [("a", "1"), ("", "2\n3"), ("", ""), ("b", "{\"x\":1}")];
        assert_eq!(got, want.map(|(n, d)| (n.to_owned(), d.to_owned())));
    }

    #[test]
    fn any_split_gives_the_same_events() {
        let whole = parse(&[MIXED]);
        for at in 0..MIXED.len() {
            assert_eq!(parse(&[&MIXED[..at], &MIXED[at..]]), whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = MIXED.chunks(1).collect();
        assert_eq!(parse(&bytes), whole);
    }

    #[test]
    fn an_event_past_the_bound_is_dropped_and_the_next_one_is_read() {
        let long = vec![b'x'; MAX_EVENT_BYTES / 4];
        let mut chunks: Vec<&[u8]> = vec![b"data: "];
        chunks.extend(std::iter::repeat_n(long.as_slice(), 5));
        chunks.extend([&b"\n"[..], b"data: tail\n", b"\n", b"data: next\n\n"]);
        let mut parser = SseParser::default();
        let mut seen = Vec::new();
        for chunk in chunks {
            parser.feed(chunk, &mut |_, data| seen.push(data.to_vec()));
        }
        assert_eq!(seen, [b"next".to_vec()]);
        assert_eq!(parser.dropped(), 1);
        assert!(parser.line.capacity() + parser.data.capacity() < MAX_EVENT_BYTES);
    }
}
