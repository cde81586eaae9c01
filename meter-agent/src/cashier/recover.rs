//! The start: the accounts are rebuilt from the ledger, and from the book where it survived the last sidecar.
//!
//! What was spent is the larger of the two; what neither can say is charged. Limits and what remains come from
//! config and fundings, never from the book. The ledger is brought up to date before anything is published.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use meter_common::{AccountRef, Balance, state};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{
    Books, CHANGES_MAX, Cashier, CashierError, Durability, Plan,
    pace::Gates,
    refusals::Refusals,
    results::Jobs,
    slots::{HOST, Slots},
    waiting::Waiting,
};
use crate::{
    accounts::{Account, AccountId, Accounts, Category, Changes, Extension, LimitRule},
    clock::Timestamp,
    exchange::Row,
    ids::ExchangeId,
    kernel::Book,
    ledger::{HoldRecord, Loaded, LoadedAccount, LoadedQuarter, Op, Resolves, Store, Writer},
    money::Pico,
};

impl Cashier {
    /// Opens the ledger below `data_dir`, recovers from it and from the book (see the design's "after a crash"),
    /// and publishes every known account that is bound. `survived` says that the book is the one that the last
    /// sidecar of this boot wrote; otherwise nothing in it is believed.
    pub fn open(
        data_dir: &Path,
        book: Arc<dyn Book>,
        plan: &Plan,
        durability: Durability,
        survived: bool,
        now: Timestamp,
    ) -> Result<Arc<Self>, CashierError> {
        let mut store = Store::open(data_dir)?;
        let loaded = store.load()?;
        let mut recovery = Recovery::new(&loaded, plan, now);
        recovery.apply_plan(&loaded, plan, survived);
        let jobs = Jobs::restore(&loaded);
        recovery.charge_open_holds(&loaded.holds, &jobs);
        let kept = recovery.believe_book(&loaded, book.as_ref(), survived);
        recovery.charge_floor(loaded.floor);
        recovery.stop_unbound(&kept);
        let Recovery { mut accounts, ops, .. } = recovery;
        accounts.take_for_told();
        store.commit(&ops.iter())?;
        if loaded.floor.is_some() {
            store.forget_floor()?;
        }

        let (refusals, waiting) = (Refusals::default(), Waiting::default());
        let slots = slots(book, &accounts, &kept);
        let books = Books { slots, accounts, jobs, refusals, waiting, moved: false };
        books.accounts.ids().for_each(|id| books.slots.publish(&books.accounts, id));
        let writer = Arc::new(Writer::start(store).map_err(|e| CashierError::Other(e.to_string()))?);
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            books: Mutex::new(books),
            writer,
            durability,
            changes: broadcast::Sender::new(CHANGES_MAX),
            funding: Mutex::new(()),
            rows_dropped: 0.into(),
            gates: Gates::default(),
            repeats_watched: plan.watches_repeats().into(),
        }))
    }
}

/// Accounts as they are being rebuilt, and what the ledger must learn of it.
struct Recovery {
    accounts: Accounts,
    ops: Vec<Op>,
    now: Timestamp,
}

impl Recovery {
    fn new(loaded: &Loaded, plan: &Plan, now: Timestamp) -> Self {
        let mut accounts = Accounts::new(plan.zone.clone(), now);
        for known in &loaded.accounts {
            let id = accounts.ensure(&known.path, &mut Vec::new());
            debug_assert_eq!(id, known.id, "the ledger's ids have no gaps and parents come first");
        }
        for (id, extension) in &loaded.extensions {
            accounts.get_mut(*id).extensions.push(*extension);
        }
        for LoadedQuarter { account, quarter, category, used } in &loaded.quarters {
            for at in accounts.line(*account) {
                let account = accounts.get_mut(at);
                account.post_quarter(*category, *quarter, *used);
            }
        }
        for known in &loaded.accounts {
            restore(accounts.get_mut(known.id), known, now);
        }
        Self { accounts, ops: Vec::new(), now }
    }

