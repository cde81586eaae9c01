//! Recorded bodies as the dialects read them: decoded where they are still encoded.
//!
//! Most recorders decode and keep the header that says otherwise. So a coding is undone only where the bytes are
//! really in it; where they break, the body is taken as cut there, as the live meter does.

use bytes::Bytes;

use super::entry::Message;
use crate::{
    coding::{Decoder, decode_whole},
    usage::{BodyEnd, Reader},
};

/// A decoder that gets this much, or all there is, and gives nothing back is the wrong one.
const PROBE: usize = 64 * 1024;

/// The largest decoded request: what the live meter reads of one.
const REQUEST_MAX: usize = 64 * 1024 * 1024;

/// A request's body; as it is where it can't be decoded.
pub(super) fn whole(message: &Message) -> Bytes {
    let decoded = coding(message).and_then(|coding| decode_whole(Some(coding), &message.body, REQUEST_MAX).ok());
    decoded.map_or_else(|| message.body.clone(), Bytes::from)
}

/// Hands an answer's body to its reader, and says whether all of it could be.
pub(super) fn feed(message: &Message, reader: &mut dyn Reader) -> BodyEnd {
    let Some(mut decoder) = Decoder::new(coding(message)) else { return BodyEnd::Cut };
    match decoder.feed(&message.body, |decoded| reader.feed(decoded)) {
        Ok(()) => BodyEnd::Complete,
        Err(_) => BodyEnd::Cut,
    }
}

/// The coding that the headers name and the bytes are in.
fn coding(message: &Message) -> Option<&str> {
    let coding = message.header("content-encoding")?;
    // No compressed body of more than a few bytes is text.
    let is_text = std::str::from_utf8(&message.body).is_ok();
    (!is_text && decodes(coding, &message.body)).then_some(coding)
}

/// Whether bytes are in a coding, as far as their start says it.
pub(super) fn decodes(coding: &str, bytes: &[u8]) -> bool {
    let Some(mut decoder) = Decoder::new(Some(coding)) else { return false };
    let mut gives = false;
    let probe = &bytes[..bytes.len().min(PROBE)];
    decoder.feed(probe, |decoded| gives |= !decoded.is_empty()).is_ok() && gives
}
