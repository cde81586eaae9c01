//! What a limit counts: dollars, tokens or requests.

use std::fmt;

use crate::money::Pico;

/// A unit that a limit is set in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Pico-dollars.
    Usd,
    /// Input and output tokens together.
    Tokens,
    /// Exchanges that were admitted.
    Requests,
}

impl Unit {
    pub const ALL: [Self; 3] = [Self::Usd, Self::Tokens, Self::Requests];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Usd => "usd",
            Self::Tokens => "tokens",
            Self::Requests => "requests",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.as_str() == name)
    }
}

/// An amount of one unit: pico-dollars, tokens or requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    pub unit: Unit,
    pub amount: i64,
}

impl Measure {
    /// Without its unit, as JSON has it beside the unit's name: `0.5`, `1200`.
    pub fn bare(self) -> String {
        match self.unit {
            Unit::Usd => Pico::new(self.amount).to_string(),
            Unit::Tokens | Unit::Requests => self.amount.to_string(),
        }
    }
}

/// `$0.5`, `1200 tokens`, `3 requests`.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Usd => write!(f, "${}", Pico::new(self.amount)),
            Unit::Tokens if self.amount == 1 => f.write_str("1 token"),
            Unit::Requests if self.amount == 1 => f.write_str("1 request"),
            Unit::Tokens => write!(f, "{} tokens", self.amount),
            Unit::Requests => write!(f, "{} requests", self.amount),
        }
    }
}

/// What something used, or may use, in every unit at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub usd: Pico,
    pub tokens: i64,
    pub requests: i64,
}

impl Amounts {
    pub const ZERO: Self = Self { usd: Pico::ZERO, tokens: 0, requests: 0 };

    /// Money alone.
    pub const fn usd(usd: Pico) -> Self {
        Self { usd, tokens: 0, requests: 0 }
    }

    pub const fn of(&self, unit: Unit) -> i64 {
        match unit {
            Unit::Usd => self.usd.get(),
            Unit::Tokens => self.tokens,
            Unit::Requests => self.requests,
        }
    }

    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            usd: self.usd.saturating_add(other.usd),
            tokens: self.tokens.saturating_add(other.tokens),
            requests: self.requests.saturating_add(other.requests),
        }
    }

    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            usd: self.usd.saturating_sub(other.usd),
            tokens: self.tokens.saturating_sub(other.tokens),
            requests: self.requests.saturating_sub(other.requests),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_is_written_with_its_unit() {
        let text = |unit, amount| Measure { unit, amount }.to_string();
        assert_eq!(text(Unit::Usd, Pico::USD / 2), "$0.5");
        assert_eq!(text(Unit::Tokens, 1_200), "1200 tokens");
        assert_eq!(text(Unit::Requests, 3), "3 requests");
        assert_eq!(text(Unit::Requests, 1), "1 request");
        for unit in Unit::ALL {
            assert_eq!(Unit::named(unit.as_str()), Some(unit));
        }
    }
}
