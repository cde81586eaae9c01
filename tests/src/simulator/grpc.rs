//! A gRPC service: sends every message back so many times as its first byte says, then its status in trailers.
//!
//! It is as strict as a real one about what a proxy on the way may not lose: `te: trailers`, and the framing.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};

use super::{
    body::Answer,
    directive::Directive,
    log::{Exchange, Log},
};

/// Compressed flag and length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

pub fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

pub fn answer(headers: &HeaderMap, body: &[u8], record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let message = body.get(PREFIX..).unwrap_or_default();
    let mut trailers = HeaderMap::new();
    let takes_trailers = headers.get(header::TE).is_some_and(|te| te == "trailers");
    let whole = body.len() > PREFIX && body[1..PREFIX] == u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let (status, count) = match (takes_trailers, whole) {
        (true, true) => ("0", usize::from(message[0])),
        // INTERNAL: something on the way changed the request.
        _ => ("13", 0),
    };
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("sim-messages", HeaderValue::from(count));
    let pieces = vec![Bytes::copy_from_slice(body); count];
    let answer = Answer::start(pieces, &Directive::default(), record, log).with_trailers(trailers);
    let mut response = Response::new(answer);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
