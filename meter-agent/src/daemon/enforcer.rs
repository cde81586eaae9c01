//! Ends the connections of an account that stops, so that nothing hangs at the wall.
//!
//! In this order: the sidecar ends its own connections, after what was admitted has been delivered; then the
//! sockets that the sidecar does not hold are ended; only then may the cashier stop the account, from which moment
//! packets drop. The cashier does not stop an account with a hold outstanding, and tells again when the last ends.
//!
//! An account that people have shut does not drain: its packets drop from that moment, so what it has under way is cut
//! at once, and no agent is waited for.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use meter_common::{AccountRef, PORTS, state};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast::error::RecvError};

use crate::{
    accounts::State,
    cashier::{Cashier, StateChange},
    control::registry::Registry,
    ids::AccountPath,
    kernel::sockets,
    proxy::Connections,
    tasks,
};

/// A refusal that was just written is read by the agent within this time, before its connection is ended.
const LAST_WORD: Duration = Duration::from_millis(50);
/// How often it is looked whether the last connection has gone.
const STEP: Duration = Duration::from_millis(10);
/// Longer than the sidecar gives an ending connection that nobody reads from.
const CONNECTIONS_MAX: Duration = Duration::from_secs(20);

/// How long what was cut has to end in its own shape, which takes milliseconds, before it is reset: an agent that does
/// not read what came before can't be told.
const CUT_MAX: Duration = Duration::from_secs(2);

/// What ending an account's connections takes.
#[derive(Clone)]
pub struct Enforcer {
    cashier: Arc<Cashier>,
    registry: Arc<Registry>,
    connections: Arc<Connections>,
    ports: [u16; PORTS],
    work: Arc<Work>,
}

/// What there is to do, however many accounts stop at one time.
#[derive(Default)]
struct Work {
    /// Accounts whose connections are being ended; with the change that was told meanwhile, which is looked at after.
    under_way: Mutex<HashMap<(AccountPath, Way), Option<StateChange>>>,
    /// Accounts whose sockets are to be ended: all of them by one look at the host's sockets.
    sockets: Mutex<BTreeMap<AccountPath, AccountRef>>,
    more_sockets: Notify,
}

/// How an account's connections end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Way {
    Drain,
    Cut(State),
}

impl Way {
    /// `None` where there is nothing to end: a stopped account has been through this as a draining one.
    const fn of(state: u32) -> Option<Self> {
        match state {
            state::OPEN | state::FREE | state::STOPPED => None,
            state::REVOKED => Some(Self::Cut(State::Revoked)),
            state::CLOSED => Some(Self::Cut(State::Closed)),
            _ => Some(Self::Drain),
        }
    }
}

impl Enforcer {
    /// `ports` are the sidecar's own: what leads there it ends itself.
    pub fn new(
        cashier: Arc<Cashier>,
        registry: Arc<Registry>,
        connections: Arc<Connections>,
        ports: [u16; PORTS],
    ) -> Self {
        Self { cashier, registry, connections, ports, work: Arc::default() }
    }

