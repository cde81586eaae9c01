//! The answer's body: every frame goes to the agent at once and to the usage reader; its end settles the exchange. One
//! that costs more than can be held, or whose account is shut, is cut.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    connections::Busy,
    cut::{Last, Shape},
    live::Live,
    source::AnswerSource,
};
use crate::{
    exchange::End,
    usage::{Problem, Reading, strip::UsageStripper},
};

/// A body to an agent.
pub(crate) enum AnswerBody {
    /// The meter's own words.
    Whole(Option<Bytes>),
    Metered(Box<Metered>),
}

impl AnswerBody {
    pub(crate) fn nothing() -> Self {
        Self::Whole(None)
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

/// Why an answer to an agent breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    ByProvider(hyper::Error),
    #[error("the provider left its answer before the end")]
    Left,
    #[error("cut: {0}")]
    ByMeter(String),
}

/// A provider's answer on its way. Dropped before its end, the agent has left, and its [`Live`] says so.
pub(crate) struct Metered {
    upstream: AnswerSource,
    live: Option<Live>,
    shape: Shape,
    /// Why it is cut: everything but the last word has been done.
    cut: Option<Arc<Problem>>,
    /// What came before the cut is on its way.
    flushed: bool,
    /// The wait for being told to cut it, once there was nothing else to wait for.
    told: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The end of the connection is the end of the body (HTTP/1.0), so that only a reset shows that it broke off.
    ends_with_connection: bool,
    stripper: Option<UsageStripper>,
    /// Frames that the stripper let go and that are not yet taken.
    ready: VecDeque<Bytes>,
    /// Trailers that wait for what the stripper held.
    trailers: Option<Frame<Bytes>>,
    /// Bytes still to come, where the answer says how long it is.
    remaining: Option<u64>,
    /// Data has come.
    any: bool,
    busy: Busy,
}

/// What is known of an answer beside its body.
#[derive(Default)]
pub(crate) struct Framing {
    pub(crate) shape: Shape,
    pub(crate) stripper: Option<UsageStripper>,
    /// Where the answer says how long it is.
    pub(crate) content_length: Option<u64>,
    pub(crate) ends_with_connection: bool,
}

impl Metered {
    pub(crate) fn new(upstream: AnswerSource, live: Live, framing: Framing, busy: Busy) -> Self {
        let mut body = Self {
            upstream,
            live: Some(live),
            shape: framing.shape,
            cut: None,
            flushed: false,
            told: None,
            ends_with_connection: framing.ends_with_connection,
            stripper: framing.stripper,
            ready: VecDeque::new(),
            trailers: None,
            remaining: framing.content_length,
            any: false,
            busy,
        };
        if body.remaining == Some(0) || body.upstream.is_end_stream() {
            body.end(&End::Complete);
        }
        body
    }

    fn end(&mut self, end: &End) {
        if let Some(live) = self.live.take() {
            live.end(end);
        }
    }

    /// A gRPC call says there how it went: one that failed before it said anything used nothing, and one that failed
    /// later was cut.
    fn end_with_trailers(&mut self, trailers: Option<&HeaderMap>) {
        let Some(status) = trailers.and_then(failed_grpc) else { return self.end(&End::Complete) };
        let why = format!("the call ended with grpc-status {status}");
        if !self.any
            && let Some(live) = &mut self.live
        {
            live.open().reading = Some(Reading::free("the call failed"));
        }
        self.end(&End::ProviderCut(why));
    }

