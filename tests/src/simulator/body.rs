//! The body of an answer: pieces written when their time has come, and the log line when it ends, however it ends.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_compression::tokio::write::{BrotliEncoder, DeflateEncoder, GzipEncoder, ZstdEncoder};
use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    directive::{Directive, Encoding},
    log::{End, Entry, Exchange, Log},
};

/// Stands in a piece for the time of sending: replaced by `at:` and twenty digits, the nanoseconds of the monotonic
/// clock, which all processes of a host share.
pub const STAMP: &str = "at:00000000000000000000";

/// One piece on its way to the connection.
enum Piece {
    More(Bytes),
    Last(Bytes),
    Cut,
}

/// An answer's body. Writes its exchange to the log when it has ended or is dropped.
pub struct Answer {
    pieces: mpsc::Receiver<Piece>,
    /// What follows the last piece.
    trailers: Option<HeaderMap>,
    record: Option<Record>,
}

struct Record {
    exchange: Exchange,
    log: Arc<Log>,
}

impl Answer {
    /// Starts writing `pieces` (already compressed) as the directive says.
    pub fn start(pieces: Vec<Bytes>, directive: &Directive, exchange: Exchange, log: Arc<Log>) -> Self {
        // One piece at a time: what has not been asked for is not sent.
        let (sender, receiver) = mpsc::channel(1);
        let pace = Pace {
            delay: Duration::from_millis(directive.delay_ms),
            bytewise: directive.bytewise,
            cut_after: directive.cut_after,
            hang: directive.hang,
            stamp: directive.stamp,
        };
        tokio::spawn(feed(pieces, pace, sender));
        Self { pieces: receiver, trailers: None, record: Some(Record { exchange, log }) }
    }

    /// Of an answer that has none; its log line is somebody else's.
    pub fn nothing() -> Self {
        Self { pieces: mpsc::channel(1).1, trailers: None, record: None }
    }

    /// Ends with trailers.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(trailers);
        self
    }

    fn end(&mut self, end: End) {
        if let Some(Record { mut exchange, log }) = self.record.take() {
            exchange.end = end;
            log.write(&Entry::Exchange(Box::new(exchange)));
        }
    }

    fn count(&mut self, bytes: &Bytes) {
        if let Some(record) = &mut self.record {
            record.exchange.response_bytes += bytes.len() as u64;
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.end(End::ClientGone);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.pieces.poll_recv(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Piece::More(bytes))) => {
                self.count(&bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Piece::Last(bytes))) => {
                self.count(&bytes);
                // A body of known length is not polled again after its last byte.
                self.end(End::Complete);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Some(Piece::Cut)) => {
                self.end(End::Cut);
                Poll::Ready(Some(Err(io::Error::other("cut by its directive"))))
            }
            Poll::Ready(None) => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }
}

struct Pace {
    delay: Duration,
    bytewise: bool,
    cut_after: Option<usize>,
    hang: bool,
    stamp: bool,
}

/// Nanoseconds of the monotonic clock.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

fn stamped(piece: &Bytes) -> Bytes {
    match std::str::from_utf8(piece) {
        Ok(text) => Bytes::from(text.replace(STAMP, &format!("at:{:020}", monotonic_ns()))),
        Err(_) => piece.clone(),
    }
}

/// Hands over the pieces; ends early when the body is gone.
async fn feed(pieces: Vec<Bytes>, pace: Pace, sender: mpsc::Sender<Piece>) {
    let count = pieces.len();
    for (index, piece) in pieces.into_iter().enumerate() {
        if pace.cut_after == Some(index) {
            // What went before is on its way by then; the streams of HTTP/2 take it back otherwise.
            tokio::time::sleep(pace.delay).await;
            let _ = sender.send(Piece::Cut).await;
            return;
        }
        if pace.hang && index == 1 {
            sender.closed().await;
            return;
        }
        if index > 0 && !pace.delay.is_zero() {
            tokio::time::sleep(pace.delay).await;
        }
        let piece = if pace.stamp { stamped(&piece) } else { piece };
        let last = index + 1 == count && pace.cut_after != Some(count);
        if send(piece, last, pace.bytewise, &sender).await.is_err() {
            return;
        }
    }
    if pace.cut_after.is_some_and(|after| after >= count) {
        let _ = sender.send(Piece::Cut).await;
    }
}

async fn send(
    piece: Bytes,
    last: bool,
    bytewise: bool,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), mpsc::error::SendError<Piece>> {
    let label = |bytes, last| if last { Piece::Last(bytes) } else { Piece::More(bytes) };
    if !bytewise {
        return sender.send(label(piece, last)).await;
    }
    let end = piece.len();
    for at in 0..end {
        sender.send(label(piece.slice(at..=at), last && at + 1 == end)).await?;
        // The connection flushes when it finds nothing more to write.
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Compresses a body piece by piece, each flushed, so that a reader sees a piece as soon as it is sent.
pub async fn compress(pieces: Vec<Bytes>, encoding: Encoding) -> io::Result<Vec<Bytes>> {
    match encoding {
        Encoding::Gzip => squeeze(pieces, GzipEncoder::new(Vec::new()), GzipEncoder::get_mut).await,
        Encoding::Br => squeeze(pieces, BrotliEncoder::new(Vec::new()), BrotliEncoder::get_mut).await,
        Encoding::Zstd => squeeze(pieces, ZstdEncoder::new(Vec::new()), ZstdEncoder::get_mut).await,
        Encoding::Deflate => squeeze(pieces, DeflateEncoder::new(Vec::new()), DeflateEncoder::get_mut).await,
    }
}

async fn squeeze<E: AsyncWrite + Unpin>(
    pieces: Vec<Bytes>,
    mut encoder: E,
    written: fn(&mut E) -> &mut Vec<u8>,
) -> io::Result<Vec<Bytes>> {
    let count = pieces.len();
    let mut squeezed = Vec::with_capacity(count);
    for (index, piece) in pieces.into_iter().enumerate() {
        encoder.write_all(&piece).await?;
        if index + 1 == count {
            encoder.shutdown().await?;
        } else {
            encoder.flush().await?;
        }
        squeezed.push(Bytes::from(std::mem::take(written(&mut encoder))));
    }
    Ok(squeezed)
}
