//! Accounts come to a slot of the kernel's book, and leave it.

use std::{collections::BTreeMap, fmt::Write, sync::mpsc};

use meter_common::{AccountRef, SLOTS};

use super::{Books, Cashier, CashierError};
use crate::{
    accounts::{AccountId, LimitRule, State},
    clock::Timestamp,
    events::EventKind,
    ids::AccountPath,
    labels,
    ledger::{Op, Reply},
    money::Pico,
};

/// What an account is opened with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    pub budget: Option<Pico>,
    pub labels: BTreeMap<String, String>,
}

impl Given {
    pub fn budget(budget: Option<Pico>) -> Self {
        Self { budget, ..Self::default() }
    }
}

impl Cashier {
    /// Makes sure that the account exists (agents and their parents are made on the way) and is bound to a slot.
    /// What is given takes the place of what was given before; opening again continues with what is spent. A closed
    /// task can't be opened again.
    ///
    /// Blocks until it is durable: call it where a thread may block. What could not be recorded is not bound.
    pub fn bind(&self, path: &AccountPath, given: &Given, now: Timestamp) -> Result<AccountRef, CashierError> {
        let (tell, told) = mpsc::sync_channel(1);
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let id = self.ensure(&mut books, path);
        if let Some(shut) =
            books.accounts.line(id).into_iter().find(|&at| books.accounts.get(at).state == State::Closed)
        {
            return Err(CashierError::Closed { path: books.accounts.get(shut).path.clone() });
        }
        check_labels(&books, id, &given.labels)?;
        self.give(&mut books, id, given);
        let was_bound = books.slots.binding(id).is_some_and(|binding| binding.named);
        let account = self.take_slots(&mut books, id)?;
        books.publish_line(id);
        let reply = Reply::First(Box::new(move |result| drop(tell.send(result))));
        let wake = self.writer.push(Op::Barrier, Some(reply));
        self.wake_all(books);
        let recorded = self.barrier(&wake, &told);
        if recorded.is_err() && !was_bound {
            self.unbind(path);
        }
        recorded.map(|()| account)
    }

    /// The account itself, or the nearest above it, that is a closed task.
    pub fn closed_at(&self, path: &AccountPath) -> Option<AccountPath> {
        let books = self.books.lock();
        let mut known = path.line().filter_map(|at| books.accounts.id(&at)).map(|id| books.accounts.get(id));
        known.find(|at| at.state == State::Closed).map(|at| at.path.clone())
    }

    /// Tells that somebody opened a task, or went on with one.
    pub fn task_opened(&self, path: &AccountPath, given: &Given, actor: u32, now: Timestamp) {
        let books = self.books.lock();
        let Some(id) = books.accounts.id(path) else { return };
        let mut text = given.budget.map_or_else(|| "opened".to_owned(), |budget| format!("opened with ${budget}"));
        if books.accounts.get(id).exchanges > 0 {
            let _ = write!(text, ", ${} spent before", books.accounts.get(id).spent());
        }
        if !given.labels.is_empty() {
            let _ = write!(text, ", {}", labels::shown(&given.labels));
        }
        self.raise(&books, EventKind::TaskOpened, id, Some(actor), text, now);
        drop(books);
        self.writer.wake_up();
    }

    /// As [`Cashier::bind`], for many at once, which wait for the ledger together; the answers are in their order. A
    /// closed task is among them where somebody is still in its cgroup, and goes on being refused.
    pub fn bind_all(&self, paths: &[AccountPath]) -> Result<Vec<AccountRef>, CashierError> {
        let (tell, told) = mpsc::sync_channel(1);
        let mut books = self.books.lock();
        let mut bound = Vec::with_capacity(paths.len());
        for path in paths {
            let id = self.ensure(&mut books, path);
            bound.push(self.take_slots(&mut books, id)?);
            books.publish_line(id);
        }
        let reply = Reply::First(Box::new(move |result| drop(tell.send(result))));
        let wake = self.writer.push(Op::Barrier, Some(reply));
        drop(books);
        self.barrier(&wake, &told)?;
        Ok(bound)
    }

    /// Frees the slot of an account whose cgroup is gone. What it spent stays. A slot that is still needed, by
    /// an account below or by a hold, is freed when it no longer is.
    pub fn unbind(&self, path: &AccountPath) {
        let mut books = self.books.lock();
        let Some(id) = books.accounts.id(path) else { return };
        if let Some(binding) = books.slots.binding(id) {
            binding.named = false;
            self.release_if_unused(&mut books, id);
        }
    }

