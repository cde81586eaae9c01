//! One accepted connection, from its flow record to its end.
//!
//! The order matters: attribution first, then a look at the first bytes, then the decision to meter or to
//! tunnel. A server that speaks first is served too: when the agent is silent for [`SILENCE`], the destination
//! is dialled while the wait goes on.
//!
//! Where an entry of the config names the address with its port, there is no tunnel: what is there is metered, whoever
//! speaks first and whatever is said.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpStream;
use tracing::{debug, info};

use super::{
    Shared, http,
    identity::Peer,
    sniff::{Sniffed, sniff},
    stream::{AgentStream, unsent_bytes},
    tunnel, upstream,
};
use crate::usage::hosts::{HostMatch, HostTable};

/// A client that speaks first has sent its first bytes by then: on loopback they come with the handshake.
const SILENCE: Duration = Duration::from_millis(3);
/// A handshake that takes longer is given up, so that half-open ones do not pile up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// How long, and how often, an ending connection's unread bytes are looked at.
const DELIVERY_MAX: Duration = Duration::from_secs(10);
const DELIVERY_STEP: Duration = Duration::from_millis(5);
/// The same of one whose account is shut: its packets drop, so that nobody can see what has arrived.
const CUT_DELIVERY_MAX: Duration = Duration::from_millis(100);
/// How long a silent agent is waited for once its destination could not be reached.
const UNREACHED_MAX: Duration = Duration::from_secs(1);

/// A metered connection: whose it is, and whom it talks to.
pub(crate) struct Target {
    pub(crate) peer: Peer,
    pub(crate) host: String,
    pub(crate) matched: HostMatch,
    pub(crate) tls: bool,
    /// The agent said the name, and every request must say the same.
    pub(crate) named: bool,
}

pub(crate) async fn serve(tcp: TcpStream, address: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let flow = shared.kernel.take_flow(shared.netns_cookie, address, tcp.local_addr()?.port());
    let path = flow.and_then(|f| shared.cashier.account_of(f.account));
    let (Some(flow), Some(path)) = (flow, path) else {
        // Nobody's: the record was lost, or its account has ended since. Never passed unmetered.
        debug!("no account for this connection; reset");
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        return Ok(());
    };
    tcp.set_nodelay(true)?;
    let Some(registered) = shared.connections.add(path.clone()) else {
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        return Ok(());
    };
    let connection = registered.connection();
    let mut agent = AgentStream::new(tcp, connection.clone());
    if !shared.cashier.is_open(flow.account) {
        connection.reset();
        return Ok(());
    }
    let peer = Peer::new(&flow, path);
    let may_tunnel = !is_metered_alone(&shared.hosts.borrow(), peer.destination);
    let first = tokio::select! {
        () = connection.resetting() => return Ok(()),
        first = first_bytes(&mut agent, &peer, may_tunnel) => first?,
    };
    match first {
        First::Spoke { sniffed: Sniffed::More | Sniffed::Other, .. } if !may_tunnel => {
            info!(account = %peer.path, exe = %peer.process.exe, destination = %peer.destination,
                "neither TLS nor HTTP to a metered host; reset");
            connection.reset();
            Ok(())
        }
        First::Gone => Ok(()),
        First::Spoke { sniffed, dialled } => spoke(agent, peer, sniffed, dialled, shared).await,
        First::ServerSpeaks(server) => tunnel::run(agent, server, &peer).await,
        First::Unreached(error) => {
            debug!(destination = %peer.destination, %error, "destination not reached; reset");
            connection.reset();
            Ok(())
        }
    }
}

/// Who spoke first.
enum First {
    /// The agent, with the connection to the destination if that was made meanwhile.
    Spoke {
        sniffed: Sniffed,
        dialled: Option<TcpStream>,
    },
    ServerSpeaks(TcpStream),
    /// The agent closed without a word.
    Gone,
    Unreached(io::Error),
}

