//! The price lists in force, and which of them knows a model.
//!
//! Immutable but for its caches; an import makes a new one.

use std::{borrow::Cow, sync::Arc};

use dashmap::DashMap;
use genai_prices::Calculator;

use super::{
    PriceKind, PriceOverride, Seller, Settings, beside,
    card::{Card, TokenRates},
    catalogue::{self, Selector, price, sells, units},
    imports::Imported,
    linear::Linear,
    litellm::LiteLlm,
    rates::{self, Rates},
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{
        Line, RequestFacts, Usage,
        hosts::LOCAL,
        paid::{self, Api},
    },
};

/// Rates kept. A host uses a few models in a few sizes; an agent that makes names up must not fill the memory.
const MAX_RATES: usize = 4_096;

/// Longest model name that is looked up; a longer one is nobody's.
pub(super) const MAX_MODEL_BYTES: usize = 256;

/// Gateways of the catalogue whose prices are their makers', so that those stand in for a model it lacks.
const PASSING_ON: &[&str] = &["openrouter"];

/// Gateways without a list of their own that say they add nothing to their makers' prices, or leave billing to them:
/// vercel.com/docs/ai-gateway, portkey.ai/docs, ai.pydantic.dev/gateway, huggingface.co/docs/inference-providers/pricing.
/// What they pass on is a price, not a guess.
const WITHOUT_MARKUP: &[&str] = &["vercel", "portkey", "pydantic-gateway"];

/// The gateway to the catalogue's providers whose ids begin with its own.
const HUGGINGFACE: &str = "huggingface";

/// What makers put behind a model's name for the same model in another precision, in lower case.
const PRECISIONS: &[&str] = &["fp8", "bf16", "fp16", "fp4", "nvfp4"];

const MICROS_PER_HOUR: i64 = 3_600_000_000;

/// Of a model that no list knows, at a provider that no list knows: the dearest tokens that any list of the
/// catalogue has sold since 2025 ($150 and $600 per million).
static UNHEARD_OF: Card = Card {
    tokens: Some(TokenRates {
        input: Pico::new(150 * Pico::USD),
        output: Pico::new(600 * Pico::USD),
        cache_read: None,
        cache_write: None,
        cache_write_1h: None,
        input_audio: None,
        output_audio: None,
        output_image: None,
    }),
    tiers: Vec::new(),
    request: Pico::ZERO,
    per_unit: std::collections::BTreeMap::new(),
    context_window: None,
    maximum_output: None,
};

pub(super) struct Book {
    pub(super) settings: Arc<Settings>,
    imported: Option<Calculator>,
    litellm: Option<LiteLlm>,
    /// Rates that were asked for lately. Only quotes and unknown models use them; a charge is always the
    /// catalogue's own.
    pub(super) rates: DashMap<RatesKey, Arc<Known>>,
    /// The catalogue's prices that are no more than rates.
    pub(super) linear: Linear,
    /// By seller and name: how a model is called where its price stands.
    elsewhere: DashMap<String, Option<Arc<Elsewhere>>>,
}

/// Names, the class of input sizes, and the start of the hour (the catalogue's prices change by date and by time of
/// day).
#[derive(PartialEq, Eq, Hash)]
pub(super) struct RatesKey {
    names: String,
    class: u8,
    since: i64,
}

/// Rates of a model, and how good they are.
pub(super) struct Known {
    pub(super) rates: Rates,
    pub(super) kind: PriceKind,
    pub(super) reason: Option<Cow<'static, str>>,
}

/// The same model under another name or at another provider.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    pub(super) provider: String,
    pub(super) model: String,
    /// Whether it is the price that the seller takes, or only one for the same model.
    pub(super) kind: PriceKind,
}

/// What is asked for beside the names.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) tier: Option<&'static str>,
    pub(super) batch: bool,
    pub(super) at: Timestamp,
}

impl Book {
    pub(super) fn new(settings: Arc<Settings>, imported: Imported) -> Self {
        if imported.catalogue.is_none() {
            let _ = Calculator::bundled();
        }
        Self {
            settings,
            imported: imported.catalogue,
            litellm: imported.litellm,
            rates: DashMap::new(),
            linear: Linear::default(),
            elsewhere: DashMap::new(),
        }
    }

    /// The catalogue in force.
    pub(super) fn catalogue(&self) -> &Calculator {
        match &self.imported {
            Some(imported) => imported,
            None => Calculator::bundled(),
        }
    }

