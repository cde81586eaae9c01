//! The tree of accounts and what it admits.
//!
//! Owns the money facts of every account (spent, held, limits, state) and every decision about them. Pure: no
//! I/O, no clock, no lock; the cashier puts a lock, the kernel's map and the ledger around it.
//!
//! Invariants:
//! - A hold, a charge and a count fall on the whole path from an account to the host, so that an account's
//!   figures include those of everything below it.
//! - Admission is one step: it holds on every account of the path, or changes no amount at all.
//! - `spent` never falls but by the correction of a charge, and posting a charge never fails on a limit.

mod admission;
mod calendar;
mod configure;
mod denial;
mod limit;
pub mod policy;
mod room;
mod stage;
mod state;
mod stop;
mod tally;
mod watch;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod stage_tests;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use jiff::tz::TimeZone;
use meter_common::{PATH_DEPTH, flag};
use smallvec::SmallVec;

use self::policy::{AtLimit, Effective, Policy, Wall};
pub use self::{
    admission::{Ask, Denied, Grant, Held, Posting},
    calendar::{Calendar, QUARTER_MICROS, quarter},
    configure::{Extension, Plan},
    limit::{Category, Limit, LimitKey, LimitRule, Window},
    stage::{Pace, Paces, Passed, Stage},
    state::{State, TaskStatus},
    stop::{Change, Changes},
    tally::{QUARTERS_KEPT, Tally},
    watch::{Charged, Loose, Notice, Notices, Obstacle},
};
use crate::{clock::Timestamp, ids::AccountPath, measure::Amounts, money::Pico};

/// An account's place in the tree. Given once and never reused, also across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(u32);

impl AccountId {
    pub const HOST: Self = Self(0);

    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The accounts from one up to the host, both included, the deepest first.
pub type Line = SmallVec<[AccountId; PATH_DEPTH as usize]>;

/// One account. Amounts are in pico-dollars and include those of the accounts below it.
#[derive(Clone, Debug)]
pub struct Account {
    pub path: AccountPath,
    pub parent: AccountId,
    pub state: State,
    /// When it came to this state.
    pub since: Timestamp,
    /// Why people shut it, in their words.
    pub reason: Option<String>,
    /// How it ended, where it is a task that was closed.
    pub status: Option<TaskStatus>,
    /// Ever set aside. Holds are many times what is spent, so that in the end this passes the largest amount: it
    /// wraps, as does what has ended, and only their difference means something.
    pub hold_granted: Pico,
    /// Holds that ended, however they ended.
    pub hold_ended: Pico,
    /// Holds outstanding of exchanges under way; of one that is parked only the amount counts.
    pub holds: u64,
    pub exchanges: u64,
    pub refusals: u64,
    /// What is written for it where it was opened: a budget, labels.
    pub given: Policy,
    /// What the config writes for it.
    pub configured: Policy,
    /// What is in force.
    pub policy: Arc<Effective>,
    pub limits: SmallVec<[Limit; 1]>,
    /// Money given by `fund`; it raises the budget while there is one, and waits for one otherwise.
    pub funded: Pico,
    pub extensions: Vec<Extension>,
    /// The smallest hold of money granted since the account was last funded, raised or reset: what an ordinary request
    /// of it needs. `None` until there was one.
    pub smallest_hold: Option<Pico>,
    /// By category, that of everything first.
    tallies: SmallVec<[(Category, Tally); 2]>,
    /// So that each thing is told once.
    watched: watch::Watched,
}

impl Account {
    pub fn new(path: AccountPath, parent: AccountId) -> Self {
        Self {
            path,
            parent,
            state: State::Open,
            since: Timestamp::default(),
            reason: None,
            status: None,
            hold_granted: Pico::ZERO,
            hold_ended: Pico::ZERO,
            holds: 0,
            exchanges: 0,
            refusals: 0,
            given: Policy::default(),
            configured: Policy::default(),
            policy: Arc::default(),
            limits: SmallVec::new(),
            funded: Pico::ZERO,
            extensions: Vec::new(),
            smallest_hold: None,
            tallies: smallvec::smallvec![(Category::ANY, Tally::default())],
            watched: watch::Watched::default(),
        }
    }

    /// Everything that was ever spent.
    pub fn spent(&self) -> Pico {
        self.tally(Category::ANY).map_or(Pico::ZERO, |tally| tally.total().usd)
    }

    pub fn held(&self) -> Pico {
        self.hold_granted.wrapping_sub(self.hold_ended)
    }

    pub fn tally(&self, category: Category) -> Option<&Tally> {
        self.tallies.iter().find(|(c, _)| *c == category).map(|(_, tally)| tally)
    }

    /// For recovery and posting: made where there is none.
    pub fn tally_mut(&mut self, category: Category) -> &mut Tally {
        let index = self.tallies.iter().position(|(c, _)| *c == category).unwrap_or_else(|| {
            self.tallies.push((category, Tally::default()));
            self.tallies.len() - 1
        });
        &mut self.tallies[index].1
    }

