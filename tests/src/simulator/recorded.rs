//! Recorded answers: a request that names a case of the recorded traffic gets that case's answer, byte for byte.
//!
//! The cases are no part of the project; see [`crate::recorded`].

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::{
    body::Answer,
    directive::Directive,
    log::{Exchange, Log},
};
use crate::recorded::Case;

/// The request header that names the case.
pub const CASE_HEADER: &str = "x-recorded-case";

/// Bytes of one frame: small enough that most bodies come in several.
const FRAME_BYTES: usize = 1_000;

/// The answer of the case, whose id it carries as the request's.
pub fn answer(folder: &Path, id: &str, mut record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let case = Case::load(folder, id);
    let body = Bytes::from(case.response_bytes());
    id.clone_into(&mut record.request_id);
    record.status = case.status;
    record.stream = case.streaming;
    let mut builder = Response::builder()
        .status(StatusCode::from_u16(case.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header("x-request-id", id);
    for (name, value) in case.response_headers.iter().filter(|(name, _)| is_passed(name)) {
        builder = builder.header(name, value);
    }
    if !case.streaming {
        builder = builder.header(header::CONTENT_LENGTH, body.len());
    }
    let pieces = (0..body.len()).step_by(FRAME_BYTES).map(|at| body.slice(at..body.len().min(at + FRAME_BYTES)));
    let answer = Answer::start(pieces.collect(), &Directive::default(), record, log);
    builder.body(answer).expect("the recorded headers are valid ones")
}

/// Framing is this server's own, and the id of the request is the case's.
fn is_passed(name: &str) -> bool {
    const OWN: [&str; 7] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "x-request-id",
        "request-id",
        "x-goog-request-id",
        "keep-alive",
    ];
    !OWN.iter().any(|own| name.eq_ignore_ascii_case(own))
}
