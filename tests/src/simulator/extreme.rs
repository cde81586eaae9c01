//! Answers past every bound: a document of 100 MB, an event of 10 MB, a body that decompresses to a gigabyte.
//!
//! Each is a good Chat Completions answer, with usage, of which a meter may not keep everything.

use async_compression::tokio::write::GzipEncoder;
use bytes::Bytes;
use http::{Response, header};
use tokio::io::AsyncWriteExt;

use super::{
    body::Answer,
    directive::Directive,
    log::{Exchange, Log},
};

/// The request header that names one of them.
pub const EXTREME_HEADER: &str = "x-extreme";

const MEGABYTE: usize = 1 << 20;
/// What `big` and `bomb` decode to, and how long `line`'s one event is.
pub const DOCUMENT_BYTES: usize = 100 * MEGABYTE;
pub const BOMB_BYTES: usize = 1024 * MEGABYTE;
pub const LINE_BYTES: usize = 10 * MEGABYTE;

const HEAD: &str = r#"{"id":"chatcmpl-x","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":{"role":"assistant","content":""#;
const TAIL: &str =
    r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":300,"completion_tokens":200,"total_tokens":500}}"#;
const CHUNK_HEAD: &str = r#"data: {"id":"chatcmpl-x","object":"chat.completion.chunk","model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":{"content":""#;
const CHUNK_TAIL: &str = "\"}}]}\n\n";
const USAGE_CHUNK: &str = "data: {\"id\":\"chatcmpl-x\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":300,\"completion_tokens\":200}}\n\ndata: [DONE]\n\n";

/// The answer of that name.
pub async fn answer(name: &str, mut record: Exchange, log: std::sync::Arc<Log>) -> Response<Answer> {
    let filling = Bytes::from(vec![b'x'; MEGABYTE]);
    let filled = |head: &'static str, megabytes: usize, tail: &[&'static str]| {
        let mut pieces = vec![Bytes::from_static(head.as_bytes())];
        pieces.extend(std::iter::repeat_n(filling.clone(), megabytes));
        pieces.extend(tail.iter().map(|text| Bytes::from_static(text.as_bytes())));
        pieces
    };
    let (kind, encoding, pieces) = match name {
        "big" => ("application/json", None, filled(HEAD, DOCUMENT_BYTES / MEGABYTE, &[TAIL])),
        "line" => ("text/event-stream", None, filled(CHUNK_HEAD, LINE_BYTES / MEGABYTE, &[CHUNK_TAIL, USAGE_CHUNK])),
        _ => ("application/json", Some("gzip"), bomb().await.expect("compressing into memory does not fail")),
    };
    record.stream = kind == "text/event-stream";
    let mut builder = Response::builder().header(header::CONTENT_TYPE, kind).header("x-request-id", &record.request_id);
    if let Some(encoding) = encoding {
        builder = builder.header(header::CONTENT_ENCODING, encoding);
    }
    builder.body(Answer::start(pieces, &Directive::default(), record, log)).expect("every header above is a valid one")
}

/// A gzip body that is one megabyte of text a thousand times: a block after a flush repeats the one before it, so that
/// it can be repeated as it is.
async fn bomb() -> std::io::Result<Vec<Bytes>> {
    let mut encoder = GzipEncoder::new(Vec::new());
    encoder.write_all(HEAD.as_bytes()).await?;
    let text = vec![b'x'; MEGABYTE];
    let mut pieces = Vec::new();
    for _ in 0..2 {
        encoder.write_all(&text).await?;
        encoder.flush().await?;
        pieces.push(Bytes::from(std::mem::take(encoder.get_mut())));
    }
    let again = pieces[1].clone();
    pieces.extend(std::iter::repeat_n(again, BOMB_BYTES / MEGABYTE - 2));
    Ok(pieces)
}
