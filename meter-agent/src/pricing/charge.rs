//! What a reading costs: its lines at their models, then the fees, then the provider's own word against it.

use std::borrow::Cow;

use super::{
    Charge, PriceKind, Seller, beside,
    book::{self, Book, FROM_CONFIG, FROM_LITELLM, MAX_MODEL_BYTES, Terms},
    card::{Card, rounded},
    catalogue::{self, NoPrice, Selector},
    fees::{self, Per},
    rates::per_call,
    round,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Line, Quality, Quantity, Reading, Tools, Usage, hosts::LOCAL},
};

/// A charge that a provider reports is believed up to here, and
const REPORTED_MAX: Pico = Pico::new(1_000 * Pico::USD);
/// up to so many times what the price list says, unless it is less than
const REPORTED_TIMES: u64 = 1_000;
/// this: tools that no list shows can cost far more than the few tokens beside them.
const REPORTED_SMALL: Pico = Pico::new(Pico::USD);

const IMPLAUSIBLE: &str = "the provider reports a charge that can't be; charged by the price list";

/// The catalogue writes a free model down without a price.
const FREE_BY_LIST: &str = "free by the price list";

/// A sum of charges as it grows.
struct Sum {
    cost: Pico,
    kind: PriceKind,
    reason: Option<Cow<'static, str>>,
}

impl Sum {
    const NOTHING: Self = Self { cost: Pico::ZERO, kind: PriceKind::Priced, reason: None };

    fn priced(cost: Pico) -> Self {
        Self { cost, ..Self::NOTHING }
    }

    fn add(&mut self, other: Self) {
        self.cost = self.cost.saturating_add(other.cost);
        if other.kind != PriceKind::Priced {
            self.kind = other.kind;
            self.reason = other.reason;
        } else if self.reason.is_none() {
            self.reason = other.reason;
        }
    }
}

/// What every part of a reading is priced by.
struct Asked<'a> {
    seller: Seller<'a>,
    terms: Terms,
    quality: Quality,
    variant: Option<&'a str>,
}

impl Book {
    pub(super) fn charge(
        &self,
        seller: Seller<'_>,
        requested: Option<&str>,
        reading: &Reading,
        at: Timestamp,
    ) -> Charge {
        if reading.quality == Quality::Absent || (reading.is_empty() && reading.reported.is_none()) {
            return Charge::nothing(None);
        }
        if seller.catalogue == LOCAL {
            return Charge::nothing(Some("local host"));
        }
        let terms = book::terms(reading.service_tier.as_deref(), reading.batch, at);
        let variant = reading.variant.as_deref();
        let asked = Asked { seller, terms, quality: reading.quality, variant };
        let mut listed = Sum::NOTHING;
        let mut lines = Vec::with_capacity(reading.lines.len());
        let own = reading.model.as_deref();
        if reading.lines.is_empty() {
            let plain = Line { usage: reading.usage, units: reading.units.clone(), ..Line::default() };
            listed.add(self.line(&asked, [own, requested.filter(|name| Some(*name) != own)], &plain));
        }
        for line in &reading.lines {
            let model = line.model.as_deref().or(own);
            let other = requested.filter(|name| line.model.is_none() && Some(*name) != model);
            let one = self.line(&asked, [model, other], line);
            lines.push(one.cost);
            listed.add(one);
        }
        if !reading.server_tools.is_empty() {
            listed.add(self.tools(&asked, [own, requested], &reading.server_tools));
        }
        let overridden = listed.reason.as_deref() == Some(FROM_CONFIG);
        match reading.reported.filter(|_| !overridden) {
            Some(reported) => weighed(reported, &listed, lines),
            None => Charge { cost: listed.cost, kind: listed.kind, reason: listed.reason, lines },
        }
    }

