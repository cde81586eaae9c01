//! xAI's chat over gRPC, streamed (<https://github.com/xai-org/xai-proto>): every message tells the usage so far, and the
//! last one why it ended.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use super::{
    body::Answer,
    directive::Directive,
    log::{Exchange, Log},
    turn::{Asked, Billed, Turn},
};

pub const PATH: &str = "/xai_api.Chat/GetCompletionChunk";

/// The kinds of fields that it has.
const NUMBER: u64 = 0;
const BYTES: u64 = 2;

/// REASON_MAX_LEN and REASON_STOP.
const ENDS: [u64; 2] = [1, 3];

pub fn answer(body: &[u8], id: u64, mut record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let message = body.get(5..).unwrap_or_default();
    let text = String::from_utf8_lossy(message).into_owned();
    let directive = Directive::find(&text);
    // GetCompletionsRequest: 2 is the model, 7 the most tokens.
    let asked = Asked {
        model: bytes_of(message, 2).map(String::from_utf8_lossy).unwrap_or_default().into_owned(),
        ceiling: number_of(message, 7),
        characters: text.len(),
        stream: true,
        ..Asked::default()
    };
    let turn = Turn::new(&asked, directive.as_ref().unwrap_or(&Directive::default()), id, record.time_ms / 1000);
    record.requested_model.clone_from(&asked.model);
    record.model.clone_from(&turn.model);
    (record.billed, record.stream, record.usage_sent) = (turn.billed, true, true);
    let mut trailers = HeaderMap::new();
    // INVALID_ARGUMENT where a test has mistyped.
    trailers.insert("grpc-status", HeaderValue::from_static(if directive.is_ok() { "0" } else { "3" }));
    let pieces = if directive.is_ok() { chunks(&turn) } else { Vec::new() };
    let request_id = HeaderValue::from_str(&record.request_id).expect("plain letters");
    let answer = Answer::start(pieces, &directive.unwrap_or_default(), record, log).with_trailers(trailers);
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("x-request-id", request_id);
    response
}

/// The messages of a stream, framed.
fn chunks(turn: &Turn) -> Vec<Bytes> {
    // CompletionOutputChunk: 1 is the delta with its content, 3 why it ended.
    let count = turn.pieces.len() as u64;
    let made = |at: u64| turn.billed.output_tokens * at / count.max(1);
    let text = turn
        .pieces
        .iter()
        .zip(1..)
        .map(|(piece, at)| framed(&chunk(turn, &bytes(1, &bytes(1, piece.as_bytes())), made(at))));
    let end = number(3, ENDS[usize::from(!turn.truncated)]);
    text.chain([framed(&chunk(turn, &end, turn.billed.output_tokens))]).collect()
}

/// GetChatCompletionChunk: its id, the one output, the model, and the usage.
fn chunk(turn: &Turn, output: &[u8], made: u64) -> Vec<u8> {
    let id = format!("sim{:08}", turn.id);
    let usage = usage(&turn.billed, made);
    [bytes(1, id.as_bytes()), bytes(2, output), bytes(4, turn.model.as_bytes()), bytes(6, &usage)].concat()
}

/// SamplingUsage: completion, prompt, total, the prompt's text, reasoning (no part of the completion), cached.
fn usage(billed: &Billed, made: u64) -> Vec<u8> {
    let reasoning = billed.reasoning_tokens.min(made);
    let counts = [
        (1, made - reasoning),
        (2, billed.input_tokens),
        (3, billed.input_tokens + made),
        (4, billed.input_tokens),
        (6, reasoning),
        (7, billed.cache_read),
    ];
    counts.into_iter().flat_map(|(field, count)| number(field, count)).collect()
}

/// A message with its flag and its length before it.
fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("messages are small");
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return out;
        }
        out.push(low | 0x80);
    }
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3 | NUMBER), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | BYTES), varint(value.len() as u64), value.to_vec()].concat()
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a message that has only numbers and bytes.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, Result<u64, &[u8]>)> {
    std::iter::from_fn(move || {
        let tag = take_varint(&mut message)?;
        let value = take_varint(&mut message)?;
        if tag % 8 == NUMBER {
            return Some((tag >> 3, Ok(value)));
        }
        let (value, rest) = message.split_at_checked(usize::try_from(value).ok()?)?;
        message = rest;
        Some((tag >> 3, Err(value)))
    })
}

fn bytes_of(message: &[u8], number: u64) -> Option<&[u8]> {
    fields(message).find_map(|(field, value)| value.err().filter(|_| field == number))
}

fn number_of(message: &[u8], number: u64) -> Option<u64> {
    fields(message).find_map(|(field, value)| value.ok().filter(|_| field == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_again() {
        let message = [bytes(1, b"text"), number(7, 300), bytes(2, b"grok-3")].concat();
        assert_eq!((bytes_of(&message, 2), number_of(&message, 7)), (Some(&b"grok-3"[..]), Some(300)));
        assert_eq!((bytes_of(&message, 3), number_of(&message, 1)), (None, None));
    }
}
