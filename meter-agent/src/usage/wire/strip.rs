//! Takes usage out of a Chat Completions stream again, where the meter asked for it on the agent's behalf.
//!
//! Asked for usage, a provider adds one event (`choices` empty, `usage` an object) and a `"usage":null` member
//! to every other chunk. Both are removed; every other byte passes as it came, without a copy where a frame
//! holds whole events. The first chunk that Azure sends, `choices` empty and no usage, stays.
//!
//! Holds back at most one event: what is not a whole event yet says nothing to a client either. An event longer
//! than [`MAX_EVENT_BYTES`] passes untouched, so the memory is bounded.

use bytes::{Bytes, BytesMut};
use memchr::{memchr2, memmem};
use smallvec::SmallVec;

/// Longest event that is looked into. Chunks are hundreds of bytes; the longest carry a tool call's arguments.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// What one frame becomes.
pub type Frames = SmallVec<[Bytes; 4]>;

/// The stream's state between frames.
#[derive(Default)]
pub struct UsageStripper {
    held: BytesMut,
    scan: Scan,
    /// The current event passed the bound; it goes through as it comes.
    passing: bool,
}

impl UsageStripper {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream and gives those that can go to the agent.
    pub fn push(&mut self, frame: Bytes) -> Frames {
        let mut out = Frames::new();
        let mut whole = frame;
        if !self.held.is_empty() {
            self.held.extend_from_slice(&whole);
            whole = self.held.split().freeze();
        }
        // `clean` is the start of untouched bytes not given out yet; `start` that of the current event.
        let (mut clean, mut start) = (0, 0);
        while let Some(end) = self.scan.event_end(&whole) {
            let event = &whole[start..end];
            let verdict = if self.passing || event.len() > MAX_EVENT_BYTES { Verdict::Keep } else { judge(event) };
            self.passing = false;
            match verdict {
                Verdict::Keep => {}
                Verdict::Drop => {
                    give(&mut out, whole.slice(clean..start));
                    clean = end;
                }
                Verdict::Cut(from, to) => {
                    give(&mut out, whole.slice(clean..start + from));
                    clean = start + to;
                }
            }
            start = end;
        }
        self.keep_tail(&whole, clean, start, &mut out);
        out
    }

    /// The end of the stream: what is still held.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = self.held.split().freeze();
        self.scan = Scan::default();
        let kept = match judge(&rest) {
            Verdict::Keep => rest,
            Verdict::Drop => Bytes::new(),
            Verdict::Cut(from, to) => Bytes::from([&rest[..from], &rest[to..]].concat()),
        };
        (!kept.is_empty()).then_some(kept)
    }

    /// Holds the event that has no end yet, or lets it go when it is too long.
    fn keep_tail(&mut self, whole: &Bytes, clean: usize, start: usize, out: &mut Frames) {
        if self.passing || whole.len() - start > MAX_EVENT_BYTES {
            self.passing = true;
            // A CR that may be half a line end is looked at again.
            let upto = self.scan.at;
            give(out, whole.slice(clean..upto));
            self.held.extend_from_slice(&whole[upto..]);
            self.scan.at = 0;
            return;
        }
        give(out, whole.slice(clean..start));
        self.held.extend_from_slice(&whole[start..]);
        self.scan.at -= start;
    }
}

fn give(out: &mut Frames, part: Bytes) {
    if !part.is_empty() {
        out.push(part);
    }
}

/// Where the search for the end of an event stands.
#[derive(Default)]
struct Scan {
    at: usize,
    /// `at` is in a line that already has bytes.
    in_line: bool,
}

impl Scan {
    /// The end of the event: past the blank line that closes it. `None` until that line end is certain.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        loop {
            let at = self.at + memchr2(b'\n', b'\r', &bytes[self.at..]).unwrap_or(bytes.len() - self.at);
            self.in_line |= at > self.at;
            self.at = at;
            let next = match (bytes.get(at)?, bytes.get(at + 1)) {
                (b'\n', _) => at + 1,
                // Whether an LF belongs to it is known with the next byte.
                (_, None) => return None,
                (_, Some(b'\n')) => at + 2,
                (_, Some(_)) => at + 1,
            };
            self.at = next;
            if !std::mem::take(&mut self.in_line) {
                return Some(next);
            }
        }
    }
}

enum Verdict {
    Keep,
    Drop,
    /// Without these bytes of the event.
    Cut(usize, usize),
}

fn judge(event: &[u8]) -> Verdict {
    if memmem::find(event, b"\"usage\"").is_none() {
        return Verdict::Keep;
    }
    let Some((offset, json)) = only_data(event) else { return Verdict::Keep };
    let Some(members) = members(json) else { return Verdict::Keep };
    let Some(at) = members.iter().position(|m| m.key == b"usage") else { return Verdict::Keep };
    let usage = &members[at];
    match usage.value.first() {
        Some(b'{') if members.iter().any(|m| m.key == b"choices" && is_empty_list(m.value)) => Verdict::Drop,
        Some(b'n') => {
            let (from, to) = match (at.checked_sub(1), members.get(at + 1)) {
                (Some(before), _) => (members[before].end, usage.end),
                (None, Some(after)) => (usage.start, after.start),
                (None, None) => (usage.start, usage.end),
            };
            Verdict::Cut(offset + from, offset + to)
        }
        _ => Verdict::Keep,
    }
}

