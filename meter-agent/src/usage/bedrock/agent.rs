//! Agents (InvokeAgent, inline agents) and asynchronous jobs.
//!
//! An agent's models are on the wire only in `trace` frames, which the request has to ask for. Every model call has
//! one frame with its input, which names the model, and one with its output, which says the usage; they share an
//! id. Each model is a line. Without all of them nothing is known.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::counts::Counts;
use crate::usage::{
    BodyEnd, Line, Quality, Reader, Reading, RequestFacts, ResultRef, Standing, Usage,
    event_stream::FrameReader,
    json::{parse, text},
    openai,
    read::{Events, JsonReader},
};

/// Model calls that are open at once: agents that work together run a few side by side.
const OPEN_CALLS_MAX: usize = 64;

/// Different models of one answer; the lines of what comes after are summed under the last.
const MODELS_MAX: usize = 32;

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "foundationModel", default, deserialize_with = "text")]
    model: Option<String>,
}

/// An agent takes as many turns as it likes, over state that the request only names.
pub(super) fn facts(body: &[u8]) -> RequestFacts {
    RequestFacts {
        model: parse::<Asked>(body).and_then(|asked| asked.model),
        stream: true,
        hidden_output: true,
        server_tools: true,
        ..openai::unknown_request(body)
    }
}

pub(super) fn stream() -> Box<dyn Reader> {
    Box::new(FrameReader::new(Traces::default()))
}

#[derive(Deserialize)]
struct Frame {
    trace: BTreeMap<String, Step>,
}

/// One step of a trace: orchestration, routing, pre- and post-processing.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Step {
    model_invocation_input: Option<Input>,
    model_invocation_output: Option<Output>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Input {
    #[serde(deserialize_with = "text")]
    trace_id: Option<String>,
    #[serde(deserialize_with = "text")]
    foundation_model: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Output {
    #[serde(deserialize_with = "text")]
    trace_id: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    usage: Option<Counts>,
}

#[derive(Default)]
struct Traces {
    /// Model calls that have begun: their ids and models, the oldest first.
    open: Vec<(Option<String>, Option<String>)>,
    /// The model that was called last.
    model: Option<String>,
    lines: Vec<Line>,
    /// A call's usage was not said, or a trace could not be read.
    incomplete: bool,
}

impl Events for Traces {
    fn event(&mut self, name: &str, data: &[u8]) {
        if name != "trace" {
            return;
        }
        let Some(frame) = parse::<Frame>(data) else {
            self.incomplete = true;
            return;
        };
        for (kind, step) in frame.trace {
            if kind == "failureTrace" {
                // What was called last failed, and is not billed.
                self.open.pop();
            }
            self.step(step);
        }
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let model = self.model.take();
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() || self.incomplete || !self.open.is_empty() || end == BodyEnd::Cut || dropped > 0 {
            return Reading { model, reason: Some("an agent says its usage in traces alone"), ..Reading::absent() };
        }
        let usage = lines.iter().fold(Usage::default(), |sum, line| sum.plus(line.usage));
        let lines = if lines.len() > 1 { lines } else { Vec::new() };
        Reading { model, lines, ..Reading::of(Quality::Exact, usage) }
    }
}

impl Traces {
    fn step(&mut self, step: Step) {
        if let Some(input) = step.model_invocation_input {
            self.model = input.foundation_model.clone().or(self.model.take());
            if self.open.len() < OPEN_CALLS_MAX {
                self.open.push((input.trace_id, input.foundation_model));
            } else {
                self.incomplete = true;
            }
        }
        let Some(output) = step.model_invocation_output else { return };
        let Some(usage) = output.metadata.and_then(|m| m.usage).filter(Counts::is_stated) else {
            self.incomplete = true;
            return;
        };
        let of_this = self.open.iter().position(|(id, _)| *id == output.trace_id);
        let model = of_this.and_then(|at| self.open.remove(at).1).or_else(|| self.model.clone());
        self.add(model, usage.usage());
    }

    fn add(&mut self, model: Option<String>, usage: Usage) {
        let full = self.lines.len() >= MODELS_MAX;
        let same = self.lines.iter().position(|line| line.model == model);
        match same.or_else(|| full.then_some(MODELS_MAX - 1)) {
            Some(at) => self.lines[at].usage = self.lines[at].usage.plus(usage),
            None => self.lines.push(Line { model, usage, ..Line::default() }),
        }
    }
}

#[derive(Deserialize)]
struct Job {
    #[serde(rename = "invocationArn")]
    arn: String,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
}

/// The order of a job, and later reads of its state: what it made goes to S3, and its usage is never said.
pub(super) fn ordered() -> Box<dyn Reader> {
    Box::new(JsonReader::new(|body: Option<&[u8]>, _| {
        let Some(job) = body.and_then(parse::<Job>) else { return Reading::absent() };
        let (standing, reading) = match job.status.as_deref() {
            Some("Completed") => (Standing::Final, Reading::absent()),
            Some("Failed") => (Standing::Final, Reading::free("the job failed")),
            _ => (Standing::Pending, Reading::absent()),
        };
        Reading { result: Some(ResultRef { id: job.arn, standing }), ..reading }
    }))
}