    /// The config's word in place of that of the last time; its agents exist from the start.
    fn apply_plan(&mut self, loaded: &Loaded, plan: &Plan, survived: bool) {
        let mut kept = Vec::new();
        for (from, to) in &plan.renamed {
            let bound = |known: &LoadedAccount| known.bound.is_some() && known.path.is_within(from);
            let is_due = self.accounts.id(to).is_none();
            if is_due && survived && loaded.accounts.iter().any(bound) {
                tracing::warn!(%from, %to, "not renamed: it has processes; end them and start the daemon again");
                kept.push(from.clone());
                continue;
            }
            for id in self.accounts.rename(from, to) {
                self.ops.push(Op::Rename { id, path: self.accounts.get(id).path.clone() });
            }
        }
        let mut made = Vec::new();
        let changes = self.accounts.set_plan(&plan.with_old_names(&kept), &mut made);
        for &at in &made {
            let account = self.accounts.get(at);
            self.ops.push(Op::Account { id: at, parent: account.parent, path: account.path.clone() });
        }
        for id in self.accounts.ids() {
            let account = self.accounts.get(id);
            let limits = account.rules();
            if loaded.accounts.get(id.get() as usize).is_none_or(|known| known.in_force != limits) {
                let forget_smallest = account.smallest_hold.is_none();
                self.ops.push(Op::InForce { id, limits, forget_smallest });
            }
        }
        self.tell(&changes);
    }

    /// Nobody can say what an exchange used that was under way when the sidecar ended: all that was held. What waits
    /// for a result goes on waiting.
    fn charge_open_holds(&mut self, holds: &[HoldRecord], jobs: &Jobs) {
        let parked: HashSet<ExchangeId> = jobs.parked().map(|hold| hold.id).collect();
        for hold in holds {
            if parked.contains(&hold.id) {
                self.accounts.restore_parked(hold.account, &hold.held(hold.amount));
                continue;
            }
            let resolves = Resolves { hold: hold.id, amount: hold.amount, tokens: hold.tokens };
            self.charge(hold, "the sidecar ended before the exchange did", Some(resolves));
        }
    }

    /// Charges what the book knows beyond the ledger, the deepest accounts first, so that what is charged to a
    /// task is not charged to its agent again. Returns the bindings that go on.
    fn believe_book(&mut self, loaded: &Loaded, book: &dyn Book, survived: bool) -> Vec<(AccountId, AccountRef)> {
        let mut kept = Vec::new();
        for known in loaded.accounts.iter().rev() {
            let bound = if known.id == AccountId::HOST { Some(HOST) } else { known.bound };
            let Some(bound) = bound else { continue };
            let record = book.read(bound.slot);
            if survived && record.generation == bound.generation && record.state != state::FREE {
                self.charge_difference(known.id, &record);
                if known.id != AccountId::HOST {
                    kept.push((known.id, bound));
                }
            } else if known.id != AccountId::HOST {
                self.ops.push(Op::Unbind { id: known.id });
            }
        }
        kept.reverse();
        self.with_parents(kept)
    }

    /// A record names its parent's slot, so a binding goes on only below one that does.
    fn with_parents(&mut self, kept: Vec<(AccountId, AccountRef)>) -> Vec<(AccountId, AccountRef)> {
        let mut whole = HashMap::from([(AccountId::HOST, HOST)]);
        for (id, account) in kept {
            if whole.contains_key(&self.accounts.get(id).parent) {
                whole.insert(id, account);
            } else {
                self.ops.push(Op::Unbind { id });
            }
        }
        whole.remove(&AccountId::HOST);
        let mut list: Vec<_> = whole.into_iter().collect();
        list.sort_unstable_by_key(|(id, _)| *id);
        list
    }

