//! `connect4`, `connect6`: refuse, leave direct, or remember the true destination and redirect to the sidecar.
//!
//! UDP connects only move the socket's tag: they send nothing, and getaddrinfo connects UDP sockets to sort addresses.

use core::ptr;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_ktime_get_ns,
    generated::{bpf_get_prandom_u32, bpf_ktime_get_boot_ns, bpf_setsockopt},
};
use meter_common::{
    AccountRef, FlowKey, HEARTBEAT_STALE_NS, Listeners, LocalKey, PORTS, Reason, SocketTag, local, tag,
};

use crate::{
    account,
    address::Address,
    context::Call,
    maps::{LISTENERS, LOCALS, SOCKETS, STATUS},
    protocol::{SO_BINDTODEVICE, SOL_SOCKET, TCP, UDP},
    refusal::{Destination, PASS, Refusal, count, process, refuse, unless_open},
};

/// How the destination was given.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// What a connect of an account comes to when it is not refused.
enum Outcome {
    /// UDP: nothing to judge yet.
    Untouched,
    /// To the namespace itself, or to anywhere while `on_sidecar_loss = "direct"` holds.
    Direct,
    /// To the sidecar, at this address.
    Redirected(Destination),
}

#[inline(always)]
pub fn connect(call: Call, family: Family) -> i32 {
    // SAFETY: a socket address hook's socket is never null.
    let Some(owner) = (unsafe { account::of_call(call.socket()) }) else { return PASS };
    let asked = match family {
        Family::V4 => call.v4(),
        Family::V6 => call.v6(),
    };
    match try_connect(call, family, owner, asked) {
        Ok(Outcome::Untouched) => PASS,
        Ok(Outcome::Direct) => {
            count(owner.slot, Reason::Direct);
            PASS
        }
        Ok(Outcome::Redirected(listener)) => {
            match family {
                Family::V4 => call.set_v4(listener),
                Family::V6 => call.set_v6(listener),
            }
            count(owner.slot, Reason::Redirected);
            PASS
        }
        Err(refusal) => refuse(owner, asked, refusal),
    }
}

#[inline(always)]
fn try_connect(call: Call, family: Family, owner: AccountRef, asked: Destination) -> Result<Outcome, Refusal> {
    match call.protocol() {
        TCP => {}
        UDP => {
            // SAFETY: a socket address hook's socket is never null.
            unsafe { account::tag_socket(call.socket(), owner, process()) }.ok_or(Refusal::Storage)?;
            return Ok(Outcome::Untouched);
        }
        // Made outside every account and handed in: nothing is known of how it would send.
        _ => return Err(Refusal::Socket),
    }
    let cookie = call.netns_cookie();
    // SAFETY: nothing in this program changes the map while the reference lives.
    let Some(listeners) = (unsafe { LISTENERS.get(&cookie) }) else { return Err(Refusal::Namespace) };
    let reached = asked.address.reached();
    if reached.is_loopback() && is_listener(listeners, asked.port) {
        return Err(Refusal::Listener);
    }
    unless_open(account::standing(owner)?)?;
    if is_direct(cookie, reached, asked.port) {
        forget_redirect(call, owner)?;
        return Ok(Outcome::Direct);
    }
    let is_v4 = reached.is_v4();
    // Clients try the next address at once when there is no route, and would never when a redirect succeeds.
    if !is_v4 && !reached.is_loopback() && listeners.ipv6_route == 0 || !is_v4 && listeners.ipv6_listeners == 0 {
        return Err(Refusal::NoIpv6Route);
    }
    if !is_sidecar_alive()? {
        forget_redirect(call, owner)?;
        return Ok(Outcome::Direct);
    }
    let listener =
        Destination { address: if is_v4 { Address::LOOPBACK_V4 } else { Address::LOOPBACK_V6 }, port: pick(listeners) };
    remember(call, owner, family, asked, listener.port)?;
    unbind_device(call)?;
    Ok(Outcome::Redirected(listener))
}

/// Whether the port is one of the sidecar's in this namespace. Unused places hold 0, which no connect asks for in earnest.
#[inline(always)]
pub fn is_listener(listeners: &Listeners, port: u16) -> bool {
    listeners.ports[0] == port || listeners.ports[1] == port || listeners.ports[2] == port || listeners.ports[3] == port
}

/// Loopback and the namespace's own addresses are direct unless a host entry names them.
#[inline(always)]
fn is_direct(cookie: u64, address: Address, port: u16) -> bool {
    let every_port = look_up_local(cookie, address, 0);
    if every_port == local::METERED || !(every_port == local::DIRECT || address.is_loopback()) {
        return false;
    }
    look_up_local(cookie, address, port) != local::METERED
}