    /// One line, by the first of the names that a list knows.
    fn line(&self, asked: &Asked<'_>, names: [Option<&str>; 2], line: &Line) -> Sum {
        let names = names.into_iter().flatten().filter(|name| name.len() <= MAX_MODEL_BYTES);
        let own = || names.clone().chain(std::iter::once(""));
        if !self.settings.overrides.is_empty()
            && let Some((name, price)) = own().find_map(|n| {
                let covers = |card: &Card| card.covers(&line.units);
                self.own_price(asked.seller, n, asked.terms.at, covers).map(|p| (n, p))
            })
        {
            let (cost, missing) = price.card.cost(line);
            let mut sum = Sum { cost, reason: Some(Cow::Borrowed(FROM_CONFIG)), ..Sum::NOTHING };
            for unit in missing {
                let quantity = line.units.get(unit).copied().unwrap_or_default();
                sum.add(self.unit(asked, name, unit, quantity, cost.is_positive()));
            }
            return sum.times(line.surcharge_percent);
        }
        let mut sum = self.tokens(asked, names.clone(), line);
        let has_tokens = sum.cost.is_positive();
        for (unit, quantity) in &line.units {
            let best = names.clone().find(|n| self.sells_unit(asked, n, unit)).or_else(|| names.clone().next());
            let one = self.unit(asked, best.unwrap_or(""), unit, *quantity, has_tokens);
            // A unit that the catalogue prices has been counted with the tokens.
            if !self.in_catalogue(asked, best.unwrap_or(""), unit) {
                sum.add(one);
            }
        }
        sum.times(line.surcharge_percent)
    }

