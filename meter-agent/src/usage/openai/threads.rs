//! Assistants: runs of threads (`POST .../runs`, `.../threads/runs`, `.../submit_tool_outputs`, `.../cancel`, and
//! `GET .../runs/{id}`).
//!
//! A run's usage stands in its object once it has ended, and is the run's whole. A run is ordered by one call and seen
//! by others, so it is billed once per id, at the first answer that shows its usage. Steps repeat parts of it.
//! Threads, messages and assistants themselves cost nothing.
//!
//! Source: the Runs reference at developers.openai.com/api/reference.

use serde::Deserialize;

use super::tokens::{Tokens, lenient};
use crate::usage::{
    AnswerHead, BodyEnd, Call, Quality, Reader, Reading, RequestFacts, ResultRef, Standing, Unreadable,
    edit::RawObject,
    json::{parse, text},
    read::{Either, Events, JsonReader, SseReader, is_sse},
};

pub(super) fn request(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = if body.is_empty() { RawObject::default() } else { RawObject::parse(body)? };
    let stream = object.is_true("stream");
    Ok(RequestFacts {
        model: object.text("model"),
        stream,
        input_bound: body.len() as u64,
        // The thread's messages and the assistant's tools are on the server.
        input_unbounded: true,
        server_tools: true,
        ceiling: object.count("max_completion_tokens"),
        choices: 1,
        hidden_output: true,
        background: !stream,
        ..RequestFacts::default()
    })
}

pub(super) fn reader(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
    let asked = Asked { model: facts.model.clone(), role: Role::of(call) };
    let stream = SseReader::new(Stream { asked: asked.clone(), run: None });
    let document = JsonReader::new(move |body: Option<&[u8]>, _| {
        let run: Option<Run> = body.and_then(parse);
        asked.reading(run)
    });
    Either::of(is_sse(head, facts.stream), Box::new(stream), Box::new(document))
}

/// What a call has to do with the run that its answer shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Orders,
    Looks,
    /// The order waits for the run's end; how much it was until then nobody says yet.
    Cancels,
}

impl Role {
    /// A look's path ends in the run's id.
    fn of(call: &Call<'_>) -> Self {
        let mut segments = call.path().rsplit('/').filter(|segment| !segment.is_empty());
        match (segments.next(), segments.next()) {
            (Some("cancel"), _) => Self::Cancels,
            (_, Some("runs")) => Self::Looks,
            _ => Self::Orders,
        }
    }
}

#[derive(Clone)]
struct Asked {
    model: Option<String>,
    role: Role,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Run {
    #[serde(deserialize_with = "text")]
    id: Option<String>,
    #[serde(deserialize_with = "text")]
    object: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    #[serde(deserialize_with = "text")]
    status: Option<String>,
    #[serde(deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(deserialize_with = "lenient")]
    usage: Option<Tokens>,
}

impl Run {
    fn is_run(&self) -> bool {
        self.object.as_deref() == Some("thread.run")
    }

    fn has_ended(&self) -> bool {
        matches!(self.status.as_deref(), Some("completed" | "failed" | "cancelled" | "expired" | "incomplete"))
    }
}

impl Asked {
    fn reading(self, run: Option<Run>) -> Reading {
        let Some(mut run) = run.filter(Run::is_run) else { return Reading { model: self.model, ..Reading::absent() } };
        run.usage = run.usage.filter(Tokens::is_stated);
        let standing = if run.usage.is_some() || run.has_ended() { Standing::Final } else { Standing::Pending };
        let reading = match &run.usage {
            Some(usage) => Reading::of(Quality::Exact, usage.usage()),
            None if self.role == Role::Looks && standing == Standing::Pending => {
                Reading::free("the run is still worked on")
            }
            None => Reading::absent(),
        };
        let tells = self.role != Role::Cancels || standing == Standing::Final;
        Reading {
            model: run.model.or(self.model),
            service_tier: run.service_tier,
            result: run.id.filter(|_| tells).map(|id| ResultRef { id, standing }),
            ..reading
        }
    }
}

/// Each event of the run itself holds the whole run; the last one counts.
struct Stream {
    asked: Asked,
    run: Option<Run>,
}

impl Events for Stream {
    fn event(&mut self, name: &str, data: &[u8]) {
        let of_run = name.strip_prefix("thread.run.").is_some_and(|rest| !rest.contains('.'));
        if (of_run || name.is_empty())
            && let Some(run) = parse::<Run>(data).filter(Run::is_run)
        {
            self.run = Some(run);
        }
    }