    /// Runs until the cashier is gone.
    pub async fn run(self) {
        let mut changes = self.cashier.changes();
        tasks::spawn("sockets", self.clone().end_sockets());
        // Those that an earlier daemon left half-way.
        self.start_ending();
        loop {
            match changes.recv().await {
                Ok(change) => self.start(change),
                Err(RecvError::Lagged(missed)) => {
                    tracing::info!(missed, "state changes came faster than they were told; looking at every account");
                    self.start_ending();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn start_ending(&self) {
        for change in self.cashier.ending() {
            self.start(change);
        }
    }

    fn start(&self, change: StateChange) {
        let Some(way) = Way::of(change.state) else { return };
        match self.work.under_way.lock().entry((change.path.clone(), way)) {
            Entry::Occupied(mut told) => {
                told.insert(Some(change));
            }
            Entry::Vacant(free) => {
                free.insert(None);
                tasks::spawn("enforce", self.clone().end(change, way));
            }
        }
    }

    /// Ends an account's connections, and begins anew where it is told again meanwhile: it was open in between, or its
    /// last hold has ended.
    async fn end(self, change: StateChange, way: Way) {
        let key = (change.path.clone(), way);
        let mut next = Some(change);
        while let Some(change) = next {
            let ended = match way {
                Way::Drain => self.drain(&change, &key).await,
                Way::Cut(state) => self.cut(&change, state, &key).await,
            };
            if ended {
                // What comes after this is told to a new one, and finds the account in the state that it is in then.
                self.work.sockets.lock().insert(change.path, change.account);
                self.work.more_sockets.notify_one();
            }
            next = self.next(&key);
        }
    }

    /// What was told meanwhile; with nothing more to do it is forgotten.
    fn next(&self, key: &(AccountPath, Way)) -> Option<StateChange> {
        let mut under_way = self.work.under_way.lock();
        let told = under_way.get_mut(key).and_then(Option::take);
        if told.is_none() {
            under_way.remove(key);
        }
        told
    }

    fn is_told_again(&self, key: &(AccountPath, Way)) -> bool {
        self.work.under_way.lock().get(key).is_some_and(Option::is_some)
    }

    /// Ends what an account that people have shut has under way. `false` where it is to begin anew.
    async fn cut(&self, change: &StateChange, state: State, key: &(AccountPath, Way)) -> bool {
        let reason = self.cashier.status_of(&change.path).and_then(|status| status.reason);
        self.connections.cut_account(&change.path, state, reason.as_deref());
        let gone = async {
            while self.connections.count_cut(&change.path) > 0 && !self.is_told_again(key) {
                tokio::time::sleep(STEP).await;
            }
        };
        if tokio::time::timeout(CUT_MAX, gone).await.is_err() {
            self.connections.reset_cut(&change.path);
        }
        !self.is_told_again(key)
    }

    /// Ends what an account without money has under way, after what was admitted. `false` where it is to begin anew, or
    /// money has come.
    async fn drain(&self, change: &StateChange, key: &(AccountPath, Way)) -> bool {
        tokio::time::sleep(LAST_WORD).await;
        if self.cashier.is_open(change.account) {
            return false;
        }
        self.connections.end_account(&change.path);
        let gone = async {
            while self.connections.count(&change.path) > 0 && !self.is_told_again(key) {
                tokio::time::sleep(STEP).await;
            }
        };
        // Past the bound what is left is an exchange that is still paid for; its end is told as another change.
        let _ = tokio::time::timeout(CONNECTIONS_MAX, gone).await;
        !self.is_told_again(key)
    }

    /// Ends the sockets that the sidecar does not hold.
    async fn end_sockets(self) {
        loop {
            self.work.more_sockets.notified().await;
            let accounts = std::mem::take(&mut *self.work.sockets.lock());
            let this = self.clone();
            // A panic in there has been logged.
            let _ = tokio::task::spawn_blocking(move || this.end_sockets_of(accounts)).await;
        }
    }

    /// Leaves out accounts that have opened again meanwhile.
    fn end_sockets_of(&self, mut accounts: BTreeMap<AccountPath, AccountRef>) {
        accounts.retain(|_, account| !self.cashier.is_open(*account));
        let cgroups: HashSet<u64> = accounts.keys().flat_map(|path| self.registry.cgroup_ids(path)).collect();
        match if cgroups.is_empty() { Ok(0) } else { sockets::end(&cgroups, &self.ports) } {
            Ok(0) => {}
            Ok(count) => tracing::info!(accounts = accounts.len(), count, "sockets ended"),
            Err(error) => {
                tracing::warn!(accounts = accounts.len(), %error, "sockets could not be ended; their packets drop");
            }
        }
        for account in accounts.into_values() {
            self.cashier.finish_stop(account);
        }
    }
}
