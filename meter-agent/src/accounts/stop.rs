//! When an account stops, and when it opens again.
//!
//! An account stops when a limit of its own is spent, or when a refusal shows that not even an ordinary request
//! of it fits any more. It drains first: what was admitted is held already and finishes. It is stopped when the
//! enforcer has ended its connections and no hold is left. Money opens it again by itself.

use smallvec::SmallVec;

use super::{AccountId, Accounts, Ask, State};
use crate::money::Pico;

/// An account's state as it is now, told because it changed or because a draining account has nothing
/// outstanding any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub account: AccountId,
    pub state: State,
}

pub type Changes = SmallVec<[Change; 2]>;

impl Accounts {
    /// Shuts an account for people's sake: what was admitted does not finish. `None` where it is so already, or closed.
    pub fn shut_by(&mut self, id: AccountId, state: State, reason: Option<String>) -> Option<Change> {
        let account = self.get_mut(id);
        if state.follows_money() || account.state == state || account.state == State::Closed {
            return None;
        }
        account.reason = reason;
        Some(self.set_state(id, state))
    }

    /// Lifts a revocation: the account is as its money has it.
    pub fn restore(&mut self, id: AccountId) -> Option<Change> {
        let account = self.get_mut(id);
        if account.state != State::Revoked {
            return None;
        }
        account.reason = None;
        let spent = self.is_spent(id);
        Some(self.set_state(id, if spent { State::Draining } else { State::Open }))
    }

    fn set_state(&mut self, id: AccountId, state: State) -> Change {
        let now = self.now;
        let account = self.get_mut(id);
        account.state = state;
        account.since = now;
        Change { account: id, state }
    }

    /// The enforcer has ended the connections of a draining account. It stays draining while a hold is
    /// outstanding; the end of the last one is told as another change.
    pub fn finish_stop(&mut self, id: AccountId) -> Option<Change> {
        let account = self.get(id);
        if account.state != State::Draining || account.holds > 0 {
            return None;
        }
        Some(self.set_state(id, State::Stopped))
    }

    /// After money was spent or a hold ended: a limit that is used up drains its account, and a draining
    /// account without holds is ready to be stopped.
    pub(super) fn after_charge(&mut self, id: AccountId, drained: bool, changes: &mut Changes) {
        match self.get(id).state {
            State::Open if self.is_spent(id) => self.drain(id, changes),
            State::Draining if drained => changes.push(Change { account: id, state: State::Draining }),
            State::Open | State::Draining | State::Stopped | State::Revoked | State::Closed => {}
        }
    }

    /// After a refusal: stops every account on the line that owns a limit which the request did not fit, on
    /// which nothing is outstanding, and which has less left than an ordinary request needs. One dear outlier
    /// stops nobody.
    pub(super) fn after_refusal(&mut self, line: &[AccountId], ask: &Ask<'_>) -> Changes {
        let mut changes = Changes::new();
        for &at in line {
            if self.is_used_up_for(at, ask) {
                self.drain(at, &mut changes);
            }
        }
        changes
    }

    /// After a limit changed or a window began: opens on a raise, drains on a cut below what is spent.
    pub(super) fn after_limit(&mut self, id: AccountId, raised: bool) -> Changes {
        let mut changes = Changes::new();
        let (account, spent) = (self.get(id), self.is_spent(id));
        if account.state == State::Open && spent {
            self.drain(id, &mut changes);
        } else if (raised || account.walls_requests_only() || self.has_begun_anew(id) || self.ends_later_again(id))
            && matches!(account.state, State::Draining | State::Stopped)
            && !spent
        {
            changes.push(self.set_state(id, State::Open));
        }
        changes
    }

    /// Whether a limit that the kernel enforces has nothing left, or the account's time is over. A limit of 0 never
    /// stops an account, and refuses requests only.
    pub fn is_spent(&self, id: AccountId) -> bool {
        let account = self.get(id);
        if account.policy.enforce && account.policy.until.is_some_and(|until| until <= self.now) {
            return true;
        }
        !account.walls_requests_only() && self.remaining(account).is_some_and(|left| left <= Pico::ZERO)
    }

    /// Whether a window of a limit of all dollars began after the account stopped.
    fn has_begun_anew(&self, id: AccountId) -> bool {
        let account = self.get(id);
        let began = |window| self.calendar().start(window).is_some_and(|at| at > account.since);
        account.limits.iter().any(|limit| limit.key.is_any_money() && began(limit.key.window))
    }

    /// Whether the account stopped because its time was over, and by a clock that was set back it is not.
    fn ends_later_again(&self, id: AccountId) -> bool {
        let account = self.get(id);
        account.policy.until.is_some_and(|until| account.since >= until && until > self.now)
    }

    fn is_used_up_for(&self, id: AccountId, ask: &Ask<'_>) -> bool {
        let account = self.get(id);
        if account.holds > 0 || account.walls_requests_only() || !account.is_enforced() {
            return false;
        }
        let ordinary = account.smallest_hold.unwrap_or_else(|| ask.quote.worst_at(1));
        account.limits.iter().filter(|limit| limit.key.is_any_money()).any(|limit| {
            let left = Pico::new(self.left(account, limit)).saturating_add(account.allowance());
            left < ordinary && !self.fits_alone(account, limit, ask)
        })
    }

    fn drain(&mut self, id: AccountId, changes: &mut Changes) {
        let change = self.set_state(id, State::Draining);
        changes.push(change);
    }
}
