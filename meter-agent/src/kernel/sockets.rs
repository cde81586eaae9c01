//! Ends the sockets of cgroups (NETLINK_SOCK_DIAG, SOCK_DESTROY), so that nothing hangs at the wall.
//!
//! The kernel names each socket's cgroup (INET_DIAG_CGROUP_ID), which is the one it was made in. Only sockets of the
//! calling thread's network namespace are seen. To be called while packets still pass: the reset that ends a
//! connection is a packet of that socket, and a stopped account's are dropped. Where they do already, since people have
//! shut the account, the other end is told all the same if it is on this host: it is ended too.

use std::{
    collections::HashSet,
    hash::BuildHasher,
    io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use super::{
    KernelError,
    netlink::{self, Message},
};

/// `linux/sock_diag.h`, `linux/inet_diag.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_CGROUP_ID: u16 = 21;

/// `struct inet_diag_req_v2`: family, protocol, extensions, states, and the 48 bytes that name a socket.
const REQUEST: usize = 8 + SOCKET_ID;
/// `struct inet_diag_sockid`.
const SOCKET_ID: usize = 48;
/// `struct inet_diag_msg`: what precedes the attributes.
const ANSWER: usize = 4 + SOCKET_ID + 20;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A socket as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    family: u8,
    protocol: u8,
    id: [u8; SOCKET_ID],
    own: SocketAddr,
    peer: SocketAddr,
    cgroup: u64,
}

/// Ends all TCP and UDP sockets that were made in these cgroups, and returns how many; those whose peer is one of the
/// ports on loopback are left to the sidecar, who holds their other end. Listening sockets are ended too.
pub fn end(cgroups: &HashSet<u64, impl BuildHasher>, skip_ports: &[u16]) -> Result<usize, KernelError> {
    let end_all = || -> io::Result<usize> {
        let mut sockets = Vec::new();
        for (family, protocol) in
            [(libc::AF_INET, TCP), (libc::AF_INET6, TCP), (libc::AF_INET, UDP), (libc::AF_INET6, UDP)]
        {
            sockets.extend(list(u8::try_from(family).map_err(io::Error::other)?, protocol)?);
        }
        let netlink = netlink::open(libc::NETLINK_SOCK_DIAG, 0)?;
        let is_sidecars = |socket: &Found| socket.peer.ip().is_loopback() && skip_ports.contains(&socket.peer.port());
        let (mut ended, mut others) = (0, HashSet::new());
        for socket in sockets.iter().filter(|socket| cgroups.contains(&socket.cgroup) && !is_sidecars(socket)) {
            ended += usize::from(destroy(&netlink, socket)?);
            others.extend((socket.protocol == TCP).then_some((socket.peer, socket.own)));
        }
        let is_other = |socket: &&Found| socket.protocol == TCP && others.contains(&(socket.own, socket.peer));
        for socket in sockets.iter().filter(is_other) {
            destroy(&netlink, socket)?;
        }
        Ok(ended)
    };
    end_all().map_err(KernelError::system(
        "an account's sockets could not be ended; the kernel needs CONFIG_INET_DIAG_DESTROY and CONFIG_INET_UDP_DIAG",
    ))
}

fn list(family: u8, protocol: u8) -> io::Result<Vec<Found>> {
    let socket = netlink::open(libc::NETLINK_SOCK_DIAG, 0)?;
    let every_state = u32::MAX;
    let request = request(family, protocol, every_state, &[0; SOCKET_ID]);
    netlink::send(&socket, SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &request)?;
    let mut found = Vec::new();
    loop {
        for message in netlink::messages(&wait(&socket)?) {
            match message {
                Message::Done => return Ok(found),
                Message::Error(errno) => return Err(io::Error::from_raw_os_error(errno)),
                Message::Data(data) => found.extend(parse(data, protocol)),
            }
        }
    }
}