fn is_empty_list(value: &[u8]) -> bool {
    value.strip_prefix(b"[").and_then(|v| v.strip_suffix(b"]")).is_some_and(|v| v.trim_ascii().is_empty())
}

/// The payload of an event's `data` line and where it starts; `None` when there is more than one.
fn only_data(event: &[u8]) -> Option<(usize, &[u8])> {
    let mut found = None;
    let mut at = 0;
    while at < event.len() {
        let end = memchr2(b'\n', b'\r', &event[at..]).map_or(event.len(), |n| at + n);
        if let Some(value) = event[at..end].strip_prefix(b"data:") {
            if found.is_some() {
                return None;
            }
            found = Some((end - value.len(), value));
        }
        at = end + 1;
    }
    found
}

/// A member of the outermost object: its key, its value, and the span of both.
struct Member<'a> {
    key: &'a [u8],
    value: &'a [u8],
    start: usize,
    end: usize,
}

/// The members of a JSON object, found without decoding it. `None` for anything malformed.
fn members(json: &[u8]) -> Option<SmallVec<[Member<'_>; 12]>> {
    let mut out = SmallVec::new();
    let mut at = blank(json, 0);
    if json.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        let start = blank(json, at + 1);
        let key_end = string_end(json, start)?;
        let colon = blank(json, key_end);
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let value = blank(json, colon + 1);
        let end = value_end(json, value)?;
        out.push(Member { key: &json[start + 1..key_end - 1], value: &json[value..end], start, end });
        at = blank(json, end);
        match json.get(at)? {
            b',' => {}
            b'}' => return Some(out),
            _ => return None,
        }
    }
}

fn blank(json: &[u8], from: usize) -> usize {
    json.iter().skip(from).position(|b| !b.is_ascii_whitespace()).map_or(json.len(), |n| from + n)
}

/// Past the closing quote of the string that starts at `from`.
fn string_end(json: &[u8], from: usize) -> Option<usize> {
    if json.get(from) != Some(&b'"') {
        return None;
    }
    let mut at = from + 1;
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn value_end(json: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    let mut depth = 0_u32;
    loop {
        match json.get(at)? {
            b'"' => at = string_end(json, at)? - 1,
            b'{' | b'[' => depth += 1,
            b',' | b'}' if depth == 0 => return Some(json[..at].trim_ascii_end().len()),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AZURE: &str = "data: {\"choices\":[],\"prompt_filter_results\":[{}],\"usage\":null}\n\n";
    const CHUNK: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"\\\",\\\"usage\\\":null\"}}],\"usage\" : null,\"o\":\"x\"}\r\n\r\n";
    const FIRST: &str = "data: {\"usage\":null, \"choices\":[{}]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"o\":1}\n\n";
    const DONE: &str = ": comment \"usage\"\n\ndata: [DONE]\n\n";
    const LOOSE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}";

    fn strip(frames: impl IntoIterator<Item = Bytes>) -> String {
        let mut stripper = UsageStripper::new();
        let mut out = Vec::new();
        for frame in frames {
            stripper.push(frame).iter().for_each(|f| out.extend_from_slice(f));
        }
        out.extend(stripper.finish().unwrap_or_default());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_added_is_removed_and_nothing_else() {
        let body = [AZURE, CHUNK, FIRST, USAGE, DONE, LOOSE].concat();
        let want = [
            "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"content\":\"\\\",\\\"usage\\\":null\"}}],\"o\":\"x\"}\r\n\r\n",
            "data: {\"choices\":[{}]}\n\n",
            DONE,
        ]
        .concat();
        assert_eq!(strip([Bytes::from(body)]), want);
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let body = [AZURE, CHUNK, "data: a\r\rdata: b\r\n\r", "\n", FIRST, USAGE, DONE].concat();
        let whole = strip([Bytes::from(body.clone())]);
        for at in 0..=body.len() {
            let (a, b) = body.split_at(at);
            assert_eq!(strip([Bytes::copy_from_slice(a.as_bytes()), Bytes::copy_from_slice(b.as_bytes())]), whole);
        }
        assert_eq!(strip(body.bytes().map(|b| Bytes::from(vec![b]))), whole);
    }

    #[test]
    fn untouched_events_are_not_copied() {
        let frame = Bytes::from_static(b"data: {\"a\":1}\n\ndata: {\"b\":2}\n\n");
        let out = UsageStripper::new().push(frame.clone());
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].as_ptr(), frame.as_ptr());
    }

    #[test]
    fn an_event_past_the_bound_passes_and_is_not_held() {
        let long = format!("data: {{\"x\":\"{}\",\"usage\":null}}\r\n\r\n", "y".repeat(MAX_EVENT_BYTES));
        let body = [&long, USAGE, DONE].concat();
        let want = [&long, DONE].concat();
        assert_eq!(strip([Bytes::from(body.clone())]), want);
        let mut stripper = UsageStripper::new();
        let mut out = Vec::new();
        for part in body.as_bytes().chunks(1_000) {
            stripper.push(Bytes::copy_from_slice(part)).iter().for_each(|f| out.extend_from_slice(f));
            assert!(stripper.held.len() <= MAX_EVENT_BYTES + 1_000);
        }
        assert_eq!(String::from_utf8(out).unwrap(), want);
        assert_eq!(strip(body.bytes().map(|b| Bytes::from(vec![b]))), want);
    }
}
