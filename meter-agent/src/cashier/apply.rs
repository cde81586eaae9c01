//! What people and the calendar change: a new config, windows that begin, accounts that are shut and opened again.

use std::sync::atomic::Ordering;

use super::{Books, Cashier, CashierError, fund::known, in_force::has_processes};
use crate::{
    accounts::{AccountId, Change, Extension, LimitRule, Plan, State, TaskStatus},
    clock::Timestamp,
    events::{Event, EventKind},
    ids::AccountPath,
    ledger::Op,
    measure::Unit,
    money::Pico,
};

impl Cashier {
    /// Puts a config's plan into force; what was used stays. Renames come first: an account that has a cgroup goes on
    /// under its name, and so does one whose new name another account has already, which is the one that is meant then.
    /// Both are returned.
    pub fn apply(&self, plan: &Plan, now: Timestamp) -> Vec<AccountPath> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let kept = self.rename(&mut books, plan);
        let before = rules(&books);
        let mut made = Vec::new();
        self.repeats_watched.store(plan.watches_repeats(), Ordering::Relaxed);
        let plan = plan.with_old_names(&yet_to_rename(&books, plan, &kept));
        let changes = books.accounts.set_plan(&plan, &mut made);
        self.tell_made(&books, &made);
        self.tell_rules(&books, &before);
        self.changed(&mut books, &changes);
        books.accounts.ids().for_each(|id| books.slots.publish(&books.accounts, id));
        self.wake_all(books);
        kept
    }

    /// Lets windows begin, and extensions and accounts end; for a clock to call now and then.
    pub fn tick(&self, now: Timestamp) {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        if std::mem::take(&mut books.moved) {
            self.wake_all(books);
        }
    }

    /// Shuts an account at once, for good or until it is restored; the host for a halt. `false` where it is so already.
    pub fn revoke(
        &self,
        path: &AccountPath,
        reason: &str,
        actor: Option<u32>,
        now: Timestamp,
    ) -> Result<bool, CashierError> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let id = id_of(&books, path)?;
        let shut = self.shut_out(&mut books, id, reason, actor, now);
        self.wake_all(books);
        Ok(shut)
    }

    /// As [`Self::revoke`], under the lock; who waits is not looked at.
    pub(super) fn shut_out(
        &self,
        books: &mut Books,
        id: AccountId,
        reason: &str,
        actor: Option<u32>,
        now: Timestamp,
    ) -> bool {
        let Some(change) = books.accounts.shut_by(id, State::Revoked, Some(reason.to_owned())) else {
            return false;
        };
        self.raise(books, EventKind::Revoked, id, actor, reason.to_owned(), now);
        self.changed(books, &[change]);
        true
    }

    /// Lifts a revocation. `false` where there is none.
    pub fn restore(&self, path: &AccountPath, actor: Option<u32>, now: Timestamp) -> Result<bool, CashierError> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let id = id_of(&books, path)?;
        let Some(change) = books.accounts.restore(id) else { return Ok(false) };
        self.raise(&books, EventKind::Restored, id, actor, "restored".to_owned(), now);
        self.changed(&mut books, &[change]);
        self.wake_all(books);
        Ok(true)
    }

    /// Closes a task for good. `false` where it is closed already.
    pub fn close_task(
        &self,
        path: &AccountPath,
        status: TaskStatus,
        actor: Option<u32>,
        now: Timestamp,
    ) -> Result<bool, CashierError> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let id = id_of(&books, path)?;
        let Some(change) = books.accounts.shut_by(id, State::Closed, None) else { return Ok(false) };
        books.accounts.get_mut(id).status = Some(status);
        self.writer.push_quietly(Op::Closed { id, status }, None);
        let text = format!("closed: {}, ${} spent", status.as_str(), books.accounts.get(id).spent());
        self.raise(&books, EventKind::TaskClosed, id, actor, text, now);
        self.changed(&mut books, &[change]);
        self.wake_all(books);
        Ok(true)
    }

    /// Raises an account's dollar limits until a time, and returns what the nearest of them leaves then.
    pub fn extend(
        &self,
        path: &AccountPath,
        by: Pico,
        until: Timestamp,
        actor: u32,
        now: Timestamp,
    ) -> Result<Option<Pico>, CashierError> {
        let mut books = self.books.lock();
        self.advance(&mut books, now);
        let id = id_of(&books, path)?;
        if !books.accounts.get(id).limits.iter().any(|limit| limit.key.unit == Unit::Usd) {
            return Err(CashierError::NoMoneyLimit { path: path.clone() });
        }
        let extension = Extension { by, from: now, until };
        let changes = books.accounts.extend(id, extension);
        self.writer.push_quietly(Op::Extend { id, extension, actor_uid: actor }, None);
        let text = format!("${by} more until {}", until.rfc3339());
        self.raise(&books, EventKind::Extended, id, Some(actor), text, now);
        self.changed(&mut books, &changes);
        books.publish_line(id);
        let left = books.accounts.nearest(books.accounts.get(id));
        self.wake_all(books);
        Ok(left)
    }

    /// Moves the accounts to `now`. Whoever waits is looked at by the next tick, if not before.
    pub(super) fn advance(&self, books: &mut Books, now: Timestamp) {
        let Some(changes) = books.accounts.advance(now) else { return };
        books.moved = true;
        books.accounts.ids().for_each(|id| books.slots.publish(&books.accounts, id));
        self.changed(books, &changes);
    }

    /// Publishes and tells accounts that changed their state, or of which that is to be told again.
    pub(super) fn changed(&self, books: &mut Books, changes: &[Change]) {
        for change in changes {
            books.slots.publish(&books.accounts, change.account);
        }
        self.tell(books, changes);
    }

    pub(super) fn tell_made(&self, books: &Books, made: &[AccountId]) {
        for &at in made {
            let account = books.accounts.get(at);
            let op = Op::Account { id: at, parent: account.parent, path: account.path.clone() };
            self.writer.push_quietly(op, None);
            if !account.limits.is_empty() {
                let op = Op::InForce { id: at, limits: account.rules(), forget_smallest: true };
                self.writer.push_quietly(op, None);
            }
        }
    }

    /// Writes an event; one that is lost with the ledger's last moments is lost.
    pub(super) fn raise(
        &self,
        books: &Books,
        kind: EventKind,
        account: AccountId,
        actor_uid: Option<u32>,
        text: String,
        time: Timestamp,
    ) {
        tracing::info!(account = %books.accounts.get(account).path, kind = kind.as_str(), text, "event");
        let event = Event { time, account, kind, actor_uid, text };
        self.writer.push_quietly(Op::Event(Box::new(event)), None);
    }

    fn rename(&self, books: &mut Books, plan: &Plan) -> Vec<AccountPath> {
        let mut kept = Vec::new();
        if !plan.renamed.is_empty() {
            // What gathered was refused to the old name.
            let rows = books.refusals.all();
            self.write_rows(books, rows);
        }
        for (from, to) in &plan.renamed {
            if books.accounts.id(from).is_none() {
                continue;
            }
            let moved = if has_processes(books, from) { Vec::new() } else { books.accounts.rename(from, to) };
            if moved.is_empty() {
                kept.push(from.clone());
            }
            for id in moved {
                let path = books.accounts.get(id).path.clone();
                self.writer.push_quietly(Op::Rename { id, path }, None);
            }
        }
        kept
    }

    /// Writes the limits of those for whom they are others now.
    fn tell_rules(&self, books: &Books, before: &[Vec<LimitRule>]) {
        for id in books.accounts.ids() {
            let account = books.accounts.get(id);
            let limits = account.rules();
            if before.get(id.get() as usize).is_some_and(|old| *old != limits) {
                let forget_smallest = account.smallest_hold.is_none();
                self.writer.push_quietly(Op::InForce { id, limits, forget_smallest }, None);
            }
        }
    }
}

/// Of those that keep their name, the ones that the plan means by the new one.
fn yet_to_rename(books: &Books, plan: &Plan, kept: &[AccountPath]) -> Vec<AccountPath> {
    let meant = |(from, to): &&(AccountPath, AccountPath)| kept.contains(from) && books.accounts.id(to).is_none();
    plan.renamed.iter().filter(meant).map(|(from, _)| from.clone()).collect()
}

fn rules(books: &Books) -> Vec<Vec<LimitRule>> {
    books.accounts.ids().map(|id| books.accounts.get(id).rules()).collect()
}

pub(super) fn id_of(books: &Books, path: &AccountPath) -> Result<AccountId, CashierError> {
    let unknown = || CashierError::UnknownAccount { path: path.clone(), known: known(books) };
    books.accounts.id(path).ok_or_else(unknown)
}