    pub(super) fn litellm(&self) -> Option<&LiteLlm> {
        self.litellm.as_ref()
    }

    pub(super) fn is_imported(&self) -> bool {
        self.imported.is_some()
    }

    pub(super) fn selector<'a>(&'a self, seller: Seller<'a>, model: &'a str, terms: Terms) -> Selector<'a> {
        Selector {
            from: self.catalogue(),
            provider: seller.catalogue,
            model,
            tier: terms.tier,
            batch: terms.batch,
            at: terms.at,
        }
    }

    /// The config's own price of a model: the first that has one for what is asked.
    pub(super) fn own_price(
        &self,
        seller: Seller<'_>,
        model: &str,
        at: Timestamp,
        has: impl Fn(&Card) -> bool,
    ) -> Option<&PriceOverride> {
        self.settings.overrides.iter().find(|own| own.fits(seller, model, at) && has(&own.card))
    }

    /// The config's own price of a call of a tool, or of a unit.
    pub(super) fn own_unit(&self, seller: Seller<'_>, model: &str, name: &str, at: Timestamp) -> Option<Pico> {
        let own = self.own_price(seller, model, at, |card| card.per_unit.contains_key(name))?;
        own.card.per_unit.get(name).copied()
    }

    /// The LiteLLM file's.
    pub(super) fn imported_card(&self, seller: Seller<'_>, model: &str) -> Option<&Card> {
        self.litellm.as_ref()?.card(seller, model)
    }

    /// The paid API of that provider, built in or the config's.
    pub(super) fn api(&self, seller: Seller<'_>) -> Option<&'static Api> {
        self.settings.apis.iter().copied().find(|api| api.id == seller.id).or_else(|| paid::api(seller.id))
    }

    /// The first of the request's models that no list of prices has.
    pub(super) fn unknown(&self, seller: Seller<'_>, facts: &RequestFacts, at: Timestamp) -> Option<String> {
        if !self.knows(seller, facts, at) {
            return Some(facts.model.clone().unwrap_or_else(|| "(none)".to_owned()));
        }
        facts.fallbacks.iter().find(|model| !self.knows(seller, &facts.answered_by(model), at)).cloned()
    }

    /// Whether a list of prices has what the request orders.
    fn knows(&self, seller: Seller<'_>, facts: &RequestFacts, at: Timestamp) -> bool {
        let model = facts.model.as_deref().unwrap_or("");
        let own = self.own_price(seller, model, at, |card| card.covers(&facts.units));
        if seller.catalogue == LOCAL || own.is_some() || self.api(seller).is_some() {
            return true;
        }
        if !facts.units.is_empty() && self.units_are_priced(seller, facts, at) {
            return true;
        }
        let terms = Terms { tier: None, batch: false, at };
        self.known(seller, model, terms, 0).kind == PriceKind::Priced
    }

    /// Rates of a model for inputs of that size or less.
    pub(super) fn known(&self, seller: Seller<'_>, model: &str, terms: Terms, input_tokens: u64) -> Arc<Known> {
        let model = if model.len() > MAX_MODEL_BYTES { "" } else { model };
        let class = rates::class(input_tokens);
        // Asking every model of a provider takes milliseconds, so its dearest rates are those of a day.
        let period = if model.is_empty() { 24 * MICROS_PER_HOUR } else { MICROS_PER_HOUR };
        let since = terms.at.micros().div_euclid(period) * period;
        let batch = if terms.batch { "batch" } else { "" };
        let names = [seller.catalogue, model, terms.tier.unwrap_or(""), batch].join("\0");
        let key = RatesKey { names, class, since };
        if let Some(known) = self.rates.get(&key) {
            return Arc::clone(&known);
        }
        let known = match self.look_up(seller, model, terms, class) {
            Some(known) => Arc::new(known),
            None if model.is_empty() => Arc::new(self.dearest(seller, terms, class)),
            // Every unknown name shares the provider's one entry.
            None => return self.known(seller, "", terms, input_tokens),
        };
        if self.rates.len() >= MAX_RATES {
            self.rates.clear();
        }
        self.rates.insert(key, Arc::clone(&known));
        known
    }

    fn look_up(&self, seller: Seller<'_>, model: &str, terms: Terms, class: u8) -> Option<Known> {
        if model.is_empty() {
            return None;
        }
        let selector = self.selector(seller, model, terms);
        if let Some(rates) = Rates::of_model(selector, class) {
            return Some(Known { rates, kind: PriceKind::Priced, reason: None });
        }
        if let Some(card) = self.imported_card(seller, model).filter(|card| card.tokens.is_some()) {
            let rates = card.rates(rates::edge(class));
            return Some(Known { rates, kind: PriceKind::Priced, reason: Some(Cow::Borrowed(FROM_LITELLM)) });
        }
        if let Some((card, source)) = beside::card(seller.catalogue, model) {
            let rates = card.rates(rates::edge(class));
            return Some(Known { rates, kind: PriceKind::Priced, reason: Some(Cow::Borrowed(source)) });
        }
        let other = self.elsewhere(seller, model, terms.at)?;
        let rates = Rates::of_model(Selector { provider: &other.provider, model: &other.model, ..selector }, class)?;
        Some(Known { rates, kind: other.kind, reason: Some(other.reason(seller).into()) })
    }

    fn dearest(&self, seller: Seller<'_>, terms: Terms, class: u8) -> Known {
        let (rates, reason) = if sells(self.catalogue(), seller.catalogue) {
            (Rates::of_provider(self.selector(seller, "", terms), class), AT_DEAREST)
        } else {
            (UNHEARD_OF.rates(0), AT_DEFAULT)
        };
        Known { rates, kind: PriceKind::Unpriced, reason: Some(Cow::Borrowed(reason)) }
    }

    /// Where the price of a model stands that the seller's list does not have under this name.
    pub(super) fn elsewhere(&self, seller: Seller<'_>, model: &str, at: Timestamp) -> Option<Arc<Elsewhere>> {
        if !(1..=MAX_MODEL_BYTES).contains(&model.len()) {
            return None;
        }
        let key = format!("{}\0{model}", seller.catalogue);
        if let Some(found) = self.elsewhere.get(&key) {
            return found.clone();
        }
        let routed = || {
            // Another of the router's providers sells the model.
            let router = seller.catalogue.starts_with(HUGGINGFACE).then_some(HUGGINGFACE)?;
            Some(Elsewhere { kind: PriceKind::Unpriced, ..self.spelled(router, model, at)? })
        };
        let own = self.spelled(seller.catalogue, model, at);
        let found = own.or_else(routed).or_else(|| self.sold_by_others(seller, model, at));
        let found = found.map(Arc::new);
        if self.elsewhere.len() >= MAX_RATES {
            self.elsewhere.clear();
        }
        self.elsewhere.insert(key, found.clone());
        found
    }

    /// The seller's own price of a model in another spelling: `openai.gpt-oss-20b` for `openai.gpt-oss-20b-1:0`,
    /// `publishers/google/gemini-live-2.5-flash`, `Qwen3.5-397B-A17B-FP8`. The dearest, should several be alike.
    fn spelled(&self, catalogue: &str, model: &str, at: Timestamp) -> Option<Elsewhere> {
        let (model, through) = match model.rsplit_once(':') {
            // Hugging Face's router takes the provider behind the model.
            Some((model, through)) if catalogue == HUGGINGFACE => (model, Some(through)),
            Some(_) | None => (model, None),
        };
        let is_asked = |id: &str| match (id.strip_prefix(HUGGINGFACE), through) {
            (Some(rest), Some(through)) if catalogue == HUGGINGFACE => rest.strip_prefix('_') == Some(through),
            (Some(_), None) if catalogue == HUGGINGFACE => true,
            (Some(_) | None, Some(_) | None) => id == catalogue,
        };
        let bare = model.rsplit('/').next().unwrap_or(model);
        let plain = plain(bare);
        let mut best: Option<(f64, Elsewhere)> = None;
        for provider in self.catalogue().providers().filter(|p| is_asked(p.id())) {
            let alike = provider.models().map(genai_prices::ModelInfo::id).filter(|id| self::plain(last(id)) == plain);
            for name in alike.chain([bare]) {
                let Some((price, found)) = self.probe(provider.id(), name, at) else { continue };
                if best.as_ref().is_none_or(|(dearest, _)| price > *dearest) {
                    best = Some((price, Elsewhere { kind: PriceKind::Priced, ..found }));
                }
            }
        }
        best.map(|(_, found)| found)
    }

    /// Another's price of the model, where the catalogue has nothing of this seller: the maker's by the model's name,
    /// then OpenRouter's, then the dearest of all others, were it in another spelling (`qwen3-5-9b`, `Qwen3.5-9B`).
    fn sold_by_others(&self, seller: Seller<'_>, model: &str, at: Timestamp) -> Option<Elsewhere> {
        // A gateway that passes its makers' prices on names them before the model.
        let passes_on = PASSING_ON.contains(&seller.catalogue) && model.contains('/');
        if !passes_on && sells(self.catalogue(), seller.catalogue) {
            return None;
        }
        let found = self.find_elsewhere(model, at)?;
        let kind = if WITHOUT_MARKUP.contains(&seller.catalogue) { found.kind } else { PriceKind::Unpriced };
        Some(Elsewhere { kind, ..found })
    }

    /// What a thousand tokens in and out cost there, where they cost anything.
    fn probe(&self, provider: &str, model: &str, at: Timestamp) -> Option<(f64, Elsewhere)> {
        let usage = Usage { input_tokens: 1_000, input_uncached: 1_000, output_tokens: 1_000, ..Usage::default() };
        let probe = units(&Line::default(), &usage);
        let selector = Selector { from: self.catalogue(), provider, model, tier: None, batch: false, at };
        let found = price(selector, &probe).ok()?;
        let other = Elsewhere { provider: found.provider, model: model.to_owned(), kind: PriceKind::Unpriced };
        (found.dollars.total > 0.0).then_some((found.dollars.total, other))
    }

    fn find_elsewhere(&self, model: &str, at: Timestamp) -> Option<Elsewhere> {
        let ask = |provider: &str, name: &str| self.probe(provider, name, at);
        let bare = model.rsplit('/').next().unwrap_or(model);
        let prefixed = model.split_once('/').and_then(|(maker, name)| ask(maker, name));
        // The maker's own price, which a gateway without a markup takes.
        if let Some((_, other)) = prefixed.or_else(|| ask("", bare)) {
            return Some(Elsewhere { kind: PriceKind::Priced, ..other });
        }
        if let Some((_, other)) = ask("openrouter", model).or_else(|| ask("", model)) {
            return Some(other);
        }
        let plain = squeezed(bare);
        let alike = self.catalogue().providers().flat_map(|p| p.models().map(move |m| (p.id(), m.id())));
        let alike = alike.filter(|(_, id)| squeezed(id.rsplit('/').next().unwrap_or(id)) == plain);
        let dearest = alike.filter_map(|(id, name)| ask(id, name)).max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((_, other)) = dearest {
            return Some(other);
        }
        let all = self.catalogue().providers().flat_map(|p| [ask(p.id(), model), ask(p.id(), bare)]).flatten();
        all.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
    }
}

