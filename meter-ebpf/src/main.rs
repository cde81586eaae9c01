//! meter's kernel programs: who may connect, where connections go, what is counted and what is dropped.
//!
//! Attached at the cgroup root by `meter-agent`; built by `cargo xtask build-ebpf` and committed as `meter.bpf.o`. Fails
//! closed: whatever cannot be judged is refused and counted. A process outside every account is left alone.
//!
//! Every function is inlined: a name that is not carries a hash of the build folder into the object.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod account;
mod address;
mod atomics;
mod bind;
mod connect;
mod context;
mod datagram;
mod field;
mod flow;
mod maps;
mod packet;
mod protocol;
mod refusal;
mod socket;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, sock_ops},
    programs::{SkBuffContext, SockAddrContext, SockContext, SockOpsContext},
};

use crate::{connect::Family, context::Call, refusal::PASS};

#[cgroup_sock(sock_create)]
pub fn meter_sock(ctx: SockContext) -> i32 {
    socket::create(&ctx)
}

#[cgroup_sock_addr(connect4)]
pub fn meter_connect4(ctx: SockAddrContext) -> i32 {
    connect::connect(Call::new(&ctx), Family::V4)
}

#[cgroup_sock_addr(connect6)]
pub fn meter_connect6(ctx: SockAddrContext) -> i32 {
    connect::connect(Call::new(&ctx), Family::V6)
}

#[cgroup_sock_addr(sendmsg4)]
pub fn meter_sendmsg4(ctx: SockAddrContext) -> i32 {
    datagram::send(Call::new(&ctx), Family::V4)
}

#[cgroup_sock_addr(sendmsg6)]
pub fn meter_sendmsg6(ctx: SockAddrContext) -> i32 {
    datagram::send(Call::new(&ctx), Family::V6)
}

#[cgroup_sock_addr(bind4)]
pub fn meter_bind4(ctx: SockAddrContext) -> i32 {
    bind::bind(Call::new(&ctx), Family::V4)
}

#[cgroup_sock_addr(bind6)]
pub fn meter_bind6(ctx: SockAddrContext) -> i32 {
    bind::bind(Call::new(&ctx), Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
pub fn meter_getpeer4(ctx: SockAddrContext) -> i32 {
    connect::show_peer(Call::new(&ctx), Family::V4);
    PASS
}

#[cgroup_sock_addr(getpeername6)]
pub fn meter_getpeer6(ctx: SockAddrContext) -> i32 {
    connect::show_peer(Call::new(&ctx), Family::V6);
    PASS
}

#[sock_ops]
pub fn meter_sockops(ctx: SockOpsContext) -> u32 {
    flow::sockops(&ctx);
    1
}

#[cgroup_skb(egress)]
pub fn meter_egress(ctx: SkBuffContext) -> i32 {
    packet::egress(&ctx)
}

#[cgroup_skb(ingress)]
pub fn meter_ingress(ctx: SkBuffContext) -> i32 {
    packet::ingress(&ctx);
    packet::PASS
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects a program in which this can be reached.
    loop {}
}

/// The helpers used here are open to programs under a licence compatible with the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
