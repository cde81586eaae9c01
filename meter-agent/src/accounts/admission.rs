//! Admission and what follows from it: a hold is granted on the whole path or not at all, grows, and ends.
//!
//! Fail-closed: what does not fit every limit is refused. Posting a charge is the opposite: it always succeeds,
//! because the provider has been used whatever a limit says.

use std::sync::Arc;

use super::{Account, AccountId, Accounts, Category, Changes, Loose, State, policy::Degrade, room::Holds};
use crate::{clock::Timestamp, measure::Amounts, money::Pico, pricing::Quote, usage::BudgetFacts};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub quote: &'a Quote,
    /// What its cost falls under.
    pub category: Category,
    /// As the request names it.
    pub model: Option<&'a str>,
    /// Others that may answer in its place.
    pub fallbacks: &'a [String],
    /// It is one that a model answers: `false` where none is, or where it is named later.
    pub names_model: bool,
    /// Its model has been replaced by a cheaper one already.
    pub degraded: bool,
    /// It may wait for other holds to end.
    pub patient: bool,
    pub now: Timestamp,
}

/// A hold that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub amounts: Amounts,
    /// The output ceiling that the request must be given for the amounts to be its worst case.
    pub clamp: Option<u64>,
    /// The ceiling is lower than it need be for what is asked and for the policy alone: for want of room.
    pub crowded: bool,
    /// The limit that would have refused it, were it enforced.
    pub would_refuse: Option<Box<Loose>>,
    /// Beyond a limit at which its account goes on.
    pub overage: bool,
}

/// Why a hold was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It would fit once other holds have ended, of which the account has some.
    Wait { on: AccountId, facts: Box<BudgetFacts> },
    /// It does not fit; a cheaper model may go on.
    Degrade { by: Arc<Degrade>, facts: Box<BudgetFacts> },
    /// It does not fit a limit; `changes` are the stops that the refusal leads to.
    Budget { account: AccountId, facts: Box<BudgetFacts>, changes: Changes },
    /// The account, or one above it, may not use that model.
    Model { account: AccountId, model: Option<String> },
    /// An account on the path is not open.
    NotOpen { account: AccountId, state: State, facts: Option<Box<BudgetFacts>> },
}

/// What a hold has set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub category: Category,
    pub amounts: Amounts,
}

/// What is posted when a hold ends, or where none was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    pub category: Category,
    pub used: Amounts,
    /// The moment that decides on the window.
    pub at: Timestamp,
}

impl Accounts {
    /// Holds the worst case of a request on every limit from `id` up to the host, in one step, or nothing.
    pub fn admit(&mut self, id: AccountId, ask: &Ask<'_>) -> Result<Grant, Denied> {
        let line = self.line(id);
        self.shut(&line, ask)?;
        let policy = self.policy_in_force(&line);
        let mut loose = self.forbidden(&line, ask)?;
        let enforced = self.room(&line, ask.category, Holds::Counted, ask.degraded, Account::is_enforced);
        let mut grant = match enforced.fit(ask.quote, &policy) {
            Some(grant) if grant.crowded => self.not_for_others(&line, ask, &policy, grant)?,
            Some(grant) => grant,
            None => return Err(self.deny(&line, ask, &policy)),
        };
        grant.overage = self.is_beyond(&line, ask, &policy);
        loose = loose.or_else(|| self.over(&line, ask)).or_else(|| self.would_deny(&line, ask));
        grant.would_refuse = loose.map(Box::new);
        for &at in &line {
            self.get_mut(at).hold(ask.category, &grant.amounts);
        }
        Ok(grant)
    }

