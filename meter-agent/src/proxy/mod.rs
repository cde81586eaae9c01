//! The sidecar: accepts what the kernel redirected, and meters what is metered.
//!
//! A connection's life reads top to bottom in [`connection`]: who is this, what does it speak, is its host
//! metered; then [`http`] for exchanges or [`tunnel`] for the rest. Fail-closed: a connection that cannot be
//! attributed is reset, never passed.

mod admission;
mod answer;
mod aside;
mod body;
mod connection;
mod connections;
mod cut;
mod degrade;
mod forward;
mod hello;
mod http;
mod identity;
mod listener;
mod live;
mod payment;
mod problem;
mod running;
mod sniff;
mod socket;
mod source;
mod stream;
mod tap;
mod tls;
mod tunnel;
mod upstream;

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use aside::in_place;
pub use connections::Connections;
pub use listener::{Announcer, Bound, ListenError};

use crate::{
    cashier::Cashier,
    kernel::{self, Kernel},
    pricing::Prices,
    trust::Authority,
    usage::hosts::HostTable,
};

/// What the sidecar works with.
pub struct Setup {
    pub kernel: Arc<Kernel>,
    pub cashier: Arc<Cashier>,
    pub prices: Arc<Prices>,
    /// As it is now; another one counts for connections that come after it.
    pub hosts: watch::Receiver<Arc<HostTable>>,
    pub authority: Arc<Authority>,
    /// Roots accepted upstream beside the system's.
    pub upstream_ca: Vec<CertificateDer<'static>>,
    pub ports: [u16; meter_common::PORTS],
}

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the system has no root certificates; install the ca-certificates package, or set upstream_ca_file")]
    NoRoots,
    #[error(transparent)]
    Kernel(#[from] crate::kernel::KernelError),
}

/// What every connection shares.
pub(crate) struct Shared {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) cashier: Arc<Cashier>,
    pub(crate) prices: Arc<Prices>,
    pub(crate) hosts: watch::Receiver<Arc<HostTable>>,
    pub(crate) agent_tls: tls::AgentTls,
    pub(crate) upstream: upstream::Pools,
    pub(crate) connections: Arc<Connections>,
    pub(crate) bodies: body::Room,
    pub(crate) aside: aside::Aside,
    /// Stop taking new work; what runs may finish.
    pub(crate) drain: CancellationToken,
    /// What the end of the drain waits for: every connection, and every exchange.
    pub(crate) running: TaskTracker,
    pub(crate) netns_cookie: u64,
}

/// Binds every listener and tells the kernel about them. Nothing is served yet.
pub fn bind(setup: Setup) -> Result<Bound, ProxyError> {
    let sockets = listener::open(setup.ports)?;
    let shared = Shared {
        agent_tls: tls::AgentTls::new(setup.authority)?,
        upstream: upstream::Pools::new(tls::client_roots(&setup.upstream_ca)?),
        connections: Arc::new(Connections::default()),
        bodies: body::Room::default(),
        aside: aside::Aside::default(),
        drain: CancellationToken::new(),
        running: TaskTracker::new(),
        netns_cookie: sockets.netns_cookie,
        kernel: setup.kernel,
        cashier: setup.cashier,
        prices: setup.prices,
        hosts: setup.hosts,
    };
    // Whatever was redirected before these listeners existed is not theirs to accept.
    shared.kernel.clear_flows()?;
    let bound = Bound::new(sockets, Arc::new(shared));
    bound.announcer().tell(kernel::local::Local::read()?.has_ipv6_route)?;
    Ok(bound)
}