/// What comes behind the last `/` of a name.
fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A model's name without the version of its deployment (`-1:0`, `-v1:0`) and its precision.
fn plain(name: &str) -> String {
    let name = match name.rsplit_once(':') {
        Some((rest, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            let version = |part: &str| part.trim_start_matches('v').bytes().all(|b| b.is_ascii_digit());
            rest.rsplit_once('-').filter(|(_, part)| version(part)).map_or(rest, |(model, _)| model)
        }
        Some(_) | None => name,
    };
    let name = squeezed(name);
    PRECISIONS.iter().find_map(|end| name.strip_suffix(end)).map_or_else(|| name.clone(), str::to_owned)
}

/// Letters and digits alone.
fn squeezed(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Reasons, for the ledger.
pub(super) const FROM_CONFIG: &str = "price of the config";
pub(super) const FROM_LITELLM: &str = "price of the imported LiteLLM file";
const AT_DEAREST: &str = "no list knows the model; charged at its provider's dearest price";
const AT_DEFAULT: &str = "no list knows the model or its provider; charged at the dearest price on any list";

impl Elsewhere {
    pub(super) fn reason(&self, seller: Seller<'_>) -> String {
        if self.kind == PriceKind::Priced {
            return format!("price of {} at {}", self.model, self.provider);
        }
        format!("no list has this model at {}; charged as {} at {}", seller.id, self.model, self.provider)
    }
}

/// The tier and batch of an answer.
pub(super) fn terms(tier: Option<&str>, batch: bool, at: Timestamp) -> Terms {
    Terms { tier: catalogue::tier(tier), batch: batch || catalogue::is_batch(tier), at }
}
