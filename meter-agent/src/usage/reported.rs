//! The charge that a provider states in its own usage object.
//!
//! Owns the members in which providers say it and the exact reading of their decimals: no float, so that what was
//! charged is what is recorded. Does not decide whether it is used; pricing does.
//!
//! A charge that is negative, not a number, in another currency or beyond [`MAX_CHARGE`] is none: the catalogue's
//! price takes its place.
//!
//! Sources: the "Usage Accounting" and "BYOK" guides at openrouter.ai/docs, the "Cost tracking" guide at docs.x.ai
//! (a tick is 1e-10 USD), the Sonar API reference at docs.perplexity.ai, the AI Gateway reference at vercel.com/docs, docs.venice.ai.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::value::RawValue;

use crate::money::Pico;

/// No single answer costs as much; a larger number is a mistake, or in other units.
const MAX_CHARGE: Pico = Pico::new(10_000 * Pico::USD);

/// Decimal places of a pico-dollar.
const PICO_PLACES: i32 = 12;

/// Decimal places of a tick of xAI.
const TICK_PLACES: i32 = 10;

/// A usage object and the charge that stands in it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charged<T> {
    pub(crate) usage: T,
    pub(crate) charge: Option<Pico>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Charged<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        let usage = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        Ok(Self { usage, charge: charge(raw.get().as_bytes()) })
    }
}

/// For `#[serde(deserialize_with)]`: as [`super::json::lenient`], with one pass over the object's text less.
pub(crate) fn charged<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<Charged<T>>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(d)?.filter(|raw| !raw.get().starts_with('['));
    Ok(raw.and_then(|raw| {
        let usage = serde_json::from_str(raw.get()).ok()?;
        Some(Charged { usage, charge: charge(raw.get().as_bytes()) })
    }))
}

/// The charge that Venice states beside the usage: `{"usd": ...}`. What was paid in its own credits has no price here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TopLevel(pub(crate) Option<Pico>);

impl<'de> Deserialize<'de> for TopLevel {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(d)?;
        let parts: Option<Beside> = serde_json::from_str(raw.get()).ok();
        let usd = parts.and_then(|p| dollars(p.usd?.get()));
        Ok(Self(usd.filter(|pico| pico.is_positive())))
    }
}

#[derive(Deserialize)]
struct Beside {
    #[serde(default)]
    usd: Option<Box<RawValue>>,
}

/// The charge that a usage object, given as its JSON text, states.
pub(crate) fn charge(usage: &[u8]) -> Option<Pico> {
    memchr::memmem::find(usage, b"\"cost")?;
    let stated: Stated = serde_json::from_slice(usage).ok()?;
    stated.charge()
}

/// What xAI calls a cost: in ticks of 1e-10 USD.
///
/// Zero is no charge: servers that resell its models fill the member with zero and bill by themselves.
pub(crate) fn ticks(text: &str) -> Option<Pico> {
    dollars_scaled(text, PICO_PLACES - TICK_PLACES).filter(|pico| pico.is_positive())
}

/// An amount of dollars in JSON's number format, rounded half up to a pico-dollar.
pub(crate) fn dollars(text: &str) -> Option<Pico> {
    dollars_scaled(text, PICO_PLACES)
}

