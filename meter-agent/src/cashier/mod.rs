//! The one writer of money: admission and settlement, kernel map and ledger together.
//!
//! One lock is around the accounts. Under it a decision is taken, published to the kernel's book and queued for
//! the ledger, so that the three never disagree about the order of things; nothing waits while it is held.
//!
//! Fail-closed: what cannot be recorded is not admitted. Recording what was spent never fails on a limit.

mod admit;
mod apply;
mod bind;
mod error;
mod fund;
mod hold;
mod in_force;
mod observe;
mod pace;
mod recover;
mod refusals;
mod results;
mod slots;
mod status;
mod waiting;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod ledger_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod observe_tests;
#[cfg(test)]
mod results_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod waiting_tests;
#[cfg(test)]
mod window_tests;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use meter_common::AccountRef;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

pub use self::{
    admit::{Asked, Refused},
    bind::Given,
    error::CashierError,
    hold::{DurableWait, Hold},
    in_force::InForce,
    status::{AccountStatus, Budget, LimitStatus, Summary},
};
use self::{pace::Gates, refusals::Refusals, results::Jobs, slots::Slots, waiting::Waiting};
pub use crate::accounts::Plan;
pub use crate::exchange::RequestLine;
use crate::{
    accounts::{AccountId, Accounts, Change, QUARTERS_KEPT, State, quarter},
    clock::Timestamp,
    exchange::Row,
    ids::AccountPath,
    ledger::{Op, Reply, Wake, Writer},
    money::Pico,
};

/// State changes that a receiver may be behind; one that is further behind reads [`Cashier::ending`] instead.
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
    gates: Gates,
    /// Whether the config in force watches anybody's repeats: where it doesn't, a request needs no lock to know.
    repeats_watched: AtomicBool,
}

/// What the lock is around.
struct Books {
    accounts: Accounts,
    slots: Slots,
    jobs: Jobs,
    waiting: Waiting,
    /// Windows began, or extensions ended, since those who wait were looked at for that.
    moved: bool,
    /// Refusals that are counted, and not written yet.
    refusals: Refusals,
}

impl Books {
    /// Puts the account's labels on its row.
    fn label(&self, id: AccountId, row: &mut Row) {
        row.detail.labels.clone_from(&self.accounts.get(id).policy.labels);
    }

    /// Publishes every bound account from `id` up to the host.
    fn publish_line(&self, id: AccountId) {
        for at in self.accounts.line(id) {
            self.slots.publish(&self.accounts, at);
        }
    }
}

impl Cashier {
    /// Writes a row that no hold stands for: a free call, a refusal by the sidecar or the kernel. Refusals of one kind
    /// gather in a row a minute. Where the ledger is not writable and too much waits already, refusals gather, and
    /// free calls are dropped and counted.
    pub fn record(&self, mut row: Row) {
        row.cost_usd = row.cost_usd.max(Pico::ZERO);
        let (gathers, has_room) = (Refusals::is_one(&row), self.writer.has_room());
        if !row.cost_usd.is_positive() && !gathers && !has_room {
            self.rows_dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut books = self.books.lock();
        let id = books.accounts.id(&row.account).unwrap_or(AccountId::HOST);
        row.account = books.accounts.get(id).path.clone();
        if gathers {
            books.label(id, &mut row);
            books.accounts.count(id, row.exchanges(), row.refusals());
            let rows = books.refusals.add(id, row, has_room);
            self.write_rows(&books, rows);
            return;
        }
        let changes = books.accounts.charge(id, &row.posting(None));
        self.post(&mut books, id, row, None, &changes);
        drop(books);
        self.writer.wake_up();
    }

    /// Writes the refusals that have gathered in the minutes that are over; to be called every few seconds.
    pub fn write_refusals(&self, now: Timestamp) {
        if self.writer.has_room() {
            let mut books = self.books.lock();
            let rows = books.refusals.due(now);
            self.write_rows(&books, rows);
        }
    }

    fn write_all_refusals(&self) {
        let mut books = self.books.lock();
        let rows = books.refusals.all();
        self.write_rows(&books, rows);
    }

    /// Queues rows that were counted before and cost nothing.
    fn write_rows(&self, books: &Books, rows: Vec<Row>) {
        for row in rows {
            let id = books.accounts.id(&row.account).unwrap_or(AccountId::HOST);
            let line = books.accounts.line(id);
            let wake = self.writer.push(Op::Row { line, row: Box::new(row), resolves: None }, None);
            self.writer.wake(&wake);
        }
    }

    /// Sums up rows older than `keep` by day while the ledger has nothing else to do.
    pub fn roll_up(&self, keep: Duration, now: Timestamp) {
        let before = quarter(now).saturating_sub(QUARTERS_KEPT);
        self.writer.wake(&self.writer.push(Op::FoldQuarters { before }, None));
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        self.writer.roll_up(Timestamp::from_micros(now.micros().saturating_sub(keep)));
    }

    /// The enforcer has ended the account's connections: `draining` becomes `stopped` and its packets drop.
    /// While a hold is outstanding it stays draining, and the end of the last one is told as another change.
    pub fn finish_stop(&self, account: AccountRef) {
        let mut books = self.books.lock();
        let Some(change) = books.slots.owner(account).and_then(|id| books.accounts.finish_stop(id)) else { return };
        books.slots.publish(&books.accounts, change.account);
        self.tell(&mut books, &[change]);
    }

    /// Told when an account becomes draining or stopped, when a draining one has no hold left, and when one reopens.
    pub fn changes(&self) -> broadcast::Receiver<StateChange> {
        self.changes.subscribe()
    }

    /// Bound accounts whose connections are to be ended, since they drain or people have shut them: for an enforcer
    /// that starts, or missed changes.
    pub fn ending(&self) -> Vec<StateChange> {
        let books = self.books.lock();
        let told = |id| {
            let state = books.accounts.get(id).state;
            let is_ending = match state {
                State::Draining | State::Revoked | State::Closed => true,
                State::Open | State::Stopped => false,
            };
            is_ending.then(|| state_change(&books, Change { account: id, state })).flatten()
        };
        books.accounts.ids().filter_map(told).collect()
    }

    /// Waits until everything queued so far is durable, or known not to be writable.
    pub async fn flush(&self) {
        self.write_all_refusals();
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
        self.write_all_refusals();
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

    /// Queues and broadcasts states, under the lock so that they are told in the order in which they came about.
    fn tell(&self, books: &mut Books, changes: &[Change]) {
        for &change in changes {
            self.tell_one(books, change);
            self.stop_unbound(books, change.account);
        }
    }

    /// An account without a slot has no connections: where it drains, there is nothing for the enforcer to end.
    fn stop_unbound(&self, books: &mut Books, id: AccountId) {
        if books.slots.reference(id).is_none()
            && let Some(stopped) = books.accounts.finish_stop(id)
        {
            self.tell_one(books, stopped);
        }
    }

    fn tell_one(&self, books: &Books, change: Change) {
        let account = books.accounts.get(change.account);
        let (since, reason) = (account.since, account.reason.clone());
        let op = Op::State { id: change.account, state: change.state, since, reason };
        self.writer.wake(&self.writer.push(op, None));
        if let Some(told) = state_change(books, change) {
            // No receiver is not an error: the next one asks for what is draining.
            let _ = self.changes.send(told);
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
