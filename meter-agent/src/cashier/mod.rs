//! The one writer of money: admission and settlement, kernel map and ledger together.
//!
//! One lock is around the accounts. Under it a decision is taken, published to the kernel's book and queued for
//! the ledger, so that the three never disagree about the order of things; nothing waits while it is held.
//!
//! Fail-closed: what cannot be recorded is not admitted. Recording what was spent never fails on a limit.

mod bind;
mod error;
mod fund;
mod hold;
mod recover;
mod results;
mod slots;
mod status;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod results_tests;
#[cfg(test)]
mod tests;

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use meter_common::AccountRef;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

pub use self::{
    error::CashierError,
    hold::{DurableWait, Hold},
    status::{AccountStatus, Budget, LimitStatus, Summary},
};
use self::{hold::HoldParts, results::Jobs, slots::Slots};
pub use crate::exchange::RequestLine;
use crate::{
    accounts::{AccountId, Accounts, Change, Denied, State},
    clock::Timestamp,
    exchange::Row,
    ids::{AccountPath, ExchangeId, Process},
    ledger::{HoldRecord, Op, Reply, Wake, Writer},
    money::Pico,
    pricing::Quote,
    usage::BudgetFacts,
};

/// State changes that a receiver may be behind; one that is further behind reads [`Cashier::draining`] instead.
const CHANGES_MAX: usize = 1_024;

/// When an answer may be released relative to its hold's row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Wait for the hold's row before forwarding.
    Strict,
    /// Forward at once; release the answer after the hold's row is durable.
    #[default]
    Full,
    /// Do not wait.
    Relaxed,
}

/// What the config says about agents.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// `[agent.NAME] budget_usd`: the agent's `total` limit.
    pub agents: Vec<(AccountPath, Option<Pico>)>,
}

/// Why a request was not admitted.
#[derive(Clone, Debug)]
pub enum Refused {
    /// It does not fit a limit.
    Budget(BudgetFacts),
    /// The account is not open any more (stopped, revoked, closed) or is unknown (a stale reference).
    NotOpen { account: String, state: &'static str, budget: Option<BudgetFacts> },
    /// The ledger cannot be written; nothing is admitted until it can.
    Ledger(String),
}

/// An account changed its state; told to whoever must end its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub path: AccountPath,
    pub account: AccountRef,
    /// One of `meter_common::state`.
    pub state: u32,
}

pub struct Cashier {
    me: Weak<Cashier>,
    books: Mutex<Books>,
    writer: Arc<Writer>,
    durability: Durability,
    changes: broadcast::Sender<StateChange>,
    /// One funding at a time, so that two together cannot pass the largest limit.
    funding: Mutex<()>,
    rows_dropped: AtomicU64,
}

/// What the lock is around.
struct Books {
    accounts: Accounts,
    slots: Slots,
    jobs: Jobs,
}

impl Books {
    /// Publishes every bound account from `id` up to the host.
    fn publish_line(&self, id: AccountId) {
        for at in self.accounts.line(id) {
            self.slots.publish(&self.accounts, at);
        }
    }
}

impl Cashier {
    /// Holds the worst case on the whole path to the host, in one step, or nothing. `request` is what the hold's row
    /// says if it is never resolved.
    #[expect(clippy::result_large_err, reason = "a refusal is rare, and its facts go into the answer as they are")]
    pub fn admit(
        self: &Arc<Self>,
        account: AccountRef,
        process: &Process,
        request: RequestLine,
        quote: &Quote,
        now: Timestamp,
    ) -> Result<Hold, Refused> {
        if let Some(fault) = self.writer.fault() {
            return Err(Refused::Ledger(fault));
        }
        let record = |id, grant: crate::accounts::Grant| HoldRecord {
            id: ExchangeId::new(),
            account: id,
            amount: grant.amount,
            clamp: grant.clamp,
            time: now,
            process: process.clone(),
            request,
        };
        let mut books = self.books.lock();
        let Some(id) = books.slots.owner(account) else {
            return Err(Refused::NotOpen { account: "unknown".to_owned(), state: "unknown", budget: None });
        };
        let grant = match books.accounts.admit(id, quote) {
            Ok(grant) => grant,
            Err(denied) => return Err(self.refused(&mut books, denied)),
        };
        books.publish_line(id);
        let line = books.accounts.line(id);
        let path = books.accounts.get(id).path.clone();
        let record = Arc::new(record(id, grant));
        let (reply, durable) = self.durable_reply();
        let wake = self.writer.push(Op::Hold { line, hold: Arc::clone(&record) }, reply);
        drop(books);
        self.writer.wake(&wake);
        Ok(Hold::new(path, HoldParts { cashier: Arc::clone(self), record }, durable))
    }

