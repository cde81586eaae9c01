//! Netlink messages, as far as two protocols of it are used: framing only.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// `struct nlmsghdr` (linux/netlink.h).
pub(super) const HEADER: usize = 16;
/// One read: the kernel's dumps come in pieces of at most 32 KiB.
const RECEIVE_BYTES: usize = 32 * 1024;

/// One message of an answer.
pub(super) enum Message<'a> {
    Done,
    /// The errno of NLMSG_ERROR; 0 is an acknowledgement.
    Error(i32),
    Data(&'a [u8]),
}

pub(super) fn open(protocol: libc::c_int, groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers and gives one.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a value of this struct of integers.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("16 fits");
    address.nl_groups = groups;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).expect("12 fits");
    // SAFETY: the kernel reads `len` bytes of the address.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    if bound == 0 { Ok(socket) } else { Err(io::Error::last_os_error()) }
}

/// Sends one message: the header is made here.
pub(super) fn send(socket: &OwnedFd, kind: u16, flags: libc::c_int, payload: &[u8]) -> io::Result<()> {
    let len = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
    let flags = u16::try_from(flags).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0_u8; 8]);
    message.extend(payload);
    rustix::io::write(socket, &message)?;
    Ok(())
}

/// Reads what is there; `WouldBlock` when nothing is.
pub(super) fn receive(socket: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; RECEIVE_BYTES];
    let len = rustix::io::read(socket, &mut buffer[..])?;
    buffer.truncate(len);
    Ok(buffer)
}

/// The messages of one read. A message that is cut ends them.
pub(super) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let len = u32::from_ne_bytes(header.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(header.get(4..6)?.try_into().ok()?);
        let payload = rest.get(HEADER..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(match i32::from(kind) {
            libc::NLMSG_DONE => Message::Done,
            libc::NLMSG_ERROR => Message::Error(-i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?)),
            _ => Message::Data(payload),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_are_read_one_by_one() {
        let mut bytes = message(20, b"abcde");
        bytes.extend(message(2, &(-libc::EPERM).to_ne_bytes()));
        bytes.extend(message(3, &[0; 4]));
        let read: Vec<String> = messages(&bytes)
            .map(|message| match message {
                Message::Done => "done".to_owned(),
                Message::Error(errno) => format!("error {errno}"),
                Message::Data(data) => String::from_utf8_lossy(data).into_owned(),
            })
            .collect();
        assert_eq!(read, ["abcde", "error 1", "done"]);
    }

    #[test]
    fn a_cut_message_ends_the_reading() {
        let bytes = message(20, b"abcdefgh");
        for end in 0..bytes.len() {
            assert_eq!(messages(&bytes[..end]).count(), 0, "{end}");
        }
    }
}
