//! Content codings, undone: the agent gets the provider's bytes, the meter reads a decoded copy.
//!
//! Pure: chunk by chunk in, pieces of at most [`PIECE`] bytes out, so that no chunk, however it inflates, is in
//! memory decoded as a whole. Several members or frames one after the other are one body (RFC 1952, RFC 8878).

use std::io;

use compression_codecs::{
    BrotliDecoder, DecodeV2, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
    core::util::{PartialBuffer, WriteBuffer},
    zstd::params::DParameter,
};

/// Decoded bytes of one body that are looked at. A small answer that inflates beyond this is not an answer.
pub const DECODED_MAX: usize = 256 * 1024 * 1024;

/// Decoded bytes that are handed on at one time.
const PIECE: usize = 32 * 1024;

/// 8 MiB, the largest window that HTTP allows (RFC 9659); the format itself would allow gigabytes.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Undoes one content coding, chunk by chunk.
pub struct Decoder {
    state: State,
    total: usize,
}

enum State {
    Identity,
    /// `deflate` is zlib by RFC 9110, raw by some servers: the first byte tells.
    DeflateUnseen,
    Running(Running),
}

struct Running {
    codec: Box<dyn DecodeV2 + Send>,
    piece: Box<[u8]>,
    /// The member or frame has ended; what follows is another one.
    ended: bool,
    /// Whether there can be another one.
    repeats: bool,
}

impl Decoder {
    /// The decoder for a `Content-Encoding`; `None` for one that is not known, or several.
    pub fn new(content_encoding: Option<&str>) -> Option<Self> {
        let coding = content_encoding.unwrap_or("identity").trim().to_ascii_lowercase();
        let state = match coding.as_str() {
            "" | "identity" => State::Identity,
            "gzip" | "x-gzip" => Running::state(Box::new(GzipDecoder::new()), true),
            "br" => Running::state(Box::new(BrotliDecoder::new()), false),
            "zstd" => Running::state(
                Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(ZSTD_WINDOW_LOG)])),
                true,
            ),
            "deflate" => State::DeflateUnseen,
            _ => return None,
        };
        Some(Self { state, total: 0 })
    }

    /// Decodes a chunk and hands what came out to `take`.
    pub fn feed(&mut self, chunk: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        if let (State::DeflateUnseen, Some(first)) = (&self.state, chunk.first()) {
            // A zlib header's low nibble is 8, and its first two bytes are a multiple of 31; no raw block starts so.
            self.state = if first & 0x0f == 8 {
                Running::state(Box::new(ZlibDecoder::new()), false)
            } else {
                Running::state(Box::new(DeflateDecoder::new()), false)
            };
        }
        match &mut self.state {
            State::Identity => {
                take(chunk);
                Ok(())
            }
            State::DeflateUnseen => Ok(()),
            State::Running(running) => {
                let total = &mut self.total;
                running.feed(chunk, &mut |piece| {
                    *total += piece.len();
                    if *total > DECODED_MAX {
                        return Err(io::Error::other("the decoded body is too large to be read"));
                    }
                    take(piece);
                    Ok(())
                })
            }
        }
    }
}

impl Running {
    fn state(codec: Box<dyn DecodeV2 + Send>, repeats: bool) -> State {
        State::Running(Self { codec, piece: vec![0; PIECE].into(), ended: false, repeats })
    }

    /// Decodes and flushes, so that everything that the chunk allows has come out, also of a stream's first event.
    fn feed(&mut self, chunk: &[u8], take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut input = PartialBuffer::new(chunk);
        while !input.unwritten().is_empty() {
            if self.ended {
                if !self.repeats {
                    return Ok(());
                }
                self.codec.reinit()?;
                self.ended = false;
            }
            let before = input.written_len();
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            self.ended = self.codec.decode(&mut input, &mut output)?;
            if input.written_len() == before && output.written_len() == 0 && !self.ended {
                return Err(io::Error::other("the decoder does not get on"));
            }
            take(output.written())?;
        }
        while !self.ended {
            let mut output = WriteBuffer::new_initialized(&mut self.piece);
            let empty = self.codec.flush(&mut output)?;
            take(output.written())?;
            if empty {
                break;
            }
        }
        Ok(())
    }
}

/// Decodes a whole body, up to `max` bytes.
pub fn decode_whole(content_encoding: Option<&str>, body: &[u8], max: usize) -> io::Result<Vec<u8>> {
    let mut decoder = Decoder::new(content_encoding).ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "the content encoding is not one of gzip, br, zstd, deflate")
    })?;
    let mut whole = Vec::new();
    for chunk in body.chunks(PIECE) {
        decoder.feed(chunk, |decoded| {
            if whole.len() <= max {
                whole.extend_from_slice(decoded);
            }
        })?;
        if whole.len() > max {
            return Err(io::Error::other("the decoded body is too large"));
        }
    }
    Ok(whole)
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

    #[tokio::test]
    async fn members_that_follow_each_other_are_one_body() {
        for coding in ["gzip", "zstd"] {
            let wire = [encoded(coding, b"one ").await, encoded(coding, b"two").await].concat();
            assert_eq!(decode_whole(Some(coding), &wire, 100).unwrap(), b"one two", "{coding}");
        }
    }

    #[tokio::test]
    async fn what_inflates_without_end_comes_in_pieces_and_is_broken_off() {
        let plain = vec![0_u8; DECODED_MAX / 64];
        for coding in ["gzip", "zstd", "br", "deflate"] {
            let wire = encoded(coding, &plain).await;
            let mut largest = 0;
            Decoder::new(Some(coding)).unwrap().feed(&wire, |piece| largest = largest.max(piece.len())).unwrap();
            assert!(largest <= PIECE, "{coding}");
            assert!(decode_whole(Some(coding), &wire, 1_000).is_err(), "{coding}");
        }
        let wire = encoded("gzip", &plain).await.repeat(65);
        assert!(Decoder::new(Some("gzip")).unwrap().feed(&wire, |_| {}).is_err());
    }
}