    /// Writes a row that no hold stands for: a free call, a refusal by the sidecar or the kernel. Where the
    /// ledger is not writable and too much waits already, rows that cost nothing are dropped and counted.
    pub fn record(&self, mut row: Row) {
        row.cost_usd = row.cost_usd.max(Pico::ZERO);
        if !row.cost_usd.is_positive() && !self.writer.has_room() {
            self.rows_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut books = self.books.lock();
        let id = books.accounts.id(&row.account).unwrap_or(AccountId::HOST);
        row.account = books.accounts.get(id).path.clone();
        books.accounts.count(id, row.exchanges(), row.refusals());
        let line = books.accounts.line(id);
        let changes = books.accounts.charge(id, row.cost_usd);
        books.publish_line(id);
        let wake = self.writer.push(Op::Row { line, row: Box::new(row), resolves: None }, None);
        self.tell(&books, &changes);
        drop(books);
        self.writer.wake(&wake);
    }

    /// The enforcer has ended the account's connections: `draining` becomes `stopped` and its packets drop.
    /// While a hold is outstanding it stays draining, and the end of the last one is told as another change.
    pub fn finish_stop(&self, account: AccountRef) {
        let mut books = self.books.lock();
        let Some(change) = books.slots.owner(account).and_then(|id| books.accounts.finish_stop(id)) else { return };
        books.slots.publish(&books.accounts, change.account);
        self.tell(&books, &[change]);
    }

    /// Told when an account becomes draining or stopped, when a draining one has no hold left, and when one reopens.
    pub fn changes(&self) -> broadcast::Receiver<StateChange> {
        self.changes.subscribe()
    }

    /// Bound accounts that are draining now: for an enforcer that starts, or missed changes.
    pub fn draining(&self) -> Vec<StateChange> {
        let books = self.books.lock();
        let draining = books.accounts.ids().filter(|&id| books.accounts.get(id).state == State::Draining);
        draining.filter_map(|id| state_change(&books, Change { account: id, state: State::Draining })).collect()
    }

    /// Waits until everything queued so far is durable, or known not to be writable.
    pub async fn flush(&self) {
        let (tell, told) = oneshot::channel();
        let reply = Reply::First(Box::new(move |result| drop(tell.send(result))));
        let wake = self.writer.push(Op::Barrier, Some(reply));
        self.writer.wake(&wake);
        // An error means that the ledger's fault has been logged already.
        let _ = told.await;
    }

    /// Writes what is queued, marks a clean shutdown and ends the writer. Holds still outstanding stay in the
    /// ledger and are charged at the next start.
    pub async fn close(&self) {
        let writer = Arc::clone(&self.writer);
        if tokio::task::spawn_blocking(move || writer.close()).await.is_err() {
            tracing::error!("the ledger's writer could not be joined");
        }
    }

    /// When an answer may be released; the proxy awaits [`Hold::durable`] before forwarding, or after, or not.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Why nothing is admitted, when the ledger is the reason.
    pub fn ledger_fault(&self) -> Option<String> {
        self.writer.fault()
    }

    /// Rows of refusals that were dropped because too many waited for the ledger.
    pub fn rows_dropped(&self) -> u64 {
        self.rows_dropped.load(Ordering::Relaxed)
    }

    fn durable_reply(&self) -> (Option<Reply>, Option<oneshot::Receiver<Result<(), String>>>) {
        match self.durability {
            Durability::Strict | Durability::Full => {
                let (tell, told) = oneshot::channel();
                (Some(Reply::First(Box::new(move |result| drop(tell.send(result))))), Some(told))
            }
            Durability::Relaxed => (None, None),
        }
    }

    fn refused(&self, books: &mut Books, denied: Denied) -> Refused {
        match denied {
            Denied::Budget { facts, changes } => {
                changes.iter().for_each(|change| books.slots.publish(&books.accounts, change.account));
                self.tell(books, &changes);
                Refused::Budget(*facts)
            }
            Denied::NotOpen { account, state, facts } => Refused::NotOpen {
                account: books.accounts.get(account).path.to_string(),
                state: state.as_str(),
                budget: facts.map(|facts| *facts),
            },
        }
    }

    /// Queues and broadcasts states, under the lock so that they are told in the order in which they came about.
    fn tell(&self, books: &Books, changes: &[Change]) {
        for &change in changes {
            let wake = self.writer.push(Op::State { id: change.account, state: change.state }, None);
            self.writer.wake(&wake);
            if let Some(told) = state_change(books, change) {
                // No receiver is not an error: the next one asks for what is draining.
                let _ = self.changes.send(told);
            }
        }
    }

    /// Queues entries and waits for all of them; for rare calls, on a thread that may block.
    fn barrier(&self, wake: &Wake, told: &std::sync::mpsc::Receiver<Result<(), String>>) -> Result<(), CashierError> {
        self.writer.wake(wake);
        match told.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(CashierError::NotWritable(reason)),
            Err(_) => Err(CashierError::NotWritable("the ledger is closed".to_owned())),
        }
    }
}

fn state_change(books: &Books, change: Change) -> Option<StateChange> {
    let account = books.slots.reference(change.account)?;
    Some(StateChange { path: books.accounts.get(change.account).path.clone(), account, state: change.state.word() })
}
