//! The most output tokens that a model gives, where a request states no ceiling of its own.
//!
//! State of 2026-11-21. The providers publish the numbers here, and that is where to check a row:
//! - OpenAI: developers.openai.com/api/docs/models ("max output tokens"), the same for all snapshots of a name;
//! - Anthropic: platform.claude.com/docs/en/about-claude/models/overview ("Max output");
//! - Google: ai.google.dev/gemini-api/docs/models ("Output token limit").
//!
//! Other sellers of the same models give no more than their makers.
//!
//! A model that is not here has its context window from the catalogue as its bound, and [`UNKNOWN`] without one.
//! Too high a number holds more than needed; too low a one would let an exchange pass its hold.

/// Bound of a model of which neither a maximum output nor a context window is known.
pub(super) const UNKNOWN: u64 = 1_050_000;

/// Of one provider's models, by how their names start; the longest start that fits counts.
struct Table {
    provider: &'static str,
    rows: &'static [(&'static str, u64)],
}

static TABLES: &[Table] = &[
    Table {
        provider: "openai",
        rows: &[
            ("chatgpt-4o-latest", 16_384),
            ("codex-mini", 100_000),
            ("gpt-3.5-turbo", 4_096),
            ("gpt-4", 8_192),
            ("gpt-4-0125-preview", 4_096),
            ("gpt-4-1106-preview", 4_096),
            ("gpt-4-turbo", 4_096),
            ("gpt-4-vision-preview", 4_096),
            ("gpt-4-32k", 32_768),
            ("gpt-4.1", 32_768),
            ("gpt-4.5", 16_384),
            ("gpt-4o", 16_384),
            ("gpt-5", 128_000),
            ("gpt-5-chat", 16_384),
            ("gpt-5-pro", 272_000),
            ("gpt-6", 128_000),
            ("gpt-audio", 16_384),
            ("gpt-oss", 131_072),
            ("o1", 100_000),
            ("o1-mini", 65_536),
            ("o1-preview", 32_768),
            ("o3", 100_000),
            ("o4-mini", 100_000),
        ],
    },
    Table {
        provider: "anthropic",
        rows: &[
            ("claude-3-haiku", 4_096),
            ("claude-3-opus", 4_096),
            ("claude-3-sonnet", 4_096),
            ("claude-3-5-haiku", 8_192),
            ("claude-3-5-sonnet", 8_192),
            ("claude-3-7-sonnet", 128_000),
            ("claude-opus-4", 128_000),
            ("claude-opus-4-0", 32_000),
            ("claude-opus-4-1", 32_000),
            ("claude-opus-4-2025", 32_000),
            ("claude-opus-4-5", 64_000),
            ("claude-sonnet-4", 128_000),
            ("claude-sonnet-4-0", 64_000),
            ("claude-sonnet-4-2025", 64_000),
            ("claude-sonnet-4-5", 64_000),
            ("claude-haiku-4-5", 64_000),
            ("claude-fable-5", 128_000),
            ("claude-opus-5", 128_000),
            ("claude-sonnet-5", 128_000),
            ("claude-haiku-5", 128_000),
        ],
    },
    Table {
        provider: "google",
        rows: &[
            ("gemini-1.5", 8_192),
            ("gemini-2.0", 8_192),
            ("gemini-2.5", 65_536),
            ("gemini-3", 65_536),
            // Without a stated ceiling; one that is stated goes up to the window of 1,048,576.
            ("gemini-4", 65_536),
            ("gemma-3", 8_192),
        ],
    },
];

/// The model's maximum output, if it is in its seller's table, or in its maker's where the seller has none.
pub(super) fn maximum(provider: &str, model: &str) -> Option<u64> {
    let name = model.strip_prefix("ft:").unwrap_or(model);
    match TABLES.iter().find(|table| table.provider == provider) {
        Some(table) => table.longest(name),
        None => TABLES.iter().find_map(|table| table.longest(without_maker(name))),
    }
}

impl Table {
    fn longest(&self, name: &str) -> Option<u64> {
        let fits = self.rows.iter().filter(|(start, _)| name.starts_with(start));
        fits.max_by_key(|(start, _)| start.len()).map(|(_, tokens)| *tokens)
    }
}

/// `us.anthropic.claude-sonnet-4-5`, `anthropic/claude-sonnet-4-5`, ARNs: what comes behind the maker.
fn without_maker(name: &str) -> &str {
    let last = name.rsplit('/').next().unwrap_or(name);
    ["anthropic.", "openai.", "google."].iter().find_map(|m| last.split_once(m)).map_or(last, |(_, model)| model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_start_counts() {
        assert_eq!(maximum("openai", "gpt-4o-mini-2024-07-18"), Some(16_384));
        assert_eq!(maximum("openai", "ft:gpt-4.1-2025-04-14:org"), Some(32_768));
        assert_eq!(maximum("openai", "gpt-5-pro-2025-10-06"), Some(272_000));
        assert_eq!(maximum("anthropic", "claude-opus-4-20250514"), Some(32_000));
        assert_eq!(maximum("google", "gemini-2.5-flash-lite"), Some(65_536));
        assert_eq!(maximum("openai", "something-new"), None);
        assert_eq!(maximum("openai", "gpt-6.1-sol"), Some(128_000));
        assert_eq!(maximum("anthropic", "claude-opus-5-5"), Some(128_000));
        assert_eq!(maximum("google", "gemini-4-argon"), Some(65_536));
    }

    #[test]
    fn other_sellers_give_what_the_maker_does() {
        let arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0";
        for (provider, model, most) in [
            ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000),
            ("aws", arn, 64_000),
            ("azure", "gpt-4o-2024-11-20", 16_384),
            ("openrouter", "anthropic/claude-3-haiku", 4_096),
        ] {
            assert_eq!(maximum(provider, model), Some(most), "{model}");
        }
        assert_eq!(maximum("aws", "amazon.nova-micro-v1:0"), None);
    }
}