async fn first_bytes(agent: &mut AgentStream, peer: &Peer, may_tunnel: bool) -> io::Result<First> {
    if !may_tunnel {
        let sniffed = sniff_agent(agent).await?;
        return Ok(sniffed.map_or(First::Gone, |sniffed| First::Spoke { sniffed, dialled: None }));
    }
    if let Ok(sniffed) = tokio::time::timeout(SILENCE, sniff_agent(agent)).await {
        return Ok(sniffed?.map_or(First::Gone, |sniffed| First::Spoke { sniffed, dialled: None }));
    }
    let dial = upstream::dial(peer.destination);
    tokio::pin!(dial);
    let dialled = tokio::select! {
        sniffed = sniff_agent(agent) => {
            return Ok(sniffed?.map_or(First::Gone, |sniffed| First::Spoke { sniffed, dialled: None }));
        }
        dialled = &mut dial => dialled,
    };
    let server = match dialled {
        Ok(server) => server,
        Err(error) => {
            // A metered host has other addresses; the agent's first bytes may still say that this is one.
            return Ok(match tokio::time::timeout(UNREACHED_MAX, sniff_agent(agent)).await {
                Ok(sniffed) => sniffed?.map_or(First::Gone, |sniffed| First::Spoke { sniffed, dialled: None }),
                Err(_) => First::Unreached(error),
            });
        }
    };
    tokio::select! {
        biased;
        sniffed = sniff_agent(agent) => {
            Ok(sniffed?.map_or(First::Gone, |sniffed| First::Spoke { sniffed, dialled: Some(server) }))
        }
        // Readable also means closed: the tunnel passes on either.
        ready = server.readable() => { ready?; Ok(First::ServerSpeaks(server)) }
    }
}

/// Reads ahead until it is clear what the agent speaks; `None` when it has left. Cancel-safe: what was read stays.
async fn sniff_agent(agent: &mut AgentStream) -> io::Result<Option<Sniffed>> {
    loop {
        match sniff(agent.peeked()) {
            Sniffed::More => {
                if agent.peek_more().await? == 0 {
                    return Ok(if agent.peeked().is_empty() { None } else { Some(Sniffed::Other) });
                }
            }
            sniffed => return Ok(Some(sniffed)),
        }
    }
}

async fn spoke(
    agent: AgentStream,
    peer: Peer,
    sniffed: Sniffed,
    dialled: Option<TcpStream>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let (name, speaks) = match sniffed {
        Sniffed::Tls { sni } => {
            let named = sni.is_some();
            (sni.map(|name| name.trim_end_matches('.').to_owned()), Speaks::Tls { named })
        }
        Sniffed::Http1 { host } => (host.map(|h| http::without_port(&h).to_owned()), Speaks::Http { http2: false }),
        Sniffed::Http2 => (None, Speaks::Http { http2: true }),
        Sniffed::More | Sniffed::Other => return tunnel::start(agent, dialled, &peer).await,
    };
    let hosts = Arc::clone(&shared.hosts.borrow());
    let Some(matched) = metered_as(&hosts, name.as_deref(), peer.destination) else {
        return tunnel::start(agent, dialled, &peer).await;
    };
    // Its requests have connections of their own; the provider need not keep one more open.
    drop(dialled);
    let connection = agent.connection().clone();
    let socket = agent.socket()?;
    let named = name.is_some();
    let host = name.unwrap_or_else(|| peer.destination.ip().to_canonical().to_string());
    let target = Target { peer, host, matched, tls: matches!(speaks, Speaks::Tls { .. }), named };
    tokio::select! {
        () = connection.resetting() => {}
        () = metered(agent, speaks, target, shared) => {}
    }
    if connection.is_ending() {
        let patience = if connection.cut_for().is_some() { CUT_DELIVERY_MAX } else { DELIVERY_MAX };
        delivered(&socket, patience).await;
        let _ = socket.set_linger(Some(Duration::ZERO));
    }
    Ok(())
}

