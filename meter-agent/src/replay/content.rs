//! The bytes of a recorded body, from what recorders make of bytes in JSON: text, base64 that says so or does not, one
//! character per byte, a list of form fields.
//!
//! What is said to be base64 is decoded. What says nothing is taken for more than text only where it can't be text:
//! the bytes behind it have the shape that headers promise.

use serde_json::Value;

use super::{base64, body::decodes};

/// The bytes of a text of that content type and coding.
pub(super) fn bytes_of(text: String, is_base64: bool, kind: &str, coding: Option<&str>) -> Vec<u8> {
    if let Some(bytes) = base64::decode(&text)
        && (is_base64 || is_hidden(&bytes, kind, coding) || is_hidden_text(&bytes))
    {
        return bytes;
    }
    if let Some(bytes) = one_per_byte(&text)
        && (is_binary(kind) || is_hidden(&bytes, kind, coding) || std::str::from_utf8(&bytes).is_ok())
    {
        return bytes;
    }
    text.into_bytes()
}

/// The body that a list of form fields comes from.
pub(super) struct Form {
    pub(super) body: Vec<u8>,
    pub(super) kind: String,
    /// Whether a file of it was not recorded, and is left out.
    pub(super) lacks_file: bool,
}

pub(super) fn of_params(params: &Value, kind: &str) -> Option<Form> {
    const BOUNDARY: &str = "recorded-form-boundary";
    let params = params.as_array().filter(|params| !params.is_empty())?;
    let essence = kind.split(';').next().unwrap_or(kind).trim();
    if !essence.eq_ignore_ascii_case("multipart/form-data") {
        let pairs: Vec<String> = params
            .iter()
            .filter_map(|p| Some(format!("{}={}", p["name"].as_str()?, p["value"].as_str().unwrap_or(""))))
            .collect();
        return Some(Form { body: pairs.join("&").into_bytes(), kind: kind.to_owned(), lacks_file: false });
    }
    let mut lacks_file = false;
    let mut form = String::new();
    for param in params {
        let Some(name) = param["name"].as_str() else { continue };
        let file = param["fileName"].as_str();
        // Browsers write this in place of a file.
        let Some(value) = param["value"].as_str().filter(|value| file.is_none() || *value != "(binary)") else {
            lacks_file = true;
            continue;
        };
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        form.extend([format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n{value}\r\n"
        )]);
    }
    form.extend([format!("--{BOUNDARY}--\r\n")]);
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    Some(Form { body: form.into_bytes(), kind, lacks_file })
}

/// Whether a content type is of bytes that are no text, or not all of them.
fn is_binary(kind: &str) -> bool {
    ["multipart/", "audio/", "image/", "video/", "application/octet-stream", "application/grpc", EVENTS]
        .iter()
        .any(|start| kind.get(..start.len()).is_some_and(|own| own.eq_ignore_ascii_case(start)))
}

const EVENTS: &str = "application/vnd.amazon.eventstream";

/// Whether bytes are what the headers promise and can't have been written as they are.
fn is_hidden(bytes: &[u8], kind: &str, coding: Option<&str>) -> bool {
    coding.is_some_and(|coding| std::str::from_utf8(bytes).is_err() && decodes(coding, bytes))
        || is_event_stream(bytes)
        || (kind.starts_with("application/grpc") && is_grpc(bytes))
}

/// Whether bytes from base64 are the start of an answer, which no base64 is.
fn is_hidden_text(bytes: &[u8]) -> bool {
    [&b"{\""[..], b"[{", b"data:", b"event:"].iter().any(|start| bytes.starts_with(start))
}

/// The lengths of a first frame: the whole, and its headers. They are followed by a checksum.
fn is_event_stream(bytes: &[u8]) -> bool {
    const OVERHEAD: u32 = 16;
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
    let (Some(total), Some(headers), Some(_)) = (number(0), number(4), number(8)) else { return false };
    (OVERHEAD..1 << 24).contains(&total) && headers <= total - OVERHEAD
}

/// A first frame: a flag, and a length that fits.
fn is_grpc(bytes: &[u8]) -> bool {
    let [0 | 1, a, b, c, d, rest @ ..] = bytes else { return false };
    u32::from_be_bytes([*a, *b, *c, *d]) as usize <= rest.len()
}