    /// The line's tokens, and the units that the catalogue counts with them.
    fn tokens<'n>(&self, asked: &Asked<'_>, names: impl Iterator<Item = &'n str> + Clone, line: &Line) -> Sum {
        let mut named = "";
        for model in names.clone() {
            named = model;
            match self.line_cost(self.selector(asked.seller, model, asked.terms), line, asked.quality) {
                Ok(Pico::ZERO) if has_tokens(line) => {
                    return Sum { reason: Some(Cow::Borrowed(FREE_BY_LIST)), ..Sum::NOTHING };
                }
                Ok(cost) => return Sum::priced(cost),
                Err(NoPrice::UnknownModel) => {}
                Err(NoPrice::BadUsage) => return self.at_rates(asked, named, line),
            }
        }
        let covers = |card: &&Card| card.covers(&line.units);
        if let Some(card) = names.clone().find_map(|n| self.imported_card(asked.seller, n).filter(covers)) {
            let reason = Some(Cow::Borrowed(FROM_LITELLM));
            return Sum { cost: card.cost(line).0, reason, ..Sum::NOTHING };
        }
        if let Some((card, source)) = names.clone().find_map(|n| beside::card(asked.seller.catalogue, n)) {
            return Sum { cost: card.cost(line).0, reason: Some(Cow::Borrowed(source)), ..Sum::NOTHING };
        }
        if !has_tokens(line) {
            return Sum::NOTHING;
        }
        let known = names.filter_map(|model| self.elsewhere(asked.seller, model, asked.terms.at));
        // What the seller itself takes goes before what others do for the same model.
        let (own, others): (Vec<_>, Vec<_>) = known.partition(|known| known.kind == PriceKind::Priced);
        for known in own.iter().chain(&others) {
            let (provider, model) = (&*known.provider, &*known.model);
            let there = Selector { provider, model, ..self.selector(asked.seller, model, asked.terms) };
            if let Ok(cost) = self.line_cost(there, line, asked.quality) {
                return Sum { cost, kind: known.kind, reason: Some(known.reason(asked.seller).into()) };
            }
        }
        self.at_rates(asked, named, line)
    }

    /// What the catalogue charges, rounded once.
    fn line_cost(&self, selector: Selector<'_>, line: &Line, quality: Quality) -> Result<Pico, NoPrice> {
        let linear = (quality == Quality::Exact).then(|| self.linear.cost(selector, line)).flatten();
        linear.map_or_else(|| asked_cost(selector, line, quality), Ok)
    }

    /// Rates of the model itself where only its numbers did not fit together, else its provider's dearest.
    fn at_rates(&self, asked: &Asked<'_>, model: &str, line: &Line) -> Sum {
        let known = self.known(asked.seller, model, asked.terms, line.usage.input_tokens);
        Sum { cost: known.rates.charge(line), kind: known.kind, reason: known.reason.clone() }
    }

    /// A quantity of a unit that is not in the catalogue. Beside tokens that were paid for, it is what they were
    /// for, and costs nothing more.
    fn unit(&self, asked: &Asked<'_>, model: &str, unit: &str, quantity: Quantity, has_tokens: bool) -> Sum {
        let times = |price: Pico| rounded(i128::from(price.get()) * i128::from(quantity.micros()));
        if let Some(price) = self.price_of_unit(asked.seller, model, unit, asked.variant, asked.terms.at) {
            let extra = self.api(asked.seller).is_some() || !has_tokens;
            return Sum::priced(if extra { times(price) } else { Pico::ZERO });
        }
        if has_tokens || quantity == Quantity::ZERO {
            return Sum::NOTHING;
        }
        let reason = format!("no list has a price of {unit} for this model; charged at the dearest");
        Sum { cost: times(fees::dearest(unit)), kind: PriceKind::Unpriced, reason: Some(reason.into()) }
    }

    /// The price of one unit beside the catalogue: a paid API's, an imported list's, the table's.
    pub(super) fn price_of_unit(
        &self,
        seller: Seller<'_>,
        model: &str,
        unit: &str,
        variant: Option<&str>,
        at: Timestamp,
    ) -> Option<Pico> {
        if let Some(api) = self.api(seller) {
            return api.price_of(variant, unit);
        }
        if let Some(price) = self.imported_card(seller, model).and_then(|card| card.per_unit.get(unit)) {
            return Some(*price);
        }
        // A name that a gateway puts before the model's says who made it.
        let (maker, bare) = model.split_once('/').unwrap_or((seller.catalogue, model));
        let row = fees::fee(seller.catalogue, model, unit, variant, at);
        row.or_else(|| fees::fee(maker, bare, unit, variant, at)).map(|fee| fee.price)
    }

    fn sells_unit(&self, asked: &Asked<'_>, model: &str, unit: &str) -> bool {
        self.in_catalogue(asked, model, unit)
            || self.price_of_unit(asked.seller, model, unit, asked.variant, asked.terms.at).is_some()
    }

    /// Whether the catalogue has a price of that unit for the model.
    fn in_catalogue(&self, asked: &Asked<'_>, model: &str, unit: &str) -> bool {
        Self::catalogue_unit(self.selector(asked.seller, model, asked.terms), unit).is_some()
    }

    /// The catalogue's price of one unit.
    pub(super) fn catalogue_unit(selector: Selector<'_>, unit: &str) -> Option<Pico> {
        const MANY: u64 = 1_000_000;
        let none = catalogue::units(&Line::default(), &Usage::default());
        let mut units = none.clone();
        if !catalogue::put_unit(&mut units, unit, Quantity::whole(MANY)) {
            return None;
        }
        let with = catalogue::price(selector, &units).ok()?.dollars.total;
        let without = catalogue::price(selector, &none).ok()?.dollars.total;
        round::up((with - without) / round::count(MANY)).filter(|price| price.is_positive())
    }

    /// Fees for calls of tools.
    fn tools(&self, asked: &Asked<'_>, names: [Option<&str>; 2], tools: &Tools) -> Sum {
        let model = names.into_iter().flatten().find(|name| name.len() <= MAX_MODEL_BYTES).unwrap_or("");
        let mut sum = Sum::NOTHING;
        for (tool, calls) in tools.iter().filter(|(_, calls)| **calls > 0) {
            let fee = self.fee(asked.seller, model, tool, asked.terms);
            let cost = fee.price.saturating_mul(billed(tool, model, *calls, fee.per));
            let (kind, reason) = if fee.known {
                (PriceKind::Priced, None)
            } else {
                let text = format!("no list has a price of {tool} here; charged at the dearest");
                (PriceKind::Unpriced, Some(text.into()))
            };
            sum.add(Sum { cost, kind, reason });
        }
        sum
    }

    /// What one call of a tool costs.
    pub(super) fn fee(&self, seller: Seller<'_>, model: &str, tool: &str, terms: Terms) -> ToolFee {
        if fees::is_free_tool(tool) {
            return ToolFee { price: Pico::ZERO, per: Per::Each, known: true };
        }
        if let Some(price) = self.own_unit(seller, model, tool, terms.at) {
            return ToolFee { price, per: Per::Each, known: true };
        }
        if let Some(price) = per_call(self.selector(seller, model, terms), tool) {
            return ToolFee { price, per: Per::Each, known: true };
        }
        if let Some(price) = self.imported_card(seller, model).and_then(|card| card.per_unit.get(tool)) {
            return ToolFee { price: *price, per: Per::Each, known: true };
        }
        match fees::fee(seller.catalogue, model, tool, None, terms.at) {
            Some(fee) => ToolFee { price: fee.price, per: fee.per, known: true },
            None => ToolFee { price: fees::dearest(tool), per: Per::Each, known: false },
        }
    }
}

