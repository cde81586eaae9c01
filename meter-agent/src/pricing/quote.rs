//! The worst case of a request, for admission: an upper bound of everything that its answer can be charged for.
//!
//! A batch's discount is never assumed, an answer's tier is the dearest that the request can reach.

use std::borrow::Cow;

use super::{
    Seller,
    book::{Book, Terms},
    catalogue, ceilings,
    charge::{billed, percent_up},
    fees, rates,
    rates::Rates,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Quantity, RequestFacts, hosts::LOCAL, paid::Api},
};

/// No model's output comes near it. What a request states beyond that is refused by the provider, and must not be
/// held (and, unanswered, charged) as if it could be had.
pub(super) const STATED_MAX: u64 = 4 << 20;
/// As above for the answers of one request: the APIs take 128 at most.
const CHOICES_MAX: u64 = 128;
/// As above for calls of tools, and for units.
const CALLS_MAX: u64 = 10_000;
const UNITS_MAX: Quantity = Quantity::whole(100_000_000);

/// Input bound where neither the request's bytes nor the catalogue know one: the largest window on offer.
const UNKNOWN_WINDOW: u64 = 2_100_000;

/// Lines are rounded one by one, and up to half a pico-dollar each: more lines than any answer has.
pub(super) const ROUNDING: Pico = Pico::new(64);

/// Providers that write caches, at a rate of their own, without being asked to.
const AUTOMATIC_CACHE_WRITES: &[&str] = &["openai"];

/// As above for models of theirs that others sell. A model without such a rate has none in the catalogue.
const AUTOMATIC_CACHE_WRITERS: &[&str] = &["gpt-5", "gpt-6"];

/// Providers that put a prompt of their own before the agent's, and bill for it: tokens at most. Venice's own is
/// some 1,300 (docs.venice.ai, `include_venice_system_prompt`).
const ADDED_PROMPTS: &[(&str, u64)] = &[("venice", 4_096)];

/// Providers where `auto` can become the dearer tier, and its name.
const AUTO_TIERS: &[(&str, &str)] = &[("openai", "priority"), ("azure", "priority")];

/// The worst case of one request, linear in output tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The input's upper bound at the dearest bucket it can reach, plus fees.
    pub input: Pico,
    /// Dearest output rate, rounded up, times the number of choices.
    pub per_output_token: Pico,
    /// The input's upper bound, in tokens.
    pub input_tokens: u64,
    /// Answers that the ceiling holds for, one by one.
    pub choices: u64,
    /// Stated by the request, else the model's maximum.
    pub output_ceiling: u64,
    /// The request stated its ceiling itself.
    pub stated: bool,
    /// A ceiling can be set in the request.
    pub can_clamp: bool,
}

impl Quote {
    /// Of a request that costs that and no more, whatever is answered.
    pub const fn fixed(amount: Pico) -> Self {
        Self {
            input: amount,
            per_output_token: Pico::ZERO,
            input_tokens: 0,
            choices: 1,
            output_ceiling: 0,
            stated: true,
            can_clamp: false,
        }
    }

    /// Of a request that costs nothing.
    pub(super) fn nothing(facts: &RequestFacts) -> Self {
        Self {
            input: Pico::ZERO,
            per_output_token: Pico::ZERO,
            input_tokens: facts.input_bound,
            choices: facts.choices.clamp(1, CHOICES_MAX),
            output_ceiling: facts.ceiling.unwrap_or(0).min(STATED_MAX),
            stated: facts.ceiling.is_some(),
            can_clamp: facts.can_clamp,
        }
    }

