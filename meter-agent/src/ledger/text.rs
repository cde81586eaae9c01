//! How values of other modules are written in the file: the same names as in JSON.

use super::ResultState;
use crate::{
    accounts::{Category, LimitKey, LimitRule, Window},
    measure::Unit,
    pricing::PriceKind,
    usage::Quality,
};

/// A text in the file that names no value.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a {1}")]
pub(super) struct Unknown(pub(super) String, pub(super) &'static str);

const QUALITIES: [Quality; 3] = [Quality::Exact, Quality::Estimated, Quality::Absent];
const PRICES: [PriceKind; 4] = [PriceKind::Priced, PriceKind::Provider, PriceKind::Plan, PriceKind::Unpriced];

pub(super) const fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Exact => "exact",
        Quality::Estimated => "estimated",
        Quality::Absent => "absent",
    }
}

pub(super) fn read_quality(text: &str) -> Result<Quality, Unknown> {
    QUALITIES.into_iter().find(|q| quality(*q) == text).ok_or_else(|| Unknown(text.to_owned(), "usage quality"))
}

pub(super) const fn price(kind: PriceKind) -> &'static str {
    match kind {
        PriceKind::Priced => "priced",
        PriceKind::Provider => "provider",
        PriceKind::Plan => "plan",
        PriceKind::Unpriced => "unpriced",
    }
}

pub(super) fn read_price(text: &str) -> Result<PriceKind, Unknown> {
    PRICES.into_iter().find(|p| price(*p) == text).ok_or_else(|| Unknown(text.to_owned(), "kind of price"))
}

/// Limits as JSON: `[["total","any","usd",500000000000]]`, amounts in pico-dollars, tokens or requests.
pub(super) fn limits(rules: &[LimitRule]) -> String {
    let row = |rule: &LimitRule| {
        let LimitKey { window, category, unit } = rule.key;
        (window.as_str(), category.as_str(), unit.as_str(), rule.amount)
    };
    serde_json::to_string(&rules.iter().map(row).collect::<Vec<_>>()).unwrap_or_default()
}

/// The limits in such a text; what names no window or unit of ours is left out.
pub(super) fn read_limits(text: &str) -> Vec<LimitRule> {
    let rows: Vec<(String, String, String, i64)> = serde_json::from_str(text).unwrap_or_default();
    let rule = |(window, category, unit, amount): (String, String, String, i64)| {
        let (window, unit) = (Window::named(&window)?, Unit::named(&unit)?);
        Some(LimitRule { key: LimitKey { window, category: Category::named(&category), unit }, amount })
    };
    rows.into_iter().filter_map(rule).collect()
}

pub(super) const PENDING: &str = "pending";
pub(super) const BILLED: &str = "billed";
pub(super) const LAPSED: &str = "lapsed";

pub(super) const fn result_state(state: &ResultState) -> &'static str {
    match state {
        ResultState::Pending { .. } => PENDING,
        ResultState::Billed => BILLED,
        ResultState::Lapsed { .. } => LAPSED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Outcome;

    #[test]
    fn the_file_and_json_use_the_same_names() {
        for q in QUALITIES {
            assert_eq!(serde_json::to_value(q).unwrap(), quality(q));
            assert_eq!(read_quality(quality(q)).unwrap(), q);
        }
        for p in PRICES {
            assert_eq!(serde_json::to_value(p).unwrap(), price(p));
            assert_eq!(read_price(price(p)).unwrap(), p);
        }
        for o in Outcome::ALL {
            assert_eq!(serde_json::to_value(o).unwrap(), o.as_str());
            assert_eq!(o.as_str().parse(), Ok(o));
        }
        assert!(read_quality("").is_err() && read_price("free").is_err());
    }
}
