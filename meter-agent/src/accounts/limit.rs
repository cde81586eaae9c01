//! A limit: a cap for a window and a category. No money moves between accounts; a limit only says how far one goes.

use crate::money::Pico;

/// The time over which spend counts towards a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Since the account was made.
    Total,
}

impl Window {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Total => "total",
        }
    }
}

/// What spend a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// All of it. The kernel enforces limits of this category, and of no other.
    Any,
}

impl Category {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
        }
    }
}

/// A cap on an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub window: Window,
    pub category: Category,
    /// The configured amount.
    pub configured: Pico,
    /// The configured amount and, for a `total`, the sum of fundings.
    pub amount: Pico,
    /// The smallest hold granted on this limit since it was last funded or raised: what an ordinary request
    /// of this account needs. `None` until there was one.
    pub smallest_hold: Option<Pico>,
}

impl Limit {
    /// A `total` limit over everything.
    pub fn total(configured: Pico, funded: Pico) -> Self {
        Self {
            window: Window::Total,
            category: Category::Any,
            configured,
            amount: configured.saturating_add(funded),
            smallest_hold: None,
        }
    }

    /// Remembers a hold that was granted on this limit.
    pub fn note_hold(&mut self, amount: Pico) {
        self.smallest_hold = Some(self.smallest_hold.map_or(amount, |least| least.min(amount)));
    }

    /// As people read it: `total $0.5`.
    pub fn describe(&self) -> String {
        format!("{} ${}", self.window.as_str(), self.amount)
    }

    /// Whether the second limit allows more than the first; none at all allows most.
    pub fn raised(before: Option<&Self>, after: Option<&Self>) -> bool {
        match (before, after) {
            (Some(before), Some(after)) => after.amount > before.amount,
            (Some(_), None) => true,
            (None, Some(_) | None) => false,
        }
    }

    /// Whether the second limit begins without a smallest hold: it is new, or allows more than the first.
    pub fn forgets(before: Option<&Self>, after: Option<&Self>) -> bool {
        before.is_none() || Self::raised(before, after)
    }
}
