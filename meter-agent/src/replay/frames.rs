//! The messages of a recorded WebSocket: Chromium's `_webSocketMessages`, or the two bodies of its one entry.

use serde_json::{Value, value::RawValue};

use super::base64;
use crate::clock::Timestamp;

/// A message on a WebSocket.
pub(super) struct Frame {
    pub(super) sent: bool,
    pub(super) at: Timestamp,
    pub(super) data: Vec<u8>,
}

/// The recorded messages, by time where all of them say one.
pub(super) fn read(messages: Value, opened: Timestamp) -> Vec<Frame> {
    let Value::Array(messages) = messages else { return Vec::new() };
    let timed = messages.iter().all(|message| message["time"].is_number());
    let mut frames: Vec<(f64, Frame)> = messages.into_iter().filter_map(|m| frame(m, opened)).collect();
    if timed {
        frames.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    frames.into_iter().map(|(_, frame)| frame).collect()
}

/// The messages of a recorder that keeps each direction as a body, with a message per line or in one list: what was
/// sent, then what was received, since their order is lost.
pub(super) fn of_bodies(sent: &[u8], received: &[u8], opened: Timestamp) -> Vec<Frame> {
    let frame = |sent: bool| move |data: Vec<u8>| Frame { sent, at: opened, data };
    let sent = lines(sent).into_iter().map(frame(true));
    sent.chain(lines(received).into_iter().map(frame(false))).collect()
}

fn lines(body: &[u8]) -> Vec<Vec<u8>> {
    if let Ok(list) = serde_json::from_slice::<Vec<&RawValue>>(body) {
        return list.into_iter().map(|message| plain(message.get())).collect();
    }
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect()
}

/// A message that is text in the list is the message; any other is JSON itself.
fn plain(message: &str) -> Vec<u8> {
    serde_json::from_str::<String>(message).map_or_else(|_| message.into(), String::into_bytes)
}

fn frame(mut message: Value, opened: Timestamp) -> Option<(f64, Frame)> {
    /// A time further off than this is counted from somewhere else than the epoch.
    const DAY_MICROS: u64 = 24 * 3_600_000_000;
    let binary = message["opcode"].as_u64() == Some(2);
    let time = message["time"].as_f64().unwrap_or(0.0);
    let at = epoch(time).filter(|at| at.micros().abs_diff(opened.micros()) < DAY_MICROS).unwrap_or(opened);
    let sent = is_sent(message["type"].as_str().or(message["direction"].as_str())?)?;
    let data = match message["data"].take() {
        Value::String(text) => decoded(text, binary),
        data @ (Value::Object(_) | Value::Array(_)) => data.to_string().into_bytes(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    Some((time, Frame { sent, at, data }))
}

/// Chromium writes `send` and `receive`; other recorders have words of their own.
fn is_sent(word: &str) -> Option<bool> {
    const SENT: [&str; 6] = ["send", "sent", "request", "outgoing", "client", "out"];
    const RECEIVED: [&str; 6] = ["receive", "received", "response", "incoming", "server", "in"];
    let is = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
    if is(&SENT) { Some(true) } else { is(&RECEIVED).then_some(false) }
}

/// A binary message is base64; so is a text that is nothing else and hides an object.
fn decoded(text: String, binary: bool) -> Vec<u8> {
    match base64::decode(&text) {
        Some(bytes) if binary || bytes.starts_with(b"{") => bytes,
        Some(_) | None => text.into_bytes(),
    }
}

/// A point of time from seconds since the epoch, or from milliseconds where they are too many for seconds.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
pub(super) fn epoch(time: f64) -> Option<Timestamp> {
    /// From the year 2001 to 5138: anything else is no time of a recording.
    const SECONDS: std::ops::Range<f64> = 1e9..1e11;
    let seconds = if time < SECONDS.end { time } else { time / 1_000.0 };
    SECONDS.contains(&seconds).then(|| Timestamp::from_micros((seconds * 1e6) as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OPENED: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    fn texts(frames: &[Frame]) -> Vec<(bool, &str)> {
        frames.iter().map(|frame| (frame.sent, std::str::from_utf8(&frame.data).unwrap())).collect()
    }

    #[test]
    fn messages_come_in_the_order_of_their_time() {
        let frames = read(
            json!([{"type": "receive", "time": 1_795_219_202.5, "opcode": 1, "data": "b"},
                {"type": "send", "time": 1_795_219_201.0, "opcode": 2, "data": "YQ=="},
                {"type": "send", "time": 9e300, "opcode": 2, "data": "{}"}, {"type": "close", "time": 0}]),
            OPENED,
        );
        assert_eq!(texts(&frames), [(true, "a"), (false, "b"), (true, "{}")]);
        assert_eq!(frames[1].at.micros() - OPENED.micros(), 2_500_000);
        assert_eq!(frames[2].at, OPENED);
    }

    #[test]
    fn other_recorders_words_and_objects_are_read() {
        let frames = read(
            json!([{"direction": "outgoing", "data": {"b": 1, "a": 2}}, {"type": "response", "data": "eyJhIjoxfQ=="},
                {"type": "Received", "data": "test"}]),
            OPENED,
        );
        assert_eq!(texts(&frames), [(true, r#"{"b":1,"a":2}"#), (false, r#"{"a":1}"#), (false, "test")]);
    }

    #[test]
    fn the_bodies_of_one_entry_are_its_messages() {
        let want = [(true, r#"{"a":1}"#), (false, r#"{"b":2}"#), (false, r#"{"c":3}"#)];
        for (sent, received) in [
            ("{\"a\":1}\n", "{\"b\":2}\r\n\n{\"c\":3}"),
            ("[{\"a\":1}]", "[{\"b\":2}, {\"c\":3}]"),
            ("{\"a\":1}", r#"["{\"b\":2}", "{\"c\":3}"]"#),
        ] {
            assert_eq!(texts(&of_bodies(sent.as_bytes(), received.as_bytes(), OPENED)), want, "{sent}");
        }
    }
}
