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

/// Tokens of all kinds, as every spelling of this API states them.
pub(super) struct Totals {
    pub(super) prompt: u64,
    /// Input beyond the prompt.
    pub(super) tool_use: u64,
    /// Of the input.
    pub(super) cached: u64,
    pub(super) candidates: u64,
    /// Output beyond the candidates.
    pub(super) thoughts: u64,
}

/// Of these the tokens that stand for one kind of thing.
pub(super) struct Kind {
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
}

impl Totals {
    /// Split by what is priced apart; a part is never more than its whole.
    pub(super) fn line(&self, kind: impl Fn(Modality) -> Kind) -> Line {
        let input = self.prompt.saturating_add(self.tool_use);
        let cache_read = self.cached.min(input);
        let output = self.candidates.saturating_add(self.thoughts);
        let [audio, image, video] = [Modality::Audio, Modality::Image, Modality::Video].map(|of| {
            let kind = kind(of);
            let part = kind.input.min(input);
            Kind { input: part, cached: kind.cached.min(cache_read).min(part), output: kind.output.min(output) }
        });
        Line {
            usage: Usage {
                input_tokens: input,
                input_uncached: input - cache_read,
                cache_read,
                input_audio: audio.input,
                input_image: image.input,
                output_tokens: output,
                reasoning_tokens: self.thoughts,
                output_audio: audio.output,
                output_image: image.output,
                ..Usage::default()
            },
            cache_read_audio: audio.cached,
            cache_read_image: image.cached,
            input_video: video.input,
            output_video: video.output,
            ..Line::default()
        }
    }
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
        let mut reading = Reading { model, service_tier: self.service_tier, ..Reading::of_line(quality, self.line) };
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
        let totals = Totals {
            prompt: self.prompt_token_count.get(),
            tool_use: self.tool_use_prompt_token_count.get(),
            cached: self.cached_content_token_count.get(),
            candidates: self.candidates_token_count.0.unwrap_or(self.response_token_count.get()),
            thoughts: self.thoughts_token_count.get(),
        };
        let line = totals.line(|of| {
            let prompt = sum(&self.prompt_tokens_details, of).max(sum(&self.prompt_token_details, of));
            Kind {
                input: prompt.saturating_add(sum(&self.tool_use_prompt_tokens_details, of)),
                cached: sum(&self.cache_tokens_details, of),
                output: sum(&self.candidates_tokens_details, of).max(sum(&self.response_tokens_details, of)),
            }
        });
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
