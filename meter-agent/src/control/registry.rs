//! The accounts that have a cgroup now: opened for a task, adopted after a restart, removed when nobody is left
//! inside. One that was opened for whoever may enter it stays, empty, until its task is closed.
//!
//! One lock is held over opening and removing, so that a cgroup is never removed under a process that is being
//! moved into it, and so that the decision to end an idle daemon and an opening exclude each other.
//!
//! An account's cgroup is one that was opened here, by its id and not by its path: one that somebody else made at the
//! same path is nobody's until the account is opened again. Only where the kernel's maps are gone, and the ids with
//! them, are populated cgroups taken over by their paths, since refusing agents that still run is better than not
//! metering them.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Bound,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use meter_common::{AccountRef, Counters};
use parking_lot::Mutex;

use crate::{
    accounts::TaskStatus,
    cashier::{Cashier, CashierError, Given},
    clock::{self, Timestamp},
    ids::AccountPath,
    kernel::{CgroupTree, Kernel, KernelError, marks::Mark},
    trust::bundle::{self, BundleError},
};

/// Why an account could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the daemon is ending; ask again")]
    Ending,
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Cashier(#[from] CashierError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// See the module.
pub struct Registry {
    kernel: Arc<Kernel>,
    cashier: Arc<Cashier>,
    tree: CgroupTree,
    trust_dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Parents sort before what lies below them.
    live: BTreeMap<AccountPath, Live>,
    /// What the kernel counted for accounts that have ended, by agent and for the host: their slots go to others.
    ended: BTreeMap<AccountPath, Counters>,
    /// A task was opened since the start.
    opened: bool,
    /// Nothing is opened any more.
    ending: bool,
}

#[derive(Clone, Debug)]
struct Live {
    id: u64,
    account: AccountRef,
    /// Opened without a process, so that it stays until it is closed.
    kept: bool,
}

/// How an account is opened.
#[derive(Clone, Debug, Default)]
pub struct Opening<'a> {
    pub given: Given,
    /// Certificates that whoever opens it trusts already.
    pub extra_roots_pem: &'a str,
    /// Who moves in; with nobody, the cgroup stays until the task is closed.
    pub pid: Option<u32>,
    /// Who may close it from within, as [`Mark::Closer`] has it.
    pub closer: Option<String>,
}

/// An account that is open.
#[derive(Clone, Debug)]
pub struct Opened {
    pub cgroup: PathBuf,
    pub bundle: PathBuf,
}

impl Registry {
    pub fn new(kernel: Arc<Kernel>, cashier: Arc<Cashier>, tree: CgroupTree, trust_dir: PathBuf) -> Self {
        Self { kernel, cashier, tree, trust_dir, state: Mutex::default() }
    }

    /// Takes over the accounts' cgroups that an earlier daemon left, with whoever is inside, and unbinds those
    /// that have gone meanwhile. Before anything is served.
    pub fn adopt(&self) -> Result<(), OpenError> {
        let mut state = self.state.lock();
        let (mut kept, mut strange) = (Vec::new(), Vec::new());
        for account in self.tree.accounts() {
            let list = if self.is_strange(&account)? { &mut strange } else { &mut kept };
            list.push(account);
        }
        let bound = self.cashier.bind_all(&kept)?;
        for (account, bound) in kept.into_iter().zip(bound) {
            let id = self.bind_cgroup(&account, bound, false)?;
            let live = self.live(&account, id, bound);
            state.live.insert(account, live);
        }
        for account in &strange {
            self.warn_of_stranger(&state, account);
        }
        for (id, _) in self.kernel.bound_cgroups()? {
            if !state.live.values().any(|live| live.id == id) {
                self.kernel.unbind_cgroup(id)?;
            }
        }
        for (account, _) in self.cashier.bound() {
            if !account.is_host() && !state.live.contains_key(&account) {
                self.cashier.unbind(&account);
            }
        }
        state.opened = !state.live.is_empty();
        Ok(())
    }

