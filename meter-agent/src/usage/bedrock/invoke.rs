//! Answers of InvokeModel: each model family's own body, and the service's count in headers.
//!
//! Where the body says its usage it is the truth; else the headers are. What says neither (images, reranking) is
//! an estimate from the request.

use serde::Deserialize;

use super::counts::{Counts, Served};
use crate::usage::{
    AnswerHead, BodyEnd, Quality, Reader, Reading, RequestFacts, Units, Usage, anthropic,
    estimate::Bounds,
    json::{Count, or_default, parse},
    read::JsonReader,
};

/// The members that say usage, of all families.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Body {
    /// Nova, and what has the shape of OpenAI's chat: Jamba, gpt-oss, Qwen, `DeepSeek`, Mistral.
    usage: Option<BodyUsage>,
    /// Nova's last chunk.
    metadata: Option<Metadata>,
    /// Llama. In a stream the first is only in the first chunk, the second grows.
    prompt_token_count: Count,
    generation_token_count: Count,
    /// Titan.
    #[serde(rename = "inputTextTokenCount")]
    titan_input: Count,
    #[serde(rename = "totalOutputTextTokenCount")]
    titan_output: Count,
    #[serde(deserialize_with = "or_default")]
    results: Vec<TitanResult>,
    /// Cohere.
    meta: Option<Meta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    usage: Option<Counts>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BodyUsage {
    #[serde(flatten)]
    counts: Counts,
    prompt_tokens: Count,
    completion_tokens: Count,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TitanResult {
    #[serde(rename = "tokenCount")]
    tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    billed_units: Option<Billed>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Billed {
    input_tokens: Count,
    output_tokens: Count,
}

impl BodyUsage {
    fn usage(&self) -> Option<Usage> {
        if self.counts.is_stated() {
            return Some(self.counts.usage());
        }
        let input = self.prompt_tokens.0?;
        // Cached tokens are a part of the prompt here, and cannot be more than it.
        let read = self.prompt_tokens_details.as_ref().map_or(0, |d| d.cached_tokens.get()).min(input);
        Some(Usage {
            input_tokens: input,
            input_uncached: input - read,
            cache_read: read,
            output_tokens: self.completion_tokens.get(),
            reasoning_tokens: self.completion_tokens_details.as_ref().map_or(0, |d| d.reasoning_tokens.get()),
            ..Usage::default()
        })
    }
}

impl Body {
    /// Takes what a later chunk says; what it does not say stays.
    pub(super) fn replace(&mut self, later: Self) {
        self.usage = later.usage.or(self.usage.take());
        self.metadata = later.metadata.or(self.metadata.take());
        self.prompt_token_count.replace(later.prompt_token_count);
        self.generation_token_count.replace(later.generation_token_count);
        self.titan_input.replace(later.titan_input);
        self.titan_output.replace(later.titan_output);
        self.meta = later.meta.or(self.meta.take());
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        let metadata = self.metadata.as_ref().and_then(|m| m.usage.as_ref()).filter(|c| c.is_stated());
        if let Some(counts) = metadata {
            return Some(counts.usage());
        }
        if let Some(usage) = self.usage.as_ref().and_then(BodyUsage::usage) {
            return Some(usage);
        }
        let billed = self.meta.as_ref().and_then(|m| m.billed_units.as_ref());
        if let Some((input, billed)) = billed.and_then(|b| Some((b.input_tokens.0?, b))) {
            return Some(plain(input, billed.output_tokens.get()));
        }
        if let (Some(input), Some(output)) = (self.prompt_token_count.0, self.generation_token_count.0) {
            return Some(plain(input, output));
        }
        let titan = self.results.iter().fold(self.titan_output.get(), |sum, r| sum.saturating_add(r.tokens.get()));
        self.titan_input.0.map(|input| plain(input, titan))
    }

    /// Whether a stream's last numbers are in it without the service's metrics. Titan's are not: a blocked
    /// answer has them too.
    pub(super) fn is_final(&self) -> bool {
        self.metadata.is_some() || self.titan_input.0.is_none()
    }
}

fn plain(input: u64, output: u64) -> Usage {
    Usage { input_tokens: input, input_uncached: input, output_tokens: output, ..Usage::default() }
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type", default)]
    kind: String,
}

pub(super) fn document(facts: &RequestFacts, head: AnswerHead<'_>, model: Option<String>) -> Box<dyn Reader> {
    let (bounds, units) = (Bounds::of(facts), facts.units.clone());
    let counted = Counts::of_headers(head).map(|counts| counts.usage());
    let tier = Served::of_headers(head);
    Box::new(JsonReader::new(move |body: Option<&[u8]>, end| {
        let mut reading = match body.and_then(stated).or_else(|| counted.map(exact)) {
            Some(reading) => reading,
            None => unstated(bounds, units, body, end),
        };
        reading.service_tier = tier.or(reading.service_tier);
        Reading { model, ..reading }
    }))
}

/// What the body says of its usage.
fn stated(body: &[u8]) -> Option<Reading> {
    if parse::<Kind>(body).is_some_and(|k| k.kind == "message") {
        return anthropic::document(body);
    }
    let served = parse::<Served>(body).and_then(Served::tier);
    Some(Reading { service_tier: served, ..exact(parse::<Body>(body)?.usage()?) })
}

fn exact(usage: Usage) -> Reading {
    Reading::of(Quality::Exact, usage)
}

fn unstated(bounds: Bounds, units: Units, body: Option<&[u8]>, end: BodyEnd) -> Reading {
    if !units.is_empty() {
        return Reading { units, ..Reading::of(Quality::Estimated, Usage::default()) };
    }
    match body {
        Some(body) => bounds.of_document(end).reading(None, body.len() as u64, end),
        None => Reading::absent(),
    }
}
