//! The strings of a JSON text, found without decoding it: most events of a stream hold a piece of text and nothing else
//! of interest.
//!
//! Owns where strings begin and end, as far as the text goes; they stay escaped. Whether the text is JSON at all is not
//! its to say.

use memchr::{memchr, memchr2};

/// Calls `found` with every string that is the value of a member, or is in its list, and that member's name.
pub(crate) fn each<'a>(json: &'a [u8], found: &mut impl FnMut(&'a [u8], &'a [u8])) {
    let (mut rest, mut name): (&[u8], &[u8]) = (json, b"");
    while let Some(at) = memchr(b'"', rest) {
        let (text, after) = string(&rest[at..]);
        rest = after;
        if is_name(rest) {
            name = text;
        } else {
            found(name, text);
        }
    }
}

/// Whether the string before `rest` is a member's name.
pub(crate) fn is_name(rest: &[u8]) -> bool {
    rest.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
}

/// The string at the start without its quotes, and what follows it.
pub(crate) fn string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let body = bytes.get(1..).unwrap_or(b"");
    let mut at = 0;
    while let Some(next) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if body[at] == b'"' {
            return (&body[..at], &body[at + 1..]);
        }
        at += 2;
    }
    (body, b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_with_their_names_and_broken_texts_as_far_as_they_go() {
        let seen = |json: &'static str| {
            let mut seen = Vec::new();
            each(json.as_bytes(), &mut |name, text| seen.push([name, text].map(|b| std::str::from_utf8(b).unwrap())));
            seen
        };
        let whole = r#"{"a" : "x","b":{"c":["y\"z",1,"w"]},"d":null,"e":"\\"}"#;
        assert_eq!(seen(whole), [["a", "x"], ["c", "y\\\"z"], ["c", "w"], ["e", "\\\\"]]);
        assert_eq!(seen(r#"{"a":"half"#), [["a", "half"]]);
        assert_eq!(seen(r#"{"a":"half\"#), [["a", "half\\"]]);
        assert!(seen(r#"{"a":1,"b"#).len() <= 1);
        assert!(seen("").is_empty());
    }
}
