//! When an account stops, and when it opens again.
//!
//! An account stops when a limit of its own is spent, or when a refusal shows that not even an ordinary request
//! of it fits any more. It drains first: what was admitted is held already and finishes. It is stopped when the
//! enforcer has ended its connections and no hold is left. Money opens it again by itself.

use smallvec::SmallVec;

use super::{Account, AccountId, Accounts, Category, Limit, State, admission::fit};
use crate::{money::Pico, pricing::Quote};

/// An account's state as it is now, told because it changed or because a draining account has nothing
/// outstanding any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub account: AccountId,
    pub state: State,
}

pub type Changes = SmallVec<[Change; 2]>;

impl Accounts {
    /// Sets or takes away the configured amount of the `total` limit; fundings come on top of it.
    pub fn set_budget(&mut self, id: AccountId, configured: Option<Pico>) -> Changes {
        let account = self.get_mut(id);
        let before = account.budget().copied();
        let after = configured.map(|amount| Limit::total(amount, account.funded));
        account.limits.retain(|limit| Some(*limit) != before);
        if let Some(mut limit) = after {
            if !Limit::forgets(before.as_ref(), after.as_ref()) {
                limit.smallest_hold = before.and_then(|b| b.smallest_hold);
            }
            account.limits.push(limit);
        }
        self.after_limit(id, Limit::raised(before.as_ref(), after.as_ref()))
    }

    /// Adds money to the `total` limit, and opens the account if that leaves something to spend.
    pub fn fund(&mut self, id: AccountId, amount: Pico) -> Changes {
        let account = self.get_mut(id);
        account.funded = account.funded.saturating_add(amount);
        let configured = account.budget().map(|limit| limit.configured);
        self.set_budget(id, configured)
    }

    /// The enforcer has ended the connections of a draining account. It stays draining while a hold is
    /// outstanding; the end of the last one is told as another change.
    pub fn finish_stop(&mut self, id: AccountId) -> Option<Change> {
        let account = self.get_mut(id);
        if account.state != State::Draining || account.holds > 0 {
            return None;
        }
        account.state = State::Stopped;
        Some(Change { account: id, state: State::Stopped })
    }

    /// After money was spent or a hold ended: a limit that is used up drains its account, and a draining
    /// account without holds is ready to be stopped.
    pub(super) fn after_charge(&mut self, id: AccountId, drained: bool, changes: &mut Changes) {
        let account = self.get(id);
        match account.state {
            State::Open if account.is_spent() => self.drain(id, changes),
            State::Draining if drained => changes.push(Change { account: id, state: State::Draining }),
            State::Open | State::Draining | State::Stopped | State::Revoked | State::Closed => {}
        }
    }

    /// After a refusal: stops every account on the line that owns a limit which the request did not fit, on
    /// which nothing is outstanding, and which has less left than an ordinary request needs. One dear outlier
    /// stops nobody.
    pub(super) fn after_refusal(&mut self, line: &[AccountId], quote: &Quote) -> Changes {
        let mut changes = Changes::new();
        for &at in line {
            if self.get(at).is_used_up_for(quote) {
                self.drain(at, &mut changes);
            }
        }
        changes
    }

    /// After a limit changed: opens on a raise, drains on a cut below what is spent.
    pub(super) fn after_limit(&mut self, id: AccountId, raised: bool) -> Changes {
        let mut changes = Changes::new();
        let account = self.get_mut(id);
        if account.state == State::Open && account.is_spent() {
            self.drain(id, &mut changes);
        } else if (raised || account.walls_requests_only())
            && matches!(account.state, State::Draining | State::Stopped)
            && !account.is_spent()
        {
            account.state = State::Open;
            changes.push(Change { account: id, state: State::Open });
        }
        changes
    }

    fn drain(&mut self, id: AccountId, changes: &mut Changes) {
        self.get_mut(id).state = State::Draining;
        changes.push(Change { account: id, state: State::Draining });
    }
}

impl Account {
    /// Whether a limit that the kernel enforces has nothing left. A limit of 0 never has, and refuses requests only.
    pub fn is_spent(&self) -> bool {
        !self.walls_requests_only() && self.remaining().is_some_and(|left| left <= Pico::ZERO)
    }

    fn is_used_up_for(&self, quote: &Quote) -> bool {
        if self.holds > 0 || self.walls_requests_only() {
            return false;
        }
        self.limits.iter().filter(|l| l.category == Category::Any).any(|limit| {
            let ordinary = limit.smallest_hold.unwrap_or_else(|| quote.worst_at(1));
            fit(quote, Some(self.free(limit))).is_none() && self.left(limit) < ordinary
        })
    }
}
