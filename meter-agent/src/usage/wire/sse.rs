//! An incremental parser of server-sent events (WHATWG HTML, section 9.2.6).
//!
//! Owns the framing only: lines that end in LF, CRLF or CR at any split of the bytes, comments, several `data`
//! fields, a missing final blank line. Does not decode what an event holds.
//!
//! Memory is bounded by [`MAX_EVENT_BYTES`] and by what all answers may keep ([`super::kept`]): an event for which there
//! is no room is dropped and remembered as dropped, and reading goes on with the next one. An event that lies within a
//! chunk is read where it lies.

use memchr::memchr2;

use super::{json::BYTE_ORDER_MARK, kept::Kept};

/// Largest event that is kept. Final events of the Responses API repeat the whole answer with its instructions
/// and may hold an image, so this is far above the few hundred bytes of an ordinary one.
pub(crate) const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Longest event name that is kept; nobody has a longer one, and a part of one is as unknown as the whole.
const NAME_MAX: usize = 256;

/// An event by itself, its data on one line.
pub(crate) fn error_event(name: &str, data: &[u8]) -> Vec<u8> {
    let named = if name.is_empty() { String::new() } else { format!("event: {name}\n") };
    [named.as_bytes(), b"data: ", data, b"\n\n"].concat()
}

/// Where the bytes of a stream stand between its events, by the last of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventEnds {
    /// The last bytes, zeros before the first.
    last: [u8; 3],
}

impl EventEnds {
    pub fn pass(&mut self, chunk: &[u8]) {
        let from = chunk.len().saturating_sub(self.last.len());
        for byte in &chunk[from..] {
            self.last = [self.last[1], self.last[2], *byte];
        }
    }

    /// A last CR is not taken for the end of a line: an LF may belong to it.
    pub fn is_between_events(self) -> bool {
        matches!(self.last, [0, 0, 0] | [_, b'\n', b'\n'] | [_, b'\r', b'\r'] | [b'\n', b'\r', b'\n'])
    }
}

/// Parser state between chunks.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of where the bytes stand")]
pub(crate) struct SseParser {
    /// Bytes of a line that has no end yet.
    line: Kept,
    name: String,
    /// The name of the last event that was read in place. The next one's is mostly the same, and checked by then.
    known: String,
    data: Kept,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to the same line end.
    after_cr: bool,
    /// The rest of the current event is skipped, because it passed the bound.
    skipping: bool,
    /// While skipping: the current line has bytes, so that it is not the blank one that ends the event.
    inked: bool,
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
        loop {
            while let Some(after) = self.whole_event(chunk, event) {
                chunk = after;
            }
            let Some(at) = memchr2(b'\n', b'\r', chunk) else { break };
            if self.line.is_empty() && !self.skipping {
                self.end_line(&chunk[..at], event);
            } else {
                self.grow_line(&chunk[..at]);
                self.end_kept_line(event);
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

    /// Delivers an event that is a `data` line and its blank line within the chunk, or an `event` line before them, as
    /// most are, where it lies. What follows the event is returned; `None` if the event is another, or not whole.
    fn whole_event<'a>(&mut self, chunk: &'a [u8], event: &mut dyn FnMut(&str, &[u8])) -> Option<&'a [u8]> {
        if !self.line.is_empty() || self.has_data || self.skipping {
            return None;
        }
        let (name, rest) = match chunk.strip_prefix(b"event:") {
            Some(rest) => {
                let at = memchr2(b'\n', b'\r', rest)?;
                (Some(unspaced(&rest[..at])), line_end(&rest[at..])?)
            }
            None => (None, chunk),
        };
        let rest = rest.strip_prefix(b"data:")?;
        let at = memchr2(b'\n', b'\r', rest)?;
        let (value, ends) = rest.split_at(at);
        let after = [&b"\n\n"[..], b"\r\n\r\n"].into_iter().find_map(|blank| ends.strip_prefix(blank))?;
        if value.len() >= MAX_EVENT_BYTES {
            return None;
        }
        let name = match name {
            Some(name) => self.known(name)?,
            None => &self.name,
        };
        event(name, unspaced(value));
        self.name.clear();
        Some(after)
    }

