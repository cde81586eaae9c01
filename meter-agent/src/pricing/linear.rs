//! The catalogue's price of a model as whole pico-dollars per token, where it is no more than that: most of them.
//!
//! To ask the catalogue means to match names, build its units and sum them up, for every answer anew. What it says is
//! asked for at sizes all along the scale and kept for a minute, and only if every one of its prices is exactly the
//! sum of these rates: a model with tiers, with a fee per request or with fractions of a pico-dollar has none here, and
//! a usage with anything but plain and cached tokens is not looked up. So a charge is the catalogue's own to the
//! pico-dollar, whichever way it is found.

use std::sync::Arc;

use dashmap::DashMap;
use smallvec::SmallVec;

use super::{
    catalogue::{self, Selector},
    round,
};
use crate::{
    money::Pico,
    usage::{Line, Usage},
};

/// Models kept; beyond it all are forgotten. Hosts use a few dozen.
const MODELS_MAX: usize = 1_024;

/// Prices change by date and by time of day, which the catalogue states in minutes.
const KEPT_MICROS: i64 = 60_000_000;

/// Above it the sum of the catalogue's floats may be off by half a pico-dollar.
const COST_MAX: i64 = 100 * Pico::USD;

/// Sizes that prices are asked for: around the starts of tiers on any list. Larger usages are not looked up.
const SIZES: [u64; 12] =
    [1, 1_000, 31_999, 32_001, 100_001, 128_001, 200_001, 256_001, 272_001, 512_001, 1_000_001, TOKENS_MAX];
const TOKENS_MAX: u64 = 10_000_000;

/// Pico-dollars per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    uncached: i64,
    cache_read: i64,
    output: i64,
}

/// Rates as they were found lately, and models that have none.
#[derive(Default)]
pub(super) struct Linear(DashMap<Arc<[u8]>, (i64, Option<Rates>)>);

impl Linear {
    /// What the catalogue charges for the line; `None` where it must be asked.
    pub(super) fn cost(&self, selector: Selector<'_>, line: &Line) -> Option<Pico> {
        if !is_simple(line) {
            return None;
        }
        self.rates(selector)?.cost(&line.usage)
    }

    fn rates(&self, selector: Selector<'_>) -> Option<Rates> {
        let key = key(selector);
        let minute = selector.at.micros().div_euclid(KEPT_MICROS);
        if let Some(found) = self.0.get(&key[..]).filter(|found| found.0 == minute) {
            return found.1;
        }
        let rates = Rates::of(selector);
        if self.0.len() >= MODELS_MAX {
            self.0.clear();
        }
        self.0.insert(key.as_slice().into(), (minute, rates));
        rates
    }
}

/// Names may be of any bytes but these.
fn key(selector: Selector<'_>) -> SmallVec<[u8; 128]> {
    let mut key = SmallVec::new();
    for part in [selector.provider, selector.model, selector.tier.unwrap_or("")] {
        key.extend_from_slice(part.as_bytes());
        key.push(0xff);
    }
    key.push(u8::from(selector.batch));
    key
}

/// Whether it says nothing but how many tokens came in, how many of these out of a cache, and how many went out.
fn is_simple(line: &Line) -> bool {
    let Usage { input_tokens, input_uncached, cache_read, output_tokens, reasoning_tokens, .. } = line.usage;
    let plain = Usage { input_tokens, input_uncached, cache_read, output_tokens, reasoning_tokens, ..Usage::default() };
    line.usage == plain
        && cache_read <= input_tokens
        && input_tokens.max(output_tokens) <= TOKENS_MAX
        && line.units.is_empty()
        && line.input_video == 0
        && line.output_video == 0
}

