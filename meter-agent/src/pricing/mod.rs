//! What usage costs: the catalogue, quotes for admission, prices for settlement.
//!
//! Prices come from the `genai-prices` catalogue, whose f64 result is rounded once per line, half up, to a
//! pico-dollar. No other file of the project does float arithmetic with money.

mod catalogue;
mod ceilings;
mod rates;
mod round;

use std::sync::Arc;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use self::{
    catalogue::{NoPrice, Selector},
    rates::Rates,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Line, Quality, Reading, RequestFacts, Usage},
};

/// No model's output comes near it. What a request states beyond that is refused by the provider, and must not be
/// held (and, unanswered, charged) as if it could be had.
const STATED_MAX: u64 = 4 << 20;
/// As above for the answers of one request: the APIs take 128 at most.
const CHOICES_MAX: u64 = 128;

/// The worst case of one request, linear in output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The input's upper bound at the dearest bucket it can reach, plus fees.
    pub input: Pico,
    /// Dearest output rate, rounded up, times the number of choices.
    pub per_output_token: Pico,
    /// Stated by the request, else the model's maximum.
    pub output_ceiling: u64,
    /// The request stated its ceiling itself.
    pub stated: bool,
    /// A ceiling can be set in the request.
    pub can_clamp: bool,
}

impl Quote {
    /// Worst case with the given output ceiling.
    pub fn worst_at(&self, output_tokens: u64) -> Pico {
        self.input.saturating_add(self.per_output_token.saturating_mul(output_tokens))
    }

    pub fn worst(&self) -> Pico {
        self.worst_at(self.output_ceiling)
    }

    /// The largest output ceiling whose worst case is at most `amount`; 0 when not even the input fits.
    pub fn tokens_within(&self, amount: Pico) -> u64 {
        let left = amount.saturating_sub(self.input).get();
        if left <= 0 {
            return 0;
        }
        match self.per_output_token.get() {
            rate if rate <= 0 => self.output_ceiling,
            rate => u64::try_from(left / rate).unwrap_or(0).min(self.output_ceiling),
        }
    }
}

/// Where a charge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriceKind {
    /// The catalogue knows the model.
    Priced,
    /// The provider's own reported charge.
    Provider,
    /// Subscription traffic.
    Plan,
    /// The model is not in the catalogue: charged at the provider's dearest price.
    Unpriced,
}

/// The charge for one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    pub cost: Pico,
    pub kind: PriceKind,
}

/// Looks up prices. Cheap to clone references of; decoded once at start.
pub struct Prices {
    /// Rates that were asked for lately. Only quotes and unknown models use them; a charge is always the
    /// catalogue's own.
    rates: DashMap<RatesKey, Arc<Known>>,
}

/// Provider, model and tier, the class of input sizes, and the start of the hour (the catalogue's prices change
/// by date and by time of day).
#[derive(PartialEq, Eq, Hash)]
struct RatesKey {
    names: String,
    class: u8,
    since: i64,
}

struct Known {
    rates: Rates,
    /// The catalogue knows the model; else these are its provider's dearest.
    priced: bool,
}

/// Rates kept. A host uses a few models in a few sizes; an agent that makes names up must not fill the memory.
const MAX_RATES: usize = 4_096;

/// Longest model name that is looked up; a longer one is nobody's.
const MAX_MODEL_BYTES: usize = 256;

/// Input bound where neither the request's bytes nor the catalogue know one: the largest window on offer.
const UNKNOWN_WINDOW: u64 = 2_100_000;

/// Lines are rounded one by one, and up to half a pico-dollar each: more lines than any answer has.
const ROUNDING: Pico = Pico::new(64);

/// Providers that write caches, at a rate of their own, without being asked to.
const AUTOMATIC_CACHE_WRITES: &[&str] = &["openai"];

const MICROS_PER_HOUR: i64 = 3_600_000_000;

impl Prices {
    /// The catalogue embedded in `genai-prices`.
    pub fn embedded() -> Self {
        // Decodes it now, so that the first request does not wait for it.
        let _ = genai_prices::Calculator::bundled();
        Self { rates: DashMap::new() }
    }