    fn charge_difference(&mut self, id: AccountId, record: &Balance) {
        let held = record.hold_granted.wrapping_sub(record.hold_ended).max(0);
        let total = Pico::new(record.spent.saturating_add(held));
        let account = self.accounts.get(id);
        let parked = account.held();
        let more = total.saturating_sub(account.spent()).saturating_sub(parked);
        // What is spent by the book is spent, also where the ledger has it parked still: a result that was charged in
        // the last moment. Seen again, it is charged again.
        let more = more.max(Pico::new(record.spent).saturating_sub(account.spent()));
        if more.is_positive() {
            let hold = HoldRecord::unknown(id, more, self.now);
            self.charge(&hold, "the kernel's map knew of more than the ledger", None);
        }
        // Whatever was held has ended but what is parked; the totals of a binding go on from where they were.
        let account = self.accounts.get_mut(id);
        account.hold_granted = Pico::new(record.hold_granted);
        account.hold_ended = account.hold_granted.wrapping_sub(parked);
    }

    /// An older ledger was accepted in place of a newer one: the host has spent what it had by that.
    fn charge_floor(&mut self, floor: Option<Pico>) {
        let spent = self.accounts.get(AccountId::HOST).spent();
        let missing = floor.map_or(Pico::ZERO, |floor| floor.saturating_sub(spent));
        if missing.is_positive() {
            let hold = HoldRecord::unknown(AccountId::HOST, missing, self.now);
            self.charge(&hold, "an older ledger was accepted, which lacks what the host had spent since", None);
        }
    }

    /// What drained when the sidecar ended, and has no connections any more.
    fn stop_unbound(&mut self, kept: &[(AccountId, AccountRef)]) {
        let kept: HashSet<AccountId> = kept.iter().map(|(id, _)| *id).chain([AccountId::HOST]).collect();
        let unbound = self.accounts.ids().filter(|id| !kept.contains(id));
        let stopped: Changes = unbound.filter_map(|id| self.accounts.finish_stop(id)).collect();
        self.tell(&stopped);
    }

    fn charge(&mut self, hold: &HoldRecord, reason: &str, resolves: Option<Resolves>) {
        let path = self.accounts.get(hold.account).path.clone();
        let row: Row = hold.unresolved(path, hold.amount, self.now, reason);
        self.accounts.count(hold.account, row.exchanges(), row.refusals());
        let changes = self.accounts.charge(hold.account, &row.posting(resolves.map(|r| r.tokens)));
        let line = self.accounts.line(hold.account);
        self.ops.push(Op::Row { line, row: Box::new(row), resolves });
        self.tell(&changes);
    }

    fn tell(&mut self, changes: &Changes) {
        let accounts = &self.accounts;
        self.ops.extend(changes.iter().map(|change| {
            let account = accounts.get(change.account);
            Op::State { id: change.account, state: change.state, since: account.since, reason: account.reason.clone() }
        }));
    }
}

fn restore(account: &mut Account, known: &LoadedAccount, now: Timestamp) {
    account.state = known.state;
    account.since = known.since;
    account.reason.clone_from(&known.reason);
    account.status = known.status;
    account.tally_mut(Category::ANY).set_spent(known.spent);
    account.exchanges = known.exchanges;
    account.refusals = known.refusals;
    account.funded = known.funded;
    account.smallest_hold = known.smallest_hold;
    account.given.limits = known.budget.map(LimitRule::budget).into_iter().collect();
    account.given.labels.clone_from(&known.labels);
    // As they were in force, so that a raise since then is known as one: also by money of which the state knows nothing,
    // because the sidecar ended between the two.
    let in_time = |e: &&Extension| e.until > now && e.from < known.since;
    let extended = account.extensions.iter().filter(in_time).fold(Pico::ZERO, |sum, e| sum.saturating_add(e.by));
    let funded = known.funded.saturating_sub(known.funded_since);
    account.limits = known.in_force.iter().map(|rule| rule.in_force(funded, extended)).collect();
}

/// Slots with the kept bindings. Whoever keeps the cgroups unbinds those that have none any more.
fn slots(book: Arc<dyn Book>, accounts: &Accounts, kept: &[(AccountId, AccountRef)]) -> Slots {
    let mut slots = Slots::new(book, kept);
    for &(id, _) in kept {
        if let Some(binding) = slots.binding(id) {
            binding.named = true;
        }
        slots.adopt(accounts.get(id).parent);
    }
    slots
}
