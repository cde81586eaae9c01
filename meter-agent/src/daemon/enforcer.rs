//! Ends the connections of an account that stops, so that nothing hangs at the wall.
//!
//! In this order: the sidecar ends its own connections, after what was admitted has been delivered; then the
//! sockets that the sidecar does not hold are ended; only then may the cashier stop the account, from which moment
//! packets drop. The cashier does not stop an account with a hold outstanding, and tells again when the last ends.
//!
//! An account that people have shut does not drain: its packets drop from that moment, so what it has under way is cut
//! at once, and no agent is waited for.

use std::{sync::Arc, time::Duration};

use meter_common::{PORTS, state};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    accounts::State,
    cashier::{Cashier, StateChange},
    control::registry::Registry,
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
    pub cashier: Arc<Cashier>,
    pub registry: Arc<Registry>,
    pub connections: Arc<Connections>,
    /// The sidecar's own ports: what leads there it ends itself.
    pub ports: [u16; PORTS],
}

impl Enforcer {
    /// Runs until the cashier is gone.
    pub async fn run(self) {
        let mut changes = self.cashier.changes();
        // Those that an earlier daemon left half-way.
        self.start_ending();
        loop {
            match changes.recv().await {
                Ok(change) => self.start(change),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "state changes came faster than they were enforced; looking at every account"
                    );
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
        match change.state {
            // A stopped account has been through this as a draining one.
            state::OPEN | state::FREE | state::STOPPED => {}
            state::REVOKED => drop(tasks::spawn("cut", self.clone().cut(change, State::Revoked))),
            state::CLOSED => drop(tasks::spawn("cut", self.clone().cut(change, State::Closed))),
            _ => drop(tasks::spawn("enforce", self.clone().enforce(change))),
        }
    }

    /// Ends what an account that people have shut has under way.
    async fn cut(self, change: StateChange, state: State) {
        let reason = self.cashier.status_of(&change.path).and_then(|status| status.reason);
        self.connections.cut_account(&change.path, state, reason.as_deref());
        let gone = async {
            while self.connections.count_cut(&change.path) > 0 {
                tokio::time::sleep(STEP).await;
            }
        };
        if tokio::time::timeout(CUT_MAX, gone).await.is_err() {
            self.connections.reset_cut(&change.path);
        }
        self.end_sockets(change).await;
    }

    async fn enforce(self, change: StateChange) {
        tokio::time::sleep(LAST_WORD).await;
        // Money may have come meanwhile.
        if self.cashier.is_open(change.account) {
            return;
        }
        self.connections.end_account(&change.path);
        let gone = async {
            while self.connections.count(&change.path) > 0 {
                tokio::time::sleep(STEP).await;
            }
        };
        // Past the bound what is left is an exchange that is still paid for; its end is told as another change.
        let _ = tokio::time::timeout(CONNECTIONS_MAX, gone).await;
        self.end_sockets(change).await;
    }

    /// Ends the sockets that the sidecar does not hold, unless the account has opened again meanwhile.
    async fn end_sockets(self, change: StateChange) {
        let path = change.path.clone();
        let ended = tokio::task::spawn_blocking(move || {
            if self.cashier.is_open(change.account) {
                return Ok(0);
            }
            let ended = sockets::end(&self.registry.cgroup_ids(&change.path), &self.ports);
            self.cashier.finish_stop(change.account);
            ended
        });
        match ended.await {
            // A panic in there has been logged.
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::info!(account = %path, count, "sockets ended"),
            Ok(Err(error)) => tracing::warn!(account = %path, %error, "sockets could not be ended; their packets drop"),
        }
    }
}
