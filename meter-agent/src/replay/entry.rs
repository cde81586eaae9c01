//! One entry of a HAR file as the meter sees an exchange: a request, its answer, the messages of a WebSocket.
//!
//! Takes what recorders write, not only what HAR 1.2 says: members of other types than they should have are as good
//! as missing, and only what leaves nothing to meter makes an entry unusable.

use bytes::Bytes;
use serde_json::Value;

use super::{
    content,
    frames::{self, Frame},
    target::Target,
};
use crate::clock::Timestamp;

/// A recorded exchange.
pub(super) struct Recorded {
    pub(super) at: Timestamp,
    /// Whether the entry says so itself.
    pub(super) is_dated: bool,
    pub(super) method: String,
    /// In lower case, without port.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path_and_query: String,
    pub(super) request: Message,
    /// 0 where there was no answer.
    pub(super) status: u16,
    pub(super) answer: Message,
    /// Why the answer is not all of what the provider sent, if it is not.
    pub(super) cut: Option<String>,
    /// Whether bytes of the request may have reached the provider.
    pub(super) left: bool,
    pub(super) ttfb_ms: u64,
    pub(super) duration_ms: u64,
    /// Whether it is a WebSocket by its URL, its answer or its messages.
    pub(super) is_socket: bool,
    /// In the order of their time.
    pub(super) frames: Vec<Frame>,
}

/// Headers and body of one direction; the body as it was recorded, still encoded perhaps.
#[derive(Default)]
pub(super) struct Message {
    pub(super) headers: Vec<(String, String)>,
    pub(super) content_type: String,
    pub(super) body: Bytes,
    /// Whether a file of a form was not recorded.
    pub(super) lacks_file: bool,
    /// Whether the recording has a body, if only an empty one.
    is_there: bool,
    /// Whether the body was not recorded as the text that it is.
    is_decoded: bool,
}

const SWITCHING_PROTOCOLS: u16 = 101;

impl Message {
    /// The first header of that name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

impl Recorded {
    /// Reads an entry's JSON, or says what is missing. `now` is the time of an entry that states none.
    pub(super) fn read(text: &str, now: Timestamp) -> Result<Self, String> {
        let mut entry = parse(text).map_err(|error| format!("its JSON can't be used ({error}); record it again"))?;
        let Some(mut request) = entry.get_mut("request").map(Value::take).filter(Value::is_object) else {
            return Err("it has no `request`; record it again or take it out of the file".to_owned());
        };
        let mut asked = message(&mut request, "postData");
        let host = asked.header("host").or_else(|| asked.header(":authority"));
        let target = request["url"].as_str().and_then(|url| Target::read(url, &request["queryString"], host));
        let Some(target) = target else {
            return Err("its `request.url` is missing or not `https://host/path`; write it whole".to_owned());
        };
        let mut response = entry.get_mut("response").map(Value::take).unwrap_or_default();
        let stated = timestamp(&entry["startedDateTime"]);
        let at = stated.unwrap_or(now);
        let duration_ms = millis(&entry["time"]).unwrap_or(0);
        let timings = &entry["timings"];
        let passed = |name: &str| millis(&timings[name]).is_some_and(|ms| ms > 0);
        let (left, ttfb_ms) = (
            !timings.is_object() || passed("send") || passed("wait"),
            duration_ms.saturating_sub(millis(&timings["receive"]).unwrap_or(0)),
        );
        let status = status(&response);
        let stated_bytes = stated_bytes(&response);
        let error = error(&response).or_else(|| error(&entry));
        let answer = message(&mut response, "content");
        let mut frames = frames::read(entry["_webSocketMessages"].take(), at);
        let is_socket = target.socket || status == SWITCHING_PROTOCOLS || !frames.is_empty();
        if is_socket && frames.is_empty() {
            frames = frames::of_bodies(&asked.body, &answer.body, at);
            asked.body = Bytes::new();
        }
        Ok(Self {
            at,
            is_dated: stated.is_some(),
            // Over HTTP/2 it is a CONNECT, and some recorders write nothing.
            method: if is_socket { "GET" } else { request["method"].as_str().unwrap_or("GET") }.to_ascii_uppercase(),
            host: target.host,
            port: target.port,
            path_and_query: target.path_and_query,
            status,
            left,
            ttfb_ms,
            duration_ms,
            cut: error.or_else(|| missing(status, &answer, stated_bytes)),
            request: asked,
            answer,
            is_socket,
            frames,
        })
    }

