//! The books as people see them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Cashier;
use crate::{
    accounts::{Account, Limit},
    ids::AccountPath,
    money::Pico,
};

/// One account as `meter status --json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct AccountStatus {
    pub account: AccountPath,
    pub state: &'static str,
    /// Filled by whoever keeps the cgroups.
    pub cgroups: Vec<PathBuf>,
    pub spent_usd: Pico,
    pub held_usd: Pico,
    /// `None` where no `any` limit applies.
    pub remaining_usd: Option<Pico>,
    pub limits: Vec<LimitStatus>,
    pub exchanges: u64,
}

/// One limit of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitStatus {
    pub window: &'static str,
    pub category: &'static str,
    pub limit_usd: Pico,
    pub spent_usd: Pico,
    pub remaining_usd: Pico,
}

/// What the line at the end of `meter run` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub spent: Pico,
    /// The nearest `total` limit that the account is under: its own, or that of one above it.
    pub budget: Option<Budget>,
    pub exchanges: u64,
    pub refusals: u64,
}

/// An account's `total` limit, fundings included, and how much of it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub account: AccountPath,
    pub limit_usd: Pico,
    pub spent_usd: Pico,
}

impl Cashier {
    /// Every account, by path, the host first.
    pub fn status(&self) -> Vec<AccountStatus> {
        let books = self.books.lock();
        let mut list: Vec<_> = books.accounts.ids().map(|id| status(books.accounts.get(id))).collect();
        drop(books);
        list.sort_unstable_by(|a, b| (!a.account.is_host(), &a.account).cmp(&(!b.account.is_host(), &b.account)));
        list
    }

    /// One account.
    pub fn status_of(&self, path: &AccountPath) -> Option<AccountStatus> {
        let books = self.books.lock();
        books.accounts.id(path).map(|id| status(books.accounts.get(id)))
    }

    /// What an account and those below it have on hold now.
    pub fn held(&self, path: &AccountPath) -> Option<Pico> {
        let books = self.books.lock();
        books.accounts.id(path).map(|id| books.accounts.get(id).held())
    }

    pub fn summary(&self, path: &AccountPath) -> Option<Summary> {
        let books = self.books.lock();
        let id = books.accounts.id(path)?;
        let account = books.accounts.get(id);
        let nearest = books.accounts.line(id).into_iter().map(|at| books.accounts.get(at)).find_map(|account| {
            let limit_usd = account.budget()?.amount;
            Some(Budget { account: account.path.clone(), limit_usd, spent_usd: account.spent })
        });
        Some(Summary {
            spent: account.spent,
            budget: nearest,
            exchanges: account.exchanges,
            refusals: account.refusals,
        })
    }
}

fn status(account: &Account) -> AccountStatus {
    AccountStatus {
        account: account.path.clone(),
        state: account.state.as_str(),
        cgroups: Vec::new(),
        spent_usd: account.spent,
        held_usd: account.held(),
        remaining_usd: account.remaining(),
        limits: account.limits.iter().map(|l| limit_status(account, l)).collect(),
        exchanges: account.exchanges,
    }
}

fn limit_status(account: &Account, limit: &Limit) -> LimitStatus {
    LimitStatus {
        window: limit.window.as_str(),
        category: limit.category.as_str(),
        limit_usd: limit.amount,
        spent_usd: account.spent_in(limit.window),
        remaining_usd: account.left(limit),
    }
}
