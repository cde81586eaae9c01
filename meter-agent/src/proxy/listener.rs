//! The listeners that the kernel redirects to, and the accept loop.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use meter_common::{Listeners, PORTS};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, debug, debug_span, warn};

use super::{Connections, Shared, connection, stream};
use crate::{
    kernel::{self, Kernel, KernelError},
    tasks,
};

/// A burst of connects must not be refused by a short queue: the kernel counts a refused redirect as the agent's failure.
const BACKLOG: i32 = 4_096;
/// Pause after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// What is still running this long after the drain began is ended.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// What was reset has settled by then, on a host that is busy with much else too.
const RESET_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "port {port} on {address} is in use by another program; stop it, or set listen_ports in the config to four free ports below 1024"
    )]
    Busy { port: u16, address: IpAddr },
    #[error("cannot listen on {address} port {port}: {source}; run meter daemon as root")]
    Socket { port: u16, address: IpAddr, source: io::Error },
}

pub(super) struct Sockets {
    listeners: Vec<std::net::TcpListener>,
    ports: [u16; PORTS],
    has_ipv6: bool,
    pub(super) netns_cookie: u64,
}

/// Opens every port on 127.0.0.1 and, where this namespace has IPv6, on ::1.
pub(super) fn open(ports: [u16; PORTS]) -> Result<Sockets, ListenError> {
    let mut listeners = Vec::with_capacity(2 * PORTS);
    for port in ports {
        listeners.push(listen(IpAddr::V4(Ipv4Addr::LOCALHOST), port)?);
    }
    let mut has_ipv6 = true;
    for port in ports {
        match listen(IpAddr::V6(Ipv6Addr::LOCALHOST), port) {
            Ok(listener) => listeners.push(listener),
            Err(ListenError::Socket { source, .. })
                if matches!(source.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)) =>
            {
                has_ipv6 = false;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    let netns_cookie = kernel::netns::cookie_of(listeners[0].as_fd()).map_err(|source| ListenError::Socket {
        port: ports[0],
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        source,
    })?;
    Ok(Sockets { listeners, ports, has_ipv6, netns_cookie })
}

fn listen(address: IpAddr, port: u16) -> Result<std::net::TcpListener, ListenError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Busy { port, address },
        _ => ListenError::Socket { port, address, source },
    };
    let at = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP)).map_err(failed)?;
    // Connections of an earlier sidecar may linger on the port.
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    // What it accepts inherits this.
    socket.set_tcp_keepalive(&stream::keepalive()).map_err(failed)?;
    socket.bind(&at.into()).map_err(failed)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket.into())
}

/// Tells the kernel of the listeners in one namespace; until then, connects from there are refused.
pub struct Announcer {
    kernel: Arc<Kernel>,
    netns_cookie: u64,
    record: Listeners,
}

impl Announcer {
    pub fn tell(&self, has_ipv6_route: bool) -> Result<(), KernelError> {
        let mut record = self.record;
        record.ipv6_route = u32::from(has_ipv6_route);
        self.kernel.set_listeners(self.netns_cookie, record)
    }
}

/// The sidecar with its listeners open and known to the kernel.
pub struct Bound {
    sockets: Sockets,
    shared: Arc<Shared>,
}

impl Bound {
    pub(super) fn new(sockets: Sockets, shared: Arc<Shared>) -> Self {
        Self { sockets, shared }
    }

    /// The agents' connections, for whoever must end them.
    pub fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.shared.connections)
    }

    /// Tells the kernel of the listeners, now and when the namespace's IPv6 routes change.
    pub fn announcer(&self) -> Announcer {
        let record =
            Listeners { ports: self.sockets.ports, ipv6_route: 0, ipv6_listeners: u32::from(self.sockets.has_ipv6) };
        Announcer { kernel: Arc::clone(&self.shared.kernel), netns_cookie: self.sockets.netns_cookie, record }
    }

    /// Serves until `shutdown`, then lets what runs finish for at most [`DRAIN_MAX`].
    pub async fn serve(self, shutdown: CancellationToken) -> io::Result<()> {
        let Self { sockets, shared } = self;
        let tracker = shared.running.clone();
        for listener in sockets.listeners {
            let listener = TcpListener::from_std(listener)?;
            tasks::spawn_waited(&tracker, "accept", accept_loop(listener, Arc::clone(&shared), tracker.clone()));
        }
        tracker.close();
        shutdown.cancelled().await;
        shared.drain.cancel();
        if tokio::time::timeout(DRAIN_MAX, tracker.wait()).await.is_err() {
            shared.connections.reset_all();
            // Each ends at its next poll.
            let _ = tokio::time::timeout(RESET_MAX, tracker.wait()).await;
        }
        Ok(())
    }
}

async fn accept_loop(listener: TcpListener, shared: Arc<Shared>, tracker: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = shared.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => {
                tasks::spawn_waited(&tracker, "connection", accepted_one(tcp, peer, Arc::clone(&shared)));
            }
            Err(error) => {
                warn!(%error, "accept failed; raise the limit of open files if this goes on");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accepted_one(tcp: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    // Entered at every turn of the connection, so that it is there for those only who look that closely.
    let span = debug_span!("connection", %peer);
    if let Err(error) = connection::serve(tcp, peer, &shared).instrument(span).await {
        debug!(%peer, %error, "connection ended");
    }
}
