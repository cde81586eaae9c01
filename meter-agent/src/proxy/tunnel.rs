//! Tunnels: connections to hosts that are not metered, passed on unread. The kernel counts their bytes.

use std::{io, time::Duration};

use tokio::net::TcpStream;
use tracing::debug;

use super::{identity::Peer, stream::AgentStream, upstream};

/// Copy buffer of one direction of a tunnel.
const BUFFER: usize = 32 * 1024;

/// Dials the destination unless that was done meanwhile, and passes bytes until both sides have ended.
pub(super) async fn start(agent: AgentStream, dialled: Option<TcpStream>, peer: &Peer) -> io::Result<()> {
    let server = if let Some(server) = dialled {
        Ok(server)
    } else {
        let connection = agent.connection().clone();
        tokio::select! {
            () = connection.resetting() => return Ok(()),
            dialled = upstream::dial(peer.destination) => dialled,
        }
    };
    match server {
        Ok(server) => run(agent, server, peer).await,
        Err(error) => {
            debug!(destination = %peer.destination, %error, "tunnel's destination not reached; reset");
            agent.connection().reset();
            Ok(())
        }
    }
}

pub(super) async fn run(mut agent: AgentStream, mut server: TcpStream, peer: &Peer) -> io::Result<()> {
    let connection = agent.connection().clone();
    let copied = tokio::select! {
        () = connection.resetting() => {
            let _ = socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO));
            return Ok(());
        }
        copied = tokio::io::copy_bidirectional_with_sizes(&mut agent, &mut server, BUFFER, BUFFER) => copied,
    };
    match copied {
        Ok((sent, received)) => {
            debug!(account = %peer.path, destination = %peer.destination, sent, received, "tunnel ended");
            Ok(())
        }
        Err(error) => {
            // One side broke off: the other must see a break too, not a clean end.
            connection.reset();
            let _ = socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO));
            Err(error)
        }
    }
}
