//! The usage metadata of Gemini, and the line it makes.

use serde::Deserialize;
use serde_json::Value;

use crate::usage::{
    Line, Usage,
    json::{Count, or_default, text},
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UsageMetadata {
    #[serde(alias = "prompt_token_count")]
    prompt_token_count: Count,
    #[serde(alias = "cached_content_token_count")]
    cached_content_token_count: Count,
    #[serde(alias = "candidates_token_count")]
    candidates_token_count: Count,
    #[serde(alias = "thoughts_token_count")]
    thoughts_token_count: Count,
    #[serde(alias = "tool_use_prompt_token_count")]
    tool_use_prompt_token_count: Count,
    #[serde(alias = "prompt_tokens_details", deserialize_with = "or_default")]
    prompt_tokens_details: Vec<Part>,
    #[serde(alias = "cache_tokens_details", deserialize_with = "or_default")]
    cache_tokens_details: Vec<Part>,
    #[serde(alias = "candidates_tokens_details", deserialize_with = "or_default")]
    candidates_tokens_details: Vec<Part>,
    #[serde(alias = "tool_use_prompt_tokens_details", deserialize_with = "or_default")]
    tool_use_prompt_tokens_details: Vec<Part>,
    #[serde(alias = "service_tier", deserialize_with = "text")]
    service_tier: Option<String>,
    #[serde(alias = "traffic_type", deserialize_with = "text")]
    traffic_type: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Part {
    modality: Value,
    #[serde(alias = "token_count")]
    token_count: Count,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Modality {
    Image,
    Video,
    Audio,
    Other,
}

impl Part {
    /// By name, or by its number in the API's `Modality` enum (`enum-encoding=int`).
    fn modality(&self) -> Modality {
        match (self.modality.as_str(), self.modality.as_u64()) {
            // Pages of documents are counted, and billed, as images.
            (Some("IMAGE" | "DOCUMENT"), _) | (_, Some(2 | 5)) => Modality::Image,
            (Some("VIDEO"), _) | (_, Some(3)) => Modality::Video,
            (Some("AUDIO"), _) | (_, Some(4)) => Modality::Audio,
            _ => Modality::Other,
        }
    }
}

fn sum(parts: &[Part], of: Modality) -> u64 {
    parts.iter().filter(|p| p.modality() == of).map(|p| p.token_count.get()).sum()
}

impl UsageMetadata {
    /// The line to price, and the tier.
    pub(super) fn describe(self) -> (Line, Option<String>) {
        let prompt = self.prompt_token_count.get();
        let input = prompt.saturating_add(self.tool_use_prompt_token_count.get());
        let cache_read = self.cached_content_token_count.get().min(input);
        let thoughts = self.thoughts_token_count.get();
        let output = self.candidates_token_count.get().saturating_add(thoughts);
        let input_of = |of| {
            let parts = sum(&self.prompt_tokens_details, of) + sum(&self.tool_use_prompt_tokens_details, of);
            parts.min(input)
        };
        let output_of = |of| sum(&self.candidates_tokens_details, of).min(output);
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
        (line, self.service_tier.or_else(|| tier_of(self.traffic_type.as_deref())))
    }
}

/// The tier that a traffic type names.
fn tier_of(traffic_type: Option<&str>) -> Option<String> {
    match traffic_type {
        Some("ON_DEMAND_FLEX") => Some("flex".to_owned()),
        Some("ON_DEMAND_PRIORITY") => Some("priority".to_owned()),
        _ => None,
    }
}