    fn finish(&mut self, _: BodyEnd, _: u64) -> Reading {
        let asked = Asked { model: self.asked.model.take(), role: self.asked.role };
        asked.reading(self.run.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Billing, Endpoint};

    const RUN: &str = r#"{"id":"run_1","object":"thread.run","status":"completed","model":"gpt-4o","usage":{"prompt_tokens":381,
        "completion_tokens":88,"total_tokens":469,"prompt_token_details":{"cached_tokens":81}}}"#;

    fn read(path: &str, head: AnswerHead<'_>, body: &str) -> Reading {
        let call = Call::new(Endpoint { name: "threads", billing: Billing::Metered }, path);
        let mut reader = reader(&call, &request(b"").unwrap(), head);
        body.as_bytes().chunks(9).for_each(|c| reader.feed(c));
        reader.finish(BodyEnd::Complete)
    }

    fn json(path: &str, body: &str) -> Reading {
        read(path, AnswerHead::new(200, "application/json"), body)
    }

    #[test]
    fn a_run_is_billed_once_by_its_id_when_it_has_ended() {
        let got = json("/v1/threads/thread_1/runs/run_1", RUN);
        let result = got.result.unwrap();
        assert_eq!((got.quality, got.usage.cache_read, got.usage.output_tokens), (Quality::Exact, 81, 88));
        assert_eq!((result.id.as_str(), result.standing), ("run_1", Standing::Final));
        assert_eq!(got.model.as_deref(), Some("gpt-4o"));
    }

    #[test]
    fn a_run_under_way_is_pending_and_looking_at_it_is_free() {
        let queued = RUN.replace("completed", "queued").split(",\"usage\"").next().unwrap().to_owned() + "}";
        let got = json("/v1/threads/thread_1/runs", &queued);
        assert_eq!((got.quality, got.result.unwrap().standing), (Quality::Absent, Standing::Pending));
        let got = json("/v1/threads/thread_1/runs/run_1", &queued);
        assert_eq!((got.quality, got.result.unwrap().standing), (Quality::Exact, Standing::Pending));
        let got = json("/v1/threads/thread_1/runs/run_1/cancel", &queued.replace("queued", "cancelling"));
        assert_eq!((got.quality, got.result), (Quality::Absent, None));
        let lost = json("/v1/threads/thread_1/runs/run_1", &queued.replace("queued", "expired"));
        assert_eq!((lost.quality, lost.result.unwrap().standing), (Quality::Absent, Standing::Final));
    }

    #[test]
    fn of_a_stream_the_runs_own_events_count_and_not_its_steps() {
        let run = RUN.replace('\n', "");
        let step = "{\"id\":\"step_1\",\"object\":\"thread.run.step\",\"usage\":{\"prompt_tokens\":9}}";
        let body = format!(
            "event: thread.run.created\ndata: {{\"id\":\"run_1\",\"object\":\"thread.run\",\"status\":\"queued\",\"usage\":null}}\n\n\
            event: thread.run.completed\ndata: {run}\n\nevent: thread.run.step.completed\ndata: {step}\n\nevent: done\ndata: [DONE]\n\n"
        );
        let head = AnswerHead::new(200, "text/event-stream");
        let got = read("/v1/threads/thread_1/runs", head, &body);
        assert_eq!((got.quality, got.usage.input_tokens), (Quality::Exact, 381));
        let cut = read("/v1/threads/thread_1/runs", head, &body[..body.find("event: thread.run.completed").unwrap()]);
        assert_eq!((cut.quality, cut.result.unwrap().standing), (Quality::Absent, Standing::Pending));
    }
}
