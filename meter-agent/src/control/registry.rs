//! The accounts that have a cgroup now: opened for a task, adopted after a restart, removed when nobody is left
//! inside.
//!
//! One lock is held over opening and removing, so that a cgroup is never removed under a process that is being
//! moved into it, and so that the decision to end an idle daemon and an opening exclude each other.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use meter_common::{AccountRef, Counters};
use parking_lot::Mutex;

use crate::{
    cashier::{Cashier, CashierError},
    clock::Timestamp,
    ids::AccountPath,
    kernel::{CgroupTree, Kernel, KernelError},
    money::Pico,
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
}

/// An account that is open, with the process inside.
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
    pub fn adopt(&self, now: Timestamp) -> Result<(), OpenError> {
        let mut state = self.state.lock();
        for account in self.tree.accounts() {
            self.ensure(&mut state, &account, None, now)?;
        }
        for (id, _) in self.kernel.bound_cgroups()? {
            if !state.live.values().any(|live| live.id == id) {
                self.kernel.unbind_cgroup(id)?;
            }
        }
        state.opened = !state.live.is_empty();
        Ok(())
    }

    /// Opens the account and every one above it, writes its bundle, and moves the process into its cgroup.
    ///
    /// What fails half-way leaves empty cgroups, which the next [`Registry::reap`] removes.
    pub fn open(
        &self,
        account: &AccountPath,
        budget: Option<Pico>,
        extra_roots_pem: &str,
        authority_pems: &[String],
        pid: u32,
        now: Timestamp,
    ) -> Result<Opened, OpenError> {
        let mut state = self.state.lock();
        if state.ending {
            return Err(OpenError::Ending);
        }
        for above in line(account) {
            let own = if above == *account { budget } else { None };
            self.ensure(&mut state, &above, own, now)?;
        }
        let bundle = bundle::write(&self.trust_dir, account, extra_roots_pem, authority_pems)?;
        self.tree.move_pid(account, pid)?;
        state.opened = true;
        Ok(Opened { cgroup: self.tree.path(account), bundle })
    }

    /// Removes every cgroup with nobody in it nor below it, deepest first.
    pub fn reap(&self) {
        let mut state = self.state.lock();
        let empty: Vec<AccountPath> =
            state.live.keys().rev().filter(|account| !self.tree.is_populated(account)).cloned().collect();
        for path in empty {
            self.remove(&mut state, &path);
        }
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

    /// Whether no account has a cgroup.
    pub fn is_empty(&self) -> bool {
        self.state.lock().live.is_empty()
    }

    /// The account whose cgroup a process is in; `None` outside all of them.
    pub fn account_of(&self, pid: u32) -> Option<AccountPath> {
        self.tree.account_of(pid)
    }

    /// Makes the account's cgroup and binds it, if that has not been done.
    fn ensure(
        &self,
        state: &mut State,
        account: &AccountPath,
        budget: Option<Pico>,
        now: Timestamp,
    ) -> Result<(), OpenError> {
        if state.live.contains_key(account) && budget.is_none() {
            return Ok(());
        }
        let bound = self.cashier.bind(account, budget, now)?;
        let id = self.tree.create(account)?;
        if !state.live.contains_key(account) && !self.kernel.bound_cgroups()?.contains(&(id, bound)) {
            // The slot was another account's before.
            self.kernel.reset_counters(bound.slot)?;
        }
        self.kernel.bind_cgroup(id, bound)?;
        state.live.insert(account.clone(), Live { id, account: bound });
        Ok(())
    }

    /// The cgroup goes first: once it is gone nobody can enter it, and its slot can be freed.
    fn remove(&self, state: &mut State, account: &AccountPath) {
        let Some(live) = state.live.get(account) else { return };
        if !self.tree.remove(account) {
            // Somebody entered in between; the next round looks again.
            return;
        }
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

/// Adds to the account's agent and to the host: tasks are many, and their rows are in the ledger.
fn keep_counters(ended: &mut BTreeMap<AccountPath, Counters>, account: &AccountPath, counted: &Counters) {
    for above in [account.agent(), AccountPath::host()] {
        let kept = ended.entry(above).or_default();
        *kept = kept.plus(counted);
    }
}

/// The accounts from the agent down to this one; the host has no cgroup.
fn line(account: &AccountPath) -> Vec<AccountPath> {
    let mut line: Vec<AccountPath> =
        std::iter::successors(Some(account.clone()), AccountPath::parent).filter(|a| !a.is_host()).collect();
    line.reverse();
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_the_agent_down() {
        let line = line(&"a/b/c".parse().unwrap());
        assert_eq!(line.iter().map(AccountPath::as_str).collect::<Vec<_>>(), ["a", "a/b", "a/b/c"]);
    }
}