    /// The worst case of a request to `provider` (a provider id of the catalogue: `openai`, `anthropic`, `google`).
    pub fn quote(&self, provider: &str, facts: &RequestFacts, at: Timestamp) -> Quote {
        let tier = catalogue::tier(facts.service_tier.as_deref());
        let model = facts.model.as_deref().unwrap_or("");
        let selector = Selector { provider, model, tier, at };
        let stated = if facts.input_unbounded { UNKNOWN_WINDOW } else { facts.input_bound };
        let mut known = self.rates(selector, stated);
        let bound = bounded(stated, facts, &known.rates);
        if rates::class(bound) != rates::class(stated) {
            known = self.rates(selector, bound);
        }
        let rates = &known.rates;
        let surcharge = |amount: Pico| percent_up(amount, facts.surcharge_percent);
        let choices = facts.choices.clamp(1, CHOICES_MAX);
        let input = surcharge(input_rate(rates, provider, facts)).saturating_mul(bound);
        let fees = rates.web_search.saturating_mul(facts.web_searches).saturating_add(surcharge(rates.request));
        let per_output_token =
            if facts.no_output { Pico::ZERO } else { surcharge(rates.output).saturating_mul(choices) };
        let input = input.saturating_add(fees);
        // A model that costs nothing stays free to the pico-dollar, so that it passes a limit of zero.
        let free = input == Pico::ZERO && per_output_token == Pico::ZERO;
        let maximum = rates.maximum_output.or(rates.context_window).unwrap_or(ceilings::UNKNOWN);
        Quote {
            input: if free { input } else { input.saturating_add(ROUNDING) },
            per_output_token,
            output_ceiling: if facts.no_output { 0 } else { facts.ceiling.map_or(maximum, |c| c.min(STATED_MAX)) },
            stated: facts.ceiling.is_some(),
            can_clamp: facts.can_clamp,
        }
    }

    /// What a reading costs. The model is the reading's, else the request's. `at` is the start of the exchange.
    ///
    /// An absent reading costs nothing here: its hold is consumed instead.
    pub fn charge(&self, provider: &str, requested_model: Option<&str>, reading: &Reading, at: Timestamp) -> Charge {
        let nothing = reading.lines.is_empty() && reading.usage == Usage::default();
        if nothing || reading.quality == Quality::Absent {
            return Charge { cost: Pico::ZERO, kind: PriceKind::Priced };
        }
        let tier = catalogue::tier(reading.service_tier.as_deref());
        let plain = [Line { usage: reading.usage, ..Line::default() }];
        let lines = if reading.lines.is_empty() { &plain[..] } else { &reading.lines };
        let mut sum = Charge { cost: Pico::ZERO, kind: PriceKind::Priced };
        for line in lines {
            let own = line.model.as_deref().or(reading.model.as_deref());
            let names = [own, requested_model.filter(|name| line.model.is_none() && Some(*name) != own)];
            let at = Selector { provider, model: "", tier, at };
            let one = self.line(at, names, line, reading.quality);
            sum.cost = sum.cost.saturating_add(one.cost);
            if one.kind != PriceKind::Priced {
                sum.kind = one.kind;
            }
        }
        sum
    }

    /// One line, by the first of the names that the catalogue knows.
    fn line(&self, selector: Selector<'_>, names: [Option<&str>; 2], line: &Line, quality: Quality) -> Charge {
        let names = names.into_iter().flatten().filter(|name| name.len() <= MAX_MODEL_BYTES);
        let mut named = selector;
        for model in names {
            named = Selector { model, ..selector };
            match line_cost(named, line, quality) {
                Ok(cost) => return Charge { cost, kind: PriceKind::Priced },
                Err(NoPrice::UnknownModel) => {}
                Err(NoPrice::BadUsage) => break,
            }
        }
        // Rates of the model itself where only its numbers did not fit together, else its provider's dearest.
        let known = self.rates(named, line.usage.input_tokens);
        let tokens = Line { web_searches: 0, ..line.clone() };
        let searches = known.rates.web_search.saturating_mul(line.web_searches);
        let cost = percent_up(known.rates.charge(&tokens), line.surcharge_percent).saturating_add(searches);
        Charge { cost, kind: if known.priced { PriceKind::Priced } else { PriceKind::Unpriced } }
    }