    /// Accounts for a chunk before the agent sees it: once it has the last byte, the charge stands.
    fn data(&mut self, chunk: Bytes) -> Option<Bytes> {
        self.any |= !chunk.is_empty();
        if let Some(live) = &mut self.live {
            live.feed(&chunk);
        }
        if let Some(left) = &mut self.remaining {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        if self.remaining == Some(0) || self.upstream.is_end_stream() {
            self.end(&End::Complete);
        }
        let bytes = chunk.len();
        let out = match &mut self.stripper {
            None => Some(chunk),
            Some(stripper) => {
                self.ready.extend(stripper.push(chunk));
                self.ready.pop_front()
            }
        };
        if let Some(problem) = self.live.as_mut().and_then(|live| live.passed(bytes)) {
            self.cut(&Arc::new(*problem));
        }
        out
    }

    /// Ends it for the provider and for the ledger at once; the agent is still told, in whatever shape there is for it.
    fn cut(&mut self, problem: &Arc<Problem>) {
        self.upstream = AnswerSource::ended();
        self.end(&End::Cut { status: None, why: problem.text() });
        // Half an event, which says nothing to the agent.
        self.stripper = None;
        self.cut = Some(Arc::clone(problem));
    }

    /// Why people want it cut. It costs nothing more once it has ended, and is passed on then.
    fn is_told(&self) -> Option<Arc<Problem>> {
        self.live.as_ref().and(self.busy.connection().cut_for()).cloned()
    }

    /// Waits for being told.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.live.is_none() {
            return Poll::Pending;
        }
        let connection = self.busy.connection();
        self.told.get_or_insert_with(|| Box::pin(connection.told_to_cut())).as_mut().poll(cx)
    }

    /// The last word of an answer that was cut.
    fn last(&mut self, problem: &Problem) -> Result<Frame<Bytes>, Broken> {
        match self.shape.last(problem) {
            Last::Words(words) => Ok(Frame::data(words)),
            Last::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Last::Abort => {
                self.show_break();
                Err(Broken::ByMeter(problem.text()))
            }
        }
    }

    /// The provider broke it off, and so it breaks off for the agent.
    fn broken(&mut self, why: Broken) -> Broken {
        self.end(&End::ProviderCut(why.to_string()));
        self.show_break();
        why
    }

    /// Where the end of the connection is the end of the body, only a reset is a break.
    fn show_break(&self) {
        if self.ends_with_connection {
            self.busy.connection().reset();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let next = self.poll_next(cx);
        if let Poll::Ready(Some(Ok(frame))) = &next
            && let Some(data) = frame.data_ref()
        {
            self.shape.pass(data);
        }
        next
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            if let Some(problem) = self.is_told() {
                self.cut(&problem);
            }
            if self.cut.is_some() && !std::mem::replace(&mut self.flushed, true) {
                // Who writes the answer sends what it has so far, and comes back: an abort would throw it away.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(problem) = self.cut.take() {
                return Poll::Ready(Some(self.last(&problem)));
            }
            let Poll::Ready(frame) = Pin::new(&mut self.upstream).poll_frame(cx) else {
                if self.poll_told(cx).is_pending() {
                    return Poll::Pending;
                }
                continue;
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(chunk) => {
                        if let Some(chunk) = self.data(chunk) {
                            return Poll::Ready(Some(Ok(Frame::data(chunk))));
                        }
                    }
                    Err(trailers) => {
                        // They are the end: nobody asks for what follows them.
                        self.end_with_trailers(trailers.trailers_ref());
                        // No data comes after them, so what is held comes before.
                        self.ready.extend(self.stripper.take().and_then(|mut s| s.finish()));
                        self.trailers = Some(trailers);
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(self.broken(Broken::ByProvider(error))))),
                None if self.upstream.was_left() => return Poll::Ready(Some(Err(self.broken(Broken::Left)))),
                None => {
                    self.end(&End::Complete);
                    let held = self.stripper.take().and_then(|mut s| s.finish());
                    return Poll::Ready(held.map(|chunk| Ok(Frame::data(chunk))));
                }
            }
        }
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        // It was not polled any more, since its agent does not read.
        if let Some(problem) = self.is_told() {
            self.end(&End::Cut { status: None, why: problem.text() });
        }
    }
}

/// The status of a gRPC call that failed, where these headers or trailers state one.
pub(super) fn failed_grpc(headers: &HeaderMap) -> Option<&str> {
    headers.get("grpc-status")?.to_str().ok().filter(|status| *status != "0")
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Metered(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            // What the stripper holds may still be let go.
            Self::Metered(body) => {
                body.stripper.is_none()
                    && body.cut.is_none()
                    && body.ready.is_empty()
                    && body.trailers.is_none()
                    && body.upstream.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Metered(body) if body.stripper.is_some() => SizeHint::default(),
            Self::Metered(body) => body.upstream.size_hint(),
        }
    }
}
