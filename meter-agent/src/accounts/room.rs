//! How much room a path's limits leave, and the grant that fits it.

use super::{
    Account, AccountId, Accounts, Ask, Category, Grant, Limit, LimitKey,
    policy::{Clamp, Effective},
};
use crate::{
    measure::{Amounts, Unit},
    money::Pico,
    pricing::Quote,
};

/// The least that a set of limits leaves, in each unit; `None` without a limit in that unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    usd: Option<Pico>,
    tokens: Option<i64>,
    requests: Option<i64>,
}

impl Room {
    fn tighten(&mut self, unit: Unit, left: i64) {
        match unit {
            Unit::Usd => self.usd = Some(self.usd.map_or(Pico::new(left), |usd| usd.min(Pico::new(left)))),
            Unit::Tokens => self.tokens = Some(self.tokens.map_or(left, |tokens| tokens.min(left))),
            Unit::Requests => self.requests = Some(self.requests.map_or(left, |requests| requests.min(left))),
        }
    }

    /// The grant that fits, whole or with a ceiling.
    pub(super) fn fit(&self, quote: &Quote, policy: &Effective) -> Option<Grant> {
        if self.requests.is_some_and(|left| left < 1) {
            return None;
        }
        let most = policy.max_output_tokens.unwrap_or(u64::MAX);
        let whole = quote.output_ceiling;
        let asked = whole.min(most).min(policy.max_cost.map_or(u64::MAX, |cost| quote.tokens_within(cost)));
        let input_fits = self.input_fits(quote) && policy.max_cost.is_none_or(|cost| quote.input <= cost);
        if !input_fits {
            return None;
        }
        let ceiling = asked.min(self.ceiling(quote));
        if ceiling == whole {
            return Some(Grant::of(quote, whole, None));
        }
        // A policy's own ceiling may be lower than what is worth setting for want of money.
        let least = policy.min_output_tokens.min(most);
        let clamp = clampable(quote, policy.clamp) && ceiling >= least;
        clamp.then(|| Grant { crowded: ceiling < asked, ..Grant::of(quote, ceiling, Some(ceiling)) })
    }

    /// Whether there is less money than that.
    pub(super) fn lacks(&self, more: Pico) -> bool {
        self.usd.is_some_and(|usd| usd < more)
    }

    /// The money that counts: what costs nothing fits every limit of it, an overdrawn one too.
    fn money(&self, quote: &Quote) -> Option<Pico> {
        self.usd.filter(|_| quote.worst().is_positive())
    }

    fn input_fits(&self, quote: &Quote) -> bool {
        self.money(quote).is_none_or(|usd| quote.input <= usd)
            && self.tokens.is_none_or(|left| quote.tokens_at(0) <= left)
    }

    /// The largest output ceiling that leaves nothing below zero.
    fn ceiling(&self, quote: &Quote) -> u64 {
        let usd = self.money(quote).map_or(u64::MAX, |usd| quote.tokens_within(usd));
        let tokens = self.tokens.map_or(u64::MAX, |left| quote.output_within(left));
        usd.min(tokens)
    }
}

impl Grant {
    fn of(quote: &Quote, ceiling: u64, clamp: Option<u64>) -> Self {
        Self { amounts: amounts_at(quote, ceiling), clamp, crowded: false, would_refuse: None, overage: false }
    }
}

/// The worst case of a request at an output ceiling.
pub(super) fn amounts_at(quote: &Quote, output: u64) -> Amounts {
    Amounts { usd: quote.worst_at(output), tokens: quote.tokens_at(output), requests: 1 }
}

/// Only a request that left the ceiling open is given one, unless the policy says otherwise: what the agent asked for
/// is not changed.
pub(super) fn clampable(quote: &Quote, clamp: Clamp) -> bool {
    quote.can_clamp
        && match clamp {
            Clamp::Unstated => !quote.stated,
            Clamp::Always => true,
            Clamp::Never => false,
        }
}

/// What holds are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    /// All of them.
    Counted,
    /// Those alone that do not end with an exchange: what there would be once all others have ended.
    OnlyParked,
}

impl Account {
    /// What is used of a limit in its window, in its unit.
    pub(super) fn used(&self, key: LimitKey, starts: &super::calendar::Starts) -> i64 {
        self.tally(key.category).map_or(0, |tally| tally.used(key.window, starts).of(key.unit))
    }
}

impl Accounts {
    /// What a limit still allows to be used; negative when overdrawn. Holds are not in it.
    pub fn left(&self, account: &Account, limit: &Limit) -> i64 {
        limit.amount.saturating_sub(self.used_of(account, limit))
    }

    /// What a limit still allows to be held.
    pub(super) fn free(&self, account: &Account, limit: &Limit, holds: Holds) -> i64 {
        let held = account.tally(limit.key.category).map_or(0, |tally| match holds {
            Holds::Counted => tally.held.of(limit.key.unit),
            Holds::OnlyParked => tally.parked.of(limit.key.unit),
        });
        self.left(account, limit).saturating_sub(held)
    }

    /// As [`Self::free`], with the allowance that a cheaper model has beyond limits in dollars.
    pub(super) fn free_with_allowance(&self, account: &Account, limit: &Limit, holds: Holds, degraded: bool) -> i64 {
        let extra = if degraded && limit.key.unit == Unit::Usd { account.allowance() } else { Pico::ZERO };
        self.free(account, limit, holds).saturating_add(extra.get())
    }

    /// The room on a path for a category, under the limits of the accounts that `counts` names.
    pub(super) fn room(
        &self,
        line: &[AccountId],
        category: Category,
        holds: Holds,
        degraded: bool,
        counts: impl Fn(&Account) -> bool,
    ) -> Room {
        let mut room = Room::default();
        for &at in line {
            let account = self.get(at);
            if account.limits.is_empty() || !counts(account) {
                continue;
            }
            for limit in account.limits.iter().filter(|limit| limit.key.category.covers(category)) {
                room.tighten(limit.key.unit, self.free_with_allowance(account, limit, holds, degraded));
            }
        }
        room
    }

    /// Whether a request fits one limit, whatever the others say.
    pub(super) fn fits_alone(&self, account: &Account, limit: &Limit, ask: &Ask<'_>) -> bool {
        let mut room = Room::default();
        room.tighten(limit.key.unit, self.free_with_allowance(account, limit, Holds::Counted, ask.degraded));
        room.fit(ask.quote, &account.policy).is_some()
    }

    /// What the kernel is told: the smallest of (limit - spent) over the enforced limits of all dollars.
    pub fn remaining(&self, account: &Account) -> Option<Pico> {
        if !account.is_enforced() {
            return None;
        }
        self.nearest(account).map(|left| left.saturating_add(account.allowance()))
    }

    /// As [`Self::remaining`], whether it is enforced or not.
    pub fn nearest(&self, account: &Account) -> Option<Pico> {
        let any = account.limits.iter().filter(|limit| limit.key.is_any_money());
        any.map(|limit| Pico::new(self.left(account, limit))).min()
    }

    /// [`Self::remaining`] as the kernel's record holds it.
    pub fn remaining_word(&self, account: &Account) -> i64 {
        self.remaining(account).map_or(meter_common::UNLIMITED, Pico::get)
    }
}
