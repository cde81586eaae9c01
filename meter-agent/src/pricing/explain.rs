//! Where the price of a model comes from, for people: which list, which of its models, the rates, since when.
//!
//! The catalogue tells prices and not rates, so the rates are found by asking for the price of a million tokens in
//! one bucket, at the sizes of input, the tiers and the days where they may differ.

use serde::{Deserialize, Serialize};

use super::{
    PriceKind, Seller, beside,
    book::{Book, FROM_CONFIG, FROM_LITELLM, Terms},
    card::Card,
    catalogue::{Selector, price, sells, units},
    fees,
    rates::{EDGES, per_call},
    round,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Line, Usage, hosts::LOCAL},
};

/// How far back a price is followed.
const DAYS_MAX: i64 = 1_500;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Where a price comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    pub provider: String,
    pub model: String,
    pub price: PriceKind,
    /// In one sentence.
    pub source: String,
    /// Whose and which model's price it is.
    pub matched_provider: Option<String>,
    pub matched_model: Option<String>,
    /// The day since which the rates are these; `None`: as far back as is known.
    pub since: Option<String>,
    pub rates: Vec<Rate>,
    /// Of tools and units beside the tokens.
    pub fees: Vec<FeeLine>,
}

/// One rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// `input`, `cache_read`, `output`, ...
    pub what: String,
    /// `batch`, `flex`, `priority`; `None` for the standard one.
    pub tier: Option<String>,
    /// Only for requests with more input tokens than this.
    pub above: Option<u64>,
    /// Dollars per million tokens.
    pub usd_per_million: Pico,
}

/// One fee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeLine {
    pub what: String,
    pub variant: Option<String>,
    /// Dollars for each.
    pub usd: Pico,
    pub source: String,
}

const BUCKETS: [&str; 9] = [
    "input",
    "cache_read",
    "cache_write_5m",
    "cache_write_1h",
    "cache_write_other",
    "input_audio",
    "output",
    "output_audio",
    "output_image",
];

impl Book {
    pub(super) fn explain(&self, provider: Option<Seller<'_>>, model: &str, at: Timestamp) -> Explanation {
        let terms = Terms { tier: None, batch: false, at };
        let found = match provider {
            Some(seller) => price(self.selector(seller, model, terms), &units(&Line::default(), &Usage::default())),
            None => price(self.selector(Seller::from(""), model, terms), &units(&Line::default(), &Usage::default())),
        }
        .ok();
        let named = found.as_ref().map(|f| f.provider.clone()).unwrap_or_default();
        let seller = provider.unwrap_or(Seller::from(named.as_str()));
        let mut told = Explanation {
            provider: seller.id.to_owned(),
            model: model.to_owned(),
            price: PriceKind::Priced,
            source: String::new(),
            matched_provider: None,
            matched_model: None,
            since: None,
            rates: Vec::new(),
            fees: self.fee_lines(seller, model, terms),
        };
        if seller.catalogue == LOCAL {
            "a host of your own; it costs nothing".clone_into(&mut told.source);
        } else if let Some(own) = self.own_price(seller, model, at, |card| card.tokens.is_some()) {
            FROM_CONFIG.clone_into(&mut told.source);
            told.matched_model = Some(own.model.clone());
            told.since = own.from.map(day);
            told.of_card(&own.card);
        } else if let Some(found) = found {
            let from = Selector { provider: &found.provider, ..self.selector(seller, model, terms) };
            let list = if self.is_imported() { "imported" } else { "embedded" };
            told.source = format!("{list} genai-prices catalogue");
            told.of_catalogue(from, found.model.clone());
        } else if let Some(card) = self.imported_card(seller, model) {
            FROM_LITELLM.clone_into(&mut told.source);
            told.of_card(card);
        } else if let Some((card, source)) = beside::card(seller.catalogue, model) {
            source.clone_into(&mut told.source);
            told.of_card(card);
        } else if let Some(api) = self.api(seller) {
            told.source = format!("paid API, category {}", api.category);
        } else if let Some(other) = self.elsewhere(seller, model, at) {
            let from = Selector { provider: &other.provider, ..self.selector(seller, &other.model, terms) };
            told.price = other.kind;
            told.source = other.reason(seller);
            let matched = price(from, &units(&Line::default(), &Usage::default())).map(|f| f.model).unwrap_or_default();
            told.of_catalogue(from, matched);
        } else {
            let known = self.known(seller, model, terms, 0);
            told.price = known.kind;
            known.reason.as_deref().unwrap_or("the provider's dearest price").clone_into(&mut told.source);
            for (what, rate) in [("input", known.rates.input), ("output", known.rates.output)] {
                told.rates.push(Rate {
                    what: what.to_owned(),
                    tier: None,
                    above: None,
                    usd_per_million: rate.saturating_mul(1_000_000),
                });
            }
            if !sells(self.catalogue(), seller.catalogue) && told.fees.is_empty() {
                told.source.push_str("; `provider` may be misspelt");
            }
        }
        if seller.catalogue != LOCAL {
            self.add_own_units(&mut told, seller, at);
        }
        told
    }

