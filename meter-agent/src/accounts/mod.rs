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
mod limit;
mod state;
mod stop;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use meter_common::{PATH_DEPTH, UNLIMITED, flag};
use smallvec::SmallVec;

pub use self::{
    admission::{Denied, Grant, MIN_OUTPUT_TOKENS},
    limit::{Category, Limit, Window},
    state::State,
    stop::{Change, Changes},
};
use crate::{ids::AccountPath, money::Pico};

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
    pub spent: Pico,
    /// Ever set aside. Holds are many times what is spent, so that in the end this passes the largest amount: it
    /// wraps, as does what has ended, and only their difference means something.
    pub hold_granted: Pico,
    /// Holds that ended, however they ended.
    pub hold_ended: Pico,
    /// Holds outstanding of exchanges under way; of one that is parked only the amount counts.
    pub holds: u64,
    pub exchanges: u64,
    pub refusals: u64,
    pub limits: SmallVec<[Limit; 1]>,
    /// Money given by `fund`; it raises the `total` limit while there is one, and waits for one otherwise.
    pub funded: Pico,
}

impl Account {
    pub fn new(path: AccountPath, parent: AccountId) -> Self {
        Self {
            path,
            parent,
            state: State::Open,
            spent: Pico::ZERO,
            hold_granted: Pico::ZERO,
            hold_ended: Pico::ZERO,
            holds: 0,
            exchanges: 0,
            refusals: 0,
            limits: SmallVec::new(),
            funded: Pico::ZERO,
        }
    }

    pub fn held(&self) -> Pico {
        self.hold_granted.wrapping_sub(self.hold_ended)
    }

    /// What is spent within a limit's window.
    pub fn spent_in(&self, window: Window) -> Pico {
        match window {
            Window::Total => self.spent,
        }
    }

    /// What a limit still allows to be spent; negative when overdrawn. Holds are not in it.
    pub fn left(&self, limit: &Limit) -> Pico {
        limit.amount.saturating_sub(self.spent_in(limit.window))
    }

    /// What a limit still allows to be held.
    pub fn free(&self, limit: &Limit) -> Pico {
        self.left(limit).saturating_sub(self.held())
    }

    /// What the kernel is told: the smallest of (limit - spent) over the limits of category `any`.
    pub fn remaining(&self) -> Option<Pico> {
        self.limits.iter().filter(|l| l.category == Category::Any).map(|l| self.left(l)).min()
    }

    /// `remaining` as the kernel's record holds it.
    pub fn remaining_word(&self) -> i64 {
        self.remaining().map_or(UNLIMITED, Pico::get)
    }

    /// Bits of `meter_common::flag`.
    pub fn flags(&self) -> u32 {
        if self.walls_requests_only() { flag::WALL_REQUESTS } else { 0 }
    }

    /// A limit of exactly 0 refuses what is priced and leaves the network alone: free models go on.
    pub fn walls_requests_only(&self) -> bool {
        self.limits.iter().any(|l| l.category == Category::Any && l.amount == Pico::ZERO)
    }

    /// The account's `total` limit over everything.
    pub fn budget(&self) -> Option<&Limit> {
        self.limits.iter().find(|l| l.window == Window::Total && l.category == Category::Any)
    }
}

/// Every account of the host.
#[derive(Clone, Debug)]
pub struct Accounts {
    nodes: Vec<Account>,
    by_path: HashMap<AccountPath, AccountId>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// The host alone.
    pub fn new() -> Self {
        let host = Account::new(AccountPath::host(), AccountId::HOST);
        Self { by_path: HashMap::from([(host.path.clone(), AccountId::HOST)]), nodes: vec![host] }
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
