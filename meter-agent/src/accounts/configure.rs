//! What is in force: limits and policies as the config writes them, as they were given at opening, and as money and
//! time raised them since.
//!
//! Editing a limit changes what is left and never what was used: that is kept by category and time (`tally.rs`).

use std::{collections::BTreeMap, sync::Arc};

use jiff::tz::TimeZone;
use smallvec::SmallVec;

use super::{
    AccountId, Accounts, Changes, Limit, LimitRule, Window,
    policy::{Effective, Policy},
};
use crate::{clock::Timestamp, ids::AccountPath, money::Pico};

/// A clock that is set back by less is not seen to have been, in microseconds.
const OUT_OF_ORDER_MAX: i64 = 5_000_000;

/// What the config says about accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// By whose clocks days, weeks and months begin.
    pub zone: TimeZone,
    pub host: Policy,
    pub agents: Vec<(AccountPath, Policy)>,
    /// Agents that have another name now, from the old one to the new one.
    pub renamed: Vec<(AccountPath, AccountPath)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, host: Policy::default(), agents: Vec::new(), renamed: Vec::new() }
    }
}

impl Plan {
    /// Whether any account is to be told of requests that repeat themselves.
    pub fn watches_repeats(&self) -> bool {
        let policies = self.agents.iter().map(|(_, policy)| policy);
        policies.chain([&self.host]).any(|policy| policy.watch.repeats.is_some_and(|most| most > 0))
    }

    /// The plan while some agents can't be renamed: they go on under their old names.
    #[must_use]
    pub fn with_old_names(&self, kept: &[AccountPath]) -> Self {
        let mut plan = self.clone();
        for (from, to) in self.renamed.iter().filter(|(from, _)| kept.contains(from)) {
            for (path, _) in &mut plan.agents {
                if let Some(rest) = path.as_str().strip_prefix(to.as_str())
                    && path.is_within(to)
                    && let Ok(old) = format!("{from}{rest}").parse()
                {
                    *path = old;
                }
            }
        }
        plan
    }
}

/// A raise of an account's dollar limits that ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    pub by: Pico,
    pub from: Timestamp,
    pub until: Timestamp,
}

impl Accounts {
    /// Puts the plan into force in place of the one before. Accounts that it names are made; `made` gets them, the
    /// highest first.
    pub fn set_plan(&mut self, plan: &Plan, made: &mut Vec<AccountId>) -> Changes {
        self.calendar.set_zone(&plan.zone, self.now);
        for (path, _) in &plan.agents {
            self.ensure(path, made);
        }
        for id in self.ids() {
            self.get_mut(id).configured = Policy::default();
        }
        self.get_mut(AccountId::HOST).configured = plan.host.clone();
        for (path, policy) in &plan.agents {
            if let Some(id) = self.id(path) {
                self.get_mut(id).configured = policy.clone();
            }
        }
        self.refresh_all()
    }

    /// Gives an account that has no cgroup another name, and everything below it with it.
    pub fn rename(&mut self, from: &AccountPath, to: &AccountPath) -> Vec<AccountId> {
        if self.id(to).is_some() || self.id(from).is_none() {
            return Vec::new();
        }
        let moved: Vec<AccountId> = self.ids().filter(|&id| self.get(id).path.is_within(from)).collect();
        for &id in &moved {
            let old = self.get(id).path.clone();
            let Ok(new) = format!("{to}{}", &old.as_str()[from.as_str().len()..]).parse::<AccountPath>() else {
                continue;
            };
            self.by_path.remove(&old);
            self.by_path.insert(new.clone(), id);
            self.get_mut(id).path = new;
        }
        moved
    }

    /// What an account is opened with; a budget given again takes the place of the one before.
    pub fn give(&mut self, id: AccountId, budget: Option<Pico>, labels: &BTreeMap<String, String>) -> Changes {
        let given = &mut self.get_mut(id).given;
        given.labels.extend(labels.clone());
        if let Some(budget) = budget {
            given.limits = vec![LimitRule::budget(budget)];
        }
        self.refresh_and_tell(id)
    }

    /// Adds money to the budget, and opens the account if that leaves something to spend.
    pub fn fund(&mut self, id: AccountId, amount: Pico) -> Changes {
        let account = self.get_mut(id);
        account.funded = account.funded.saturating_add(amount);
        account.smallest_hold = None;
        self.refresh_and_tell(id)
    }

    /// Raises the account's dollar limits for a time.
    pub fn extend(&mut self, id: AccountId, extension: Extension) -> Changes {
        self.get_mut(id).extensions.push(extension);
        self.refresh_and_tell(id)
    }