    /// Prices per unit of the config that stand beside another list's rates.
    fn add_own_units(&self, told: &mut Explanation, seller: Seller<'_>, at: Timestamp) {
        let own = self.settings.overrides.iter().filter(|own| own.fits(seller, &told.model, at));
        let units: Vec<_> = own.flat_map(|own| &own.card.per_unit).collect();
        for (unit, usd) in units.into_iter().rev() {
            told.fees.retain(|line| line.what != *unit);
            let source = FROM_CONFIG.to_owned();
            told.fees.insert(0, FeeLine { what: unit.clone(), variant: None, usd: *usd, source });
        }
    }

    fn fee_lines(&self, seller: Seller<'_>, model: &str, terms: Terms) -> Vec<FeeLine> {
        if let Some(api) = self.api(seller) {
            let line = |call: &crate::usage::paid::ApiCall| FeeLine {
                what: call.unit.to_owned(),
                variant: Some(call.name.to_owned()),
                usd: call.price,
                source: call.source.to_owned(),
            };
            return api.calls.iter().map(line).collect();
        }
        let selector = self.selector(seller, model, terms);
        let mut lines: Vec<FeeLine> = ["web_search", "file_search", "x_search", "code_interpreter"]
            .into_iter()
            .filter_map(|tool| {
                let usd = per_call(selector, tool)?;
                Some(FeeLine { what: tool.to_owned(), variant: None, usd, source: "genai-prices".to_owned() })
            })
            .collect();
        for unit in ["audio_seconds", "billable_characters", "ocr_pages", "annotated_pages", "search_units"] {
            if let Some(usd) = Self::catalogue_unit(selector, unit) {
                let source = "genai-prices".to_owned();
                lines.push(FeeLine { what: unit.to_owned(), variant: None, usd, source });
            }
        }
        for fee in fees::of_model(seller.catalogue, model) {
            if !lines.iter().any(|line| line.what == fee.what && line.variant.is_none()) || fee.variant().is_some() {
                lines.push(FeeLine {
                    what: fee.what.to_owned(),
                    variant: fee.variant().map(str::to_owned),
                    usd: fee.price,
                    source: fee.source.to_owned(),
                });
            }
        }
        lines
    }
}

