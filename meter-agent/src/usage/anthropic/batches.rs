//! Message batches: ordered by one request, read later as one line of JSON per message.
//!
//! The order costs nothing by itself and leaves its exchange pending under the batch's id. The results are billed
//! once per id, at the batch price, each model as a line. Polling, listing and cancelling are free.
//! A poll that shows a batch without any result ends the wait for it.
//!
//! Source: platform.claude.com/docs/en/api/creating-message-batches and .../retrieving-message-batch-results.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Message, MessageUsage, request};
use crate::usage::{
    BodyEnd, Line, Quality, Reader, Reading, RequestFacts, ResultRef, Standing, Tools, Unreadable, Usage,
    json::{Count, parse, text},
    ndjson::LineReader,
    read::{Events, JsonReader},
};

pub(super) const CREATE: &str = "messages_batches";
pub(super) const RESULTS: &str = "messages_batch_results";
pub(super) const STATE: &str = "messages_batch";

/// Different lines of one batch's results; a batch rarely has more than a few models.
const LINES_MAX: usize = 64;

/// The batch whose results a path reads: `.../messages/batches/ID/results`.
pub(super) fn id(path: &str) -> Option<&str> {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let (last, id) = (segments.next()?, segments.next()?);
    (last == "results" && segments.next() == Some("batches") && segments.next() == Some("messages")).then_some(id)
}

/// Whether a path reads how one batch stands: `.../messages/batches/ID`.
pub(super) fn is_state(path: &str) -> bool {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    segments.next().is_some() && segments.next() == Some("batches") && segments.next() == Some("messages")
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    requests: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    params: &'a RawValue,
}

/// All of its messages together. Messages of several models have none in common, and the dearest is assumed.
pub(super) fn facts(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let order: Order<'_> = serde_json::from_slice(body)
        .map_err(|e| Unreadable(format!("the request body is not a batch of messages: {e}")))?;
    let mut sum = RequestFacts { background: true, choices: 1, ceiling: Some(0), ..RequestFacts::default() };
    for (at, item) in order.requests.iter().enumerate() {
        let one = request::facts(item.params.get().as_bytes(), None)?;
        sum.model = if at == 0 { one.model } else { sum.model.filter(|m| Some(m) == one.model.as_ref()) };
        sum.input_bound = sum.input_bound.saturating_add(one.input_bound);
        sum.ceiling = sum.ceiling.zip(one.ceiling).map(|(all, one)| all.saturating_add(one));
        sum.input_unbounded |= one.input_unbounded;
        sum.hidden_output |= one.hidden_output;
        sum.cache_1h |= one.cache_1h;
        sum.cache_5m |= one.cache_5m;
        sum.input_image |= one.input_image;
        sum.server_tools |= one.server_tools;
        sum.surcharge_percent = sum.surcharge_percent.max(one.surcharge_percent);
        for (tool, calls) in one.tools {
            let all = sum.tools.entry(tool).or_default();
            *all = all.saturating_add(calls);
        }
    }
    Ok(sum)
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default, deserialize_with = "text")]
    id: Option<String>,
}

/// The answer to the order.
pub(super) fn created() -> Box<dyn Reader> {
    Box::new(JsonReader::new(|body: Option<&[u8]>, _| {
        // Without its id the results cannot be recognised later; what was ordered must not be free.
        let Some(id) = body.and_then(parse::<Batch>).and_then(|b| b.id) else { return Reading::absent() };
        let result = Some(ResultRef { id, standing: Standing::Pending });
        Reading { result, batch: true, ..Reading::free("a batch is billed with its results") }
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    #[serde(deserialize_with = "text")]
    id: Option<String>,
    #[serde(deserialize_with = "text")]
    processing_status: Option<String>,
    request_counts: Option<Succeeded>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Succeeded {
    succeeded: Count,
}

/// How a batch stands. Reading it is free; it ends the wait for results that nobody will read, since there are none.
pub(super) fn state() -> Box<dyn Reader> {
    Box::new(JsonReader::new(|body: Option<&[u8]>, _| {
        let reading = Reading::free("reading how a batch stands is free");
        let Some(state) = body.and_then(parse::<State>) else { return reading };
        let ended = state.processing_status.as_deref() == Some("ended");
        let none = state.request_counts.is_some_and(|counts| counts.succeeded.0 == Some(0));
        let result = state.id.filter(|_| ended && none).map(|id| ResultRef { id, standing: Standing::Final });
        Reading { result, ..reading }
    }))
}

/// The results of the batch that the path names.
pub(super) fn results(path: &str) -> Box<dyn Reader> {
    let id = id(path).unwrap_or_default().to_owned();
    Box::new(LineReader::new(Results { id, ..Results::default() }))
}

#[derive(Deserialize)]
struct Row {
    result: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    message: Option<Message>,
}

#[derive(Default)]
struct Results {
    id: String,
    model: Option<String>,
    lines: Vec<Line>,
    tools: Tools,
    /// A line that is no result: half a line of a cut answer, or something new.
    unread: bool,
}

impl Events for Results {
    fn event(&mut self, _: &str, data: &[u8]) {
        let Some(row) = parse::<Row>(data) else {
            self.unread = true;
            return;
        };
        // Requests that failed, were cancelled or expired have no message, and are not billed.
        let Some(message) = row.result.message else { return };
        let Some(usage) = message.usage else {
            self.unread = true;
            return;
        };
        let one = MessageUsage::from(usage).describe(message.model).reading(Quality::Exact);
        for (tool, calls) in &one.server_tools {
            let all = self.tools.entry(tool.clone()).or_default();
            *all = all.saturating_add(*calls);
        }
        let whole = [Line { usage: one.usage, ..Line::default() }];
        for line in if one.lines.is_empty() { &whole[..] } else { &one.lines } {
            self.add(Line { model: line.model.clone().or_else(|| one.model.clone()), ..line.clone() });
        }
        self.model = self.model.take().or(one.model);
    }

    fn finish(&mut self, end: BodyEnd, dropped: u64) -> Reading {
        let (id, model) = (std::mem::take(&mut self.id), self.model.take());
        if end == BodyEnd::Cut || dropped > 0 || self.unread {
            // It was not read to its end: whoever reads it next has it whole.
            let result = Some(ResultRef { id, standing: Standing::Pending });
            return Reading { model, result, batch: true, ..Reading::absent() };
        }
        let mut lines = std::mem::take(&mut self.lines);
        let usage = lines.iter().fold(Usage::default(), |sum, line| sum.plus(line.usage));
        if let [line] = lines.as_slice()
            && line.model == model
            && line.surcharge_percent == 0
        {
            lines.clear();
        }
        Reading {
            model,
            lines,
            batch: true,
            service_tier: Some("batch".to_owned()),
            server_tools: std::mem::take(&mut self.tools),
            result: Some(ResultRef { id, standing: Standing::Final }),
            ..Reading::of(Quality::Exact, usage)
        }
    }
}

impl Results {
    fn add(&mut self, line: Line) {
        let same = |l: &Line| l.model == line.model && l.surcharge_percent == line.surcharge_percent;
        match self.lines.iter().position(same) {
            Some(at) => self.lines[at].usage = self.lines[at].usage.plus(line.usage),
            None if self.lines.len() < LINES_MAX => self.lines.push(line),
            None => self.unread = true,
        }
    }
}
