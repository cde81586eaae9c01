//! `sock_create`: tags an account's sockets from birth, and refuses the kinds that would escape the meter.
//!
//! What is left is TCP and UDP. Raw sockets, SCTP, DCCP, UDP-Lite and L2TP reach no hook that asks for a destination;
//! MPTCP connects its subflows past the redirect. Ping sockets too are refused rather than passed: they carry data,
//! and neither their connects nor their datagrams are judged on every kernel.

use core::mem::offset_of;

use aya_ebpf::{bindings::bpf_sock, programs::SockContext};
use meter_common::AccountRef;

use crate::{
    account,
    field::load,
    protocol::{SOCK_DGRAM, SOCK_STREAM, TCP, UDP},
    refusal::{Destination, PASS, Refusal, process, refuse},
};

#[inline(always)]
pub fn create(ctx: &SockContext) -> i32 {
    let Some(owner) = account::of_caller() else { return PASS };
    match try_create(ctx, owner) {
        Ok(()) => PASS,
        Err(refusal) => refuse(owner, Destination::NONE, refusal),
    }
}

#[inline(always)]
fn try_create(ctx: &SockContext, owner: AccountRef) -> Result<(), Refusal> {
    // SAFETY: the context is live for the whole program.
    let (kind, protocol) = unsafe {
        (load::<{ offset_of!(bpf_sock, type_) }, _>(ctx.sock), load::<{ offset_of!(bpf_sock, protocol) }, _>(ctx.sock))
    };
    if !((kind == SOCK_STREAM && protocol == TCP) || (kind == SOCK_DGRAM && protocol == UDP)) {
        return Err(Refusal::Socket);
    }
    // SAFETY: this program's context is the socket.
    unsafe { account::tag_socket(ctx.sock.cast(), owner, process()) }.map(drop).ok_or(Refusal::Storage)
}