/// `false` when the socket was gone already.
fn destroy(netlink: &OwnedFd, found: &Found) -> io::Result<bool> {
    let request = request(found.family, found.protocol, u32::MAX, &found.id);
    netlink::send(netlink, SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK, &request)?;
    let answer = wait(netlink)?;
    match netlink::messages(&answer).next() {
        Some(Message::Error(0)) => Ok(true),
        Some(Message::Error(libc::ENOENT)) => Ok(false),
        Some(Message::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
        Some(Message::Done | Message::Data(_)) | None => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "netlink acknowledged nothing"))
        }
    }
}

/// Netlink answers within the call that asked, so waiting is for the read alone.
fn wait(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut ready = libc::pollfd { fd: std::os::fd::AsRawFd::as_raw_fd(socket), events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd, as the count says.
    let polled = unsafe { libc::poll(&raw mut ready, 1, ANSWER_MS_MAX) };
    match polled {
        1 => netlink::receive(socket),
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Far above what a dump of every socket takes.
const ANSWER_MS_MAX: libc::c_int = 5_000;

fn request(family: u8, protocol: u8, states: u32, id: &[u8; SOCKET_ID]) -> Vec<u8> {
    let mut request = Vec::with_capacity(REQUEST);
    request.extend([family, protocol, 0, 0]);
    request.extend(states.to_ne_bytes());
    request.extend(id);
    request
}

/// One `struct inet_diag_msg` with its attributes; `None` when it is cut or names no cgroup.
fn parse(data: &[u8], protocol: u8) -> Option<Found> {
    let family = *data.first()?;
    let id: [u8; SOCKET_ID] = data.get(4..4 + SOCKET_ID)?.try_into().ok()?;
    // Within the id: source port, destination port, source address, destination address; all in network order.
    let address = |port: usize, ip: usize| -> Option<SocketAddr> {
        let port = u16::from_be_bytes(id.get(port..port + 2)?.try_into().ok()?);
        let ip: [u8; 16] = id.get(ip..ip + 16)?.try_into().ok()?;
        let ip = if i32::from(family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]))
        } else {
            Ipv6Addr::from(ip).to_canonical()
        };
        Some((ip, port).into())
    };
    let (own, peer) = (address(0, 4)?, address(2, 20)?);
    let cgroup = attribute(data.get(ANSWER..)?, INET_DIAG_CGROUP_ID)?;
    Some(Found { family, protocol, id, own, peer, cgroup: u64::from_ne_bytes(cgroup.try_into().ok()?) })
}

/// The payload of one netlink attribute.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let payload = rest.get(4..len)?;
        if kind == wanted {
            return Some(payload);
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
}

const _: () = {
    assert!(REQUEST == 56);
    assert!(ANSWER == 72);
    assert!(size_of::<Ipv6Addr>() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut data = vec![0_u8; ANSWER];
        data[0] = u8::try_from(libc::AF_INET).unwrap();
        data[4..4 + 2].copy_from_slice(&50_000_u16.to_be_bytes());
        data[4 + 2..4 + 4].copy_from_slice(&443_u16.to_be_bytes());
        data[4 + 4..4 + 8].copy_from_slice(&[192, 0, 2, 1]);
        data[4 + 20..4 + 24].copy_from_slice(&[192, 0, 2, 7]);
        data.extend([5, 0, 8, 0, 1, 0, 0, 0]);
        data.extend([12, 0, 21, 0]);
        data.extend(77_u64.to_ne_bytes());
        data
    }

    #[test]
    fn a_socket_is_read_with_its_peer_and_cgroup() {
        let found = parse(&answer(), TCP).unwrap();
        assert_eq!(found.own, "192.0.2.1:50000".parse().unwrap());
        assert_eq!(found.peer, "192.0.2.7:443".parse().unwrap());
        assert_eq!(found.cgroup, 77);
    }

    #[test]
    fn a_cut_answer_is_no_socket() {
        let data = answer();
        for end in 0..data.len() {
            assert_eq!(parse(&data[..end], TCP), None, "{end}");
        }
    }
}
