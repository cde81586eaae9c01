//! The usage metadata of Gemini, and the reading it makes.
//!
//! Shared by everything of this API that reports `usageMetadata`: answers, streams, embeddings, batches and the
//! turns of a live session. Enums may be names or numbers (`$alt=json;enum-encoding=int`).

use serde::Deserialize;
use serde_json::Value;

use crate::{
    money::Pico,
    usage::{
        Line, Quality, Reading, Usage,
        json::{Count, items, text},
    },
};

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UsageMetadata {
    #[serde(alias = "prompt_token_count")]
    prompt_token_count: Count,
    #[serde(alias = "cached_content_token_count")]
    cached_content_token_count: Count,
    #[serde(alias = "candidates_token_count")]
    candidates_token_count: Count,
    /// The spelling of live sessions.
    #[serde(alias = "response_token_count")]
    response_token_count: Count,
    #[serde(alias = "thoughts_token_count")]
    thoughts_token_count: Count,
    #[serde(alias = "tool_use_prompt_token_count")]
    tool_use_prompt_token_count: Count,
    #[serde(alias = "prompt_tokens_details", deserialize_with = "items")]
    prompt_tokens_details: Vec<Part>,
    /// The spelling of embeddings.
    #[serde(alias = "prompt_token_details", deserialize_with = "items")]
    prompt_token_details: Vec<Part>,
    #[serde(alias = "cache_tokens_details", deserialize_with = "items")]
    cache_tokens_details: Vec<Part>,
    #[serde(alias = "candidates_tokens_details", deserialize_with = "items")]
    candidates_tokens_details: Vec<Part>,
    #[serde(alias = "response_tokens_details", deserialize_with = "items")]
    response_tokens_details: Vec<Part>,
    #[serde(alias = "tool_use_prompt_tokens_details", deserialize_with = "items")]
    tool_use_prompt_tokens_details: Vec<Part>,
    #[serde(alias = "service_tier", deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(alias = "traffic_type")]
    traffic_type: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Part {
    modality: Value,
    #[serde(alias = "token_count")]
    token_count: Count,
}

/// What a token stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Modality {
    Image,
    Video,
    Audio,
    Other,
}

impl Modality {
    /// By name in any case, or by its number in the API's `Modality` enum.
    pub(super) fn of(value: &Value) -> Self {
        let name = value.as_str().map(str::to_ascii_uppercase);
        match (name.as_deref(), value.as_u64()) {
            // Pages of documents are counted, and billed, as images.
            (Some("IMAGE" | "DOCUMENT"), _) | (_, Some(2 | 5)) => Self::Image,
            (Some("VIDEO"), _) | (_, Some(3)) => Self::Video,
            (Some("AUDIO"), _) | (_, Some(4)) => Self::Audio,
            _ => Self::Other,
        }
    }
}

fn sum(parts: &[Part], of: Modality) -> u64 {
    parts.iter().filter(|p| Modality::of(&p.modality) == of).map(|p| p.token_count.get()).fold(0, u64::saturating_add)
}

/// What a usage metadata says: the line to price, and how.
pub(super) struct Described {
    pub(super) line: Line,
    service_tier: Option<String>,
    /// Served from capacity that is bought by the hour.
    provisioned: bool,
}

impl Described {
    pub(super) fn reading(self, model: Option<String>, quality: Quality) -> Reading {
        let usage = self.line.usage;
        let lines = if self.line.is_plain() { Vec::new() } else { vec![self.line] };
        let mut reading = Reading { model, service_tier: self.service_tier, lines, ..Reading::of(quality, usage) };
        if self.provisioned {
            reading.reported = Some(Pico::ZERO);
            reading.reason = Some("provisioned throughput is not paid per token");
        }
        reading
    }
}

impl UsageMetadata {
    /// Whether it says anything of tokens; of a blocked prompt it may hold the traffic type alone.
    pub(super) fn counts(&self) -> bool {
        let said = |count: Count| count.0.is_some();
        said(self.prompt_token_count)
            || said(self.candidates_token_count)
            || said(self.response_token_count)
            || said(self.thoughts_token_count)
            || said(self.cached_content_token_count)
            || said(self.tool_use_prompt_token_count)
    }

    pub(super) fn describe(self) -> Described {
        let prompt = self.prompt_token_count.get();
        let input = prompt.saturating_add(self.tool_use_prompt_token_count.get());
        let cache_read = self.cached_content_token_count.get().min(input);
        let thoughts = self.thoughts_token_count.get();
        let candidates = self.candidates_token_count.0.unwrap_or(self.response_token_count.get());
        let output = candidates.saturating_add(thoughts);
        let input_of = |of| {
            let prompt = sum(&self.prompt_tokens_details, of).max(sum(&self.prompt_token_details, of));
            prompt.saturating_add(sum(&self.tool_use_prompt_tokens_details, of)).min(input)
        };
        let output_of =
            |of| sum(&self.candidates_tokens_details, of).max(sum(&self.response_tokens_details, of)).min(output);
        let cached_of = |of, input_part: u64| sum(&self.cache_tokens_details, of).min(cache_read).min(input_part);
        let (audio, image) = (input_of(Modality::Audio), input_of(Modality::Image));
        let line = Line {
            usage: Usage {
                input_tokens: input,
                input_uncached: input - cache_read,
                cache_read,
                input_audio: audio,
                input_image: image,
                output_tokens: output,
                reasoning_tokens: thoughts,
                output_audio: output_of(Modality::Audio),
                output_image: output_of(Modality::Image),
                ..Usage::default()
            },
            cache_read_audio: cached_of(Modality::Audio, audio),
            cache_read_image: cached_of(Modality::Image, image),
            input_video: input_of(Modality::Video),
            output_video: output_of(Modality::Video),
            ..Line::default()
        };
        let traffic = Traffic::of(&self.traffic_type);
        Described {
            line,
            service_tier: self.service_tier.or_else(|| traffic.tier().map(str::to_owned)),
            provisioned: traffic == Traffic::Provisioned,
        }
    }
}

/// How the capacity that served an answer is paid for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    OnDemand,
    Provisioned,
    Priority,
    Flex,
}

impl Traffic {
    /// By name, or by its number in the API's `TrafficType` enum.
    fn of(value: &Value) -> Self {
        match (value.as_str(), value.as_u64()) {
            (Some("PROVISIONED_THROUGHPUT"), _) | (_, Some(2)) => Self::Provisioned,
            (Some("ON_DEMAND_PRIORITY"), _) | (_, Some(3)) => Self::Priority,
            (Some("ON_DEMAND_FLEX"), _) | (_, Some(4)) => Self::Flex,
            _ => Self::OnDemand,
        }
    }

    fn tier(self) -> Option<&'static str> {
        match self {
            Self::OnDemand | Self::Provisioned => None,
            Self::Priority => Some("priority"),
            Self::Flex => Some("flex"),
        }
    }
}