    /// Opens the account and every one above it, writes its bundle, and moves the process into its cgroup, if one is
    /// named. A closed task, and what lies below it, can't be opened.
    ///
    /// What fails half-way leaves empty cgroups above it, which the next [`Registry::reap`] removes.
    pub fn open(
        &self,
        account: &AccountPath,
        opening: &Opening<'_>,
        authority_pems: &[String],
        now: Timestamp,
    ) -> Result<Opened, OpenError> {
        let mut state = self.state.lock();
        if state.ending {
            return Err(OpenError::Ending);
        }
        if let Some(path) = self.cashier.closed_at(account) {
            return Err(CashierError::Closed { path }.into());
        }
        let nothing = Given::default();
        for above in line(account) {
            let own = if above == *account { &opening.given } else { &nothing };
            self.ensure(&mut state, &above, own, now)?;
        }
        let bundle = bundle::write(&self.trust_dir, account, opening.extra_roots_pem, authority_pems)?;
        if let Some(closer) = &opening.closer {
            self.tree.mark(account, Mark::Closer, closer)?;
        }
        if let Some(pid) = opening.pid {
            self.tree.move_pid(account, pid)?;
        } else {
            self.tree.mark(account, Mark::Open, "1")?;
            if let Some(live) = state.live.get_mut(account) {
                live.kept = true;
            }
        }
        state.opened = true;
        Ok(Opened { cgroup: self.tree.path(account), bundle })
    }

    /// Adds authorities to the bundles of the accounts that are open.
    pub fn trust(&self, authority_pems: &[String]) -> Result<(), BundleError> {
        let _no_other_writes = self.state.lock();
        bundle::add(&self.trust_dir, authority_pems)
    }

    /// Closes a task for good: its cgroup goes once nobody is inside. `false` where it is closed already.
    pub fn close(
        &self,
        account: &AccountPath,
        status: TaskStatus,
        actor: u32,
        now: Timestamp,
    ) -> Result<bool, CashierError> {
        // An opening and a closing exclude each other.
        let mut state = self.state.lock();
        let closed = self.cashier.close_task(account, status, Some(actor), now)?;
        let within: Vec<AccountPath> = [account].into_iter().chain(below(&state, account)).cloned().collect();
        for path in within {
            if let Some(live) = state.live.get_mut(&path) {
                live.kept = false;
                self.tree.unmark(&path, Mark::Open);
            }
        }
        Ok(closed)
    }

    /// Who may close the account from within it.
    pub fn closer(&self, account: &AccountPath) -> Option<String> {
        self.tree.marked(account, Mark::Closer)
    }

    /// Removes every cgroup with nobody in it nor below it, deepest first, but for those that are kept, and
    /// lets go of those that somebody else has removed and made again.
    ///
    /// It takes time for each account there is, so it looks without the lock, and at each again under it before it does
    /// anything: nobody waits to open a task for longer than the removal of one takes. Returns how long it looked.
    pub fn reap(&self) -> Duration {
        let begun = clock::monotonic_ns();
        let mut removing = 0;
        let seen: Vec<(AccountPath, Live)> = {
            let state = self.state.lock();
            state.live.iter().rev().map(|(account, live)| (account.clone(), live.clone())).collect()
        };
        for (account, live) in &seen {
            let (is_replaced, is_kept) = (self.is_replaced(account, live), live.kept);
            if !is_replaced && (is_kept || self.tree.is_populated(account)) {
                continue;
            }
            let found = clock::monotonic_ns();
            if is_replaced {
                self.let_go_of_replaced(account);
            } else {
                self.remove(account);
            }
            removing += clock::monotonic_ns() - found;
        }
        Duration::from_nanos((clock::monotonic_ns() - begun).saturating_sub(removing))
    }

    /// Whether no process is in any account; then nothing is opened any more, and the daemon can end.
    ///
    /// `start_expired` is for the case that no task was ever opened.
    pub fn end_if_idle(&self, start_expired: bool) -> bool {
        let mut state = self.state.lock();
        state.ending |= state.live.is_empty() && (state.opened || start_expired);
        state.ending
    }

    /// From here on nothing is opened.
    pub fn end(&self) {
        self.state.lock().ending = true;
    }

    pub fn is_ending(&self) -> bool {
        self.state.lock().ending
    }

