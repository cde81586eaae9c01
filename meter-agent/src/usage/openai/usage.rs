//! The usage object of Chat Completions and of everything that imitates it.
//!
//! Owns how tokens split into price buckets and the many spellings of the parts. `prompt_tokens` includes cached,
//! cache-write and audio tokens; `completion_tokens` includes reasoning and audio, except where a provider leaves them
//! out (its [`Quirks`]) or its own total proves that it did.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::usage::{
    Quantity, Reading, Usage,
    json::{Count, lenient, text},
    providers::Quirks,
};

/// As Chat Completions, legacy Completions, Embeddings and Rerank write it. Some send a number in two spellings at
/// once, so each spelling is a member of its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatUsage {
    prompt_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    completion_tokens_details: Option<CompletionDetails>,
    /// The same in the words of newer APIs, and as Mistral and Writer spell some of them.
    input_tokens: Count,
    output_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    input_tokens_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    output_tokens_details: Option<CompletionDetails>,
    #[serde(deserialize_with = "lenient")]
    prompt_token_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    completion_token_details: Option<CompletionDetails>,
    /// DeepSeek's older spelling of cached tokens, then Mistral's, Moonshot's, and that of Anthropic's models.
    prompt_cache_hit_tokens: Count,
    num_cached_tokens: Count,
    cached_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    /// Beside the details in Copilot and Perplexity.
    reasoning_tokens: Count,
    /// Mistral bills audio by its length and leaves it out of the prompt's tokens.
    #[serde(deserialize_with = "number")]
    prompt_audio_seconds: Option<f64>,
    #[serde(deserialize_with = "text")]
    service_tier: Option<String>,
    /// OpenRouter's tools, in its newer spelling and its older one.
    #[serde(deserialize_with = "lenient")]
    server_tool_use_details: Option<ServerTools>,
    #[serde(deserialize_with = "lenient")]
    server_tool_use: Option<ServerTools>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: Count,
    pub(super) cache_write_tokens: Count,
    /// Other spellings of the writes (LiteLLM, Alibaba).
    cache_creation_tokens: Count,
    cache_creation_input_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
    /// What the cached tokens stand for.
    #[serde(deserialize_with = "lenient")]
    pub(super) cached_tokens_details: Option<Cached>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cached {
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the API's")]
pub(super) struct CompletionDetails {
    pub(super) reasoning_tokens: Count,
    pub(super) audio_tokens: Count,
    pub(super) image_tokens: Count,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Count,
}

impl ChatUsage {
    /// Whether it says anything: some send an empty object, or one of nulls, before they know.
    pub(super) fn is_stated(&self) -> bool {
        [self.prompt(), self.completion(), self.total_tokens].iter().any(|n| n.0.is_some())
    }

    /// Whether it says that nothing was used.
    pub(super) fn is_zero(&self) -> bool {
        [self.prompt(), self.completion(), self.total_tokens].iter().all(|n| n.get() == 0)
    }

    fn prompt(&self) -> Count {
        or(self.prompt_tokens, self.input_tokens)
    }

    fn completion(&self) -> Count {
        or(self.completion_tokens, self.output_tokens)
    }

    pub(super) fn usage(&self, quirks: Quirks) -> Usage {
        let stated = self.completion().get();
        let input = match self.prompt().0 {
            Some(input) => input,
            // Voyage says nothing but the total.
            None => self.total_tokens.get().saturating_sub(stated),
        };
        let mut completion = self
            .completion_tokens_details
            .or(self.output_tokens_details)
            .or(self.completion_token_details)
            .unwrap_or_default();
        completion.reasoning_tokens = or(completion.reasoning_tokens, self.reasoning_tokens);
        let hidden = self.hidden_output(input, stated, completion.reasoning_tokens.get(), quirks);
        let details = self.prompt_tokens_details.or(self.input_tokens_details).or(self.prompt_token_details);
        let mut prompt = details.unwrap_or_default();
        for other in
            [self.prompt_cache_hit_tokens, self.num_cached_tokens, self.cached_tokens, self.cache_read_input_tokens]
        {
            prompt.cached_tokens = or(prompt.cached_tokens, other);
        }
        prompt.cache_write_tokens = or(prompt.written(), self.cache_creation_input_tokens);
        split(input, stated.saturating_add(hidden), prompt, completion)
    }

    /// Output that `completion_tokens` leaves out.
    fn hidden_output(&self, input: u64, stated: u64, reasoning: u64, quirks: Quirks) -> u64 {
        let beyond = self.total_tokens.get().saturating_sub(input).saturating_sub(stated);
        if quirks.thinking_in_total {
            beyond
        } else if quirks.reasoning_excluded || (reasoning > 0 && beyond == reasoning) {
            reasoning
        } else {
            0
        }
    }

    /// What it says beside the tokens.
    pub(super) fn complete(&self, reading: &mut Reading) {
        let tools = self.server_tool_use_details.or(self.server_tool_use).unwrap_or_default();
        let searches = tools.web_search_requests.get();
        if searches > 0 {
            reading.server_tools.insert("web_search".into(), searches);
        }
        if let Some(seconds) = self.prompt_audio_seconds.and_then(Quantity::from_f64).filter(|q| *q > Quantity::ZERO) {
            reading.units.insert("audio_seconds".into(), seconds);
        }
        if reading.service_tier.is_none() {
            reading.service_tier.clone_from(&self.service_tier);
        }
    }
}

impl PromptDetails {
    fn written(&self) -> Count {
        or(or(self.cache_write_tokens, self.cache_creation_tokens), self.cache_creation_input_tokens)
    }
}

/// A number, and nothing for what is none: one odd member must not cost the others.
fn number<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    Ok(Value::deserialize(d)?.as_f64())
}

