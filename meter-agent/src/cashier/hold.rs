//! A hold in the hands of the one who forwards the request.

use std::{fmt, sync::Arc};

use parking_lot::MutexGuard;
use tokio::sync::oneshot;

use super::{Books, Cashier, CashierError};
use crate::{
    accounts::{AccountId, Changes, Charged, Grant, Line, Posting},
    clock,
    exchange::Row,
    ids::{AccountPath, ExchangeId},
    ledger::{HoldRecord, Op, Resolves},
    measure::Amounts,
    money::Pico,
};

/// Money set aside for one exchange. Consumed by [`Hold::settle`], also where nothing was spent, or by
/// [`Cashier::park`]; dropped without, it is charged in full as unresolved, because nobody can say what was used.
pub struct Hold {
    pub id: ExchangeId,
    pub account: AccountPath,
    pub amount: Pico,
    /// The output ceiling that the request must be given for the hold to be its worst case.
    pub clamp: Option<u64>,
    /// How the limit stood that would have refused it, were it enforced.
    pub would_refuse: Option<String>,
    /// Beyond a limit at which its account goes on.
    pub overage: bool,
    /// For a cheaper model that took over at the limit.
    degraded: bool,
    /// Taken by whoever finishes the hold.
    parts: Option<HoldParts>,
    durable: Durable,
}

pub(super) struct HoldParts {
    pub(super) cashier: Arc<Cashier>,
    pub(super) record: Arc<HoldRecord>,
}

enum Durable {
    Waiting(oneshot::Receiver<Result<(), String>>),
    Known(Result<(), String>),
}

/// Waits until a hold's row is durable.
pub struct DurableWait(Durable);

impl DurableWait {
    pub async fn wait(mut self) -> Result<(), CashierError> {
        self.0.wait().await
    }
}

impl Durable {
    async fn wait(&mut self) -> Result<(), CashierError> {
        if let Self::Waiting(told) = self {
            let result = told.await.unwrap_or_else(|_| Err("the ledger is closed".to_owned()));
            *self = Self::Known(result);
        }
        match self {
            Self::Known(Err(reason)) => Err(CashierError::NotWritable(reason.clone())),
            Self::Known(Ok(())) | Self::Waiting(_) => Ok(()),
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, account, amount, clamp, .. } = self;
        write!(f, "Hold({id} on {account}: ${amount}, clamp {clamp:?})")
    }
}

impl Hold {
    pub(super) fn new(
        account: AccountPath,
        grant: &Grant,
        degraded: bool,
        parts: HoldParts,
        durable: Option<oneshot::Receiver<Result<(), String>>>,
    ) -> Self {
        let HoldRecord { id, amount, clamp, .. } = *parts.record;
        let durable = durable.map_or(Durable::Known(Ok(())), Durable::Waiting);
        let would_refuse = grant.would_refuse.as_ref().map(|loose| loose.text.clone());
        let overage = grant.overage;
        Self { id, account, amount, clamp, would_refuse, overage, degraded, parts: Some(parts), durable }
    }

    /// Waits until the hold's row is durable, as the durability level asks for it.
    pub async fn durable(&mut self) -> Result<(), CashierError> {
        self.durable.wait().await
    }

    /// As [`Hold::durable`], for one who can't keep the hold meanwhile.
    pub fn durable_wait(&mut self) -> DurableWait {
        DurableWait(std::mem::replace(&mut self.durable, Durable::Known(Ok(()))))
    }

    /// Sets `more` aside as well, for a stream whose cost passes its hold. `false` when a limit has no room for
    /// it: the stream is to be cut.
    #[must_use]
    pub fn grow(&mut self, more: Pico) -> bool {
        let Some(HoldParts { cashier, record }) = &self.parts else { return false };
        let mut books = cashier.books.lock();
        if !books.accounts.grow(record.account, record.category(), more, self.degraded) {
            return false;
        }
        books.publish_line(record.account);
        let line = books.accounts.line(record.account);
        let wake = cashier.writer.push(Op::Grow { line, hold: self.id, more }, None);
        drop(books);
        cashier.writer.wake(&wake);
        self.amount = self.amount.saturating_add(more);
        true
    }

    /// Charges `row.cost_usd`, in full even past the hold, releases the rest, writes the row. Its id, account and
    /// `held_usd` are the hold's.
    pub fn settle(mut self, row: Row) {
        self.end(row);
    }

    /// Gives all of it back, without a row: nothing was used, and what it stood for never began.
    pub fn release(mut self) {
        let Some(HoldParts { cashier, record }) = self.parts.take() else { return };
        let id = record.account;
        let mut books = cashier.books.lock();
        let held = record.held(self.amount);
        let nothing = Posting { category: record.category(), used: Amounts::ZERO, at: record.time };
        let changes = books.accounts.settle(id, &held, &nothing);
        books.publish_line(id);
        let line = books.accounts.line(id);
        let resolves = Resolves { hold: record.id, amount: self.amount, tokens: record.tokens };
        cashier.writer.push_quietly(Op::Release { line: line.clone(), resolves }, None);
        cashier.tell(&mut books, &changes);
        cashier.freed(books, &line);
    }

    /// Takes the hold out of its owner's hands: whoever has the parts finishes it.
    pub(super) fn take_parts(&mut self) -> Option<HoldParts> {
        self.parts.take()
    }

    fn end(&mut self, mut row: Row) {
        let Some(HoldParts { cashier, record }) = self.parts.take() else { return };
        row.id = self.id;
        row.account.clone_from(&self.account);
        row.held_usd = self.amount;
        row.cost_usd = row.cost_usd.max(Pico::ZERO);
        row.detail.would_refuse = self.would_refuse.take();
        row.detail.overage = self.overage;
        cashier.end_hold(&record, self.amount, row);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(parts) = &self.parts {
            let row = parts.record.unresolved(
                self.account.clone(),
                self.amount,
                clock::now(),
                "the exchange ended without a settlement",
            );
            self.end(row);
        }
    }
}

impl Cashier {
    /// Memory and book at once, so that the very next connect sees them; the ledger's row follows.
    pub(super) fn end_hold(&self, record: &HoldRecord, amount: Pico, row: Row) {
        let id = record.account;
        let mut books = self.books.lock();
        let changes = books.accounts.settle(id, &record.held(amount), &row.posting(Some(record.tokens)));
        let resolves = Resolves { hold: record.id, amount, tokens: record.tokens };
        let line = self.post(&mut books, id, row, Some(resolves), &changes);
        self.freed(books, &line);
    }

    /// A row whose charge has changed the accounts: it is labelled, counted, published, queued and told. The writer is
    /// woken by the caller once the lock is free.
    pub(super) fn post(
        &self,
        books: &mut Books,
        id: AccountId,
        mut row: Row,
        resolves: Option<Resolves>,
        changes: &Changes,
    ) -> Line {
        books.label(id, &mut row);
        books.accounts.count(id, row.exchanges(), row.refusals());
        books.publish_line(id);
        let line = books.accounts.line(id);
        let charged = Charged { at: row.time, cost: row.cost_usd, held: resolves.map(|r| r.amount) };
        self.writer.push_quietly(Op::Row { line: line.clone(), row: Box::new(row), resolves }, None);
        self.tell(books, changes);
        self.observe(books, &line, &charged);
        line
    }

    /// A hold on the path has ended: slots that nothing needs any more go back, and whoever waited is looked at. Frees
    /// the lock.
    pub(super) fn freed(&self, mut books: MutexGuard<'_, Books>, line: &Line) {
        line.iter().for_each(|&at| self.release_if_unused(&mut books, at));
        self.serve_line(books, line);
    }
}
