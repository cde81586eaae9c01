//! What is ordered now and made or kept later: explicit caches, batches, videos.
//!
//! A cache costs by its tokens and the time it is kept. A batch is pending from its order until a GET shows its
//! answers, which are billed once, at the batch price. A video's answer says nothing of what it costs: its order
//! does, and is billed when it is taken, since reading its operation later says no more.
//!
//! Source: ai.google.dev/api/caching, .../batch-api and .../video.

use serde::{Deserialize, de::IgnoredAny};

use super::generate::{Chunk, Chunks};
use crate::usage::{
    BodyEnd, Line, Quality, Quantity, Reader, Reading, RequestFacts, ResultRef, Standing, Unreadable, Usage,
    edit::RawObject,
    estimate::Bounds,
    json::{Count, or_default, parse, text},
    openai,
    read::JsonReader,
};

/// How long a cache is kept where its order does not say.
const CACHE_SECONDS: &str = "3600s";

/// Length of a video where its order does not say: the longest that the models make in one go.
const VIDEO_SECONDS: u64 = 8;

pub(super) fn cache_facts(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut facts = RequestFacts {
        model: object.text("model").map(|name| bare(&name)),
        variant: Some(object.text("ttl").unwrap_or_else(|| CACHE_SECONDS.to_owned())),
        input_bound: body.len() as u64,
        choices: 1,
        no_output: true,
        ..RequestFacts::default()
    };
    facts.units.insert("cache_storage_tokens".into(), Quantity::whole(facts.input_bound));
    Ok(facts)
}