    /// The account's own cgroup, if it has one now.
    pub fn cgroup(&self, account: &AccountPath) -> Option<PathBuf> {
        self.state.lock().live.contains_key(account).then(|| self.tree.path(account))
    }

    /// Ids of the account's cgroup and of all below it, those that its processes made included.
    pub fn cgroup_ids(&self, account: &AccountPath) -> HashSet<u64> {
        self.tree.ids_within(account).into_iter().collect()
    }

    /// What the kernel counted for the account and for those below it, ended ones of an agent included as far as
    /// they ended under this daemon. `None` for one that has no cgroup and is not an agent.
    pub fn counters(&self, account: &AccountPath) -> Result<Option<Counters>, KernelError> {
        let state = self.state.lock();
        let mut slots: Vec<u32> =
            state.live.iter().filter(|(path, _)| path.is_within(account)).map(|(_, live)| live.account.slot).collect();
        slots.extend(account.is_host().then_some(meter_common::HOST_SLOT));
        let ended = state.ended.get(account).copied();
        if slots.is_empty() && ended.is_none() {
            return Ok(None);
        }
        let mut sum = ended.unwrap_or_default();
        for slot in slots {
            sum = sum.plus(&self.kernel.counters(slot)?);
        }
        Ok(Some(sum))
    }

    /// [`Registry::counters`] of every account that has any, in one pass.
    pub fn all_counters(&self) -> Result<BTreeMap<AccountPath, Counters>, KernelError> {
        let state = self.state.lock();
        let mut sums = state.ended.clone();
        let mut add = |account: &AccountPath, counted: &Counters| {
            let sum = sums.entry(account.clone()).or_default();
            *sum = sum.plus(counted);
        };
        add(&AccountPath::host(), &self.kernel.counters(meter_common::HOST_SLOT)?);
        for (account, live) in &state.live {
            let counted = self.kernel.counters(live.account.slot)?;
            account.line().for_each(|above| add(&above, &counted));
        }
        Ok(sums)
    }

    /// Whether no account has a cgroup.
    pub fn is_empty(&self) -> bool {
        self.state.lock().live.is_empty()
    }

    /// The account whose cgroup a process is in; `None` outside all of them.
    pub fn account_of(&self, pid: u32) -> Option<AccountPath> {
        self.tree.account_of(pid)
    }

    /// Makes the account's cgroup and binds it, if that has not been done.
    fn ensure(&self, state: &mut State, account: &AccountPath, given: &Given, now: Timestamp) -> Result<(), OpenError> {
        if state.live.get(account).is_some_and(|live| self.is_replaced(account, live)) {
            self.let_go(state, account);
        }
        let is_live = state.live.contains_key(account);
        if is_live && *given == Given::default() {
            return Ok(());
        }
        let bound = self.cashier.bind(account, given, now)?;
        match self.bind_cgroup(account, bound, is_live) {
            Ok(id) => {
                state.live.insert(account.clone(), self.live(account, id, bound));
                Ok(())
            }
            Err(error) if is_live => Err(error.into()),
            Err(error) => {
                // Nobody has entered it, and its slot is for others.
                self.tree.remove(account);
                self.cashier.unbind(account);
                Err(error.into())
            }
        }
    }

    fn bind_cgroup(&self, account: &AccountPath, bound: AccountRef, is_live: bool) -> Result<u64, KernelError> {
        let id = self.tree.create(account)?;
        if !is_live && self.kernel.bound_to(id)? != Some(bound) {
            // The slot was another account's before.
            self.kernel.reset_counters(bound.slot)?;
        }
        self.kernel.bind_cgroup(id, bound)?;
        Ok(id)
    }

    fn live(&self, account: &AccountPath, id: u64, bound: AccountRef) -> Live {
        let kept = self.tree.marked(account, Mark::Open).is_some() && self.cashier.closed_at(account).is_none();
        Live { id, account: bound, kept }
    }

    /// Whether somebody else made the cgroup while no daemon ran: the kernel knows those that an earlier one made.
    fn is_strange(&self, account: &AccountPath) -> Result<bool, KernelError> {
        match self.tree.id(account) {
            Some(id) if self.kernel.survived() => Ok(self.kernel.bound_to(id)?.is_none()),
            Some(_) | None => Ok(false),
        }
    }