    pub(super) fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or("")
    }
}

fn status(response: &Value) -> u16 {
    let status = &response["status"];
    let number = status.as_u64().or_else(|| status.as_str()?.parse().ok());
    number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
}

/// The JSON; an escape that is no character, as some recorders write a byte that is no text, is taken for the byte.
fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).or_else(|error| match content::without_lone_surrogates(text) {
        Some(mended) => serde_json::from_str(&mended),
        None => Err(error),
    })
}

/// Headers, and the body that `content` or `postData` holds.
fn message(of: &mut Value, body: &str) -> Message {
    let mut content = of.get_mut(body).map(Value::take).unwrap_or_default();
    let mut message = Message { headers: headers(&of["headers"]), ..Message::default() };
    let stated = message.header("content-type").or(content["mimeType"].as_str()).map(str::to_owned);
    message.content_type = stated.unwrap_or_default();
    let is_base64 = ["encoding", "_encoding"]
        .iter()
        .any(|name| content[*name].as_str().is_some_and(|own| own.eq_ignore_ascii_case("base64")));
    match content.get_mut("text").map(Value::take).unwrap_or_default() {
        Value::String(text) => {
            let coding = message.header("content-encoding");
            message.body = content::bytes_of(text, is_base64, &message.content_type, coding).into();
            message.is_there = true;
            message.is_decoded = is_base64;
        }
        // A recorder that keeps JSON as such.
        json @ (Value::Object(_) | Value::Array(_)) => {
            message.body = json.to_string().into();
            message.is_there = true;
            message.is_decoded = true;
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            if let Some(form) = content::of_params(&content["params"], &message.content_type) {
                (message.body, message.content_type) = (form.body.into(), form.kind);
                message.lacks_file = form.lacks_file;
            }
        }
    }
    message
}