    /// Every bound account, by path: for whoever keeps the cgroups to compare with.
    pub fn bound(&self) -> Vec<(AccountPath, AccountRef)> {
        let books = self.books.lock();
        let mut bound: Vec<_> =
            books.slots.bound().map(|(id, account)| (books.accounts.get(id).path.clone(), account)).collect();
        bound.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        bound
    }

    pub fn account_of(&self, account: AccountRef) -> Option<AccountPath> {
        let books = self.books.lock();
        books.slots.owner(account).map(|id| books.accounts.get(id).path.clone())
    }

    /// Whether the account and every one above it is open; a stale reference is not.
    pub fn is_open(&self, account: AccountRef) -> bool {
        let books = self.books.lock();
        books.slots.owner(account).is_some_and(|id| books.accounts.is_open(id))
    }

    pub(super) fn ensure(&self, books: &mut Books, path: &AccountPath) -> AccountId {
        let mut made = Vec::new();
        let id = books.accounts.ensure(path, &mut made);
        self.tell_made(books, &made);
        id
    }

    /// What an account is opened with: where it says the same as before, nothing changes.
    fn give(&self, books: &mut Books, id: AccountId, given: &Given) {
        let account = books.accounts.get(id);
        let budget = given.budget.filter(|budget| !account.given.limits.contains(&LimitRule::budget(*budget)));
        if budget.is_none() && labels::have(&account.given.labels, &given.labels) {
            return;
        }
        let changes = books.accounts.give(id, budget, &given.labels);
        let account = books.accounts.get(id);
        let forget_smallest = account.smallest_hold.is_none();
        if budget.is_some() {
            self.writer.wake(&self.writer.push(Op::Budget { id, given: budget, forget_smallest }, None));
            let limits = account.rules();
            self.writer.wake(&self.writer.push(Op::InForce { id, limits, forget_smallest }, None));
        }
        if !given.labels.is_empty() {
            let labels = account.given.labels.clone();
            self.writer.wake(&self.writer.push(Op::Labels { id, labels }, None));
        }
        self.changed(books, &changes);
    }

    /// Slots for the whole path, the host's end first, since a record names its parent's slot.
    fn take_slots(&self, books: &mut Books, id: AccountId) -> Result<AccountRef, CashierError> {
        for at in books.accounts.line(id).into_iter().rev() {
            let parent = books.accounts.get(at).parent;
            let account = match books.slots.binding(at) {
                Some(binding) if !binding.releasing => continue,
                Some(binding) => {
                    binding.releasing = false;
                    binding.again = binding.again.wrapping_add(1);
                    binding.account
                }
                None => books.slots.take(at, parent).ok_or(CashierError::NoSlot(SLOTS))?,
            };
            self.writer.wake(&self.writer.push(Op::Bind { id: at, account }, None));
        }
        let binding = books.slots.binding(id).ok_or(CashierError::NoSlot(SLOTS))?;
        binding.named = true;
        Ok(binding.account)
    }

    /// Begins to give a slot back: first the ledger, which must hold all that the record does, then the book.
    pub(super) fn release_if_unused(&self, books: &mut Books, id: AccountId) {
        if id == AccountId::HOST || books.accounts.get(id).holds > 0 {
            return;
        }
        let Some(binding) = books.slots.binding(id) else { return };
        if binding.named || binding.children > 0 || binding.releasing {
            return;
        }
        binding.releasing = true;
        let (me, again) = (self.me.clone(), binding.again);
        let reply = Reply::Durable(Box::new(move || {
            if let Some(cashier) = me.upgrade() {
                cashier.released(id, again);
            }
        }));
        self.writer.wake(&self.writer.push(Op::Unbind { id }, Some(reply)));
    }

    /// The ledger knows that the account is unbound; unless it was bound again meanwhile, the slot is free.
    fn released(&self, id: AccountId, again: u32) {
        let mut books = self.books.lock();
        let unused = books.accounts.get(id).holds == 0;
        let Some(binding) = books.slots.binding(id).filter(|binding| binding.again == again) else { return };
        binding.releasing = false;
        if unused && !binding.named && binding.children == 0 {
            let parent = books.accounts.get(id).parent;
            books.slots.release(id, parent);
            self.stop_unbound(&mut books, id);
            self.release_if_unused(&mut books, parent);
        }
    }
}

/// Those of earlier openings stay, and all of them together stand on every row.
fn check_labels(books: &Books, id: AccountId, more: &labels::Labels) -> Result<(), CashierError> {
    let known = &books.accounts.get(id).given.labels;
    let all = known.len() + more.keys().filter(|key| !known.contains_key(*key)).count();
    if all > labels::LABELS_MAX {
        return Err(CashierError::Other(labels::LabelError::Many(all).to_string()));
    }
    Ok(())
}
