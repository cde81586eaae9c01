//! Accounts come to a slot of the kernel's book, and leave it.

use std::sync::mpsc;

use meter_common::{AccountRef, SLOTS};

use super::{Books, Cashier, CashierError};
use crate::{
    accounts::{AccountId, Limit},
    clock::Timestamp,
    ids::AccountPath,
    ledger::{Op, Reply},
    money::Pico,
};

impl Cashier {
    /// Makes sure that the account exists (agents and their parents are made on the way) and is bound to a slot.
    /// `budget` sets the account's own `total` limit when given; opening again continues with what is spent.
    ///
    /// Blocks until it is durable: call it where a thread may block.
    pub fn bind(&self, path: &AccountPath, budget: Option<Pico>, _now: Timestamp) -> Result<AccountRef, CashierError> {
        let (tell, told) = mpsc::sync_channel(1);
        let mut books = self.books.lock();
        let id = self.ensure(&mut books, path);
        if let Some(budget) = budget {
            self.set_budget(&mut books, id, budget);
        }
        let account = self.take_slots(&mut books, id)?;
        books.publish_line(id);
        let reply = Reply::First(Box::new(move |result| drop(tell.send(result))));
        let wake = self.writer.push(Op::Barrier, Some(reply));
        drop(books);
        self.barrier(&wake, &told)?;
        Ok(account)
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

    fn ensure(&self, books: &mut Books, path: &AccountPath) -> AccountId {
        let mut made = Vec::new();
        let id = books.accounts.ensure(path, &mut made);
        for at in made {
            let account = books.accounts.get(at);
            let op = Op::Account { id: at, parent: account.parent, path: account.path.clone() };
            self.writer.wake(&self.writer.push(op, None));
        }
        id
    }

    fn set_budget(&self, books: &mut Books, id: AccountId, budget: Pico) {
        let before = books.accounts.get(id).budget().copied();
        if before.is_some_and(|limit| limit.configured == budget) {
            return;
        }
        let changes = books.accounts.set_budget(id, Some(budget));
        let forget_smallest = Limit::forgets(before.as_ref(), books.accounts.get(id).budget());
        self.writer.wake(&self.writer.push(Op::Budget { id, given: Some(budget), forget_smallest }, None));
        self.tell(books, &changes);
    }

    /// Slots for the whole path, the host's end first, since a record names its parent's slot.
    fn take_slots(&self, books: &mut Books, id: AccountId) -> Result<AccountRef, CashierError> {
        for at in books.accounts.line(id).into_iter().rev() {
            let parent = books.accounts.get(at).parent;
            let account = match books.slots.binding(at) {
                Some(binding) if !binding.releasing => continue,
                Some(binding) => binding.account,
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
        let me = self.me.clone();
        let reply = Reply::Durable(Box::new(move || {
            if let Some(cashier) = me.upgrade() {
                cashier.released(id);
            }
        }));
        self.writer.wake(&self.writer.push(Op::Unbind { id }, Some(reply)));
    }

    /// The ledger knows that the account is unbound; unless it was bound again meanwhile, the slot is free.
    fn released(&self, id: AccountId) {
        let mut books = self.books.lock();
        let unused = books.accounts.get(id).holds == 0;
        let Some(binding) = books.slots.binding(id) else { return };
        binding.releasing = false;
        if unused && !binding.named && binding.children == 0 {
            let parent = books.accounts.get(id).parent;
            books.slots.release(id, parent);
            self.release_if_unused(&mut books, parent);
        }
    }
}
