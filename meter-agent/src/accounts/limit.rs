//! A limit: a cap for a window and a category. No money moves between accounts; a limit only says how far one goes.

use std::{fmt, sync::Mutex};

use crate::{
    measure::{Measure, Unit},
    money::Pico,
};

/// The time over which use counts towards a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// The life of a task. On an account that has tasks below it, of each of them on its own.
    Task,
    Hour,
    Day,
    /// From Monday.
    Week,
    Month,
    /// Since the account was made.
    Total,
}

impl Window {
    pub const ALL: [Self; 6] = [Self::Task, Self::Hour, Self::Day, Self::Week, Self::Month, Self::Total];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.as_str() == name)
    }
}

/// What spend a limit counts: all of it, or what falls under one name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Category(&'static str);

impl Category {
    /// All of it. The kernel enforces limits of this category, and of no other.
    pub const ANY: Self = Self("any");

    /// A name that is known at build time.
    pub const fn of(name: &'static str) -> Self {
        Self(name)
    }

    /// The category of that name. Names come from the config and from the ledger's rows of earlier configs: they are
    /// few, and are kept for good.
    pub fn named(name: &str) -> Self {
        static NAMES: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
        const BUILT_IN: [&str; 4] = ["any", "llm", "web-search", "x402"];
        if let Some(known) = BUILT_IN.into_iter().find(|known| *known == name) {
            return Self(known);
        }
        let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = names.iter().find(|known| **known == name) {
            return Self(known);
        }
        let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
        names.push(kept);
        Self(kept)
    }

    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// Whether a limit of this category counts what falls under `other`.
    pub fn covers(self, other: Self) -> bool {
        self == Self::ANY || self == other
    }
}

impl fmt::Debug for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What makes a limit the same one when its amount is edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey {
    pub window: Window,
    pub category: Category,
    pub unit: Unit,
}

impl LimitKey {
    /// The account's budget: all dollars, ever.
    pub const BUDGET: Self = Self { window: Window::Total, category: Category::ANY, unit: Unit::Usd };

    /// Whether the kernel enforces it.
    pub fn is_any_money(self) -> bool {
        self.category == Category::ANY && self.unit == Unit::Usd
    }
}

/// A cap as somebody set it; the amount is in the key's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRule {
    pub key: LimitKey,
    pub amount: i64,
}

impl LimitRule {
    pub const fn budget(amount: Pico) -> Self {
        Self { key: LimitKey::BUDGET, amount: amount.get() }
    }

    /// With what was added to it: `funded` to a budget, `extended` to every limit of dollars.
    pub fn in_force(&self, funded: Pico, extended: Pico) -> Limit {
        let funded = if self.key == LimitKey::BUDGET { funded } else { Pico::ZERO };
        let more = if self.key.unit == Unit::Usd { funded.saturating_add(extended).get() } else { 0 };
        Limit { key: self.key, configured: self.amount, amount: self.amount.saturating_add(more) }
    }
}

/// A cap on an account, as it is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub key: LimitKey,
    /// As it was set.
    pub configured: i64,
    /// With fundings (of the budget) and extensions.
    pub amount: i64,
}

impl Limit {
    /// As people read it: `total $0.5`, `day 1000 requests`.
    pub fn describe(&self) -> String {
        format!("{} {}", self.key.window.as_str(), self.measure(self.amount))
    }

    pub const fn measure(&self, amount: i64) -> Measure {
        Measure { unit: self.key.unit, amount }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_the_same_however_it_came_by_its_name() {
        assert_eq!(Category::named("any"), Category::ANY);
        let own = String::from("our-search");
        assert_eq!(Category::named(&own), Category::named("our-search"));
        assert!(Category::ANY.covers(Category::named("x402")));
        assert!(!Category::of("llm").covers(Category::named("x402")));
    }

    #[test]
    fn windows_read_back_from_their_names() {
        for window in Window::ALL {
            assert_eq!(Window::named(window.as_str()), Some(window));
        }
    }
}
