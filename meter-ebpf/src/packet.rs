//! `cgroup_skb`: counts the bytes of tagged sockets, and drops what an account that is stopped still sends.
//!
//! A socket's bytes are counted once, at the agent's end: a redirected connection's other end belongs to the sidecar and
//! has no tag. A packet is measured from its IP header on. What arrives is counted and never dropped: the answer to a
//! dropped packet does not come, and resets must arrive.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock},
    helpers::generated::{bpf_sk_fullsock, bpf_skb_load_bytes},
    programs::SkBuffContext,
};
use meter_common::{AccountRef, HOST_SLOT, Reason, state};

use crate::{
    account::{self, Stale},
    atomics,
    field::load,
    maps::COUNTERS,
    protocol::{DNS_PORT, HTTPS_PORT, UDP},
    refusal::count,
};

pub const PASS: i32 = 1;
pub const DROP: i32 = 0;

#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let Some((socket, owner)) = owner(ctx) else { return PASS };
    if let Some(counters) = COUNTERS.get_ptr_mut(owner.slot) {
        // SAFETY: the map returned a live record.
        unsafe { atomics::add(&raw mut (*counters).egress_bytes, length(ctx)) };
    }
    match try_egress(ctx, socket, owner) {
        Ok(()) => PASS,
        Err((slot, reason)) => {
            count(slot, reason);
            DROP
        }
    }
}

#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) {
    let Some((_, owner)) = owner(ctx) else { return };
    if let Some(counters) = COUNTERS.get_ptr_mut(owner.slot) {
        // SAFETY: the map returned a live record.
        unsafe { atomics::add(&raw mut (*counters).ingress_bytes, length(ctx)) };
    }
}

#[inline(always)]
fn try_egress(ctx: &SkBuffContext, socket: *mut bpf_sock, owner: AccountRef) -> Result<(), (u32, Reason)> {
    // SAFETY: the helper returned a full socket; each field is one load.
    let (protocol, peer_port) = unsafe {
        (
            load::<{ offset_of!(bpf_sock, protocol) }, _>(socket),
            u16::from_be(ptr::read_volatile(&raw const (*socket).dst_port)),
        )
    };
    if protocol == UDP && peer_port == HTTPS_PORT {
        return Err((owner.slot, Reason::DroppedQuic));
    }
    let standing = account::standing(owner).map_err(|Stale| (HOST_SLOT, Reason::DroppedState))?;
    if standing.state < state::STOPPED {
        return Ok(());
    }
    if !standing.is_revoked() && protocol == UDP && datagram_port(ctx) == Some(DNS_PORT) {
        count(owner.slot, Reason::DnsPassed);
        return Ok(());
    }
    Err((owner.slot, Reason::DroppedState))
}

/// The packet's full socket and the account it is tagged with.
#[inline(always)]
fn owner(ctx: &SkBuffContext) -> Option<(*mut bpf_sock, AccountRef)> {
    // SAFETY: the context is live for the whole program.
    let socket = unsafe { ptr::read_volatile(&raw const (*ctx.skb.skb).__bindgen_anon_2.sk) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: just checked.
    let socket = unsafe { bpf_sk_fullsock(socket) };
    if socket.is_null() {
        return None;
    }
    // SAFETY: just checked.
    let owner = unsafe { account::of_socket(socket.cast()) }?;
    Some((socket, owner))
}

/// Bytes from the IP header on.
#[inline(always)]
fn length(ctx: &SkBuffContext) -> u64 {
    // SAFETY: the context is live for the whole program.
    unsafe { load::<{ offset_of!(__sk_buff, len) }, _>(ctx.skb.skb) }.into()
}

/// The destination port of a UDP packet, read from the packet itself since a socket need not be connected. IPv6
/// extension headers are not followed: such a packet is no resolver's, and is dropped.
#[inline(always)]
fn datagram_port(ctx: &SkBuffContext) -> Option<u16> {
    let first: [u8; 1] = bytes_at(ctx, 0)?;
    let header = match first[0] >> 4 {
        4 => {
            let [protocol]: [u8; 1] = bytes_at(ctx, 9)?;
            (u32::from(protocol) == UDP).then_some(u32::from(first[0] & 0xf) * 4)?
        }
        6 => {
            let [next]: [u8; 1] = bytes_at(ctx, 6)?;
            (u32::from(next) == UDP).then_some(40)?
        }
        _ => return None,
    };
    bytes_at(ctx, header + 2).map(u16::from_be_bytes)
}

/// `N` bytes of the packet, from its IP header on.
#[inline(always)]
fn bytes_at<const N: usize>(ctx: &SkBuffContext, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the helper writes N bytes into an array of N.
    let done = unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), offset, (&raw mut bytes).cast(), N as u32) };
    (done == 0).then_some(bytes)
}
