//! Content codings, undone beside the way: the agent gets the provider's bytes, the meter reads a decoded copy.
//!
//! The decoders are driven by hand, chunk by chunk: their sink never waits, so neither do they.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use async_compression::tokio::write::{BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder};
use tokio::io::AsyncWrite;

/// Decoded bytes of one body that are looked at. A small answer that inflates beyond this is not an answer.
const DECODED_MAX: usize = 256 * 1024 * 1024;

/// Undoes one content coding, chunk by chunk.
pub(crate) enum Decoder {
    Identity,
    /// `deflate` is zlib by RFC 9110, raw by some servers: the first byte tells.
    DeflateUnseen,
    Gzip(Box<GzipDecoder<Sink>>),
    Brotli(Box<BrotliDecoder<Sink>>),
    Zstd(Box<ZstdDecoder<Sink>>),
    Zlib(Box<ZlibDecoder<Sink>>),
    Deflate(Box<DeflateDecoder<Sink>>),
}

/// Where decoded bytes land until they are taken.
#[derive(Default)]
pub(crate) struct Sink {
    bytes: Vec<u8>,
    total: usize,
}

impl Decoder {
    /// The decoder for a `Content-Encoding`; `None` for one that is not known, or several.
    pub(crate) fn new(content_encoding: Option<&str>) -> Option<Self> {
        let coding = content_encoding.unwrap_or("identity").trim().to_ascii_lowercase();
        Some(match coding.as_str() {
            "" | "identity" => Self::Identity,
            "gzip" | "x-gzip" => Self::Gzip(Box::new(GzipDecoder::new(Sink::default()))),
            "br" => Self::Brotli(Box::new(BrotliDecoder::new(Sink::default()))),
            "zstd" => Self::Zstd(Box::new(ZstdDecoder::new(Sink::default()))),
            "deflate" => Self::DeflateUnseen,
            _ => return None,
        })
    }

    /// Decodes a chunk and hands what came out to `take`.
    pub(crate) fn feed(&mut self, chunk: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        if let (Self::DeflateUnseen, Some(first)) = (&*self, chunk.first()) {
            // A zlib header's low nibble is 8, and its first two bytes are a multiple of 31; no raw block starts so.
            *self = if first & 0x0f == 8 {
                Self::Zlib(Box::new(ZlibDecoder::new(Sink::default())))
            } else {
                Self::Deflate(Box::new(DeflateDecoder::new(Sink::default())))
            };
        }
        match self {
            Self::Identity => {
                take(chunk);
                Ok(())
            }
            Self::DeflateUnseen => Ok(()),
            Self::Gzip(d) => pump(d.as_mut(), chunk, |d| d.get_mut(), take),
            Self::Brotli(d) => pump(d.as_mut(), chunk, |d| d.get_mut(), take),
            Self::Zstd(d) => pump(d.as_mut(), chunk, |d| d.get_mut(), take),
            Self::Zlib(d) => pump(d.as_mut(), chunk, |d| d.get_mut(), take),
            Self::Deflate(d) => pump(d.as_mut(), chunk, |d| d.get_mut(), take),
        }
    }
}

/// Writes and flushes, so that everything that the chunk allows has come out, also of a stream's first event.
fn pump<D: AsyncWrite + Unpin>(
    decoder: &mut D,
    mut chunk: &[u8],
    sink: impl Fn(&mut D) -> &mut Sink,
    mut take: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut cx = Context::from_waker(Waker::noop());
    while !chunk.is_empty() {
        match Pin::new(&mut *decoder).poll_write(&mut cx, chunk) {
            Poll::Ready(Ok(0)) => break,
            Poll::Ready(Ok(n)) => chunk = &chunk[n..],
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Err(io::Error::other("a decoder waited for a sink that never waits")),
        }
    }
    if let Poll::Ready(Err(error)) = Pin::new(&mut *decoder).poll_flush(&mut cx) {
        return Err(error);
    }
    let sink = sink(decoder);
    take(&sink.bytes);
    sink.bytes.clear();
    Ok(())
}

/// Decodes a whole body, up to `max` bytes.
pub(crate) fn decode_whole(content_encoding: Option<&str>, body: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(content_encoding).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "the content encoding is not one of gzip, br, zstd, deflate")
    })?;
    let mut whole = Vec::new();
    for chunk in body.chunks(64 * 1024) {
        decoder.feed(chunk, |decoded| whole.extend_from_slice(decoded))?;
        if whole.len() > max {
            return Err(io::Error::other("the decoded body is too large"));
        }
    }
    Ok(whole)
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.total += buf.len();
        if self.total > DECODED_MAX {
            return Poll::Ready(Err(io::Error::other("the decoded body is too large to be read")));
        }
        self.bytes.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::write as encode;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn encoded(coding: &str, plain: &[u8]) -> Vec<u8> {
        macro_rules! with {
            ($encoder:ident) => {{
                let mut encoder = encode::$encoder::new(Vec::new());
                encoder.write_all(plain).await.unwrap();
                encoder.shutdown().await.unwrap();
                encoder.into_inner()
            }};
        }
        match coding {
            "gzip" => with!(GzipEncoder),
            "br" => with!(BrotliEncoder),
            "zstd" => with!(ZstdEncoder),
            "deflate" => with!(ZlibEncoder),
            "deflate-raw" => with!(DeflateEncoder),
            _ => plain.to_vec(),
        }
    }

    #[tokio::test]
    async fn every_coding_decodes_at_any_split() {
        let plain: Vec<u8> =
            (0..50_000_u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 20).to_le_bytes()).collect();
        for coding in ["identity", "gzip", "br", "zstd", "deflate", "deflate-raw"] {
            let wire = encoded(coding, &plain).await;
            for size in [1, 7, 4_096, wire.len()] {
                let mut decoder = Decoder::new(Some(coding.trim_end_matches("-raw"))).unwrap();
                let mut seen = Vec::new();
                for chunk in wire.chunks(size) {
                    decoder.feed(chunk, |d| seen.extend_from_slice(d)).unwrap();
                }
                assert!(seen == plain, "{coding} in chunks of {size}: {} of {} bytes", seen.len(), plain.len());
            }
        }
    }

    #[test]
    fn an_unknown_coding_is_not_guessed() {
        assert!(Decoder::new(Some("compress")).is_none());
        assert!(Decoder::new(Some("gzip, br")).is_none());
    }
}
