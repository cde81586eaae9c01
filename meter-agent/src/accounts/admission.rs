//! Admission and what follows from it: a hold is granted on the whole path or not at all, grows, and ends.
//!
//! Fail-closed: what does not fit every limit is refused. Posting a charge is the opposite: it always succeeds,
//! because the provider has been used whatever a limit says.

use super::{AccountId, Accounts, Changes, Limit, State};
use crate::{money::Pico, pricing::Quote, usage::BudgetFacts};

/// The smallest output ceiling that is set for a request that states none: an answer cut below it is of
/// little use, and a refusal tells more.
pub const MIN_OUTPUT_TOKENS: u64 = 1_024;

/// A hold that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub amount: Pico,
    /// The output ceiling that the request must be given for `amount` to be its worst case.
    pub clamp: Option<u64>,
}

/// Why a hold was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It does not fit a limit; `changes` are the stops that the refusal leads to.
    Budget { facts: Box<BudgetFacts>, changes: Changes },
    /// An account on the path is not open.
    NotOpen { account: AccountId, state: State, facts: Option<Box<BudgetFacts>> },
}

impl Accounts {
    /// Holds the worst case of a request on every limit from `id` up to the host, in one step, or nothing.
    pub fn admit(&mut self, id: AccountId, quote: &Quote) -> Result<Grant, Denied> {
        let line = self.line(id);
        if let Some(&shut) = line.iter().find(|&&at| self.get(at).state != State::Open) {
            let account = self.get(shut);
            let facts = account.budget().map(|limit| Box::new(self.facts(shut, limit, needed(quote))));
            return Err(Denied::NotOpen { account: shut, state: account.state, facts });
        }
        let Some(grant) = fit(quote, self.free_on(&line)) else {
            return Err(self.refuse(&line, quote));
        };
        for &at in &line {
            let account = self.get_mut(at);
            account.hold_granted = account.hold_granted.wrapping_add(grant.amount);
            account.holds += 1;
            account.limits.iter_mut().for_each(|limit| limit.note_hold(grant.amount));
        }
        Ok(grant)
    }

    /// Sets `more` aside on top of a hold, if every limit of the path has it. What was admitted may finish
    /// on an account that is draining or stopped by its money, but not on one that people have shut.
    pub fn grow(&mut self, id: AccountId, more: Pico) -> bool {
        let line = self.line(id);
        let shut = line.iter().any(|&at| !self.get(at).state.follows_money());
        if shut || more < Pico::ZERO || self.free_on(&line).is_some_and(|free| free < more) {
            return false;
        }
        for at in line {
            let account = self.get_mut(at);
            account.hold_granted = account.hold_granted.wrapping_add(more);
        }
        true
    }

    /// Ends a hold and posts the charge in full, even past the hold and past every limit.
    pub fn settle(&mut self, id: AccountId, held: Pico, cost: Pico) -> Changes {
        let mut changes = Changes::new();
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.hold_ended = account.hold_ended.wrapping_add(held);
            account.holds = account.holds.saturating_sub(1);
            post(&mut account.spent, cost);
            let drained = account.holds == 0;
            self.after_charge(at, drained, &mut changes);
        }
        changes
    }

    /// The exchange of a hold has ended, and its price is yet to come: the money stays aside, and nothing waits for it.
    pub fn park(&mut self, id: AccountId) -> Changes {
        let mut changes = Changes::new();
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.holds = account.holds.saturating_sub(1);
            let drained = account.holds == 0;
            self.after_charge(at, drained, &mut changes);
        }
        changes
    }

    /// Sets aside again what was parked before a restart.
    pub fn restore_parked(&mut self, id: AccountId, held: Pico) {
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.hold_granted = account.hold_granted.wrapping_add(held);
        }
    }

    /// Ends a parked hold and posts the charge in full.
    pub fn settle_parked(&mut self, id: AccountId, held: Pico, cost: Pico) -> Changes {
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.hold_ended = account.hold_ended.wrapping_add(held);
        }
        self.charge(id, cost)
    }

    /// Posts what an earlier charge was wrong by; the one way in which `spent` can fall, and only by what that
    /// charge had raised it. An account that has something left by it opens again.
    pub fn correct(&mut self, id: AccountId, difference: Pico) -> Changes {
        if difference >= Pico::ZERO {
            return self.charge(id, difference);
        }
        let mut changes = Changes::new();
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.spent = account.spent.saturating_add(difference).max(Pico::ZERO);
            changes.extend(self.after_limit(at, true));
        }
        changes
    }

    /// Posts a charge that no hold stands for.
    pub fn charge(&mut self, id: AccountId, cost: Pico) -> Changes {
        let mut changes = Changes::new();
        for at in self.line(id) {
            post(&mut self.get_mut(at).spent, cost);
            self.after_charge(at, false, &mut changes);
        }
        changes
    }

    /// The least that any limit of the path still allows to be held; `None` without a limit.
    fn free_on(&self, line: &[AccountId]) -> Option<Pico> {
        self.limits_of(line).map(|(at, limit)| self.get(at).free(limit)).min()
    }

    fn limits_of<'a>(&'a self, line: &'a [AccountId]) -> impl Iterator<Item = (AccountId, &'a Limit)> {
        line.iter().flat_map(|&at| self.get(at).limits.iter().map(move |limit| (at, limit)))
    }

    /// Names the tightest limit (the deepest of equals), and stops the owners of those that are used up.
    fn refuse(&mut self, line: &[AccountId], quote: &Quote) -> Denied {
        let (owner, limit) = self
            .limits_of(line)
            .min_by_key(|(at, limit)| self.get(*at).free(limit))
            .expect("a path without limits has nothing to refuse for");
        let facts = Box::new(self.facts(owner, limit, needed(quote)));
        let changes = self.after_refusal(line, quote);
        Denied::Budget { facts, changes }
    }

    fn facts(&self, owner: AccountId, limit: &Limit, needed: Pico) -> BudgetFacts {
        let account = self.get(owner);
        BudgetFacts {
            account: account.path.to_string(),
            limit: limit.describe(),
            category: limit.category.as_str(),
            spent_usd: account.spent_in(limit.window),
            held_usd: account.held(),
            needed_usd: needed,
            reset: None,
        }
    }
}

/// The grant that fits `free` (`None`: no limit), whole or with a ceiling.
pub(super) fn fit(quote: &Quote, free: Option<Pico>) -> Option<Grant> {
    let whole = Grant { amount: quote.worst(), clamp: None };
    let Some(free) = free else { return Some(whole) };
    if whole.amount <= free {
        return Some(whole);
    }
    let ceiling = quote.tokens_within(free);
    (clampable(quote) && ceiling >= MIN_OUTPUT_TOKENS)
        .then(|| Grant { amount: quote.worst_at(ceiling), clamp: Some(ceiling) })
}

/// Only a request that left the ceiling open is given one: what the agent asked for is not changed.
fn clampable(quote: &Quote) -> bool {
    !quote.stated && quote.can_clamp
}

/// The least that would have had to fit.
fn needed(quote: &Quote) -> Pico {
    if clampable(quote) { quote.worst_at(quote.output_ceiling.min(MIN_OUTPUT_TOKENS)) } else { quote.worst() }
}

/// Spent never falls: a negative cost is none.
fn post(spent: &mut Pico, cost: Pico) {
    *spent = spent.saturating_add(cost.max(Pico::ZERO));
}
