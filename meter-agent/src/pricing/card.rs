//! A price list that states its rates itself: an override of the config, an imported row, the default.
//!
//! Integer arithmetic alone. Rates are pico-dollars per million tokens, so that every price list's decimals fit;
//! a line's cost is one sum of products, divided once and rounded half up.

use std::collections::BTreeMap;

use super::rates::Rates;
use crate::{
    money::Pico,
    usage::{Line, Units},
};

/// Everything in a sum is in millionths: rates per million tokens, quantities in millionths of a unit.
const MILLION: i128 = 1_000_000;

/// Rates per million tokens. A part that has no rate of its own costs what the whole costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenRates {
    pub input: Pico,
    pub output: Pico,
    pub cache_read: Option<Pico>,
    pub cache_write: Option<Pico>,
    pub cache_write_1h: Option<Pico>,
    pub input_audio: Option<Pico>,
    pub output_audio: Option<Pico>,
    pub output_image: Option<Pico>,
}

/// The price list of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// `None`: it says nothing of tokens, which is not that they are free.
    pub tokens: Option<TokenRates>,
    /// Rates for all tokens of a request whose input is larger than this, the smallest start first.
    pub tiers: Vec<(u64, TokenRates)>,
    /// Per request.
    pub request: Pico,
    /// Per unit, by the unit's name or a tool's.
    pub per_unit: BTreeMap<String, Pico>,
    pub context_window: Option<u64>,
    pub maximum_output: Option<u64>,
}

impl Card {
    /// What the line's tokens and units cost, and what of its units has no price here.
    pub(super) fn cost<'l>(&self, line: &'l Line) -> (Pico, Vec<&'l str>) {
        let mut sum = self.tokens(line.usage.input_tokens).map_or(0, |rates| rates.sum(line));
        sum += i128::from(self.request.get()) * MILLION;
        let mut missing = Vec::new();
        for (unit, quantity) in &line.units {
            match self.per_unit.get(unit.as_ref()) {
                Some(price) => sum += i128::from(price.get()) * i128::from(quantity.micros()),
                None => missing.push(unit.as_ref()),
            }
        }
        (rounded(sum), missing)
    }

    /// Whether tokens beside these units are paid for: at rates of their own, or by the price of one of the units.
    pub(super) fn covers(&self, units: &Units) -> bool {
        self.tokens.is_some() || units.keys().any(|unit| self.per_unit.contains_key(unit.as_ref()))
    }

    /// The rates for a request of so much input.
    pub(super) fn tokens(&self, input_tokens: u64) -> Option<&TokenRates> {
        let long = self.tiers.iter().rev().find(|(start, _)| input_tokens > *start);
        long.map(|(_, rates)| rates).or(self.tokens.as_ref())
    }

    /// Bounds per token for quotes, of every tier that an input of `input_tokens` or less can be in.
    pub(super) fn rates(&self, input_tokens: u64) -> Rates {
        let tiers = self.tiers.iter().filter(|(start, _)| input_tokens > *start).map(|(_, rates)| rates);
        let first = self.tokens.unwrap_or_default().bounds();
        let bounds = tiers.fold(first, |all, tier| all.dearest(tier.bounds()));
        Rates {
            request: self.request,
            context_window: self.context_window,
            maximum_output: self.maximum_output,
            ..bounds
        }
    }
}

impl TokenRates {
    fn sum(&self, line: &Line) -> i128 {
        let u = &line.usage;
        let audio = u.input_audio.saturating_sub(line.cache_read_audio).min(u.input_uncached);
        let special_out = u.output_audio.saturating_add(u.output_image).min(u.output_tokens);
        let parts = [
            (self.input, u.input_uncached - audio),
            (self.input_audio.unwrap_or(self.input), audio),
            (self.cache_read.unwrap_or(self.input), u.cache_read),
            (self.write(), u.cache_write_5m.saturating_add(u.cache_write_other)),
            (self.cache_write_1h.unwrap_or(self.write()), u.cache_write_1h),
            (self.output, u.output_tokens - special_out),
            (self.output_audio.unwrap_or(self.output), u.output_audio.min(special_out)),
            (self.output_image.unwrap_or(self.output), special_out - u.output_audio.min(special_out)),
        ];
        parts.into_iter().map(|(rate, tokens)| i128::from(rate.get()) * i128::from(tokens)).sum()
    }

    fn write(&self) -> Pico {
        self.cache_write.unwrap_or(self.input)
    }

