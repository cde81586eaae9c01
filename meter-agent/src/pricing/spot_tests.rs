//! Discounts and surcharges of the price lists, five of each kind, against sums worked out by hand.
//!
//! Rates are dollars per million tokens as the providers publish them; amounts are exact decimals.

use super::{Charge, PriceKind, Prices};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Reading, Usage},
};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn usd(text: &str) -> Pico {
    text.parse().unwrap()
}

/// Uncached input, read from a cache, written for five minutes and for an hour, output.
fn usage([uncached, read, short, hour, output]: [u64; 5]) -> Usage {
    Usage {
        input_tokens: uncached + read + short + hour,
        input_uncached: uncached,
        cache_read: read,
        cache_write_5m: short,
        cache_write_1h: hour,
        output_tokens: output,
        ..Usage::default()
    }
}

fn reading(model: &str, split: [u64; 5]) -> Reading {
    Reading { model: Some(model.to_owned()), usage: usage(split), ..Reading::nothing() }
}

fn charge(provider: &str, reading: &Reading, when: &str) -> Pico {
    let Charge { cost, kind, .. } = Prices::embedded().charge(provider, None, reading, at(when));
    assert_eq!(kind, PriceKind::Priced, "{:?}", reading.model);
    cost
}

const NOW: &str = "2026-11-21T12:00:00Z";

#[test]
fn a_batch_is_half() {
    for (provider, model, split, want) in [
        // 1,000 at $2 and 100 at $10.
        ("anthropic", "claude-opus-5-5", [1_000, 0, 0, 0, 100], "0.003"),
        // 10,000 at $0.05, 2,000 read at $0.005, 30 at $0.25.
        ("anthropic", "claude-haiku-5-5", [10_000, 2_000, 0, 0, 30], "0.0005175"),
        // 777 at $0.625, 13 at $5.
        ("openai", "gpt-5", [777, 0, 0, 0, 13], "0.000550625"),
        // 300,000 at $2 and 10 at $7.50, for it is a long input.
        ("openai", "gpt-6.1-sol", [300_000, 0, 0, 0, 10], "0.600075"),
        // 100,000 at $0.625, 1 at $5.
        ("google", "gemini-2.5-pro", [100_000, 0, 0, 0, 1], "0.062505"),
    ] {
        let batch = Reading { batch: true, ..reading(model, split) };
        assert_eq!(charge(provider, &batch, NOW), usd(want), "{model}");
    }
}

#[test]
fn an_hour_in_the_cache_is_twice_the_input() {
    for (model, split, want) in [
        // 50 at $4, 1,000 for an hour at $8, 10 at $20.
        ("claude-opus-5-5", [50, 0, 0, 1_000, 10], "0.0084"),
        // 3 at $3, 20 read at $0.30, 30 for five minutes at $3.75, 40 for an hour at $6, 5 at $15.
        ("claude-sonnet-4-5", [3, 20, 30, 40, 5], "0.0004425"),
        // 7 at $1, 1,000,000 would be long: 90,000 at $2.
        ("claude-haiku-4-5", [7, 0, 0, 90_000, 0], "0.180007"),
        // 1,000 at $0.20.
        ("claude-haiku-5-5", [0, 0, 0, 1_000, 0], "0.0002"),
        // 1,000 at $10 and 1 at $25.
        ("claude-opus-4-6", [0, 0, 0, 1_000, 1], "0.010025"),
    ] {
        assert_eq!(charge("anthropic", &reading(model, split), NOW), usd(want), "{model}");
    }
}

#[test]
fn a_long_input_has_its_rates_for_every_token() {
    for (provider, model, split, want) in [
        // The last of the short: 272,000 at $2 and 1 at $10; one more: at $4 and $15.
        ("openai", "gpt-6.1-sol", [272_000, 0, 0, 0, 1], "0.54401"),
        ("openai", "gpt-6.1-sol", [272_001, 0, 0, 0, 1], "1.088019"),
        // 100,000 at $0.10; 100,001 at $0.50 of which half are read at $0.05.
        ("anthropic", "claude-haiku-5-5", [100_000, 0, 0, 0, 0], "0.01"),
        ("anthropic", "claude-haiku-5-5", [50_001, 50_000, 0, 0, 0], "0.0275005"),
        // 200,001 at $4 and 10 at $18.
        ("google", "gemini-3.1-pro-preview", [200_001, 0, 0, 0, 10], "0.800184"),
    ] {
        assert_eq!(charge(provider, &reading(model, split), NOW), usd(want), "{model} {split:?}");
    }
}

