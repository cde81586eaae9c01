//! `FLOWS`: what the kernel remembers of a redirected connection until it is accepted.

use std::{io, net::SocketAddr, os::fd::BorrowedFd};

use meter_common::{FlowKey, FlowRecord};

use super::{mapped, sys};

/// Looks a connection up by its accepted end's view and deletes the record in the same step.
pub(super) fn take(
    map: BorrowedFd<'_>,
    netns_cookie: u64,
    peer: SocketAddr,
    listener: u16,
) -> io::Result<Option<FlowRecord>> {
    let key = FlowKey { netns_cookie, addr: mapped(peer.ip()), port: peer.port(), listener, reserved: [0; 2] };
    sys::look_up_and_delete(map, &key)
}

/// Deletes the records of connects before `before_boot_ns`, which no accept will ask for any more.
pub(super) fn sweep(map: BorrowedFd<'_>, before_boot_ns: u64) -> io::Result<usize> {
    let mut deleted = 0;
    for key in sys::keys::<FlowKey>(map)? {
        let is_old = sys::look_up(map, &key)?.is_some_and(|flow: FlowRecord| flow.connected_boot_ns < before_boot_ns);
        deleted += usize::from(is_old && sys::delete(map, &key)?);
    }
    Ok(deleted)
}

/// Deletes every record: those of connections that no accept will ask for, since the listeners were just bound.
pub(super) fn clear(map: BorrowedFd<'_>) -> io::Result<usize> {
    let mut deleted = 0;
    for key in sys::keys::<FlowKey>(map)? {
        deleted += usize::from(sys::delete(map, &key)?);
    }
    Ok(deleted)
}
