//! The answer's body: every frame goes to the agent at once and to the usage reader; its end settles the exchange. One
//! that costs more than can be held, or whose account is shut, is cut.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    connections::Busy,
    cut::{Last, Shape},
    live::Live,
};
use crate::{
    coding::Decoder,
    exchange::End,
    usage::{BodyEnd, Problem, Reader, Reading, strip::UsageStripper},
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

/// Where an answer's bytes come from: what was read ahead to be looked at, then the rest. Whoever reads it gets the
/// provider's frames, whole and in their order, and its error where it broke off.
pub(crate) struct AnswerSource<B: Body = Incoming> {
    ahead: VecDeque<Result<Frame<Bytes>, B::Error>>,
    /// `None` once its end or its error was read.
    rest: Option<B>,
    /// Its end is one that the provider has said, where the body knows: of HTTP/2, whose streams can be reset without an
    /// error too (`NO_ERROR`), hyper shows both as the end.
    says_its_end: bool,
}

impl<B: Body<Data = Bytes> + Unpin> AnswerSource<B> {
    pub(crate) fn new(body: B, version: Version) -> Self {
        Self { ahead: VecDeque::new(), rest: Some(body), says_its_end: version == Version::HTTP_2 }
    }

    /// Of an answer that is not read on: dropping the rest ends it for the provider too.
    fn ended() -> Self {
        Self { ahead: VecDeque::new(), rest: None, says_its_end: false }
    }

    /// Whether what reads like the end is none.
    fn was_left(&self) -> bool {
        self.says_its_end && self.rest.as_ref().is_some_and(|body| !body.is_end_stream())
    }

    /// Shows the first bytes, `max` of them or somewhat more, or fewer where the body ends or breaks off. They stay in
    /// place.
    pub(crate) async fn look(&mut self, max: usize) -> Bytes {
        let mut seen = BytesMut::new();
        while seen.len() < max
            && let Some(body) = &mut self.rest
        {
            let frame = body.frame().await;
            match &frame {
                Some(Ok(frame)) => seen.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
                // Whoever reads on finds that it was left.
                None if self.says_its_end => break,
                Some(Err(_)) | None => self.rest = None,
            }
            self.ahead.extend(frame);
        }
        seen.freeze()
    }
}

impl<B: Body<Data = Bytes, Error: Unpin> + Unpin> Body for AnswerSource<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.ahead.pop_front() {
            return Poll::Ready(Some(frame));
        }
        match &mut self.rest {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(body) if self.ahead.is_empty() => body.size_hint(),
            // An exact length would replace a framing in which an error or trailers show.
            Some(_) | None => SizeHint::default(),
        }
    }
}

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

#[cfg(test)]
mod tests {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::tasks;

    /// Frames as a provider may send them.
    struct Frames(VecDeque<Result<Frame<Bytes>, &'static str>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    /// What the agent gets after `max` bytes were looked at: data, then how it ended.
    async fn looked_at(
        frames: impl IntoIterator<Item = Result<Frame<Bytes>, &'static str>>,
        max: usize,
    ) -> (Bytes, String, &'static str) {
        let mut source = AnswerSource::new(Frames(frames.into_iter().collect()), Version::HTTP_11);
        let seen = source.look(max).await;
        let (mut passed, mut end) = (String::new(), "complete");
        while let Some(frame) = source.frame().await {
            assert_eq!(source.size_hint().exact(), None);
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => passed.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(Err(_)) => end = "trailers",
                Err(error) => end = error,
            }
        }
        (seen, passed, end)
    }

    #[tokio::test]
    async fn a_body_longer_than_what_is_looked_at_is_passed_on_whole() {
        let frames = || [data("one"), data("two"), data("three"), Frame::trailers(HeaderMap::new())].map(Ok);
        for (max, seen) in [(0, ""), (1, "one"), (4, "onetwo"), (1_000, "onetwothree")] {
            let (looked, passed, end) = looked_at(frames(), max).await;
            assert_eq!((&looked[..], passed.as_str(), end), (seen.as_bytes(), "onetwothree", "trailers"), "{max}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_while_it_is_looked_at_breaks_off_for_the_agent_too() {
        let (seen, passed, end) = looked_at([Ok(data("one")), Err("reset")], 1_000).await;
        assert_eq!((&seen[..], passed.as_str(), end), (&b"one"[..], "one", "reset"));
    }

    /// A frame of HTTP/2 (RFC 9113, section 4.1) of the first stream, or of the connection.
    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream][..], payload].concat()
    }

    /// Answers the first request on a connection with these frames.
    async fn answer_with(mut io: DuplexStream, frames: Vec<u8>) -> DuplexStream {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        io.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        loop {
            let mut head = [0; 9];
            io.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            io.read_exact(&mut payload).await.unwrap();
            // The request.
            if head[3] == 1 {
                io.write_all(&frames).await.unwrap();
                return io;
            }
        }
    }

    /// What is read of an answer over HTTP/2 that ends with this frame, and whether that is its end.
    async fn ended_by(last: Vec<u8>) -> (String, bool) {
        let status_200 = frame(1, 4, 1, &[0x88]);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(ours));
        let provider = answer_with(theirs, [status_200, frame(0, 0, 1, b"one"), last].concat());
        let asking = async {
            let (mut sender, connection) = connecting.await.unwrap();
            tasks::spawn("connection", async { drop(connection.await) });
            let request = http::Request::get("http://provider/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
            sender.send_request(request).await.unwrap()
        };
        let (response, _provider) = tokio::join!(asking, provider);
        let mut source = AnswerSource::new(response.into_body(), Version::HTTP_2);
        let looked_at = source.look(1_000).await;
        let mut passed = String::new();
        while let Some(frame) = source.frame().await {
            passed.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
        assert_eq!(looked_at, passed);
        (passed, !source.was_left())
    }

    #[tokio::test]
    async fn a_stream_that_is_reset_without_an_error_has_not_ended() {
        assert_eq!(ended_by(frame(0, 1, 1, b"two")).await, ("onetwo".to_owned(), true));
        assert_eq!(ended_by(frame(3, 0, 1, &[0; 4])).await, ("one".to_owned(), false));
    }
}
