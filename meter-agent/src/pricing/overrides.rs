//! Prices that the config states: they win over everything else.

use super::{Seller, card::Card};
use crate::{clock::Timestamp, usage::is_like};

/// A `[[price]]` of the config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceOverride {
    /// A provider's id, as in the ledger or in the catalogue; `None` for every one.
    pub provider: Option<String>,
    /// A model's name, in which a `*` stands for any text.
    pub model: String,
    pub card: Card,
    /// In force from here on; `None`: always was.
    pub from: Option<Timestamp>,
    /// No longer in force from here on; `None`: still is.
    pub until: Option<Timestamp>,
}

impl PriceOverride {
    /// Whether it is the price of that model there and then.
    pub(super) fn fits(&self, seller: Seller<'_>, model: &str, at: Timestamp) -> bool {
        let sold_there = self.provider.as_deref().is_none_or(|id| id == seller.id || id == seller.catalogue);
        let in_force = self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until);
        sold_there && in_force && is_like(model, &self.model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_for_its_provider_and_its_time() {
        let at = Timestamp::from_micros;
        let own = PriceOverride {
            provider: Some("google".to_owned()),
            model: "*".to_owned(),
            from: Some(at(10)),
            until: Some(at(20)),
            ..PriceOverride::default()
        };
        let vertex = Seller { id: "vertex", catalogue: "google" };
        assert!(own.fits(vertex, "x", at(10)) && own.fits(vertex, "x", at(19)));
        assert!(!own.fits(vertex, "x", at(9)) && !own.fits(vertex, "x", at(20)));
        assert!(!own.fits(Seller::from("openai"), "x", at(15)));
    }
}
