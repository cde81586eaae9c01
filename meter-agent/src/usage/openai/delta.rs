//! The text that a chunk of a stream adds, found without decoding the chunk.
//!
//! What a model generates stands in string values below `delta` (Chat Completions) or in `text` (Completions). Strings
//! that say something about the text instead of being it are left out by name; any other counts, so that a member
//! that is new here is counted rather than lost.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::usage::{
    delivered,
    kept::Kept,
    strings::{is_name, string},
    tokens::MAX_COUNTED_BYTES,
};

/// Members below `delta` whose values nobody generated.
const ABOUT: &[&[u8]] =
    &[b"role", b"type", b"id", b"object", b"obfuscation", b"format", b"channel", b"signature", b"status"];

/// What was generated so far.
#[derive(Debug, Default)]
pub(super) struct Generated {
    /// Bytes of it as JSON writes them, which are at least as many as its tokens.
    pub(super) bytes: u64,
    /// Chunks that had any of it: each holds a token at least.
    pub(super) parts: u64,
    /// Calls of tools among it.
    calls: u64,
    /// The text itself, still escaped; kept where a tokenizer is at hand, up to the size that it takes and while there
    /// is room among what all answers keep.
    kept: Option<Kept>,
    /// Between two parts, where several answers arrive side by side.
    separator: &'static [u8],
}

impl Generated {
    /// `keep`: whether the text will be needed. `choices`: answers that arrive side by side.
    pub(super) fn new(keep: bool, choices: u64) -> Self {
        Self { kept: keep.then(Kept::default), separator: if choices > 1 { b"\\n" } else { b"" }, ..Self::default() }
    }

    /// Takes what a chunk adds; whether it added anything.
    pub(super) fn chunk(&mut self, data: &[u8]) -> bool {
        let before = self.bytes;
        strings(data, &mut |key, text| {
            self.calls += u64::from(key == b"name" && !text.is_empty());
            self.add(text);
        });
        let added = self.bytes > before;
        self.parts += u64::from(added);
        added
    }

    fn add(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        if let Some(kept) = &mut self.kept {
            // The separators have room beside the text.
            let fits =
                kept.push(text, MAX_COUNTED_BYTES).and_then(|()| kept.push(self.separator, 2 * MAX_COUNTED_BYTES));
            if fits.is_err() {
                self.kept = None;
            }
        }
    }

    /// What it has at least. `hidden`: bytes of something else than text may be among it, as those of a sound.
    pub(super) fn tokens(&self, hidden: bool) -> u64 {
        delivered::tokens(self.parts, if hidden { 0 } else { self.bytes })
    }

    /// Tokens around the calls of tools, which are no part of their text: side by side they are wrapped once more.
    pub(super) fn framing(&self) -> u64 {
        const CALL_TOKENS: u64 = 24;
        self.calls.saturating_mul(CALL_TOKENS)
    }

    /// The text, unless it was not kept.
    pub(super) fn text(&self) -> Option<String> {
        let escaped = std::str::from_utf8(self.kept.as_ref()?.as_slice()).ok()?;
        // Half of a surrogate pair is no JSON; escaped, a text is longer and has no fewer tokens.
        Some(serde_json::from_str(&format!("\"{escaped}\"")).unwrap_or_else(|_| escaped.to_owned()))
    }
}

static DELTA: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"delta\""));
static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"text\""));

/// Calls `found` with the name and the text of every string that the chunk adds, without quotes.
fn strings(data: &[u8], found: &mut impl FnMut(&[u8], &[u8])) {
    let mut rest = data;
    let mut any = false;
    while let Some(at) = DELTA.find(rest) {
        any = true;
        rest = object(after_colon(&rest[at + b"\"delta\"".len()..]), found);
    }
    if any {
        return;
    }
    while let Some(at) = TEXT.find(rest) {
        rest = after_colon(&rest[at + b"\"text\"".len()..]);
        if rest.first() == Some(&b'"') {
            let (text, after) = string(rest);
            found(b"text", text);
            rest = after;
        }
    }
}

fn after_colon(bytes: &[u8]) -> &[u8] {
    let at = bytes.iter().position(|b| !b.is_ascii_whitespace() && *b != b':').unwrap_or(bytes.len());
    &bytes[at..]
}

/// The string values of the object at the start, and what follows it.
fn object<'a>(mut rest: &'a [u8], found: &mut impl FnMut(&[u8], &[u8])) -> &'a [u8] {
    let mut depth = 0_u32;
    let mut key: &[u8] = b"";
    while let Some(first) = rest.first() {
        match first {
            b'"' => {
                let (text, after) = string(rest);
                rest = after;
                if is_name(rest) {
                    key = text;
                } else if !ABOUT.contains(&key) {
                    found(key, text);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        rest = &rest[1..];
        if depth == 0 {
            break;
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&str]) -> (String, u64) {
        let mut generated = Generated::new(true, 1);
        for chunk in chunks {
            generated.chunk(chunk.as_bytes());
        }
        (generated.text().unwrap(), generated.parts)
    }

    #[test]
    fn content_reasoning_and_calls_are_generated_and_their_ids_are_not() {
        let chunks = [
            r#"{"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"he said \"hi\"\n"},"logprobs":{"content":[{"token":"no"}]}}],"obfuscation":"zz"}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm "}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f ","arguments":"{\"a\":1}"}}]},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        ];
        assert_eq!(read(&chunks), ("he said \"hi\"\nhm f {\"a\":1}".to_owned(), 3));
    }

    #[test]
    fn completions_add_their_text() {
        let chunks = [r#"{"choices":[{"text":"\n\n","index":0}]}"#, r#"{"choices": [{"text" : "ab"},{"text":"c"}]}"#];
        assert_eq!(read(&chunks), ("\n\nabc".to_owned(), 2));
    }

    #[test]
    fn several_choices_do_not_run_together() {
        let mut generated = Generated::new(true, 2);
        generated.chunk(br#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#);
        assert_eq!(generated.text().unwrap(), "a\nb\n");
    }

    #[test]
    fn broken_chunks_are_read_as_far_as_they_go() {
        for chunk in [r#"{"delta":{"content":"ab"#, r#"{"delta""#, r#"{"delta":{"content":"a\"#, r#"{"text":"#] {
            let mut generated = Generated::new(true, 1);
            generated.chunk(chunk.as_bytes());
            assert!(generated.bytes <= 3, "{chunk}");
        }
        let mut generated = Generated::new(true, 1);
        generated.chunk(br#"{"delta":{"content":"\ud83d"}}"#);
        assert_eq!(generated.text().unwrap(), "\\ud83d");
    }

    #[test]
    fn more_than_can_be_counted_is_not_kept() {
        let chunk = format!(r#"{{"delta":{{"content":"{}"}}}}"#, "a".repeat(MAX_COUNTED_BYTES));
        let mut generated = Generated::new(true, 1);
        generated.chunk(chunk.as_bytes());
        assert!(generated.text().is_some());
        generated.chunk(br#"{"delta":{"content":"b"}}"#);
        assert_eq!((generated.text(), generated.bytes), (None, MAX_COUNTED_BYTES as u64 + 1));
    }
}
