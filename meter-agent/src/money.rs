//! Amounts of money: integer pico-dollars, checked, never a float.
//!
//! One pico-dollar is 1e-12 USD, a millionth of the price of a token at $1 per million. The largest
//! amount is a little above $9,000,000; what a user may name is capped at [`Pico::CAP`], so that sums
//! along a path cannot overflow unnoticed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount in pico-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pico(i64);

/// Why a text is not an amount of dollars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    #[error("`{0}` is not an amount of dollars; write it like 0.50")]
    Syntax(String),
    #[error("`{0}` has more than 12 decimals; the smallest amount is $0.000000000001")]
    TooFine(String),
    #[error("`{0}` is above the largest amount, $9000000")]
    TooLarge(String),
}

impl Pico {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);
    pub const USD: i64 = 1_000_000_000_000;
    /// The largest amount a user may name: $9,000,000.
    pub const CAP: Self = Self(9_000_000 * Self::USD);

    pub const fn new(pico_usd: i64) -> Self {
        Self(pico_usd)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(v) => Some(Self(v)),
            None => None,
        }
    }

    /// The sum, or the largest amount: for bounds, where more than everything is still everything.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// For totals that rise for ever and of which only the difference counts: past the largest amount they go on
    /// from the smallest.
    #[must_use]
    pub const fn wrapping_add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// How far such a total is ahead of another.
    #[must_use]
    pub const fn wrapping_sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }

    /// `self` times a count, or the largest amount.
    #[must_use]
    pub fn saturating_mul(self, count: u64) -> Self {
        let product = i128::from(self.0) * i128::from(count);
        Self(i64::try_from(product).unwrap_or(if product < 0 { i64::MIN } else { i64::MAX }))
    }

    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

/// Dollars as a decimal string without trailing zeros: `0.0000125`, `12`, `-0.5`.
impl fmt::Display for Pico {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) =
            (self.0.unsigned_abs() / Self::USD.unsigned_abs(), self.0.unsigned_abs() % Self::USD.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return f.pad(&format!("{sign}{whole}"));
        }
        let digits = format!("{part:012}");
        f.pad(&format!("{sign}{whole}.{}", digits.trim_end_matches('0')))
    }
}

/// Reads dollars: `0.50`, `.5`, `12`. No sign, no exponent, at most 12 decimals and [`Pico::CAP`].
impl FromStr for Pico {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let amount = read(text)?;
        let pico = i64::try_from(amount).ok().map(Self).filter(|pico| *pico <= Self::CAP);
        pico.ok_or_else(|| AmountError::TooLarge(text.to_owned()))
    }
}

/// As many pico-dollars as a text without a sign says.
fn read(text: &str) -> Result<i128, AmountError> {
    let bare = text.strip_prefix('$').unwrap_or(text);
    let (whole, part) = bare.split_once('.').unwrap_or((bare, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !digits(whole) || !digits(part) {
        return Err(AmountError::Syntax(text.to_owned()));
    }
    let part = part.trim_end_matches('0');
    if part.len() > 12 {
        return Err(AmountError::TooFine(text.to_owned()));
    }
    let too_large = |_| AmountError::TooLarge(text.to_owned());
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(too_large)? };
    let part: i64 = format!("{part:0<12}").parse().expect("twelve digits fit an i64");
    Ok(i128::from(whole) * i128::from(Pico::USD) + i128::from(part))
}

impl Serialize for Pico {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pico {
    /// From the decimal string that [`Serialize`] writes: a negative one too, since balances can be overdrawn, and one
    /// beyond what a user may name, since sums can be.
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        let (sign, bare) = text.strip_prefix('-').map_or((1, text.as_str()), |b| (-1, b));
        let amount = i64::try_from(read(bare).map_err(de::Error::custom)? * sign);
        amount.map(Self).map_err(|_| de::Error::custom(AmountError::TooLarge(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_survive_the_round_trip() {
        for (text, pico) in [
            ("0.5", 500_000_000_000),
            ("12", 12_000_000_000_000),
            ("0.000000000001", 1),
            ("0", 0),
            ("9000000", Pico::CAP.get()),
        ] {
            assert_eq!(text.parse::<Pico>().unwrap(), Pico::new(pico), "{text}");
            assert_eq!(Pico::new(pico).to_string(), text);
        }
        assert_eq!(".50".parse::<Pico>().unwrap().to_string(), "0.5");
        assert_eq!("$2.00".parse::<Pico>().unwrap().to_string(), "2");
        assert_eq!(Pico::new(-1_500_000_000_000).to_string(), "-1.5");
    }

    #[test]
    fn what_is_written_is_read_back_whatever_it_is() {
        for pico in [i64::MIN, -Pico::CAP.get() - 1, -1, 0, 1, Pico::CAP.get() + 1, i64::MAX] {
            let json = serde_json::to_string(&Pico::new(pico)).unwrap();
            assert_eq!(serde_json::from_str::<Pico>(&json).map_err(|e| e.to_string()), Ok(Pico::new(pico)), "{json}");
        }
        assert!(serde_json::from_str::<Pico>("\"9223372.036854775808\"").is_err());
    }

    #[test]
    fn what_is_not_an_amount_says_why() {
        assert!(matches!("".parse::<Pico>(), Err(AmountError::Syntax(_))));
        assert!(matches!(".".parse::<Pico>(), Err(AmountError::Syntax(_))));
        assert!(matches!("-1".parse::<Pico>(), Err(AmountError::Syntax(_))));
        assert!(matches!("1e3".parse::<Pico>(), Err(AmountError::Syntax(_))));
        assert!(matches!("0.0000000000001".parse::<Pico>(), Err(AmountError::TooFine(_))));
        assert!(matches!("9000000.01".parse::<Pico>(), Err(AmountError::TooLarge(_))));
        assert!(matches!("99999999999999999999".parse::<Pico>(), Err(AmountError::TooLarge(_))));
    }

    #[test]
    fn multiplication_saturates_instead_of_wrapping() {
        assert_eq!(Pico::new(3).saturating_mul(4), Pico::new(12));
        assert_eq!(Pico::new(i64::MAX / 2).saturating_mul(3), Pico::MAX);
    }
}