#[test]
fn the_tier_that_the_answer_names_has_its_own_rates() {
    for (model, tier, split, want) in [
        // 1,000 at $2.50 and 10 at $20.
        ("gpt-5", "priority", [1_000, 0, 0, 0, 10], "0.0027"),
        // 1,000 at $0.625, 100 read at $0.0625, 10 at $5.
        ("gpt-5", "flex", [1_000, 100, 0, 0, 10], "0.00068125"),
        // 1,000 at $4 and 10 at $20.
        ("gpt-6.1-sol", "priority", [1_000, 0, 0, 0, 10], "0.0042"),
        // 300,000 at $2 and 10 at $7.50.
        ("gpt-6.1-sol", "flex", [300_000, 0, 0, 0, 10], "0.600075"),
        // A tier that is the standard one: 1,000 at $1.25 and 10 at $10.
        ("gpt-5", "default", [1_000, 0, 0, 0, 10], "0.00135"),
    ] {
        let tiered = Reading { service_tier: Some(tier.to_owned()), ..reading(model, split) };
        assert_eq!(charge("openai", &tiered, NOW), usd(want), "{model} {tier}");
    }
}

#[test]
fn the_time_of_day_and_the_day_decide() {
    for (model, when, want) in [
        // Of a million in and a thousand out. Peak hours are from 01:00 to 04:00 and from 06:00 to 10:00.
        ("deepseek-v4-pro", "2026-11-20T00:59:59Z", "0.66198"),
        ("deepseek-v4-pro", "2026-11-20T01:00:00Z", "1.32396"),
        ("deepseek-v4-pro", "2026-11-20T04:00:00Z", "0.66198"),
        ("deepseek-v4-pro", "2026-11-20T09:59:59Z", "1.32396"),
        ("deepseek-v4-pro", "2026-11-20T10:00:00Z", "0.66198"),
    ] {
        let got = charge("deepseek", &reading(model, [1_000_000, 0, 0, 0, 1_000]), when);
        assert_eq!(got, usd(want), "{when}");
    }
    // The introductory price ends with November.
    let argon = reading("gemini-4-argon", [1_000, 0, 0, 0, 10]);
    assert_eq!(charge("google", &argon, "2026-11-30T23:59:59Z"), usd("0.0021"));
    assert_eq!(charge("google", &argon, "2026-12-01T00:00:00Z"), usd("0.0042"));
}

#[test]
fn names_of_every_seller_find_its_own_list() {
    for (provider, model) in [
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws", "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("aws", "global.anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("aws", "openai.gpt-oss-20b"),
        ("azure", "gpt-4o-2024-11-20"),
        ("azure", "claude-sonnet-4-5"),
        ("google", "claude-sonnet-4-5@20250929"),
        ("google", "publishers/google/models/gemini-2.5-flash"),
        ("github-copilot", "gpt-5.3-codex"),
        ("vercel", "openai/gpt-5"),
        ("vercel", "anthropic/claude-sonnet-4"),
        ("portkey", "gpt-4.1-2025-04-14"),
        ("openrouter", "anthropic/claude-sonnet-4.5"),
        ("huggingface", "moonshotai/Kimi-K3:fireworks-ai"),
        ("huggingface_together", "deepseek-ai/DeepSeek-R1"),
        ("doubleword", "Qwen/Qwen3.5-397B-A17B-FP8"),
    ] {
        let got = Prices::embedded().charge(provider, None, &reading(model, [1_000, 0, 0, 0, 10]), at(NOW));
        assert_eq!(got.kind, PriceKind::Priced, "{provider} {model}: {:?}", got.reason);
        assert!(got.cost.is_positive(), "{provider} {model}");
    }
}