/// A list of names and values, or an object of them.
fn headers(value: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Array(list) => list.iter().filter_map(|h| Some((text(&h["name"])?, text(&h["value"])?))).collect(),
        Value::Object(map) => map.iter().filter_map(|(name, h)| Some((name.clone(), text(h)?))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// What the recorder says went wrong.
fn error(of: &Value) -> Option<String> {
    let error = of["_error"].as_str().filter(|error| !error.is_empty())?;
    Some(format!("the recorder says: {error}"))
}

/// How many bytes the recorder says the decoded body has, and whether there was one at all.
fn stated_bytes(response: &Value) -> (usize, bool) {
    let bytes = |value: &Value| value.as_f64().filter(|n| *n > 0.0).map_or(0, as_bytes);
    let decoded = bytes(&response["content"]["size"]);
    (decoded, decoded > 0 || bytes(&response["bodySize"]) > 0)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; the sign is checked")]
fn as_bytes(n: f64) -> usize {
    n as usize
}

/// Why the recorded answer is not whole, if it isn't.
fn missing(status: u16, answer: &Message, (stated, had_body): (usize, bool)) -> Option<String> {
    let holds = answer.body.len();
    if holds == 0 && (had_body || (!answer.is_there && has_body(status))) {
        return Some("the recording does not hold the answer's body; record it with contents".to_owned());
    }
    // The size of what was not text, or was encoded, is counted in many ways.
    let counted = !answer.is_decoded && answer.header("content-encoding").is_none();
    (counted && holds < stated && std::str::from_utf8(&answer.body).is_ok())
        .then(|| format!("the recording holds {holds} of the answer's {stated} bytes; record it with contents"))
}

/// Whether an answer of that status has a body, as far as its status says it.
const fn has_body(status: u16) -> bool {
    matches!(status, 200..=203 | 206..=299)
}

/// A HAR time: milliseconds, -1 where it does not apply.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; the sign is checked")]
fn millis(value: &Value) -> Option<u64> {
    value.as_f64().filter(|ms| *ms >= 0.0).map(|ms| ms.ceil() as u64)
}

fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::String(text) => Timestamp::parse(text.trim()),
        Value::Number(number) => number.as_f64().and_then(frames::epoch),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    fn read(text: &str) -> Result<Recorded, String> {
        Recorded::read(text, NOW)
    }

    #[test]
    fn an_entry_that_leaves_nothing_to_meter_says_why() {
        for (text, part) in
            [("{}", "no `request`"), ("7", "no `request`"), ("{\"request\":{\"url\":\"x\"}}", "`request.url`")]
        {
            assert!(read(text).err().unwrap().contains(part), "{text}");
        }
    }

    #[test]
    fn odd_members_are_as_good_as_missing() {
        let text = r#"{"startedDateTime":7,"time":"x","timings":[],"_webSocketMessages":{},
            "request":{"url":"https://h/","headers":{"a":1},"postData":"x"},"response":[]}"#;
        let entry = read(text).unwrap();
        assert_eq!((entry.at, &*entry.method, entry.status, entry.duration_ms), (NOW, "GET", 0, 0));
        assert!(entry.left && entry.frames.is_empty() && entry.request.body.is_empty());
    }

    #[test]
    fn bodies_are_decoded_where_they_say_so() {
        let text = r#"{"request":{"url":"https://h/","method":"post","postData":{"text":"eHk=","encoding":"base64"}},
            "response":{"status":200,"headers":[{"name":"Content-Type","value":"a/b"}],
            "content":{"text":"not base64!","encoding":"base64","mimeType":"c/d"}}}"#;
        let entry = read(text).unwrap();
        assert_eq!(
            (&*entry.method, &*entry.request.body, &*entry.answer.body),
            ("POST", &b"xy"[..], &b"not base64!"[..])
        );
        assert_eq!((&*entry.answer.content_type, entry.answer.header("content-type")), ("a/b", Some("a/b")));
    }

    #[test]
    fn a_body_that_was_not_recorded_or_not_all_of_it_is_a_cut() {
        let with = |status: u16, content: &str| {
            let text =
                format!(r#"{{"request":{{"url":"https://h/"}},"response":{{"status":{status},"content":{content}}}}}"#);
            read(&text).unwrap().cut
        };
        for content in [r#"{"size":12}"#, r#"{"size":12,"text":""}"#, r#"{"size":0}"#, "{}", "null"] {
            assert!(with(200, content).unwrap().contains("does not hold"), "{content}");
        }
        for (status, content) in [
            (200, r#"{"text":""}"#),
            (204, "{}"),
            (200, r#"{"size":2,"text":"{}"}"#),
            (200, r#"{"size":99,"text":"e30=","encoding":"base64"}"#),
            (200, r#"{"size":99,"text":{"a":1}}"#),
        ] {
            assert_eq!(with(status, content), None, "{content}");
        }
        assert!(with(200, r#"{"size":9,"text":"{\"a\":1"}"#).unwrap().contains("6 of the answer's 9 bytes"));
    }

    #[test]
    fn a_time_is_read_as_recorders_write_it() {
        let micros = |time: &str| {
            let entry = read(&format!(r#"{{"startedDateTime":{time},"request":{{"url":"https://h/"}}}}"#)).unwrap();
            entry.is_dated.then(|| entry.at.micros() - NOW.micros())
        };
        for time in [
            "\"2026-11-21T00:00:00.000Z\"",
            "\"2026-11-20T16:00:00-08:00\"",
            "\"2026-11-21T00:00:00\"",
            "\" 2026-11-21 00:00:00\"",
            "\"2026-11-21\"",
            "1795219200",
            "1795219200000",
        ] {
            assert_eq!(micros(time), Some(0), "{time}");
        }
        for time in ["null", "\"\"", "\"never\"", "7", "-1", "{}"] {
            assert_eq!(micros(time), None, "{time}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_read_from_any_recorder() {
        let text = r#"{"request":{"url":"/v1/x","headers":{"Host":"h.example"},"postData":{"text":{"a":1}}},
            "response":{"status":200,"headers":[{"name":"content-type","value":"image/png"}],"content":{"text":"\udc89PNG"}}}"#;
        let entry = read(text).unwrap();
        assert_eq!(
            (&*entry.host, &*entry.request.body, &*entry.answer.body),
            ("h.example", &b"{\"a\":1}"[..], &b"\x89PNG"[..])
        );
    }
}