/// The price of a tool's call.
#[derive(Clone, Copy, Debug)]
pub(super) struct ToolFee {
    pub(super) price: Pico,
    pub(super) per: Per,
    pub(super) known: bool,
}

/// The calls that are billed. Gemini 3 bills every query and place; earlier ones bill a grounded prompt once.
pub(super) fn billed(tool: &str, model: &str, calls: u64, per: Per) -> u64 {
    let grounds = matches!(tool, "google_search" | "google_maps");
    let by_prompt = grounds && (model.starts_with("gemini-1") || model.starts_with("gemini-2"));
    if by_prompt || per == Per::Exchange { calls.min(1) } else { calls }
}

/// The provider's own charge where it can be true.
fn weighed(reported: Pico, listed: &Sum, lines: Vec<Pico>) -> Charge {
    let known = listed.kind == PriceKind::Priced && listed.cost.is_positive();
    let far_off = known && reported > listed.cost.saturating_mul(REPORTED_TIMES) && reported > REPORTED_SMALL;
    if reported > REPORTED_MAX || far_off || reported < Pico::ZERO {
        return Charge { cost: listed.cost, kind: listed.kind, reason: Some(Cow::Borrowed(IMPLAUSIBLE)), lines };
    }
    Charge { cost: reported, kind: PriceKind::Provider, reason: None, lines }
}

impl Sum {
    fn times(self, percent: u32) -> Self {
        Self { cost: percent_up(self.cost, percent), ..self }
    }
}

fn has_tokens(line: &Line) -> bool {
    line.usage.input_tokens > 0 || line.usage.output_tokens > 0
}

/// As the catalogue says when it is asked.
fn asked_cost(selector: Selector<'_>, line: &Line, quality: Quality) -> Result<Pico, NoPrice> {
    let of = |usage: Usage| {
        let mut units = catalogue::units(line, &usage);
        for (unit, quantity) in &line.units {
            catalogue::put_unit(&mut units, unit, *quantity);
        }
        round::half_up(catalogue::price(selector, &units)?.dollars.total).ok_or(NoPrice::BadUsage)
    };
    let cost = of(line.usage)?;
    if quality != Quality::Estimated || line.usage.input_uncached == 0 {
        return Ok(cost);
    }
    // Nobody said whether the provider wrote the input to its cache, which may be the dearer.
    let mut written = line.usage;
    written.cache_write_other += std::mem::take(&mut written.input_uncached);
    Ok(cost.max(of(written)?))
}

/// `percent` of the amount, rounded up; 0 leaves it.
pub(super) fn percent_up(amount: Pico, percent: u32) -> Pico {
    if percent == 0 {
        return amount;
    }
    let scaled = (i128::from(amount.get()) * i128::from(percent) + 99).div_euclid(100);
    Pico::new(i64::try_from(scaled).unwrap_or(i64::MAX))
}