fn or(first: Count, other: Count) -> Count {
    Count(first.0.or(other.0))
}

/// Input and output split by the details, none of which can be more than what it is a part of.
pub(super) fn split(input: u64, output: u64, prompt: PromptDetails, completion: CompletionDetails) -> Usage {
    let cache_read = prompt.cached_tokens.get().min(input);
    let written = prompt.written().get();
    // Where both do not fit side by side they overlap: what was read again is not billed as written.
    let cache_write_other = if written <= input - cache_read {
        written
    } else {
        written.saturating_sub(cache_read).min(input - cache_read)
    };
    Usage {
        input_tokens: input,
        input_uncached: input - cache_read - cache_write_other,
        cache_read,
        cache_write_other,
        input_audio: prompt.audio_tokens.get().min(input),
        input_image: prompt.image_tokens.get().min(input),
        output_tokens: output,
        reasoning_tokens: completion.reasoning_tokens.get(),
        output_audio: completion.audio_tokens.get().min(output),
        output_image: completion.image_tokens.get().min(output),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(json: &str, quirks: Quirks) -> Usage {
        serde_json::from_str::<ChatUsage>(json).unwrap().usage(quirks)
    }

    fn plain(json: &str) -> Usage {
        usage(json, Quirks::PLAIN)
    }

    #[test]
    fn the_thinking_that_only_the_total_shows_is_output() {
        let json = r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#;
        assert_eq!(usage(json, Quirks { thinking_in_total: true, ..Quirks::PLAIN }).output_tokens, 74);
        assert_eq!(plain(json).output_tokens, 12);
    }

    #[test]
    fn reasoning_that_was_left_out_is_output() {
        let left_out = |total: u64| {
            format!(
                r#"{{"prompt_tokens":165,"completion_tokens":2,"total_tokens":{total},"completion_tokens_details":{{"reasoning_tokens":125}}}}"#
            )
        };
        assert_eq!(plain(&left_out(292)).output_tokens, 127, "the total proves it");
        assert_eq!(plain(&left_out(167)).output_tokens, 2, "another tokenizer's count; the completion is billed");
        let quirks = Quirks { reasoning_excluded: true, ..Quirks::PLAIN };
        assert_eq!(usage(&left_out(167), quirks).output_tokens, 127, "the total leaves it out too");
    }

    #[test]
    fn cached_tokens_have_many_names() {
        for name in ["prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"] {
            let got = plain(&format!(r#"{{"prompt_tokens":64,"completion_tokens":6,"{name}":32}}"#));
            assert_eq!((got.cache_read, got.input_uncached, got.input_tokens), (32, 32, 64), "{name}");
        }
        let got = plain(r#"{"prompt_tokens":64,"prompt_tokens_details":{"cached_tokens":0},"cached_tokens":9}"#);
        assert_eq!(got.cache_read, 0);
    }

    #[test]
    fn parts_are_clamped_to_what_they_are_parts_of() {
        let got = plain(r#"{"prompt_tokens":31,"prompt_tokens_details":{"cached_tokens":161}}"#);
        assert_eq!((got.input_tokens, got.cache_read, got.input_uncached), (31, 31, 0));
        let both = r#"{"prompt_tokens":2168,"prompt_tokens_details":{"cached_tokens":2161,"cache_write_tokens":2161}}"#;
        let got = plain(both);
        assert_eq!((got.cache_read, got.cache_write_other, got.input_uncached), (2161, 0, 7));
    }

    #[test]
    fn a_total_alone_is_input() {
        assert_eq!(plain(r#"{"total_tokens":12}"#).input_tokens, 12);
        assert_eq!(plain(r#"{"completion_tokens":2,"total_tokens":12}"#).input_tokens, 10);
    }

    #[test]
    fn tools_audio_and_tiers_stand_beside_the_tokens() {
        let json = r#"{"prompt_tokens":4,"prompt_audio_seconds":203,"service_tier":"default",
            "server_tool_use_details":{"web_search_requests":3,"tool_calls_executed":3}}"#;
        let mut reading = Reading::nothing();
        serde_json::from_str::<ChatUsage>(json).unwrap().complete(&mut reading);
        assert_eq!(reading.server_tools.get("web_search"), Some(&3));
        assert_eq!(reading.units.get("audio_seconds"), Some(&Quantity::whole(203)));
        assert_eq!(reading.service_tier.as_deref(), Some("default"));
    }

    #[test]
    fn a_number_in_two_spellings_counts_once() {
        let json = r#"{"prompt_tokens":4,"input_tokens":4,"completion_tokens":3,"output_tokens":3,
            "prompt_audio_seconds":{},"prompt_tokens_details":null,"prompt_token_details":{"cached_tokens":1},"input_tokens_details":null}"#;
        let got = plain(json);
        assert_eq!((got.input_tokens, got.cache_read, got.output_tokens), (4, 1, 3));
    }

    #[test]
    fn an_empty_object_states_nothing() {
        for json in ["{}", r#"{"prompt_tokens":null,"total_tokens":null}"#] {
            assert!(!serde_json::from_str::<ChatUsage>(json).unwrap().is_stated(), "{json}");
        }
    }
}