pub(super) fn cache_reader(facts: &RequestFacts) -> Box<dyn Reader> {
    let (requested, variant) = (facts.model.clone(), facts.variant.clone());
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        let Some(cache) = body.and_then(parse::<Cache>) else { return Reading::absent() };
        let model = cache.model.map(|name| bare(&name)).or(requested);
        let Some(tokens) = cache.usage_metadata.total_token_count.0 else {
            return Reading { model, ..Reading::absent() };
        };
        let mut reading = Reading { model, variant, ..Reading::nothing() };
        reading.units.insert("cache_storage_tokens".into(), Quantity::whole(tokens));
        reading
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cache {
    #[serde(default, deserialize_with = "text")]
    model: Option<String>,
    #[serde(default, alias = "usage_metadata", deserialize_with = "or_default")]
    usage_metadata: CacheUsage,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CacheUsage {
    #[serde(alias = "total_token_count")]
    total_token_count: Count,
}

/// `models/NAME`, wherever it stands, as `NAME`.
pub(super) fn bare(name: &str) -> String {
    name.rsplit('/').next().unwrap_or(name).to_owned()
}

pub(super) fn batch_facts(model: Option<String>, body: &[u8]) -> RequestFacts {
    let order: Option<Order> = parse(body);
    let inline = order.map_or(0, |o| o.batch.input_config.requests.requests.len() as u64);
    let mut facts = RequestFacts { model, background: true, hidden_output: true, ..openai::unknown_request(body) };
    // The requests of a file are not in the order.
    facts.input_unbounded = inline == 0;
    facts.choices = inline.max(1);
    facts
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Order {
    batch: Ordered,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ordered {
    #[serde(alias = "input_config")]
    input_config: Input,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Input {
    requests: Inline,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Inline {
    requests: Vec<IgnoredAny>,
}

/// Reads the answer to a batch's order: the batch's name, under which its answers can be read later.
pub(super) fn ordered_reader(model: Option<String>) -> Box<dyn Reader> {
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        let reading = body.and_then(parse::<Batch>).map_or_else(Reading::absent, Batch::reading);
        Reading { model: reading.model.clone().or(model), ..reading }
    }))
}

/// Reads a batch's state, and its answers where they are there.
pub(super) fn batch_reader() -> Box<dyn Reader> {
    ordered_reader(None)
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default, deserialize_with = "text")]
    name: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default, deserialize_with = "or_default")]
    metadata: State,
    #[serde(default)]
    response: Option<Output>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    #[serde(rename = "state", deserialize_with = "text")]
    now: Option<String>,
    #[serde(deserialize_with = "text")]
    model: Option<String>,
    output: Option<Output>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Output {
    inlined_responses: Option<Answers>,
    inlined_embed_content_responses: Option<Answers>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answers {
    #[serde(deserialize_with = "or_default")]
    inlined_responses: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    response: Option<Chunk>,
}

impl Batch {
    fn reading(self) -> Reading {
        let model = self.metadata.model.map(|name| bare(&name));
        let ended = self.metadata.now.as_deref().and_then(|s| s.rsplit_once("STATE_")).map(|(_, state)| state);
        let failed = matches!(ended, Some("FAILED" | "CANCELLED" | "EXPIRED")) || self.error.is_some();
        let done = self.done || failed || ended == Some("SUCCEEDED");
        let standing = if done { Standing::Repeat } else { Standing::Pending };
        let result = self.name.map(|id| ResultRef { id, standing });
        let output = self.response.or(self.metadata.output).unwrap_or_default();
        let answers = output.inlined_responses.or(output.inlined_embed_content_responses);
        let reading = match answers {
            Some(answers) if done => total(answers, model.as_ref()),
            // Failed or running; or its answers are in a file, which says nothing here.
            _ if failed || !done => Reading::nothing(),
            _ => Reading::absent(),
        };
        Reading { model: reading.model.clone().or(model), batch: true, result, ..reading }
    }
}

/// The sum of the answers, a line for each model.
fn total(answers: Answers, model: Option<&String>) -> Reading {
    let mut sum = Reading::nothing();
    for chunk in answers.inlined_responses.into_iter().filter_map(|a| a.response) {
        let mut one = Chunks::default();
        one.add(chunk);
        let one = one.reading(Bounds::default(), 0, BodyEnd::Complete, model.cloned());
        if one.quality != Quality::Exact {
            sum.quality = one.quality;
        }
        sum.usage = sum.usage.plus(one.usage);
        sum.service_tier = sum.service_tier.or(one.service_tier);
        for (name, calls) in one.server_tools {
            let all: &mut u64 = sum.server_tools.entry(name).or_default();
            *all = all.saturating_add(calls);
        }
        let plain = vec![Line { usage: one.usage, ..Line::default() }];
        for line in if one.lines.is_empty() { plain } else { one.lines } {
            add(&mut sum.lines, Line { model: one.model.clone(), ..line });
        }
    }
    if let [only] = &mut sum.lines[..] {
        sum.model = only.model.take();
        if only.is_plain() {
            sum.lines.clear();
        }
    }
    sum
}

/// Adds a line to the one of its model. A batch has thousands of answers, and few models.
fn add(lines: &mut Vec<Line>, line: Line) {
    let Some(same) = lines.iter_mut().find(|l| l.model == line.model) else {
        lines.push(line);
        return;
    };
    same.usage = Usage::plus(same.usage, line.usage);
    same.cache_read_audio = same.cache_read_audio.saturating_add(line.cache_read_audio);
    same.cache_read_image = same.cache_read_image.saturating_add(line.cache_read_image);
    same.input_video = same.input_video.saturating_add(line.input_video);
    same.output_video = same.output_video.saturating_add(line.output_video);
}

pub(super) fn video_facts(model: Option<String>, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let parameters = RawObject::parse(object.get("parameters").filter(|p| *p != "null").unwrap_or("{}").as_bytes())?;
    let seconds = parameters.count("durationSeconds").unwrap_or(VIDEO_SECONDS);
    let videos = parameters.count("sampleCount").or_else(|| parameters.count("numberOfVideos")).unwrap_or(1);
    let mut facts = RequestFacts {
        model,
        variant: parameters.text("resolution"),
        input_bound: body.len() as u64,
        choices: 1,
        no_output: true,
        ..RequestFacts::default()
    };
    facts.units.insert("video_seconds".into(), Quantity::whole(seconds.saturating_mul(videos.max(1))));
    Ok(facts)
}

/// Reads the answer to a video's order, which is the name of an operation.
pub(super) fn video_reader(facts: &RequestFacts, model: Option<String>) -> Box<dyn Reader> {
    let (units, variant) = (facts.units.clone(), facts.variant.clone());
    Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| {
        if body.and_then(parse::<Batch>).is_some_and(|operation| operation.error.is_some()) {
            return Reading { model, ..Reading::nothing() };
        }
        let quality = if units.is_empty() { Quality::Absent } else { Quality::Estimated };
        Reading { model, units, variant, ..Reading::of(quality, Usage::default()) }
    }))
}
