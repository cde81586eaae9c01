//! The usage object of the calls beyond chat, in each of its spellings.
//!
//! `input_tokens` and `prompt_tokens`, details in the singular and the plural: every call spells it its own way, and
//! gateways send several spellings at once. The input includes what was cached, written and heard; the output
//! includes reasoning, sound and images. A part is never more than what it is a part of.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::usage::{CompletionDetails, PromptDetails, split};
use crate::usage::{Line, Quantity, Usage, json::Count};

pub(super) use crate::usage::json::lenient;

/// Tokens as the answer states them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the APIs'")]
pub(super) struct Tokens {
    input_tokens: Count,
    prompt_tokens: Count,
    output_tokens: Count,
    completion_tokens: Count,
    total_tokens: Count,
    #[serde(deserialize_with = "lenient")]
    input_tokens_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    input_token_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    prompt_token_details: Option<PromptDetails>,
    #[serde(deserialize_with = "lenient")]
    output_tokens_details: Option<CompletionDetails>,
    #[serde(deserialize_with = "lenient")]
    output_token_details: Option<CompletionDetails>,
    #[serde(deserialize_with = "lenient")]
    completion_tokens_details: Option<CompletionDetails>,
}

impl Tokens {
    /// Whether it says anything: some answers hold an empty object where there is no usage.
    pub(super) fn is_stated(&self) -> bool {
        [self.input_tokens, self.prompt_tokens, self.output_tokens, self.completion_tokens, self.total_tokens]
            .iter()
            .any(|count| count.0.is_some())
    }

    /// Whether the output is split by its kind.
    pub(super) fn splits_output(&self) -> bool {
        self.output_details().is_some()
    }

    pub(super) fn usage(&self) -> Usage {
        let (of_input, of_output) = (self.input_details(), self.output_details());
        split(self.input(), self.output(), of_input.unwrap_or_default(), of_output.unwrap_or_default())
    }

    /// The usage with what of the cached input was not text.
    pub(super) fn line(&self) -> Line {
        let usage = self.usage();
        let cached = self.input_details().and_then(|d| d.cached_tokens_details).unwrap_or_default();
        Line {
            usage,
            cache_read_audio: cached.audio_tokens.get().min(usage.cache_read),
            cache_read_image: cached.image_tokens.get().min(usage.cache_read),
            ..Line::default()
        }
    }

    fn input(&self) -> u64 {
        self.input_tokens.0.or(self.prompt_tokens.0).unwrap_or(0)
    }

    fn output(&self) -> u64 {
        self.output_tokens.0.or(self.completion_tokens.0).unwrap_or(0)
    }

    fn input_details(&self) -> Option<PromptDetails> {
        self.input_tokens_details
            .or(self.input_token_details)
            .or(self.prompt_tokens_details)
            .or(self.prompt_token_details)
    }

    fn output_details(&self) -> Option<CompletionDetails> {
        self.output_tokens_details.or(self.output_token_details).or(self.completion_tokens_details)
    }
}

/// For `#[serde(deserialize_with)]`: seconds, as a number or as text.
pub(super) fn seconds<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Quantity>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(d)?;
    let number = raw.and_then(|raw| raw.get().trim_matches('"').parse::<f64>().ok());
    Ok(number.and_then(Quantity::from_f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(json: &str) -> Tokens {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_spelling_says_the_same() {
        let want = tokens(
            r#"{"input_tokens":9,"output_tokens":5,"input_tokens_details":{"cached_tokens":4,"audio_tokens":3},
                "output_tokens_details":{"reasoning_tokens":2}}"#,
        );
        for other in [
            r#"{"prompt_tokens":9,"completion_tokens":5,"prompt_token_details":{"cached_tokens":4,"audio_tokens":3},
                "completion_tokens_details":{"reasoning_tokens":2}}"#,
            r#"{"input_tokens":9,"output_tokens":5,"input_token_details":{"cached_tokens":4,"audio_tokens":3},
                "output_token_details":{"reasoning_tokens":2}}"#,
            r#"{"input_tokens":9,"prompt_tokens":9,"output_tokens":5,"completion_tokens":5,"output_tokens_details":null,
                "prompt_tokens_details":{"cached_tokens":4,"audio_tokens":3},
                "output_token_details":{"reasoning_tokens":2}}"#,
        ] {
            assert_eq!(tokens(other).usage(), want.usage(), "{other}");
        }
        assert_eq!((want.usage().input_uncached, want.usage().input_audio), (5, 3));
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let odd = tokens(r#"{"input_tokens":3,"input_tokens_details":{"cached_tokens":9,"cache_write_tokens":9}}"#);
        let usage = odd.usage();
        assert_eq!((usage.cache_read, usage.cache_write_other, usage.input_uncached), (3, 0, 0));
    }

    #[test]
    fn what_was_read_from_the_cache_is_not_written_too() {
        let both = |written: u64| {
            let json = format!(
                r#"{{"input_tokens":1000,"input_tokens_details":{{"cached_tokens":900,"cache_write_tokens":{written}}}}}"#
            );
            let usage = tokens(&json).usage();
            (usage.cache_read, usage.cache_write_other, usage.input_uncached)
        };
        assert_eq!(both(60), (900, 60, 40), "both fit side by side");
        assert_eq!(both(950), (900, 50, 50), "the writes are stated with what was there already");
    }

    #[test]
    fn one_odd_member_costs_only_itself() {
        let odd = tokens(r#"{"input_tokens":3,"input_tokens_details":[1],"output_tokens":"4"}"#);
        assert_eq!((odd.usage().input_tokens, odd.usage().output_tokens), (3, 4));
        assert!(!tokens("{}").is_stated() && tokens(r#"{"total_tokens":0}"#).is_stated());
    }

    #[test]
    fn cached_sound_is_kept_apart() {
        let line = tokens(
            r#"{"input_tokens":9,"input_token_details":{"cached_tokens":4,"cached_tokens_details":{"audio_tokens":3}}}"#,
        )
        .line();
        assert_eq!((line.usage.cache_read, line.cache_read_audio), (4, 3));
        assert!(!line.is_plain());
    }
}