    /// The name as text; `None` if it is none, or too long.
    fn known(&mut self, name: &[u8]) -> Option<&str> {
        if self.known.as_bytes() != name {
            let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME_MAX)?;
            name.clone_into(&mut self.known);
        }
        Some(&self.known)
    }

    /// Delivers an event whose final line end or blank line never came. The standard drops such an event, but
    /// a provider that ends its stream so has still billed what the event says.
    pub(crate) fn finish(&mut self, event: &mut dyn FnMut(&str, &[u8])) {
        if !self.line.is_empty() {
            self.end_kept_line(event);
        }
        self.dispatch(event);
    }

    /// Events that were dropped because they passed [`MAX_EVENT_BYTES`].
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn end_kept_line(&mut self, event: &mut dyn FnMut(&str, &[u8])) {
        if self.skipping {
            if !std::mem::take(&mut self.inked) {
                self.dispatch(event);
            }
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        self.end_line(line.as_slice(), event);
        line.clear();
        if !self.skipping {
            self.line = line;
        }
    }

    fn grow_line(&mut self, part: &[u8]) {
        if self.skipping {
            // Only whether the line is blank matters while skipping.
            self.inked |= !part.is_empty();
            return;
        }
        if self.line.push(part, MAX_EVENT_BYTES - self.data.len()).is_err() {
            self.skip_event();
            self.inked = true;
        }
    }

    fn skip_event(&mut self) {
        self.skipping = true;
        self.dropped += 1;
        self.line = Kept::default();
        self.data = Kept::default();
    }

    fn end_line(&mut self, line: &[u8], event: &mut dyn FnMut(&str, &[u8])) {
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        if line.is_empty() {
            self.dispatch(event);
            return;
        }
        let (field, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = unspaced(value);
        match field {
            b"data" => {
                let line_end: &[u8] = if self.has_data { b"\n" } else { b"" };
                self.has_data = true;
                let kept =
                    self.data.push(line_end, MAX_EVENT_BYTES).and_then(|()| self.data.push(value, MAX_EVENT_BYTES));
                if kept.is_err() {
                    self.skip_event();
                }
            }
            b"event" => {
                self.name.clear();
                self.name.push_str(&String::from_utf8_lossy(&value[..value.len().min(NAME_MAX)]));
            }
            // Comments (an empty field name), `id`, `retry` and whatever else say nothing about usage.
            _ => {}
        }
    }

    fn dispatch(&mut self, event: &mut dyn FnMut(&str, &[u8])) {
        if self.has_data && !self.skipping {
            event(&self.name, self.data.as_slice());
        }
        self.name.clear();
        self.data.clear();
        self.has_data = false;
        self.skipping = false;
    }
}

/// A field's value without the one space that may stand before it.
fn unspaced(value: &[u8]) -> &[u8] {
    value.strip_prefix(b" ").unwrap_or(value)
}

/// What follows a line end that is whole; a CR alone may be half of one.
fn line_end(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"\n").or_else(|| bytes.strip_prefix(b"\r\n"))
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

    /// Events as most streams have them, beside some that look alike and are not.
    const NAMED: &[u8] = b"event: a\ndata: 1\n\nevent:a\r\ndata:2\r\n\r\ndata: 3\n\nevent: b\ndata: 4\ndata: 5\n\n\
        event: c\n\nevent: d\nid: 1\ndata: 6\n\nevent: e\nevent: \xff\ndata: 7\n\nevent: f\ndata: 8\r\n\ndata:  9\n\n";

    #[test]
    fn events_that_are_read_in_place_are_those_of_the_lines() {
        let want =
            [("a", "1"), ("a", "2"), ("", "3"), ("b", "4\n5"), ("d", "6"), ("\u{fffd}", "7"), ("f", "8"), ("", " 9")];
        let want: Vec<_> = want.map(|(n, d)| (n.to_owned(), d.to_owned())).into();
        assert_eq!(parse(&[NAMED]), want);
        for at in 0..NAMED.len() {
            assert_eq!(parse(&[&NAMED[..at], &NAMED[at..]]), want, "split at {at}");
        }
        assert_eq!(parse(&NAMED.chunks(1).collect::<Vec<_>>()), want);
    }

    #[test]
    fn a_name_beyond_any_is_cut() {
        let line = [b"event: ", [b'n'; NAME_MAX + 9].as_slice(), b"\ndata: 1\n\n"].concat();
        assert_eq!(parse(&[&line]), [("n".repeat(NAME_MAX), "1".to_owned())]);
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
        assert!(parser.line.is_empty() && parser.data.is_empty());
    }
}