impl Explanation {
    fn of_card(&mut self, card: &Card) {
        let first = card.tokens.map(|rates| (None, rates));
        let tiers = first.into_iter().chain(card.tiers.iter().map(|(n, t)| (Some(*n), *t)));
        for (above, rates) in tiers {
            let all = [
                ("input", Some(rates.input)),
                ("cache_read", rates.cache_read),
                ("cache_write_5m", rates.cache_write),
                ("cache_write_1h", rates.cache_write_1h),
                ("input_audio", rates.input_audio),
                ("output", Some(rates.output)),
                ("output_audio", rates.output_audio),
                ("output_image", rates.output_image),
            ];
            for (what, rate) in all {
                let Some(usd_per_million) = rate else { continue };
                self.rates.push(Rate { what: what.to_owned(), tier: None, above, usd_per_million });
            }
        }
        for (unit, usd) in &card.per_unit {
            let source = self.source.clone();
            self.fees.push(FeeLine { what: unit.clone(), variant: None, usd: *usd, source });
        }
        if card.request.is_positive() {
            let (what, source) = ("request".to_owned(), self.source.clone());
            self.fees.push(FeeLine { what, variant: None, usd: card.request, source });
        }
    }

    fn of_catalogue(&mut self, from: Selector<'_>, matched: String) {
        self.since = since(from);
        self.matched_provider = Some(from.provider.to_owned());
        self.matched_model = Some(matched);
        let standard = by_size(from);
        self.push(None, &standard);
        let tiers = [("flex", Some("flex"), false), ("priority", Some("priority"), false), ("batch", None, true)];
        for (name, tier, batch) in tiers {
            let rates = by_size(Selector { tier, batch, ..from });
            if rates != standard {
                self.push(Some(name), &rates);
            }
        }
    }

    fn push(&mut self, tier: Option<&str>, rates: &[(Option<u64>, [Pico; BUCKETS.len()])]) {
        for (above, of_size) in rates {
            let input = of_size[0];
            for (what, rate) in BUCKETS.iter().zip(of_size) {
                // A part that costs what the whole does has no rate of its own.
                let whole = if what.starts_with("output") { of_size[6] } else { input };
                let is_whole = matches!(*what, "input" | "output");
                if is_whole || (*rate != whole && rate.is_positive()) {
                    self.rates.push(Rate {
                        what: (*what).to_owned(),
                        tier: tier.map(str::to_owned),
                        above: *above,
                        usd_per_million: *rate,
                    });
                }
            }
        }
    }
}

/// The rates by size of input, where they change.
fn by_size(from: Selector<'_>) -> Vec<(Option<u64>, [Pico; BUCKETS.len()])> {
    let mut all = vec![(None, buckets(from, 1_000))];
    for edge in &EDGES[..EDGES.len() - 1] {
        let rates = buckets(from, edge + 1);
        if all.last().is_some_and(|(_, last)| *last != rates) {
            all.push((Some(*edge), rates));
        }
    }
    all
}

/// Dollars per million tokens in each bucket, for an input of that size.
fn buckets(from: Selector<'_>, size: u64) -> [Pico; BUCKETS.len()] {
    let of = |what: &str| {
        let mut usage = Usage { input_tokens: size, output_tokens: size, ..Usage::default() };
        match what {
            "cache_read" => usage.cache_read = size,
            "cache_write_5m" => usage.cache_write_5m = size,
            "cache_write_1h" => usage.cache_write_1h = size,
            "cache_write_other" => usage.cache_write_other = size,
            "input_audio" => usage.input_audio = size,
            "output_audio" => usage.output_audio = size,
            "output_image" => usage.output_image = size,
            _ => {}
        }
        let Ok(found) = price(from, &units(&Line::default(), &usage)) else { return Pico::ZERO };
        let part = if what.starts_with("output") { found.dollars.output } else { found.dollars.input };
        round::per_million(part, size).unwrap_or(Pico::ZERO)
    };
    BUCKETS.map(of)
}

/// The first day of the rates in force, at the same time of the day.
fn since(from: Selector<'_>) -> Option<String> {
    let now = buckets(from, 1_000);
    let at = |days: i64| Timestamp::from_micros(from.at.micros() - days * MICROS_PER_DAY);
    let other = (1..=DAYS_MAX).find(|days| buckets(Selector { at: at(*days), ..from }, 1_000) != now)?;
    Some(day(at(other - 1)))
}

/// `2026-11-21`.
fn day(at: Timestamp) -> String {
    at.rfc3339().chars().take(10).collect()
}