    /// Enough for either: whichever is dearer at the ceiling that is granted in the end.
    fn dearest(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            per_output_token: self.per_output_token.max(other.per_output_token),
            input_tokens: self.input_tokens.max(other.input_tokens),
            choices: self.choices.max(other.choices),
            output_ceiling: self.output_ceiling.max(other.output_ceiling),
            ..self
        }
    }

    /// Enough for both.
    fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            per_output_token: self.per_output_token.saturating_add(other.per_output_token),
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            choices: self.choices.saturating_add(other.choices),
            output_ceiling: self.output_ceiling.max(other.output_ceiling),
            ..self
        }
    }

    /// Worst case with the given output ceiling.
    pub fn worst_at(&self, output_tokens: u64) -> Pico {
        self.input.saturating_add(self.per_output_token.saturating_mul(output_tokens))
    }

    pub fn worst(&self) -> Pico {
        self.worst_at(self.output_ceiling)
    }

    /// The most tokens that the request can use with the given output ceiling.
    pub fn tokens_at(&self, output_tokens: u64) -> i64 {
        let output = output_tokens.saturating_mul(self.choices);
        i64::try_from(self.input_tokens.saturating_add(output)).unwrap_or(i64::MAX)
    }

    /// The largest output ceiling with which the request uses at most so many tokens.
    pub fn output_within(&self, tokens: i64) -> u64 {
        let left = u64::try_from(tokens).unwrap_or(0).saturating_sub(self.input_tokens);
        (left / self.choices.max(1)).min(self.output_ceiling)
    }

    /// The largest output ceiling whose worst case is at most `amount`; 0 when not even the input fits.
    pub fn tokens_within(&self, amount: Pico) -> u64 {
        let left = amount.saturating_sub(self.input).get();
        if left < 0 {
            return 0;
        }
        match self.per_output_token.get() {
            rate if rate <= 0 => self.output_ceiling,
            rate => u64::try_from(left / rate).unwrap_or(0).min(self.output_ceiling),
        }
    }
}

impl Book {
    /// The worst case of a request that any of its models may answer.
    pub(super) fn quote_any(&self, seller: Seller<'_>, facts: &RequestFacts, at: Timestamp) -> Quote {
        let others = facts.fallbacks.iter().map(|model| self.quote(seller, &facts.answered_by(model), at));
        let both = if facts.bills_attempts { Quote::plus } else { Quote::dearest };
        others.fold(self.quote(seller, facts, at), both)
    }

    fn quote(&self, seller: Seller<'_>, facts: &RequestFacts, at: Timestamp) -> Quote {
        if seller.catalogue == LOCAL {
            return Quote::nothing(facts);
        }
        let model = facts.model.as_deref().unwrap_or("");
        let terms = Terms { tier: catalogue::tier(facts.service_tier.as_deref()), batch: false, at };
        let stated = if facts.input_unbounded { UNKNOWN_WINDOW } else { facts.input_bound };
        let added = ADDED_PROMPTS.iter().find(|(id, _)| *id == seller.id).map_or(0, |(_, tokens)| *tokens);
        let stated = if self.api(seller).is_some() { 0 } else { stated.saturating_add(added) };
        let mut rates = self.reachable(seller, facts, terms, stated);
        let bound = bounded(stated, facts, &rates);
        if rates::class(bound) != rates::class(stated) {
            rates = self.reachable(seller, facts, terms, bound);
        }
        let surcharge = |amount: Pico| percent_up(amount, facts.surcharge_percent);
        let choices = facts.choices.clamp(1, CHOICES_MAX);
        let tokens = surcharge(input_rate(&rates, seller.catalogue, facts)).saturating_mul(bound);
        let fees = self.fees(seller, model, facts, terms).saturating_add(surcharge(rates.request));
        let units = surcharge(self.units(seller, model, facts, terms));
        let per_output_token =
            if facts.no_output { Pico::ZERO } else { surcharge(rates.output).saturating_mul(choices) };
        // A call of a paid API that is none of its rows may be any of them.
        let unnamed = self.api(seller).filter(|_| facts.units.is_empty()).map_or(Pico::ZERO, Api::worst);
        let input = tokens.saturating_add(fees).saturating_add(units).saturating_add(unnamed);
        // A model that costs nothing stays free to the pico-dollar, so that it passes a limit of zero.
        let free = input == Pico::ZERO && per_output_token == Pico::ZERO;
        let maximum = rates.maximum_output.or(rates.context_window).unwrap_or(ceilings::UNKNOWN);
        Quote {
            input: if free { input } else { input.saturating_add(ROUNDING) },
            per_output_token,
            input_tokens: bound,
            choices,
            output_ceiling: if facts.no_output { 0 } else { facts.ceiling.map_or(maximum, |c| c.min(STATED_MAX)) },
            stated: facts.ceiling.is_some(),
            can_clamp: facts.can_clamp,
        }
    }