    /// Moves to `now`: windows begin, extensions and accounts end. Told are the accounts that open or drain by it;
    /// what is left of others may be another amount too. `None`, at no cost, where nothing begins and nothing ends.
    pub fn advance(&mut self, now: Timestamp) -> Option<Changes> {
        // Times are taken before the lock is, so that they come a little out of order.
        let late = self.now.micros().saturating_sub(now.micros());
        if (1..=OUT_OF_ORDER_MAX).contains(&late) {
            return None;
        }
        self.now = now;
        let began = self.calendar.at(now);
        if !began && late <= 0 && self.deadline.is_none_or(|at| now < at) {
            return None;
        }
        let starts = *self.calendar.starts();
        for id in self.ids() {
            let account = self.get_mut(id);
            account.tallies.iter_mut().for_each(|(_, tally)| tally.roll(&starts));
            if began && account.limits.iter().any(|limit| limit.key.is_any_money() && limit.key.window.recurs()) {
                account.smallest_hold = None;
            }
        }
        Some(self.refresh_all())
    }

    /// Works out again what is in force for every account.
    pub fn refresh_all(&mut self) -> Changes {
        self.deadline = None;
        let mut changes = Changes::new();
        for id in self.ids() {
            let raised = self.refresh(id);
            changes.extend(self.after_limit(id, raised));
        }
        changes
    }

    /// As [`Self::refresh_all`], for an account and what lies below it.
    fn refresh_and_tell(&mut self, id: AccountId) -> Changes {
        let path = self.get(id).path.clone();
        let mut changes = Changes::new();
        for at in self.ids().filter(|at| at.get() >= id.get()) {
            if at == id || self.get(at).path.is_within(&path) {
                let raised = self.refresh(at);
                changes.extend(self.after_limit(at, raised));
            }
        }
        changes
    }

    /// What is in force for an account now; its parent's is known. Whether a limit of all dollars was raised by it.
    pub(super) fn refresh(&mut self, id: AccountId) -> bool {
        let account = self.get(id);
        let above = if id == AccountId::HOST { Arc::default() } else { Arc::clone(&self.get(account.parent).policy) };
        let written = written(&account.given, &account.configured);
        let effective = written.under(&above);
        let now = self.now;
        let extended = account.extensions.iter().filter(|e| e.until > now);
        let raise = extended.clone().fold(Pico::ZERO, |sum, e| sum.saturating_add(e.by));
        let ends = extended.map(|e| e.until).chain(effective.until.filter(|until| *until > now)).min();
        let rules = rules(&written, &above);
        let limits: SmallVec<[Limit; 1]> = rules.iter().map(|rule| rule.in_force(account.funded, raise)).collect();
        self.deadline = self.deadline.into_iter().chain(ends).min();
        let account = self.get_mut(id);
        let raised = is_raised(&account.limits, &limits) || loosened(&account.policy, &effective);
        account.limits = limits;
        if *account.policy != effective {
            account.policy = Arc::new(effective);
        }
        if raised {
            account.smallest_hold = None;
        }
        self.lower_marks(id);
        raised
    }
}

/// Both words about an account; the config's counts where they speak of the same limit, and the opener's label.
fn written(given: &Policy, configured: &Policy) -> Policy {
    let mut written = configured.clone();
    let is_new = |rule: &&LimitRule| !configured.limits.iter().any(|own| own.key == rule.key);
    written.limits.extend(given.limits.iter().filter(is_new));
    written.labels.extend(given.labels.clone());
    written
}

/// The limits of an account: its own, but for those that it sets for each task, and those that are set for it as one.
fn rules(written: &Policy, above: &Effective) -> Vec<LimitRule> {
    let own = written.limits.iter().filter(|rule| rule.key.window != Window::Task);
    own.chain(&above.task_limits).copied().collect()
}

/// Whether some limit of all dollars allows more than it did, or is gone.
fn is_raised(before: &[Limit], after: &[Limit]) -> bool {
    let any = |limits: &[Limit], key| limits.iter().find(|limit| limit.key == key).map(|limit| limit.amount);
    before
        .iter()
        .filter(|limit| limit.key.is_any_money())
        .any(|old| any(after, old.key).is_none_or(|new| new > old.amount))
}

/// Whether what was refused before may not be any more.
fn loosened(before: &Effective, after: &Effective) -> bool {
    let ends_later = before.until.is_some_and(|old| after.until.is_none_or(|new| new > old));
    before.enforce && !after.enforce || before.at_limit != after.at_limit || ends_later
}

impl Window {
    /// Whether it begins again and again.
    pub fn recurs(self) -> bool {
        super::calendar::RECURRING.contains(&self)
    }
}
