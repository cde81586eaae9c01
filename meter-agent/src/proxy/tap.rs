//! The usage reader's side of an answer: its bytes as they are on the wire, decoded within bounds.

use crate::{
    coding::Decoder,
    usage::{BodyEnd, Reader, Reading},
};

/// Reads usage from an answer's bytes as they are on the wire.
pub(crate) struct Tap {
    decoder: Option<Decoder>,
    reader: Box<dyn Reader>,
}

impl Tap {
    pub(crate) fn new(content_encoding: Option<&str>, reader: Box<dyn Reader>) -> Self {
        Self { decoder: Decoder::new(content_encoding), reader }
    }

    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        let Some(decoder) = &mut self.decoder else { return };
        let reader = &mut self.reader;
        if decoder.feed(chunk, |decoded| reader.feed(decoded)).is_err() {
            // What can't be decoded can't be read: the reader will say that its answer was cut.
            self.decoder = None;
        }
    }

    pub(crate) fn so_far(&self) -> Option<Reading> {
        self.decoder.as_ref().and_then(|_| self.reader.so_far())
    }

    pub(crate) fn finish(mut self, end: BodyEnd) -> Reading {
        self.reader.finish(if self.decoder.is_some() { end } else { BodyEnd::Cut })
    }
}