#[derive(Deserialize)]
struct Stated {
    /// A number, or an object with `total_cost` (Perplexity).
    #[serde(default)]
    cost: Option<Box<RawValue>>,
    #[serde(default)]
    cost_in_usd_ticks: Option<Box<RawValue>>,
    #[serde(default)]
    is_byok: Option<Box<RawValue>>,
    #[serde(default)]
    cost_details: Option<Box<RawValue>>,
    /// Vercel's list price of the call, whoever pays it.
    #[serde(default)]
    market_cost: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Breakdown {
    #[serde(default)]
    total_cost: Option<Box<RawValue>>,
    #[serde(default)]
    currency: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Upstream {
    #[serde(default)]
    upstream_inference_cost: Option<Box<RawValue>>,
}

impl Stated {
    fn charge(&self) -> Option<Pico> {
        if let Some(raw) = &self.cost_in_usd_ticks {
            return ticks(unquoted(raw.get()));
        }
        let cost = cost(self.cost.as_ref()?)?;
        if self.is_byok.as_ref().is_none_or(|raw| raw.get() != "true") {
            return Some(cost);
        }
        // With a key of one's own the gateway takes its fee, and the provider behind it bills the call.
        let upstream = self.upstream().or_else(|| dollars(self.market_cost.as_ref()?.get()))?;
        cost.checked_add(upstream)
    }

    fn upstream(&self) -> Option<Pico> {
        let details: Upstream = serde_json::from_str(self.cost_details.as_ref()?.get()).ok()?;
        dollars(details.upstream_inference_cost?.get())
    }
}

fn cost(raw: &RawValue) -> Option<Pico> {
    if !raw.get().starts_with('{') {
        return dollars(unquoted(raw.get()));
    }
    let parts: Breakdown = serde_json::from_str(raw.get()).ok()?;
    let in_dollars = parts.currency.is_none_or(|c| matches!(c.get(), "null" | "\"USD\"" | "\"usd\""));
    if in_dollars { dollars(unquoted(parts.total_cost?.get())) } else { None }
}

/// Some write numbers as strings.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// The number `text` times ten to the power of `places`, rounded half up.
fn dollars_scaled(text: &str, places: i32) -> Option<Pico> {
    // Far more digits than any amount has, and few enough for the sums below.
    const MAX_DIGITS: usize = 30;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) {
        return None;
    }
    let part = part.trim_end_matches('0');
    let digits = [whole, part].concat();
    let digits = digits.trim_start_matches('0');
    let shift = exponent.parse::<i32>().ok()?.checked_add(places)?.checked_sub(i32::try_from(part.len()).ok()?)?;
    if digits.is_empty() {
        return Some(Pico::ZERO);
    }
    let cut = digits.len().saturating_sub(MAX_DIGITS);
    let shift = shift.checked_add(i32::try_from(cut).ok()?)?;
    let number: i128 = digits[..digits.len() - cut].parse().ok()?;
    let pico = match u32::try_from(shift) {
        Ok(up) => number.checked_mul(10_i128.checked_pow(up)?)?,
        Err(_) => match 10_i128.checked_pow(shift.unsigned_abs()) {
            Some(divisor) => (number + divisor / 2) / divisor,
            None => 0,
        },
    };
    i64::try_from(pico).ok().map(Pico::new).filter(|pico| *pico <= MAX_CHARGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pico(usage: &str) -> Option<i64> {
        charge(usage.as_bytes()).map(Pico::get)
    }

    #[test]
    fn a_charge_is_read_to_the_last_digit() {
        for (text, want) in [
            ("0.00022245", 222_450_000),
            ("1.4e-07", 140_000),
            ("6.3E-6", 6_300_000),
            ("0", 0),
            ("0.0", 0),
            ("12", 12_000_000_000_000),
            ("1e2", 100_000_000_000_000),
            ("0.0000000000005", 1),
            ("0.00000000000049", 0),
            ("1e-400", 0),
            ("0.1000000000000000055511151231257827021181583404541015625", 100_000_000_000),
        ] {
            assert_eq!(pico(&format!("{{\"cost\":{text}}}")), Some(want), "{text}");
        }
    }

    #[test]
    fn what_can_be_no_charge_is_none() {
        for text in
            ["-0.1", "1e9", "1e400", "1e99999999999", "null", "true", "[]", "\"a\"", "{}", "{\"total_cost\":-1}"]
        {
            assert_eq!(pico(&format!("{{\"cost\":{text}}}")), None, "{text}");
        }
        assert_eq!(pico(r#"{"cost":{"total_cost":0.5,"currency":"EUR"}}"#), None);
        assert_eq!(pico(r#"{"prompt_tokens":3}"#), None);
        assert_eq!(pico(r#"{"cost_in_usd_ticks":0,"prompt_tokens":3}"#), None);
    }

    #[test]
    fn with_a_key_of_ones_own_the_upstream_bill_counts() {
        let own = r#"{"cost":0.000001,"is_byok":true,"cost_details":{"upstream_inference_cost":6.3e-06}}"#;
        assert_eq!(pico(own), Some(7_300_000));
        assert_eq!(pico(&own.replace("true", "false")), Some(1_000_000));
        assert_eq!(pico(r#"{"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":null}}"#), None);
        assert_eq!(pico(r#"{"cost":0,"is_byok":true,"market_cost":0.5}"#), Some(500_000_000_000));
    }

    #[test]
    fn other_spellings_are_known() {
        assert_eq!(pico(r#"{"cost":{"request_cost":0.006,"total_cost":0.00614}}"#), Some(6_140_000_000));
        assert_eq!(pico(r#"{"cost":{"currency":"USD","total_cost":1.2e-08}}"#), Some(12_000));
        assert_eq!(pico(r#"{"cost_in_usd_ticks":731000}"#), Some(73_100_000));
        assert_eq!(pico(r#"{"cost_in_usd_ticks":"4468500"}"#), Some(446_850_000));
    }

    #[test]
    fn a_charge_beside_the_usage_is_read_if_it_is_in_dollars() {
        for (json, want) in [
            (r#"{"diem":0,"usd":0.00015780000000000001}"#, Some(157_800_000)),
            (r#"{"diem":3,"usd":0}"#, None),
            ("3", None),
            ("null", None),
        ] {
            assert_eq!(serde_json::from_str::<TopLevel>(json).unwrap().0.map(Pico::get), want, "{json}");
        }
    }

    #[test]
    fn a_charge_is_read_beside_the_usage_it_stands_in() {
        #[derive(Deserialize)]
        struct Tokens {
            prompt_tokens: u64,
        }
        let charged: Charged<Tokens> = serde_json::from_str(r#"{"prompt_tokens":3,"cost":1}"#).unwrap();
        assert_eq!((charged.usage.prompt_tokens, charged.charge), (3, Some(Pico::new(Pico::USD))));
    }
}