    /// Whether the cgroup at the account's path is another one than was opened.
    fn is_replaced(&self, account: &AccountPath, live: &Live) -> bool {
        self.tree.id(account).is_some_and(|id| id != live.id)
    }

    /// Below an account's cgroup its processes may make what they like, and are metered there.
    fn warn_of_stranger(&self, state: &State, account: &AccountPath) {
        if self.tree.is_populated(account) && !account.line().skip(1).any(|above| state.live.contains_key(&above)) {
            tracing::warn!(
                %account,
                "somebody else made its cgroup, and the processes in it are not metered; end them, or start them with \
                 `meter run`"
            );
        }
    }

    /// The cgroup goes first: once it is gone nobody can enter it, and its slot can be freed.
    fn remove(&self, account: &AccountPath) {
        let mut state = self.state.lock();
        let may_go = state.live.get(account).is_some_and(|live| !live.kept) && below(&state, account).next().is_none();
        if may_go && self.tree.remove(account) {
            self.let_go(&mut state, account);
        }
        // Else somebody entered in between; the next round looks again.
    }

    fn let_go_of_replaced(&self, account: &AccountPath) {
        let mut state = self.state.lock();
        if state.live.get(account).is_some_and(|live| self.is_replaced(account, live)) {
            self.let_go(&mut state, account);
            self.warn_of_stranger(&state, account);
        }
    }

    /// The cgroup that was opened is no more.
    fn let_go(&self, state: &mut State, account: &AccountPath) {
        let Some(live) = state.live.get(account) else { return };
        if let Err(error) = self.kernel.unbind_cgroup(live.id) {
            tracing::warn!(%account, %error, "the kernel still knows a cgroup that is gone");
        }
        match self.kernel.counters(live.account.slot) {
            Ok(counted) => keep_counters(&mut state.ended, account, &counted),
            Err(error) => tracing::warn!(%account, %error, "what the kernel counted is not kept"),
        }
        self.cashier.unbind(account);
        bundle::remove(&self.trust_dir, account);
        state.live.remove(account);
    }
}

/// The accounts below one that has a cgroup, without a look at any other: they sort from its name with a slash up to
/// what follows a slash.
fn below<'s>(state: &'s State, account: &AccountPath) -> impl Iterator<Item = &'s AccountPath> {
    let (first, end) = (format!("{account}/"), format!("{account}0"));
    let names = (Bound::Included(first.as_str()), Bound::Excluded(end.as_str()));
    state.live.range::<str, _>(names).map(|(path, _)| path)
}

/// Adds to the account's agent and to the host: tasks are many, and their rows are in the ledger.
fn keep_counters(ended: &mut BTreeMap<AccountPath, Counters>, account: &AccountPath, counted: &Counters) {
    for above in [account.agent(), AccountPath::host()] {
        let kept = ended.entry(above).or_default();
        *kept = kept.plus(counted);
    }
}

/// The accounts from the agent down to this one; the host has no cgroup.
fn line(account: &AccountPath) -> Vec<AccountPath> {
    let mut line: Vec<AccountPath> = account.line().filter(|a| !a.is_host()).collect();
    line.reverse();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_an_account_is_found_among_names_like_its_own() {
        let mut state = State::default();
        for name in ["a", "a-b", "a-b/t", "a/t", "a/t/u", "a/t-2", "a0", "a0/t", "aa"] {
            let live = Live { id: 1, account: AccountRef { slot: 1, generation: 1 }, kept: false };
            state.live.insert(name.parse().unwrap(), live);
        }
        let below = |name: &str| below(&state, &name.parse().unwrap()).map(AccountPath::as_str).collect::<Vec<_>>();
        assert_eq!(below("a"), ["a/t", "a/t-2", "a/t/u"]);
        assert_eq!(below("a/t"), ["a/t/u"]);
        assert!(below("a/t/u").is_empty() && below("aa").is_empty());
    }

    #[test]
    fn a_line_goes_from_the_agent_down() {
        let line = line(&"a/b/c".parse().unwrap());
        assert_eq!(line.iter().map(AccountPath::as_str).collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}
