//! What usage costs: quotes for admission, prices for settlement, and where each price comes from.
//!
//! In this order: an override of the config, the charge that the provider itself reports, the `genai-prices`
//! catalogue with the table of fees beside it, an imported LiteLLM price file, the same model at another provider,
//! the provider's dearest price. Nothing billable is ever silently free: what is charged by anything less than a
//! price list of its own is [`PriceKind::Unpriced`] and says why.
//!
//! The catalogue's f64 result is rounded once per line, half up, to a pico-dollar; everything else is integers.

mod beside;
mod book;
mod card;
mod catalogue;
mod ceilings;
mod changes;
mod charge;
mod explain;
mod fees;
mod imports;
mod linear;
mod litellm;
mod overrides;
mod quote;
mod rates;
mod round;

use std::{borrow::Cow, sync::Arc};

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use self::book::Book;
pub use self::{
    card::{Card, TokenRates},
    changes::{Change, Changes},
    explain::{Explanation, FeeLine, Rate},
    imports::{BadPrices, Imported, PriceFile},
    overrides::PriceOverride,
    quote::Quote,
};
use crate::{
    clock::Timestamp,
    money::Pico,
    usage::{Reading, RequestFacts, hosts::HostMatch, paid::Api},
};

/// Who sells: decides whose prices are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seller<'a> {
    /// As in the ledger.
    pub id: &'a str,
    /// The catalogue's id; [`crate::usage::hosts::LOCAL`] for a host of one's own, where everything is free.
    pub catalogue: &'a str,
}

impl<'a> From<&'a str> for Seller<'a> {
    /// A provider whose two ids are the same.
    fn from(id: &'a str) -> Self {
        Self { id, catalogue: id }
    }
}

impl<'a> From<&'a HostMatch> for Seller<'a> {
    fn from(host: &'a HostMatch) -> Self {
        Self { id: host.provider_id, catalogue: host.price_provider }
    }
}

/// Where a charge comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PriceKind {
    /// A price list knows the model: the config's, the catalogue or an imported one.
    Priced,
    /// The provider's own reported charge.
    Provider,
    /// Subscription traffic.
    Plan,
    /// No list knows it: charged at the provider's dearest price, or at another's for the same model.
    Unpriced,
}

/// The charge for one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub cost: Pico,
    pub kind: PriceKind,
    /// Where it comes from, if that is not simply the catalogue.
    pub reason: Option<Cow<'static, str>>,
    /// The cost of each of the reading's lines, in their order, where it has any; fees for tools are not in them.
    pub lines: Vec<Pico>,
}

impl Charge {
    /// Nothing to pay, and why.
    pub fn nothing(reason: Option<&'static str>) -> Self {
        Self { cost: Pico::ZERO, kind: PriceKind::Priced, reason: reason.map(Cow::Borrowed), lines: Vec::new() }
    }
}

/// What becomes of a model that no price list knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownModel {
    /// Charged at its provider's dearest price.
    #[default]
    Dearest,
    /// Refused at admission.
    Refuse,
}

/// What becomes of traffic that a subscription pays for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanMode {
    /// It costs nothing; its list price is recorded as notional.
    #[default]
    Free,
    /// Its list price is held and counted against limits.
    Count,
}

/// What the config says about prices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The first that fits wins.
    pub overrides: Vec<PriceOverride>,
    pub unknown_model: UnknownModel,
    pub plan: PlanMode,
    /// Paid APIs that the config adds.
    pub apis: Vec<&'static Api>,
}

/// A model without a price, where the policy is to refuse such. The text is for the agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no price is known for the model `{model}` of {provider}; add a [[price]] for it to the config of meter, or import newer prices with `meter prices import`"
)]
pub struct NoPriceKnown {
    pub provider: String,
    pub model: String,
}

/// Looks up prices. What was imported can be replaced while exchanges are under way.
pub struct Prices {
    /// Read for as long as it takes to count a reference; written by an import and by a new config.
    book: RwLock<Arc<Book>>,
}

impl Prices {
    /// The catalogue embedded in `genai-prices`, and a config that says nothing.
    pub fn embedded() -> Self {
        Self::new(Settings::default(), Imported::default())
    }

    /// What was imported goes before what is embedded. Decodes the catalogue now, so that the first request does not
    /// wait for it.
    pub fn new(settings: Settings, imported: Imported) -> Self {
        Self { book: RwLock::new(Arc::new(Book::new(Arc::new(settings), imported))) }
    }

    /// The lists in force now, whatever is imported later: an exchange that began by them is charged by them.
    #[must_use]
    pub fn pinned(&self) -> Self {
        Self { book: RwLock::new(self.book()) }
    }

    /// Takes newly imported price lists into use, from the next exchange on.
    pub fn replace(&self, imported: Imported) {
        let settings = Arc::clone(&self.book().settings);
        *self.book.write() = Arc::new(Book::new(settings, imported));
    }

    /// Takes what another config says into use, with what is imported now.
    pub fn configure(&self, settings: Settings, imported: Imported) {
        let book = Arc::new(Book::new(Arc::new(settings), imported));
        *self.book.write() = book;
    }

    /// Whether subscription traffic is held and counted like any other.
    pub fn counts_plans(&self) -> bool {
        self.book().settings.plan == PlanMode::Count
    }

    /// The quote that an exchange is admitted with: zero for subscription traffic that is not counted, and an error
    /// where the model has no price and the policy is to refuse such.
    pub fn admit<'a>(
        &self,
        seller: impl Into<Seller<'a>>,
        facts: &RequestFacts,
        at: Timestamp,
        on_plan: bool,
    ) -> Result<Quote, NoPriceKnown> {
        if on_plan && !self.counts_plans() {
            return Ok(Quote::nothing(facts));
        }
        let (seller, book) = (seller.into(), self.book());
        if book.settings.unknown_model == UnknownModel::Refuse
            && let Some(model) = book.unknown(seller, facts, at)
        {
            return Err(NoPriceKnown { provider: seller.id.to_owned(), model });
        }
        Ok(book.quote_any(seller, facts, at))
    }

    /// The worst case of a request.
    pub fn quote<'a>(&self, seller: impl Into<Seller<'a>>, facts: &RequestFacts, at: Timestamp) -> Quote {
        self.book().quote_any(seller.into(), facts, at)
    }

    /// What a reading costs. The model is the reading's, else the request's. `at` is the start of the exchange.
    ///
    /// An absent reading costs nothing here: its hold is consumed instead.
    pub fn charge<'a>(
        &self,
        seller: impl Into<Seller<'a>>,
        requested_model: Option<&str>,
        reading: &Reading,
        at: Timestamp,
    ) -> Charge {
        self.book().charge(seller.into(), requested_model, reading, at)
    }

    /// Where the price of a model comes from; the first provider that sells it, if none is named.
    pub fn explain(&self, provider: Option<Seller<'_>>, model: &str, at: Timestamp) -> Explanation {
        self.book().explain(provider, model, at)
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read())
    }
}

#[cfg(test)]
mod spot_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