    fn bounds(&self) -> Rates {
        let up = |rate: Pico| Pico::new((rate.get() + 999_999) / 1_000_000);
        Rates {
            input: up(self.input).max(up(self.cache_read.unwrap_or_default())),
            cache_write_5m: up(self.write()),
            cache_write_1h: up(self.cache_write_1h.unwrap_or(self.write())),
            cache_write_other: up(self.write()),
            input_audio: up(self.input_audio.unwrap_or(self.input)),
            input_image: up(self.input),
            output: up(self.output)
                .max(up(self.output_audio.unwrap_or_default()))
                .max(up(self.output_image.unwrap_or_default())),
            ..Rates::default()
        }
    }
}

/// A sum of millionths as pico-dollars, rounded half up.
pub(super) fn rounded(millionths: i128) -> Pico {
    let pico = (millionths + MILLION / 2).div_euclid(MILLION);
    Pico::new(i64::try_from(pico).unwrap_or(i64::MAX))
}

/// A decimal number, with or without an exponent, times ten to the `scale`; rounded half up. `None` for what is no
/// such number, is negative or too large.
pub(super) fn decimal(text: &str, scale: i32) -> Option<Pico> {
    const DIGITS_MAX: usize = 40;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok().filter(|e| (-99..=99).contains(e))?;
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shift = exponent + scale - i32::try_from(part.len()).ok()?;
    let number: i128 = digits.trim_start_matches('0').parse().or_else(|_| "0".parse()).ok()?;
    let scaled = if number == 0 {
        0
    } else if shift >= 0 {
        number.checked_mul(10_i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        let unit = 10_i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
        (number / unit) + i128::from(number % unit >= unit - unit / 2)
    };
    i64::try_from(scaled).ok().map(Pico::new).filter(|p| *p <= Pico::CAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Quantity, Usage};

    fn usd(text: &str) -> Pico {
        text.parse().unwrap()
    }

    #[test]
    fn a_line_is_summed_exactly_and_rounded_once() {
        let tokens = TokenRates {
            input: usd("0.1"),
            output: usd("3"),
            cache_read: Some(usd("0.000001")),
            ..TokenRates::default()
        };
        let card = Card { tokens: Some(tokens), ..Card::default() };
        let usage = Usage { input_tokens: 8, input_uncached: 7, cache_read: 1, output_tokens: 1, ..Usage::default() };
        let line = Line { usage, ..Line::default() };
        // 7 x 100,000 + 1 (a millionth of a micro-dollar) + 3,000,000 pico-dollars.
        assert_eq!(card.cost(&line).0, Pico::new(3_700_001));
        let half = TokenRates { input: usd("0.0000005"), ..TokenRates::default() };
        let one = Line { usage: Usage { input_tokens: 1, input_uncached: 1, ..Usage::default() }, ..Line::default() };
        assert_eq!(Card { tokens: Some(half), ..Card::default() }.cost(&one).0, Pico::new(1));
    }

    #[test]
    fn units_have_prices_or_are_named() {
        let card = Card { per_unit: [("images".to_owned(), usd("0.04"))].into(), ..Card::default() };
        let units = [("images".into(), Quantity::whole(2)), ("pages".into(), Quantity::whole(1))].into();
        let line = Line { units, ..Line::default() };
        assert_eq!(card.cost(&line), (usd("0.08"), vec!["pages"]));
    }

    #[test]
    fn a_long_input_has_the_tiers_rates() {
        let tokens = TokenRates { input: usd("1"), ..TokenRates::default() };
        let tiers = vec![(200_000, TokenRates { input: usd("2"), ..tokens })];
        let card = Card { tokens: Some(tokens), tiers, ..Card::default() };
        assert_eq!(card.tokens(200_000).unwrap().input, usd("1"));
        assert_eq!(card.tokens(200_001).unwrap().input, usd("2"));
        assert_eq!(card.rates(200_001).input, usd("0.000002"));
    }

    #[test]
    fn a_decimal_keeps_its_digits_whatever_its_form() {
        for (text, pico) in [
            ("2.5e-06", 2_500_000),
            ("0.0000025", 2_500_000),
            ("1E-12", 1),
            ("3", 3_000_000_000_000),
            ("0", 0),
            ("0.0", 0),
            ("1.5e-12", 2),
            ("4e-13", 0),
        ] {
            assert_eq!(decimal(text, 12), Some(Pico::new(pico)), "{text}");
        }
        for bad in ["-1", "nan", "1e400", "", ".", "1e", "99999999999"] {
            assert_eq!(decimal(bad, 12), None, "{bad}");
        }
    }
}
