//! The books as people see them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Cashier;
use crate::{
    accounts::{Account, AccountId, Accounts, Limit, State, TaskStatus, policy::Effective},
    clock::Timestamp,
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
    /// Why people shut it.
    pub reason: Option<String>,
    /// When it came to its state.
    pub since: Timestamp,
    /// The nearest account above that is not open, because of which nothing is admitted here either.
    pub shut_by: Option<AccountPath>,
    /// How it ended, where it is a task that was closed.
    pub status: Option<&'static str>,
    /// How much of the fullest of its limits is gone.
    pub stage: &'static str,
    /// What was spent beyond its limits of dollars: of the one that is passed by most.
    pub overage_usd: Pico,
    /// Whether its limits refuse anything.
    pub enforced: bool,
    pub labels: BTreeMap<String, String>,
    /// What is in force.
    #[serde(skip)]
    pub policy: Arc<Effective>,
}

/// One limit of an account; amounts are in its unit, as decimal strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitStatus {
    pub window: String,
    pub category: String,
    pub unit: String,
    /// With fundings and extensions.
    pub limit: String,
    pub spent: String,
    pub held: String,
    pub remaining: String,
    /// When the window ends, RFC 3339; `None` for one that does not.
    pub reset: Option<String>,
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
        let mut list: Vec<_> = books.accounts.ids().map(|id| status(&books.accounts, id)).collect();
        drop(books);
        list.sort_unstable_by(|a, b| (!a.account.is_host(), &a.account).cmp(&(!b.account.is_host(), &b.account)));
        list
    }

    /// One account.
    pub fn status_of(&self, path: &AccountPath) -> Option<AccountStatus> {
        let books = self.books.lock();
        books.accounts.id(path).map(|id| status(&books.accounts, id))
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
            let limit_usd = Pico::new(account.budget()?.amount);
            Some(Budget { account: account.path.clone(), limit_usd, spent_usd: account.spent() })
        });
        Some(Summary {
            spent: account.spent(),
            budget: nearest,
            exchanges: account.exchanges,
            refusals: account.refusals,
        })
    }
}

fn status(accounts: &Accounts, id: AccountId) -> AccountStatus {
    let account = accounts.get(id);
    let mut above = accounts.line(id).into_iter().skip(1).map(|at| accounts.get(at));
    let shut_by = above.find(|at| at.state != State::Open).map(|at| at.path.clone());
    AccountStatus {
        account: account.path.clone(),
        state: account.state.as_str(),
        cgroups: Vec::new(),
        spent_usd: account.spent(),
        held_usd: account.held(),
        remaining_usd: accounts.nearest(account),
        limits: account.limits.iter().map(|limit| limit_status(accounts, account, limit)).collect(),
        exchanges: account.exchanges,
        reason: account.reason.clone(),
        since: account.since,
        shut_by,
        status: account.status.map(TaskStatus::as_str),
        stage: accounts.stage(id).as_str(),
        overage_usd: accounts.overage(account),
        enforced: account.is_enforced(),
        labels: account.policy.labels.clone(),
        policy: Arc::clone(&account.policy),
    }
}

pub(super) fn limit_status(accounts: &Accounts, account: &Account, limit: &Limit) -> LimitStatus {
    let left = accounts.left(account, limit);
    let bare = |amount| limit.measure(amount).bare();
    LimitStatus {
        window: limit.key.window.as_str().to_owned(),
        category: limit.key.category.as_str().to_owned(),
        unit: limit.key.unit.as_str().to_owned(),
        limit: bare(limit.amount),
        spent: bare(limit.amount.saturating_sub(left)),
        held: bare(account.held_of(limit)),
        remaining: bare(left),
        reset: accounts.calendar().reset(limit.key.window).map(Timestamp::rfc3339),
    }
}
