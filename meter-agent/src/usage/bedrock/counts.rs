//! Token counts as Bedrock writes them: in bodies, in the metrics of a stream's last chunk, and in headers.
//!
//! The input excludes cache reads and writes: the whole is the sum of the three. Both spellings of a number
//! (`...Tokens` and `...TokenCount`) may be there at once, and mean the same.

use serde::Deserialize;

use crate::usage::{
    AnswerHead, Usage,
    json::{Count, or_default, text},
};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Counts {
    input_tokens: Count,
    input_token_count: Count,
    output_tokens: Count,
    output_token_count: Count,
    cache_read_input_tokens: Count,
    cache_read_input_token_count: Count,
    cache_write_input_tokens: Count,
    cache_write_input_token_count: Count,
    #[serde(deserialize_with = "or_default")]
    cache_details: Vec<Written>,
}

/// Cache writes of one time to live.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Written {
    input_tokens: Count,
    #[serde(deserialize_with = "text")]
    ttl: Option<String>,
}

impl Counts {
    /// Of an answer's headers; `None` where they say nothing.
    pub(super) fn of_headers(head: AnswerHead<'_>) -> Option<Self> {
        let count = |name: &str| Count((head.header)(name).and_then(|value| value.trim().parse().ok()));
        let counts = Self {
            input_tokens: count("x-amzn-bedrock-input-token-count"),
            output_tokens: count("x-amzn-bedrock-output-token-count"),
            cache_read_input_tokens: count("x-amzn-bedrock-cache-read-input-token-count"),
            cache_write_input_tokens: count("x-amzn-bedrock-cache-write-input-token-count"),
            ..Self::default()
        };
        counts.is_stated().then_some(counts)
    }

    /// Whether it says how much was used; an empty object does not.
    pub(super) fn is_stated(&self) -> bool {
        [self.input_tokens, self.input_token_count, self.output_tokens, self.output_token_count]
            .iter()
            .any(|count| count.0.is_some())
    }

    pub(super) fn usage(&self) -> Usage {
        let either = |one: Count, other: Count| one.0.or(other.0).unwrap_or(0);
        let uncached = either(self.input_tokens, self.input_token_count);
        let read = either(self.cache_read_input_tokens, self.cache_read_input_token_count);
        let written = either(self.cache_write_input_tokens, self.cache_write_input_token_count);
        let (mut hour, mut short) = (0_u64, 0_u64);
        for part in &self.cache_details {
            let sum = if part.ttl.as_deref() == Some("1h") { &mut hour } else { &mut short };
            *sum = sum.saturating_add(part.input_tokens.get());
        }
        // What the details do not name lives for the default, 5 minutes.
        let short = short.max(written.saturating_sub(hour));
        Usage {
            input_tokens: uncached.saturating_add(read).saturating_add(short).saturating_add(hour),
            input_uncached: uncached,
            cache_read: read,
            cache_write_5m: short,
            cache_write_1h: hour,
            output_tokens: either(self.output_tokens, self.output_token_count),
            ..Usage::default()
        }
    }
}

/// How the answer was served, where that has a price of its own.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Served {
    service_tier: Option<Tier>,
    performance_config: Option<Performance>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tier {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Performance {
    #[serde(deserialize_with = "text")]
    latency: Option<String>,
}

impl Served {
    /// `flex`, `priority`, ..., or `optimized` for the latency that costs more.
    pub(super) fn tier(self) -> Option<String> {
        let latency = self.performance_config.and_then(|p| p.latency).filter(|l| l == "optimized");
        self.service_tier.and_then(|t| t.kind).or(latency)
    }

    pub(super) fn of_headers(head: AnswerHead<'_>) -> Option<String> {
        let latency = (head.header)("x-amzn-bedrock-performanceconfig-latency").filter(|l| l == "optimized");
        (head.header)("x-amzn-bedrock-service-tier").or(latency)
    }
}