    /// Posts what is known to have been used in a quarter of an hour; quarter 0 is before all that are kept.
    pub fn post_quarter(&mut self, category: Category, quarter: i64, used: Amounts) {
        self.each(category, |tally| match quarter {
            0 => tally.post_before(used),
            quarter => tally.post(Timestamp::from_micros(quarter.saturating_mul(QUARTER_MICROS)), used),
        });
    }

    /// What is set aside of what a limit counts, in its unit.
    pub fn held_of(&self, limit: &Limit) -> i64 {
        self.tally(limit.key.category).map_or(0, |tally| tally.held.of(limit.key.unit))
    }

    /// The account's limit over all dollars, ever.
    pub fn budget(&self) -> Option<&Limit> {
        self.limits.iter().find(|l| l.key == LimitKey::BUDGET)
    }

    /// Its limits as they were set, fundings and extensions aside.
    pub fn rules(&self) -> Vec<LimitRule> {
        self.limits.iter().map(|limit| LimitRule { key: limit.key, amount: limit.configured }).collect()
    }

    /// Bits of `meter_common::flag`.
    pub fn flags(&self) -> u32 {
        if self.walls_requests_only() { flag::WALL_REQUESTS } else { 0 }
    }

    /// A limit of exactly 0 refuses what is priced and leaves the network alone: free models go on.
    pub fn walls_requests_only(&self) -> bool {
        self.policy.wall == Wall::Requests || self.limits.iter().any(|l| l.key.is_any_money() && l.amount == 0)
    }

    /// Whether reaching a limit of this account refuses anything.
    pub fn is_enforced(&self) -> bool {
        self.policy.enforce && self.policy.at_limit != AtLimit::Continue
    }

    /// What may be spent beyond each limit with the cheaper models that take over there.
    pub fn allowance(&self) -> Pico {
        match &self.policy.at_limit {
            AtLimit::Degrade(degrade) => degrade.allowance,
            AtLimit::Stop | AtLimit::Continue => Pico::ZERO,
        }
    }
}

/// Every account of the host.
#[derive(Clone, Debug)]
pub struct Accounts {
    nodes: Vec<Account>,
    by_path: HashMap<AccountPath, AccountId>,
    calendar: Calendar,
    /// The time as it was last told.
    now: Timestamp,
    /// When the next extension or account ends.
    deadline: Option<Timestamp>,
}

impl Accounts {
    /// The host alone.
    pub fn new(zone: TimeZone, now: Timestamp) -> Self {
        let host = Account::new(AccountPath::host(), AccountId::HOST);
        Self {
            by_path: HashMap::from([(host.path.clone(), AccountId::HOST)]),
            nodes: vec![host],
            calendar: Calendar::new(zone, now),
            now,
            deadline: None,
        }
    }

    /// The windows as they stand.
    pub const fn calendar(&self) -> &Calendar {
        &self.calendar
    }

    pub fn id(&self, path: &AccountPath) -> Option<AccountId> {
        self.by_path.get(path).copied()
    }

    pub fn get(&self, id: AccountId) -> &Account {
        &self.nodes[id.index()]
    }

    /// For the cashier's recovery; every decision has a method of its own.
    pub fn get_mut(&mut self, id: AccountId) -> &mut Account {
        &mut self.nodes[id.index()]
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Never: the host is always there.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn ids(&self) -> impl DoubleEndedIterator<Item = AccountId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(AccountId)
    }

    /// The account at `path`, made with the missing ones above it. Those made are appended to `made`, the
    /// highest first.
    pub fn ensure(&mut self, path: &AccountPath, made: &mut Vec<AccountId>) -> AccountId {
        if let Some(id) = self.id(path) {
            return id;
        }
        let parent = path.parent().map_or(AccountId::HOST, |up| self.ensure(&up, made));
        let id = AccountId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 accounts fit in memory"));
        self.nodes.push(Account::new(path.clone(), parent));
        self.by_path.insert(path.clone(), id);
        self.refresh(id);
        made.push(id);
        id
    }

    /// The accounts from `id` up to the host.
    pub fn line(&self, id: AccountId) -> Line {
        let mut line = Line::new();
        let mut at = id;
        loop {
            line.push(at);
            if at == AccountId::HOST {
                return line;
            }
            at = self.get(at).parent;
        }
    }

    /// Whether the account and every one above it is open.
    pub fn is_open(&self, id: AccountId) -> bool {
        self.line(id).iter().all(|&at| self.get(at).state == State::Open)
    }

    /// Counts exchanges and refusals on the whole path.
    pub fn count(&mut self, id: AccountId, exchanges: u64, refusals: u64) {
        for at in self.line(id) {
            let account = self.get_mut(at);
            account.exchanges = account.exchanges.saturating_add(exchanges);
            account.refusals = account.refusals.saturating_add(refusals);
        }
    }
}