/// The entry for (namespace, address, port), or 0.
#[inline(always)]
fn look_up_local(cookie: u64, address: Address, port: u16) -> u32 {
    let key = LocalKey { netns_cookie: cookie, addr: address.bytes(), port, reserved: [0; 3] };
    // SAFETY: the value is copied out at once.
    unsafe { LOCALS.get(&key) }.copied().unwrap_or(0)
}

/// `Ok(false)` when the sidecar is lost and its operator chose that connects then go direct.
#[inline(always)]
fn is_sidecar_alive() -> Result<bool, Refusal> {
    let Some(status) = STATUS.get_ptr(0) else { return Err(Refusal::Sidecar) };
    // SAFETY: the map returned a live record; the sidecar stores into it at any moment, so each field is read once.
    let (heartbeat_ns, loss_direct) = unsafe {
        (ptr::read_volatile(&raw const (*status).heartbeat_ns), ptr::read_volatile(&raw const (*status).loss_direct))
    };
    // SAFETY: takes nothing and gives a number.
    if unsafe { bpf_ktime_get_ns() } <= heartbeat_ns.saturating_add(HEARTBEAT_STALE_NS) {
        Ok(true)
    } else if loss_direct == 0 {
        Err(Refusal::Sidecar)
    } else {
        Ok(false)
    }
}

/// One of the listeners' ports by chance, because each alone ends at some 28,000 open connections.
#[inline(always)]
fn pick(listeners: &Listeners) -> u16 {
    const { assert!(PORTS == 4) };
    // SAFETY: takes nothing and gives a number.
    match unsafe { bpf_get_prandom_u32() } & 3 {
        0 => listeners.ports[0],
        1 => listeners.ports[1],
        2 => listeners.ports[2],
        _ => listeners.ports[3],
    }
}

/// Writes destination and process into the socket's tag, for getpeername and for the flow record.
#[inline(always)]
fn remember(call: Call, owner: AccountRef, family: Family, asked: Destination, listener: u16) -> Result<(), Refusal> {
    // SAFETY: a socket address hook's socket is never null.
    let tag: *mut SocketTag =
        unsafe { account::tag_socket(call.socket(), owner, process()) }.ok_or(Refusal::Storage)?;
    let flags = match family {
        Family::V4 => tag::REDIRECTED,
        Family::V6 => tag::REDIRECTED | tag::DEST_V6,
    };
    let flow = FlowKey { netns_cookie: 0, addr: [0; 16], port: 0, listener, reserved: [0; 2] };
    // SAFETY: the helper returned a live tag, and the socket's lock is held during its connect.
    unsafe {
        (*tag).flags = flags;
        (*tag).dest_addr = asked.address.bytes();
        (*tag).dest_port = asked.port;
        (*tag).flow = flow;
        (*tag).connected_boot_ns = bpf_ktime_get_boot_ns();
        (*tag).comm = bpf_get_current_comm().unwrap_or_default();
    }
    Ok(())
}

/// A socket that was redirected before and now goes direct shows its peer as it is.
#[inline(always)]
fn forget_redirect(call: Call, owner: AccountRef) -> Result<(), Refusal> {
    // SAFETY: a socket address hook's socket is never null.
    let tag = unsafe { account::tag_socket(call.socket(), owner, process()) }.ok_or(Refusal::Storage)?;
    // SAFETY: the helper returned a live tag.
    unsafe { (*tag).flags = 0 };
    Ok(())
}

/// A socket bound to a device does not reach loopback. Where the caller lacks the right to unbind it, refuse: passed,
/// it would leave by that device unmetered.
#[inline(always)]
fn unbind_device(call: Call) -> Result<(), Refusal> {
    if call.device() == 0 {
        return Ok(());
    }
    let mut nothing = [0u8; 4];
    // SAFETY: the helper reads the four bytes given.
    let done = unsafe {
        bpf_setsockopt(call.as_ptr(), SOL_SOCKET, SO_BINDTODEVICE, (&raw mut nothing).cast(), nothing.len() as i32)
    };
    if done == 0 { Ok(()) } else { Err(Refusal::Storage) }
}

/// `getpeername`: shows the destination that was asked for.
#[inline(always)]
pub fn show_peer(call: Call, family: Family) {
    // SAFETY: a socket address hook's socket is never null.
    let Some(tag) = (unsafe { SOCKETS.get(call.socket()) }) else { return };
    // SAFETY: the helper returned a live tag.
    let (flags, listener) = unsafe { ((*tag).flags, (*tag).flow.listener) };
    // The port too: a listener's tag is inherited by the sockets it accepts, whose peers are real.
    if flags & tag::REDIRECTED == 0 || call.port() != listener {
        return;
    }
    // SAFETY: as above.
    let asked = unsafe { Destination { address: Address::from_bytes((*tag).dest_addr), port: (*tag).dest_port } };
    match family {
        Family::V4 => call.set_v4(asked),
        Family::V6 => call.set_v6(asked),
    }
}