/// The entry that a connection falls under: by the name that the agent says, or, whatever it says, by the address that
/// it dialled. An entry for an address is no entry for a name only because somebody says one.
fn metered_as(hosts: &HostTable, name: Option<&str>, destination: SocketAddr) -> Option<HostMatch> {
    let port = destination.port();
    let found = |name: &str| hosts.find(name, port);
    name.and_then(found).or_else(|| names_of(destination).iter().find_map(|name| found(name)))
}

/// Whether nothing but a metered host is at an address.
fn is_metered_alone(hosts: &HostTable, destination: SocketAddr) -> bool {
    names_of(destination).iter().any(|name| hosts.names_port(name, destination.port()))
}

/// What an entry can call an address.
fn names_of(destination: SocketAddr) -> Vec<String> {
    let address = destination.ip().to_canonical();
    let local = address.is_loopback().then(|| "localhost".to_owned());
    [Some(address.to_string()), local].into_iter().flatten().collect()
}

/// Waits until the agent's kernel has everything that was written: a reset before that would take it back.
async fn delivered(socket: &socket2::Socket, patience: Duration) {
    let all_there = async {
        while unsent_bytes(socket) > 0 {
            tokio::time::sleep(DELIVERY_STEP).await;
        }
    };
    // An agent that does not read is not waited for any longer.
    let _ = tokio::time::timeout(patience, all_there).await;
}

/// What a metered connection speaks.
#[derive(Clone, Copy)]
enum Speaks {
    /// `named`: the hello has a server name.
    Tls {
        named: bool,
    },
    Http {
        http2: bool,
    },
}

async fn metered(agent: AgentStream, speaks: Speaks, target: Target, shared: &Arc<Shared>) {
    let connection = agent.connection().clone();
    let acceptor = match speaks {
        Speaks::Http { http2 } => return http::serve(agent, http2, target, connection, shared).await,
        Speaks::Tls { named: true } => shared.agent_tls.acceptor(),
        Speaks::Tls { named: false } => shared.agent_tls.acceptor_for(target.host.clone()),
    };
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(agent)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            http::serve(stream, http2, target, connection, shared).await;
        }
        Ok(Err(error)) => {
            info!(account = %target.peer.path, exe = %target.peer.process.exe, host = %target.host, %error,
                "TLS handshake with the agent failed; a program that trusts only its own roots can't be metered");
        }
        Err(_) => debug!(host = %target.host, "TLS handshake with the agent took too long"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::hosts::HostEntry;

    #[test]
    fn an_entry_for_an_address_holds_whatever_name_is_said() {
        let entry = |name: &str| HostEntry::new(name, "openai");
        let hosts = HostTable::new(&[entry("10.0.0.7"), entry("localhost:11434")]).unwrap();
        let found = |name, destination: &str| {
            metered_as(&hosts, name, destination.parse().unwrap()).map(|found| found.entry.to_string())
        };
        assert_eq!(found(Some("x.example"), "10.0.0.7:80").as_deref(), Some("10.0.0.7"));
        assert_eq!(found(None, "[::ffff:10.0.0.7]:80").as_deref(), Some("10.0.0.7"));
        assert_eq!(found(Some("127.0.0.1"), "127.0.0.1:11434").as_deref(), Some("localhost:11434"));
        assert_eq!(found(Some("api.openai.com"), "192.0.2.1:443").as_deref(), Some("api.openai.com"));
        assert_eq!(found(Some("x.example"), "127.0.0.1:80"), None);
        assert_eq!(found(Some("x.example"), "192.0.2.1:443"), None);
        let alone = |destination: &str| is_metered_alone(&hosts, destination.parse().unwrap());
        assert!(alone("127.0.0.1:11434") && alone("[::1]:11434"));
        // Of an address that is named without a port, some may be something else.
        assert!(!alone("127.0.0.1:5432") && !alone("10.0.0.7:22"));
    }
}
