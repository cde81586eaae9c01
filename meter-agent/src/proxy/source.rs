//! Where an answer's bytes come from: the provider's frames, some of which may have been looked at before.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::Version;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

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
    pub(super) fn ended() -> Self {
        Self { ahead: VecDeque::new(), rest: None, says_its_end: false }
    }

    /// Whether what reads like the end is none.
    pub(super) fn was_left(&self) -> bool {
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

#[cfg(test)]
mod tests {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::tasks;
    use http::HeaderMap;

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
