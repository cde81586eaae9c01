//! InvokeModelWithBidirectionalStream: speech to speech (Nova Sonic), many turns in one exchange.
//!
//! `usageEvent`s say the session's totals so far; the last one counts. A session that was cut may have used more
//! than the last one says.
//!
//! Source: docs.aws.amazon.com/nova/latest/userguide/output-events.html.

use memchr::memmem;
use serde::Deserialize;

use super::invoke_stream::payload;
use crate::usage::{
    BodyEnd, Quality, Reader, Reading, Usage,
    event_stream::{EXCEPTION, FrameReader},
    json::{Count, parse},
    read::Events,
};

pub(super) fn reader(model: Option<String>) -> Box<dyn Reader> {
    Box::new(FrameReader::new(Session { model, last: None, failed: false }))
}

struct Session {
    model: Option<String>,
    last: Option<UsageEvent>,
    failed: bool,
}

#[derive(Deserialize)]
struct Output {
    event: Inner,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inner {
    usage_event: UsageEvent,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UsageEvent {
    total_input_tokens: Count,
    total_output_tokens: Count,
    details: Details,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Details {
    total: Total,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Total {
    input: Kinds,
    output: Kinds,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kinds {
    speech_tokens: Count,
}

impl UsageEvent {
    fn usage(&self) -> Usage {
        let (input, output) = (self.total_input_tokens.get(), self.total_output_tokens.get());
        Usage {
            input_tokens: input,
            input_uncached: input,
            input_audio: self.details.total.input.speech_tokens.get().min(input),
            output_tokens: output,
            output_audio: self.details.total.output.speech_tokens.get().min(output),
            ..Usage::default()
        }
    }
}

impl Events for Session {
    fn event(&mut self, name: &str, data: &[u8]) {
        self.failed |= name == EXCEPTION;
        let Some(event) = payload(data) else { return };
        if memmem::find(&event, b"\"usageEvent\"").is_some()
            && let Some(output) = parse::<Output>(&event)
        {
            self.last = Some(output.event.usage_event);
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        match self.last.take() {
            Some(last) if end == BodyEnd::Complete && dropped == 0 && !self.failed => {
                Reading { model, ..Reading::of(Quality::Exact, last.usage()) }
            }
            Some(_) | None => Reading { model, ..Reading::absent() },
        }
    }
}