    /// Sets `more` aside on top of a hold, if every limit of the path has it. What was admitted may finish
    /// on an account that is draining or stopped by its money, but not on one that people have shut.
    pub fn grow(&mut self, id: AccountId, category: Category, more: Pico, degraded: bool) -> bool {
        let line = self.line(id);
        let shut = line.iter().any(|&at| !self.get(at).state.follows_money());
        let room = self.room(&line, category, Holds::Counted, degraded, Account::is_enforced);
        if shut || more < Pico::ZERO || room.lacks(more) {
            return false;
        }
        for at in line {
            let account = self.get_mut(at);
            account.hold_granted = account.hold_granted.wrapping_add(more);
            account.each(category, |tally| tally.held = tally.held.plus(Amounts::usd(more)));
        }
        true
    }

    /// Ends a hold and posts the charge in full, even past the hold and past every limit.
    pub fn settle(&mut self, id: AccountId, held: &Held, posting: &Posting) -> Changes {
        let mut changes = Changes::new();
        let starts = *self.calendar.starts();
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.release(held);
            account.holds = account.holds.saturating_sub(1);
            account.post(posting, &starts);
            let drained = account.holds == 0;
            self.after_charge(at, drained, &mut changes);
        }
        changes
    }

    /// The exchange of a hold has ended, and its price is yet to come: the money stays aside, and nothing waits for it.
    pub fn park(&mut self, id: AccountId, held: &Held) -> Changes {
        let mut changes = Changes::new();
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.holds = account.holds.saturating_sub(1);
            account.each(held.category, |tally| tally.parked = tally.parked.plus(held.amounts));
            let drained = account.holds == 0;
            self.after_charge(at, drained, &mut changes);
        }
        changes
    }

    /// Sets aside again what was parked before a restart.
    pub fn restore_parked(&mut self, id: AccountId, held: &Held) {
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.hold_granted = account.hold_granted.wrapping_add(held.amounts.usd);
            account.each(held.category, |tally| {
                tally.held = tally.held.plus(held.amounts);
                tally.parked = tally.parked.plus(held.amounts);
            });
        }
    }

    /// Ends a parked hold and posts the charge in full.
    pub fn settle_parked(&mut self, id: AccountId, held: &Held, posting: &Posting) -> Changes {
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.release(held);
            account.each(held.category, |tally| tally.parked = tally.parked.minus(held.amounts));
        }
        self.charge(id, posting)
    }

    /// Posts a charge that no hold stands for. A correction may be negative, which is the one way in which what is
    /// spent can fall; an account that has something left by it opens again.
    pub fn charge(&mut self, id: AccountId, posting: &Posting) -> Changes {
        let mut changes = Changes::new();
        let starts = *self.calendar.starts();
        for at in self.line(id) {
            self.get_mut(at).post(posting, &starts);
            if posting.used.usd < Pico::ZERO {
                changes.extend(self.after_limit(at, true));
            } else {
                self.after_charge(at, false, &mut changes);
            }
        }
        changes
    }
}

impl Account {
    fn hold(&mut self, category: Category, amounts: &Amounts) {
        self.hold_granted = self.hold_granted.wrapping_add(amounts.usd);
        self.holds += 1;
        // What costs nothing says nothing of what an ordinary request needs.
        if amounts.usd.is_positive() {
            self.smallest_hold = Some(self.smallest_hold.map_or(amounts.usd, |least| least.min(amounts.usd)));
        }
        self.each(category, |tally| tally.held = tally.held.plus(*amounts));
    }

    fn release(&mut self, held: &Held) {
        self.hold_ended = self.hold_ended.wrapping_add(held.amounts.usd);
        self.each(held.category, |tally| tally.held = tally.held.minus(held.amounts));
    }

    fn post(&mut self, posting: &Posting, starts: &super::calendar::Starts) {
        self.each(posting.category, |tally| {
            tally.roll(starts);
            tally.post(posting.at, posting.used);
        });
    }

    /// What falls under a category falls under `any` too.
    pub(super) fn each(&mut self, category: Category, mut change: impl FnMut(&mut super::Tally)) {
        change(self.tally_mut(Category::ANY));
        if category != Category::ANY {
            change(self.tally_mut(category));
        }
    }
}
