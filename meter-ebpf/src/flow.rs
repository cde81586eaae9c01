//! `sockops`: publishes the flow record once the local port is known, and takes it back when the connect fails.
//!
//! TCP_CONNECT_CB runs before the SYN leaves, so the record is there before the sidecar can accept. Once the connection
//! is established the accept comes, even when the agent has closed by then, and its last bytes still have to arrive: so
//! the record stays for it. What nobody accepts after all the sidecar sweeps.

use core::{mem::offset_of, ptr};

use aya_ebpf::{
    bindings::{
        BPF_SOCK_OPS_ALL_CB_FLAGS, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
        BPF_TCP_CLOSE, BPF_TCP_SYN_SENT, bpf_sock_ops,
    },
    cty::c_void,
    helpers::generated::bpf_get_netns_cookie,
    programs::SockOpsContext,
};
use meter_common::{FlowKey, FlowRecord, Reason, SocketTag, tag};

use crate::{
    address::Address,
    field::load,
    maps::{FLOWS, SOCKETS},
    protocol::AF_INET,
    refusal::count,
};

#[inline(always)]
pub fn sockops(ctx: &SockOpsContext) {
    // SAFETY: the context is live for the whole program.
    let (operation, old_state, new_state) = unsafe {
        (
            load::<{ offset_of!(bpf_sock_ops, op) }, _>(ctx.ops),
            // The operation's two arguments.
            load::<{ offset_of!(bpf_sock_ops, __bindgen_anon_1) }, _>(ctx.ops),
            load::<{ offset_of!(bpf_sock_ops, __bindgen_anon_1) + 4 }, _>(ctx.ops),
        )
    };
    if operation == BPF_SOCK_OPS_TCP_CONNECT_CB {
        connecting(ctx);
    } else if operation == BPF_SOCK_OPS_STATE_CB && old_state == BPF_TCP_SYN_SENT && new_state == BPF_TCP_CLOSE {
        failed(ctx);
    }
}

#[inline(always)]
fn connecting(ctx: &SockOpsContext) {
    let Some(tag) = tag_of(ctx) else { return };
    // SAFETY: the helper returned a live tag.
    let seen = unsafe { &mut *tag };
    if seen.flags & tag::REDIRECTED == 0 {
        return;
    }
    let key = key(ctx, seen.flow.listener);
    let record = FlowRecord {
        account: seen.account,
        connected_boot_ns: seen.connected_boot_ns,
        dest_addr: seen.dest_addr,
        dest_port: seen.dest_port,
        reserved: 0,
        pid: seen.pid,
        comm: seen.comm,
    };
    // SAFETY: the context is live for the whole program.
    let flags = (unsafe { load::<{ offset_of!(bpf_sock_ops, bpf_sock_ops_cb_flags) }, _>(ctx.ops) }
        | BPF_SOCK_OPS_STATE_CB_FLAG)
        & BPF_SOCK_OPS_ALL_CB_FLAGS;
    // Without the callback a failed connect would leave its record, so none is published.
    if ctx.set_cb_flags(flags as i32).is_err() || FLOWS.insert(&key, &record, 0).is_err() {
        count(seen.account.slot, Reason::FlowLost);
        return;
    }
    seen.flow = key;
    seen.flags |= tag::FLOW;
}

#[inline(always)]
fn failed(ctx: &SockOpsContext) {
    let Some(tag) = tag_of(ctx) else { return };
    // SAFETY: the helper returned a live tag.
    let seen = unsafe { &mut *tag };
    if seen.flags & tag::FLOW == 0 {
        return;
    }
    seen.flags &= !tag::FLOW;
    let key = seen.flow;
    // The sidecar may have cleared the map meanwhile; then there is nothing to remove.
    let _ = FLOWS.remove(&key);
}

#[inline(always)]
fn tag_of(ctx: &SockOpsContext) -> Option<*mut SocketTag> {
    // SAFETY: the context is live for the whole program.
    let socket: *mut c_void = unsafe { ptr::read_volatile(&raw const (*ctx.ops).__bindgen_anon_2.sk) }.cast();
    if socket.is_null() {
        return None;
    }
    // SAFETY: just checked.
    unsafe { SOCKETS.get(socket) }
}

/// The connection as its accept will see it.
#[inline(always)]
fn key(ctx: &SockOpsContext, listener: u16) -> FlowKey {
    // SAFETY: the context is live for the whole program; each field is one load.
    let (family, port) = unsafe {
        (
            load::<{ offset_of!(bpf_sock_ops, family) }, _>(ctx.ops),
            load::<{ offset_of!(bpf_sock_ops, local_port) }, _>(ctx.ops),
        )
    };
    let address = if family == AF_INET {
        // SAFETY: as above.
        Address::v4(unsafe { load::<{ offset_of!(bpf_sock_ops, local_ip4) }, _>(ctx.ops) })
    } else {
        // SAFETY: as above. A v4-mapped socket's is ::ffff:a.b.c.d already.
        Address(unsafe {
            [
                load::<{ offset_of!(bpf_sock_ops, local_ip6) + 0 }, _>(ctx.ops),
                load::<{ offset_of!(bpf_sock_ops, local_ip6) + 4 }, _>(ctx.ops),
                load::<{ offset_of!(bpf_sock_ops, local_ip6) + 8 }, _>(ctx.ops),
                load::<{ offset_of!(bpf_sock_ops, local_ip6) + 12 }, _>(ctx.ops),
            ]
        })
    };
    FlowKey {
        // SAFETY: the helper takes the context.
        netns_cookie: unsafe { bpf_get_netns_cookie(ctx.ops.cast()) },
        addr: address.bytes(),
        port: port as u16,
        listener,
        reserved: [0; 2],
    }
}
