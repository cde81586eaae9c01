//! Request bodies: read whole where they must be understood, streamed where they need not be.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest JSON request that is read: several times what any provider takes.
pub(crate) const REQUEST_MAX: usize = 64 * 1024 * 1024;

/// Bytes of request bodies that are in memory at one time, all agents' together: a streamed connection may have
/// hundreds of requests, and each of them a body of [`REQUEST_MAX`].
const BODIES_MAX: usize = 1024 * 1024 * 1024;
/// What a permit stands for.
const PIECE: usize = 64 * 1024;

/// What is taken of a body that nobody wants, and for how long: more than a request without a file in it has.
const DISCARDED_MAX: usize = 256 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Takes the body of a request that is refused without it. An agent that still sends when its answer comes may take
/// the end of its stream, or of its connection, for a failure, and try again; of a large body it has to.
pub(crate) async fn discard(mut body: Incoming) {
    let mut left = DISCARDED_MAX;
    let all = async {
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, all).await;
}

/// Room for request bodies.
pub(crate) struct Room(Arc<Semaphore>);

/// A body's part of the room, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Taken(Option<OwnedSemaphorePermit>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BODIES_MAX / PIECE)))
    }
}

impl Room {
    /// Makes sure that `taken` has room for `bytes`.
    fn take(&self, taken: &mut Taken, bytes: usize) -> Result<(), ReadError> {
        let have = taken.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from(bytes.div_ceil(PIECE).saturating_sub(have)).unwrap_or(u32::MAX);
        if more == 0 {
            return Ok(());
        }
        let permit = Arc::clone(&self.0).try_acquire_many_owned(more).map_err(|_| ReadError::NoRoom)?;
        match &mut taken.0 {
            Some(own) => own.merge(permit),
            None => taken.0 = Some(permit),
        }
        Ok(())
    }
}

/// Whether a byte of the request may have left the machine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A request's body on its way to the provider. That it is asked for, or whether there is one, is the first sign that
/// the request leaves: the HTTP client does so when it has a connection and writes the head.
pub(crate) struct RequestBody {
    source: Source,
    sent: Sent,
}

enum Source {
    Whole(Option<Bytes>),
    Streamed(Incoming),
}

impl RequestBody {
    pub(crate) fn whole(bytes: Bytes, sent: Sent) -> Self {
        Self { source: Source::Whole(Some(bytes).filter(|b| !b.is_empty())), sent }
    }

    pub(crate) fn streamed(body: Incoming, sent: Sent) -> Self {
        Self { source: Source::Streamed(body), sent }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.sent.set();
        match &mut self.source {
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Streamed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.sent.set();
        match &self.source {
            Source::Whole(bytes) => bytes.is_none(),
            Source::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Source::Streamed(body) => body.size_hint(),
        }
    }
}

/// Why a body could not be read whole.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge,
    /// Too many others are in memory.
    NoRoom,
    /// The agent broke off.
    Gone,
}

/// Reads a body whole, up to `max` bytes, as far as there is room.
pub(crate) async fn read_whole(mut body: Incoming, max: usize, room: &Room) -> Result<(Bytes, Taken), ReadError> {
    let mut taken = Taken::default();
    let stated = body.size_hint().lower();
    if stated > max as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ReadError::Gone)?.into_data() else { continue };
        let have = first.as_ref().map_or(0, Bytes::len) + rest.len();
        if have + data.len() > max {
            return Err(ReadError::TooLarge);
        }
        room.take(&mut taken, have + data.len())?;
        // Most bodies arrive in one frame, which then needs no copy.
        match first.take() {
            None if rest.is_empty() => first = Some(data),
            None => rest.extend_from_slice(&data),
            Some(one) => {
                rest.reserve(usize::try_from(stated).unwrap_or(0).max(one.len() + data.len()));
                rest.extend_from_slice(&one);
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok((first.unwrap_or_else(|| rest.freeze()), taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_body_leaves_too() {
        let sent = Sent::default();
        let body = RequestBody::whole(Bytes::new(), sent.clone());
        assert!(!sent.is_set() && body.size_hint().exact() == Some(0));
        assert!(body.is_end_stream() && sent.is_set());
    }

    #[test]
    fn room_is_bounded_taken_once_and_given_back() {
        let room = Room::default();
        let mut all = Taken::default();
        room.take(&mut all, 1).unwrap();
        room.take(&mut all, BODIES_MAX).unwrap();
        let mut other = Taken::default();
        assert!(matches!(room.take(&mut other, 1), Err(ReadError::NoRoom)));
        drop(all);
        room.take(&mut other, BODIES_MAX).unwrap();
    }
}
