//! The shape in which an answer ends that the meter cuts: in the provider's own words where the stream has a place for
//! them, and else as an abort that the agent can't take for the end.
//!
//! Owns only where in a stream such a place is: words in the middle of an event would be read as a part of it, and there
//! the stream is aborted too.

use bytes::Bytes;
use http::{HeaderMap, header};

use super::{
    http::{content_length, media_type},
    problem,
};
use crate::usage::{Dialect, Endpoint, EventEnds, FrameEnds, Problem};

/// How an answer can be cut, as far as it has come.
#[derive(Default)]
pub(crate) enum Shape {
    /// Server-sent events.
    Events { dialect: &'static dyn Dialect, endpoint: Endpoint, passed: EventEnds },
    /// An AWS event stream.
    Frames { dialect: &'static dyn Dialect, passed: FrameEnds },
    /// gRPC.
    Trailers,
    #[default]
    Abort,
}

/// What the agent is given last.
pub(crate) enum Last {
    /// An event, and then the end.
    Words(Bytes),
    Trailers(HeaderMap),
    /// No end.
    Abort,
}

impl Shape {
    /// `headers` are the answer's, `http2` says whether the agent takes trailers.
    pub(crate) fn of(dialect: &'static dyn Dialect, endpoint: Endpoint, headers: &HeaderMap, http2: bool) -> Self {
        let kind = media_type(headers).unwrap_or_default().to_ascii_lowercase();
        // Within an encoding, or where the length has been said, there is no room for words.
        let has_room = !headers.contains_key(header::CONTENT_ENCODING) && content_length(headers).is_none();
        match kind.as_str() {
            "text/event-stream" if has_room => Self::Events { dialect, endpoint, passed: EventEnds::default() },
            "application/vnd.amazon.eventstream" if has_room => Self::Frames { dialect, passed: FrameEnds::default() },
            _ if http2 && kind.starts_with("application/grpc") => Self::Trailers,
            _ => Self::Abort,
        }
    }

    /// These bytes were given to the agent.
    pub(crate) fn pass(&mut self, chunk: &[u8]) {
        match self {
            Self::Events { passed, .. } => passed.pass(chunk),
            Self::Frames { passed, .. } => passed.pass(chunk),
            Self::Trailers | Self::Abort => {}
        }
    }

    /// How it ends here.
    pub(crate) fn last(&self, why: &Problem) -> Last {
        match self {
            Self::Events { dialect, endpoint, passed } if passed.is_between_events() => {
                Last::Words(dialect.cut_event(*endpoint, why).into())
            }
            Self::Frames { dialect, passed } if passed.is_between_frames() => {
                dialect.cut_frame(why).map_or(Last::Abort, |frame| Last::Words(frame.into()))
            }
            Self::Trailers => Last::Trailers(problem::grpc_trailers(why)),
            Self::Events { .. } | Self::Frames { .. } | Self::Abort => Last::Abort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, dialect};

    const CALL: Endpoint = Endpoint { name: "chat_completions", billing: Billing::Metered };

    fn shape(headers: &[(&'static str, &str)]) -> Shape {
        let headers =
            headers.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        Shape::of(dialect("openai").unwrap(), CALL, &headers.collect(), true)
    }

    /// How a shape ends after these bytes.
    fn end(headers: &[(&'static str, &str)], passed: &[&str]) -> String {
        let mut shape = shape(headers);
        for chunk in passed {
            shape.pass(chunk.as_bytes());
        }
        match shape.last(&Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None }) {
            Last::Words(words) => String::from_utf8_lossy(&words).into_owned(),
            Last::Trailers(trailers) => format!("grpc {}", trailers["grpc-status"].to_str().unwrap()),
            Last::Abort => "abort".to_owned(),
        }
    }

    #[test]
    fn events_end_with_one_where_no_event_is_half_said() {
        let sse = [("content-type", "text/event-stream; charset=utf-8")];
        for passed in [&[][..], &["data: 1\n\n"], &["data: 1\r\n\r", "\n"], &["data: 1\n", "\n"], &[": ping\r\r"]] {
            let said = end(&sse, passed);
            assert!(said.starts_with("data: {\"error\":{") && said.ends_with("}\n\n"), "{passed:?}: {said}");
        }
        for passed in [&["data: 1\n"][..], &["data: 1\n\nd"], &["data: 1\r\n\r"]] {
            assert_eq!(end(&sse, passed), "abort", "{passed:?}");
        }
    }

    #[test]
    fn what_is_encoded_measured_or_no_stream_is_aborted() {
        let sse = ("content-type", "text/event-stream");
        assert_eq!(end(&[sse, ("content-encoding", "gzip")], &[]), "abort");
        assert_eq!(end(&[sse, ("content-length", "100")], &[]), "abort");
        assert_eq!(end(&[("content-type", "application/json")], &[]), "abort");
        assert_eq!(end(&[], &[]), "abort");
    }

    #[test]
    fn grpc_ends_with_its_trailers() {
        assert_eq!(end(&[("content-type", "application/grpc+proto")], &["half a message"]), "grpc 8");
    }

    #[test]
    fn an_aws_stream_ends_with_an_exception_between_two_frames() {
        let kind = [("content-type", "application/vnd.amazon.eventstream")];
        let stream = |dialect_name: &str, passed: &[u8]| {
            let headers = kind.map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
            let mut shape =
                Shape::of(dialect(dialect_name).unwrap(), CALL, &headers.into_iter().collect::<HeaderMap>(), false);
            shape.pass(passed);
            shape.last(&Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None })
        };
        let Last::Words(frame) = stream("bedrock", b"") else { panic!("no exception") };
        assert!(memchr::memmem::find(&frame, b"validationException").is_some());
        assert!(matches!(stream("bedrock", &frame), Last::Words(again) if again == frame));
        assert!(matches!(stream("bedrock", &frame[1..]), Last::Abort));
        assert!(matches!(stream("openai", b""), Last::Abort));
    }
}