    /// The dearest rates that the answer can be charged at.
    fn reachable(&self, seller: Seller<'_>, facts: &RequestFacts, terms: Terms, input: u64) -> Rates {
        let model = facts.model.as_deref().unwrap_or("");
        if self.api(seller).is_some() {
            return Rates::default();
        }
        if let Some(own) = self.own_price(seller, model, terms.at, |card| card.covers(&facts.units)) {
            // The price is the config's, but how much the model takes and gives is what is known of it.
            let known = self.known(seller, model, terms, input).rates;
            let own = own.card.rates(input);
            return Rates {
                context_window: known.context_window,
                maximum_output: own.maximum_output.or(known.maximum_output),
                ..own
            };
        }
        if self.orders_units_alone(seller, facts, terms) {
            return Rates::default();
        }
        let rates = |terms| self.known(seller, model, terms, input).rates;
        let asked = rates(terms);
        let auto = facts.service_tier.as_deref().is_some_and(|tier| tier.eq_ignore_ascii_case("auto"));
        match AUTO_TIERS.iter().find(|(provider, _)| auto && *provider == seller.catalogue) {
            Some((_, tier)) => asked.dearest(rates(Terms { tier: Some(tier), ..terms })),
            None => asked,
        }
    }

    /// Whether what is ordered is priced by the unit, by a model that no list has tokens of (a picture, a voice).
    fn orders_units_alone(&self, seller: Seller<'_>, facts: &RequestFacts, terms: Terms) -> bool {
        let model = facts.model.as_deref().unwrap_or("");
        !facts.units.is_empty()
            && self.units_are_priced(seller, facts, terms.at)
            && !has_tokens(self.selector(seller, model, terms))
    }

    pub(super) fn units_are_priced(&self, seller: Seller<'_>, facts: &RequestFacts, at: Timestamp) -> bool {
        let model = facts.model.as_deref().unwrap_or("");
        let terms = Terms { tier: None, batch: false, at };
        facts.units.keys().all(|unit| self.unit_price(seller, model, unit, facts.variant.as_deref(), terms).is_some())
    }

    fn unit_price(
        &self,
        seller: Seller<'_>,
        model: &str,
        unit: &str,
        variant: Option<&str>,
        terms: Terms,
    ) -> Option<Pico> {
        self.own_unit(seller, model, unit, terms.at)
            .or_else(|| Self::catalogue_unit(self.selector(seller, model, terms), unit))
            .or_else(|| self.price_of_unit(seller, model, unit, variant, terms.at))
    }

    /// What the ordered units can cost.
    fn units(&self, seller: Seller<'_>, model: &str, facts: &RequestFacts, terms: Terms) -> Pico {
        let one = |(unit, quantity): (&Cow<'static, str>, &Quantity)| {
            let price = self.unit_price(seller, model, unit, facts.variant.as_deref(), terms);
            let price = price.unwrap_or_else(|| fees::dearest(unit));
            let quantity = (*quantity).min(UNITS_MAX).micros().div_ceil(1_000_000);
            price.saturating_mul(quantity)
        };
        facts.units.iter().map(one).fold(Pico::ZERO, Pico::saturating_add)
    }

    /// What calls of tools can cost.
    fn fees(&self, seller: Seller<'_>, model: &str, facts: &RequestFacts, terms: Terms) -> Pico {
        let one = |(tool, calls): (&Cow<'static, str>, &u64)| {
            let fee = self.fee(seller, model, tool, terms);
            fee.price.saturating_mul(billed(tool, model, (*calls).min(CALLS_MAX), fee.per))
        };
        facts.tools.iter().map(one).fold(Pico::ZERO, Pico::saturating_add)
    }
}

/// Whether the catalogue prices the model's tokens.
fn has_tokens(selector: catalogue::Selector<'_>) -> bool {
    Rates::of_model(selector, 0).is_some_and(|rates| rates.input.is_positive() || rates.output.is_positive())
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
    let model = facts.model.as_deref().unwrap_or("");
    let automatic = AUTOMATIC_CACHE_WRITES.contains(&provider)
        || AUTOMATIC_CACHE_WRITERS.iter().any(|family| model.contains(family));
    reach(automatic, rates.cache_write_other);
    reach(facts.input_audio, rates.input_audio);
    // Documents, earlier turns and files can bring images and sounds along.
    reach(facts.input_image || facts.input_unbounded, rates.input_image);
    reach(facts.input_unbounded, rates.input_audio);
    rate
}