    fn rates(&self, selector: Selector<'_>, input_tokens: u64) -> Arc<Known> {
        let selector =
            if selector.model.len() > MAX_MODEL_BYTES { Selector { model: "", ..selector } } else { selector };
        let class = rates::class(input_tokens);
        // Asking every model of a provider takes milliseconds, so its dearest rates are those of a day.
        let period = if selector.model.is_empty() { 24 * MICROS_PER_HOUR } else { MICROS_PER_HOUR };
        let since = selector.at.micros().div_euclid(period) * period;
        let names = [selector.provider, selector.model, selector.tier.unwrap_or("")].join("\0");
        let key = RatesKey { names, class, since };
        if let Some(known) = self.rates.get(&key) {
            return Arc::clone(&known);
        }
        let known = match Rates::of_model(selector, class) {
            Some(rates) => Arc::new(Known { rates, priced: true }),
            None if selector.model.is_empty() => {
                Arc::new(Known { rates: Rates::of_provider(selector, class), priced: false })
            }
            // Every unknown name shares the provider's one entry.
            None => return self.rates(Selector { model: "", ..selector }, input_tokens),
        };
        if self.rates.len() >= MAX_RATES {
            self.rates.clear();
        }
        self.rates.insert(key, Arc::clone(&known));
        known
    }
}

/// What the catalogue charges, rounded once.
fn line_cost(selector: Selector<'_>, line: &Line, quality: Quality) -> Result<Pico, NoPrice> {
    let searched_apart = line.surcharge_percent > 0 && line.web_searches > 0;
    if searched_apart {
        // Surcharges are on tokens; fees stay as they are.
        let tokens = Line { web_searches: 0, ..line.clone() };
        let fees = Line { web_searches: line.web_searches, ..Line::default() };
        let tokens = line_cost(selector, &tokens, quality)?;
        return Ok(tokens.saturating_add(line_cost(selector, &fees, quality)?));
    }
    let (dollars, _) = catalogue::price(selector, &catalogue::units(line))?;
    let mut cost = round::half_up(dollars.total).ok_or(NoPrice::BadUsage)?;
    if quality == Quality::Estimated && line.usage.input_uncached > 0 {
        // Nobody said whether the provider wrote the input to its cache, which may be the dearer.
        let mut written = line.clone();
        written.usage.cache_write_other += std::mem::take(&mut written.usage.input_uncached);
        let (dollars, _) = catalogue::price(selector, &catalogue::units(&written))?;
        cost = cost.max(round::half_up(dollars.total).ok_or(NoPrice::BadUsage)?);
    }
    Ok(percent_up(cost, line.surcharge_percent))
}

/// The input's upper bound: a request beyond the model's window is refused by the provider, not billed.
fn bounded(stated: u64, facts: &RequestFacts, rates: &Rates) -> u64 {
    // A call for embeddings holds many inputs, each of them bounded by the window, not their sum.
    if facts.no_output { stated } else { rates.context_window.map_or(stated, |window| stated.min(window)) }
}

/// The dearest bucket that the request can reach.
fn input_rate(rates: &Rates, provider: &str, facts: &RequestFacts) -> Pico {
    let mut rate = rates.input;
    let mut reach = |reachable: bool, other: Pico| {
        if reachable {
            rate = rate.max(other);
        }
    };
    reach(facts.cache_5m, rates.cache_write_5m);
    reach(facts.cache_1h, rates.cache_write_1h);
    reach(AUTOMATIC_CACHE_WRITES.contains(&provider), rates.cache_write_other);
    reach(facts.input_audio, rates.input_audio);
    // Documents, earlier turns and files can bring images and sounds along.
    reach(facts.input_image || facts.input_unbounded, rates.input_image);
    reach(facts.input_unbounded, rates.input_audio);
    rate
}

/// `percent` of the amount, rounded up; 0 leaves it.
fn percent_up(amount: Pico, percent: u32) -> Pico {
    if percent == 0 {
        return amount;
    }
    let scaled = (i128::from(amount.get()) * i128::from(percent) + 99).div_euclid(100);
    Pico::new(i64::try_from(scaled).unwrap_or(i64::MAX))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