impl Rates {
    /// Asks the catalogue.
    fn of(selector: Selector<'_>) -> Option<Self> {
        const MANY: u64 = 1_000_000;
        let ask = |usage: Usage| {
            let dollars = catalogue::price(selector, &catalogue::units(&Line::default(), &usage)).ok()?.dollars;
            round::half_up(dollars.total).map(Pico::get)
        };
        let rate = |usage: Usage| {
            let many = ask(usage)?;
            (many % MANY.cast_signed() == 0).then_some(many / MANY.cast_signed())
        };
        let input = Usage { input_tokens: MANY, ..Usage::default() };
        let rates = Self {
            uncached: rate(input)?,
            cache_read: rate(Usage { cache_read: MANY, ..input })?,
            output: rate(Usage { output_tokens: MANY, ..Usage::default() })?,
        };
        let holds = |usage: Usage| match rates.cost(&usage) {
            Some(cost) => ask(usage) == Some(cost.get()),
            // The sum is not used there, but a tier would show: its rate is not the first one's.
            None => ask(usage).is_some_and(|asked| (i128::from(asked) - rates.sum(&usage)).abs() < 1_000),
        };
        let all = SIZES.into_iter().all(|size| {
            let one = Usage { input_tokens: size, ..Usage::default() };
            let output_tokens = size.min(MANY) + 1;
            [one, Usage { output_tokens, ..one }, Usage { cache_read: size / 2, output_tokens: 7, ..one }]
                .into_iter()
                .all(holds)
        });
        (all && holds(Usage::default())).then_some(rates)
    }

    fn cost(&self, usage: &Usage) -> Option<Pico> {
        i64::try_from(self.sum(usage)).ok().filter(|sum| *sum <= COST_MAX).map(Pico::new)
    }

    fn sum(&self, usage: &Usage) -> i128 {
        let tokens = |rate: i64, tokens: u64| i128::from(rate) * i128::from(tokens);
        tokens(self.uncached, usage.input_tokens.saturating_sub(usage.cache_read))
            + tokens(self.cache_read, usage.cache_read)
            + tokens(self.output, usage.output_tokens)
    }
}

#[cfg(test)]
mod tests {
    use genai_prices::Calculator;

    use super::*;
    use crate::clock::Timestamp;

    const AT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    fn asked(selector: Selector<'_>, line: &Line) -> Option<Pico> {
        round::half_up(catalogue::price(selector, &catalogue::units(line, &line.usage)).ok()?.dollars.total)
    }

    #[test]
    fn every_model_of_the_catalogue_costs_the_same_either_way() {
        let (linear, from) = (Linear::default(), Calculator::bundled());
        let (mut found, mut all) = (0, 0);
        for provider in from.providers() {
            for model in provider.models() {
                let of =
                    |tier| Selector { from, provider: provider.id(), model: model.id(), tier, batch: false, at: AT };
                for (n, tier) in [(1, None), (2, Some("flex")), (3, None)] {
                    for (input_tokens, cache_read, output_tokens) in [
                        (8, 0, 12),
                        (n * 999, n * 31, 1),
                        (127_999 * n, 127_999, 4_321),
                        (200_000, 0, 0),
                        (999_983 * n, 77_777, 65_537),
                        (0, 0, 3_333_333),
                    ] {
                        let input_uncached = input_tokens - cache_read;
                        let usage =
                            Usage { input_tokens, input_uncached, cache_read, output_tokens, ..Usage::default() };
                        let line = Line { usage, ..Line::default() };
                        all += 1;
                        if let Some(cost) = linear.cost(of(tier), &line) {
                            assert_eq!(Some(cost), asked(of(tier), &line), "{} {usage:?}", model.id());
                            found += 1;
                        }
                    }
                }
            }
        }
        assert!(found * 2 > all, "only {found} of {all} are linear");
    }

    #[test]
    fn tiers_and_other_tokens_are_the_catalogues_to_say() {
        let linear = Linear::default();
        let of = |provider, model| Selector {
            from: Calculator::bundled(),
            provider,
            model,
            tier: None,
            batch: false,
            at: AT,
        };
        let line = |usage| Line { usage, ..Line::default() };
        let plain = Usage { input_tokens: 8, input_uncached: 8, output_tokens: 12, ..Usage::default() };
        assert_eq!(linear.cost(of("openai", "gpt-4o"), &line(plain)), Some(Pico::new(140_000_000)));
        assert_eq!(linear.cost(of("google", "gemini-2.5-pro"), &line(plain)), None, "it has tiers");
        assert_eq!(linear.cost(of("openai", "no-such-model"), &line(plain)), None);
        let written = Usage { cache_write_5m: 8, input_uncached: 0, ..plain };
        assert_eq!(linear.cost(of("anthropic", "claude-sonnet-4-5"), &line(written)), None);
        let large = Usage { input_tokens: TOKENS_MAX + 1, input_uncached: TOKENS_MAX + 1, ..plain };
        assert_eq!(linear.cost(of("openai", "gpt-4o"), &line(large)), None);
    }
}