/// The bytes of a text whose characters are bytes, which no text in a language has: it holds control characters
/// between the ASCII ones and the letters.
fn one_per_byte(text: &str) -> Option<Vec<u8>> {
    let controls = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    if text.is_ascii() || !text.chars().all(|c| u32::from(c) < 0x100) || !text.contains(controls) {
        return None;
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// JSON in which escapes of half a surrogate pair, which no text has, are the byte that they stand for where they were
/// made of one (`\udc80` to `\udcff`), else a mark. `None` where there are none.
pub(super) fn without_lone_surrogates(json: &str) -> Option<String> {
    let mut mended = String::new();
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let unit = |from: usize| {
            let digits = rest.get(from..from + 6)?.strip_prefix("\\u")?;
            u32::from_str_radix(digits, 16).ok()
        };
        let (length, instead) = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, None),
            (Some(byte @ 0xdc80..=0xdcff), _) => (6, Some(format!("\\u{:04x}", byte - 0xdc00))),
            (Some(0xd800..=0xdfff), _) => (6, Some("\\ufffd".to_owned())),
            (Some(_), _) => (6, None),
            (None, _) => (rest[at + 1..].chars().next().map_or(1, |c| 1 + c.len_utf8()), None),
        };
        mended.push_str(&rest[..at]);
        mended.push_str(instead.as_deref().unwrap_or(&rest[at..at + length]));
        rest = &rest[at + length..];
    }
    mended.push_str(rest);
    (mended != json).then_some(mended)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GRPC: &str = "application/grpc";

    fn bytes(text: &str, kind: &str) -> Vec<u8> {
        bytes_of(text.to_owned(), false, kind, None)
    }

    #[test]
    fn base64_that_does_not_say_so_is_known_by_what_it_hides() {
        assert_eq!(bytes("eyJhIjoxfQ==", "application/json"), b"{\"a\":1}");
        assert_eq!(bytes("AAAAAAIIAQ==", GRPC), b"\0\0\0\0\x02\x08\x01");
        assert_eq!(bytes("AAAAEAAAAAAAAAAAAAAAAA==", ""), b"\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0");
        for text in ["test", "{\"a\":1}", "AAAAAAIIAQ==", "data: x", ""] {
            assert_eq!(bytes(text, "text/plain"), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn characters_that_are_bytes_are_bytes() {
        let form = "--b\r\n\r\n\u{89}PNG\u{ff}\r\n--b--";
        assert_eq!(bytes(form, "multipart/form-data; boundary=b")[7..12], *b"\x89PNG\xff");
        assert_eq!(bytes("{\"a\":\"\u{c3}\u{84}\"}", "application/json"), "{\"a\":\"\u{c4}\"}".as_bytes());
        for text in ["{\"a\":\"\u{85}\u{c4}\"}", "{\"a\":\"\u{c4}\"}", "\u{20ac}\u{85}"] {
            assert_eq!(bytes(text, "application/json"), text.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_a_byte_or_a_mark() {
        for (json, mended) in [
            (r#""\udc89PNG""#, Some(r#""\u0089PNG""#)),
            (r#""\ud83d\ude00\ud83d""#, Some(r#""\ud83d\ude00\ufffd""#)),
            (r#""\\udc89""#, None),
            (r#""\ud83d\ude00""#, None),
            (r#""\"#, None),
        ] {
            assert_eq!(without_lone_surrogates(json).as_deref(), mended, "{json}");
        }
    }

    #[test]
    fn a_form_is_made_again_from_its_fields() {
        let params = json!([{"name": "model", "value": "m"}, {"name": "file", "fileName": "a", "value": "(binary)"},
            {"name": "file", "fileName": "b", "value": "x"}, {"value": "no name"}]);
        let Form { body, kind, lacks_file } = of_params(&params, "multipart/form-data; boundary=lost").unwrap();
        let form = String::from_utf8(body).unwrap();
        assert!(form.contains("name=\"model\"\r\n\r\nm\r\n") && form.contains("filename=\"b\"\r\n\r\nx"), "{form}");
        assert!(lacks_file && !form.contains("(binary)") && kind.ends_with("recorded-form-boundary"), "{form}");
        let form = of_params(&params, "application/x-www-form-urlencoded").unwrap();
        assert!(form.body.starts_with(b"model=m&file="));
        assert!(of_params(&json!([]), "").is_none());
    }
}
