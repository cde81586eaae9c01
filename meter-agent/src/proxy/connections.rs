//! The agents' open connections, by account, and how they end when it stops.
//!
//! A tunnel, or a connection that has not come to its first request, is reset at once. One that carries exchanges
//! takes no more, delivers what was admitted to the last byte, and is reset then. Where people have shut the account,
//! nothing is delivered any more: what is under way is cut, in the shape that [`super::cut`] has for it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use dashmap::DashMap;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::problem;
use crate::{accounts::State, ids::AccountPath, usage::Problem};

/// Connections that one agent may have open: an agent that makes more must not take the descriptors of the others.
const PER_AGENT_MAX: usize = 32_768;

/// Every connection from an agent that is open now.
#[derive(Default)]
pub struct Connections {
    open: DashMap<u64, Arc<Connection>>,
    /// How many, by agent.
    agents: DashMap<String, usize>,
    next: AtomicU64,
    /// Connections that were reset because their agent had too many.
    over: AtomicU64,
}

/// One connection from an agent.
pub(crate) struct Connection {
    path: AccountPath,
    /// Exchanges under way.
    exchanges: AtomicUsize,
    /// It carries exchanges, so it ends by itself once it is told.
    carries_exchanges: AtomicBool,
    ending: CancellationToken,
    reset: CancellationToken,
    cut: CancellationToken,
    /// Why what it carries is cut; set before `cut` tells.
    cut_for: OnceLock<Arc<Problem>>,
}

impl Connections {
    /// `None` when the agent has too many.
    pub(crate) fn add(self: &Arc<Self>, path: AccountPath) -> Option<Registered> {
        {
            let mut count = self.agents.entry(path.agent_name().to_owned()).or_default();
            if *count >= PER_AGENT_MAX {
                let over = self.over.fetch_add(1, Ordering::Relaxed) + 1;
                // An agent that does this does it often.
                if over.is_power_of_two() {
                    tracing::warn!(account = %path, over, "an agent has too many connections; more are reset");
                }
                return None;
            }
            *count += 1;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = Arc::new(Connection {
            path,
            exchanges: AtomicUsize::new(0),
            carries_exchanges: AtomicBool::new(false),
            ending: CancellationToken::new(),
            reset: CancellationToken::new(),
            cut: CancellationToken::new(),
            cut_for: OnceLock::new(),
        });
        self.open.insert(id, Arc::clone(&connection));
        Some(Registered { id, connection, all: Arc::clone(self) })
    }

    /// Ends the connections of an account and of those below it.
    pub fn end_account(&self, account: &AccountPath) {
        for connection in self.open.iter().filter(|c| c.path.is_within(account)) {
            connection.end();
        }
    }

    /// Cuts everything that an account and those below it have under way, at once, and ends their connections. `state`
    /// is the one that people have put it in, `reason` theirs.
    pub fn cut_account(&self, account: &AccountPath, state: State, reason: Option<&str>) {
        let problem = Arc::new(problem::shut(account, state, reason));
        for connection in self.open.iter().filter(|c| c.path.is_within(account)) {
            connection.cut(Arc::clone(&problem));
        }
    }

    /// Resets what was cut and is still there: an agent that does not read keeps nothing by it.
    pub fn reset_cut(&self, account: &AccountPath) {
        for connection in self.open.iter().filter(|c| c.path.is_within(account) && c.cut_for().is_some()) {
            connection.reset();
        }
    }

    /// Connections that were cut and are still there.
    pub fn count_cut(&self, account: &AccountPath) -> usize {
        self.open.iter().filter(|c| c.path.is_within(account) && c.cut_for().is_some()).count()
    }

    /// Connections that the account and those below it still have.
    pub fn count(&self, account: &AccountPath) -> usize {
        self.open.iter().filter(|c| c.path.is_within(account)).count()
    }

    /// Resets every connection, whatever it carries.
    pub(crate) fn reset_all(&self) {
        for connection in &self.open {
            connection.reset();
        }
    }
}

impl Connection {
    fn end(&self) {
        self.ending.cancel();
        if !self.carries_exchanges.load(Ordering::Acquire) {
            self.reset();
        }
    }

    fn cut(&self, problem: Arc<Problem>) {
        let _ = self.cut_for.set(problem);
        self.cut.cancel();
        self.end();
    }

    /// Why what it carries is cut, if it is.
    pub(crate) fn cut_for(&self) -> Option<&Arc<Problem>> {
        self.cut_for.get()
    }

    /// Waits until what it carries is cut.
    pub(crate) async fn cutting(&self) -> Arc<Problem> {
        self.cut.cancelled().await;
        Arc::clone(self.cut_for().expect("it is set before anybody is told"))
    }

    /// The same for one who polls.
    pub(crate) fn told_to_cut(&self) -> WaitForCancellationFutureOwned {
        self.cut.clone().cancelled_owned()
    }

    /// Waits until the connection is to take no more exchanges.
    pub(crate) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    pub(crate) fn reset(&self) {
        self.reset.cancel();
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.reset.is_cancelled()
    }

    /// Waits until the connection is to be reset.
    pub(crate) async fn resetting(&self) {
        self.reset.cancelled().await;
    }

    /// From here on it carries exchanges. `false` when it was told to end before that.
    pub(crate) fn carry_exchanges(&self) -> bool {
        self.carries_exchanges.store(true, Ordering::Release);
        !self.is_reset()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.exchanges.load(Ordering::Acquire) == 0
    }

    /// Marks an exchange as under way until the guard is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.exchanges.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(self))
    }
}

/// An exchange under way on a connection.
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.exchanges.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection's entry, removed when dropped.
pub(crate) struct Registered {
    id: u64,
    connection: Arc<Connection>,
    all: Arc<Connections>,
}

impl Registered {
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.all.open.remove(&self.id);
        let agent = self.connection.path.agent_name();
        if let Some(mut count) = self.all.agents.get_mut(agent) {
            *count -= 1;
        }
        self.all.agents.remove_if(agent, |_, count| *count == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_with_too_many_connections_leaves_room_for_the_others() {
        let all = Arc::new(Connections::default());
        let add = |path: &str| all.add(path.parse().unwrap());
        let many: Vec<_> = (0..PER_AGENT_MAX).map(|n| add(&format!("a/t{}", n % 3)).unwrap()).collect();
        assert!(add("a/other").is_none());
        assert!(add("b").is_some());
        drop(many);
        assert!(add("a").is_some());
        assert!(all.agents.is_empty(), "nothing is kept of an agent without connections");
    }
}
