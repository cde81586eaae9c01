//! `sendmsg4`, `sendmsg6`: datagrams that name their destination themselves.
//!
//! Connected datagrams do not come here; the egress program sees to them. DNS passes for a stopped account, so that the
//! agent meets ECONNREFUSED at its connect and not a resolver's error before it.

use meter_common::{AccountRef, Reason, state};

use crate::{
    account,
    connect::Family,
    context::Call,
    protocol::{DNS_PORT, HTTPS_PORT},
    refusal::{Destination, PASS, Refusal, count, process, refuse},
};

#[inline(always)]
pub fn send(call: Call, family: Family) -> i32 {
    // SAFETY: a socket address hook's socket is never null.
    let Some(owner) = (unsafe { account::of_call(call.socket()) }) else { return PASS };
    let to = match family {
        Family::V4 => call.v4(),
        Family::V6 => call.v6(),
    };
    match try_send(call, owner, to) {
        Ok(()) => PASS,
        Err(refusal) => refuse(owner, to, refusal),
    }
}

#[inline(always)]
fn try_send(call: Call, owner: AccountRef, to: Destination) -> Result<(), Refusal> {
    // SAFETY: a socket address hook's socket is never null. The tag makes the packet program count its bytes.
    unsafe { account::tag_socket(call.socket(), owner, process()) }.ok_or(Refusal::Storage)?;
    let standing = account::standing(owner)?;
    if to.port == HTTPS_PORT {
        return Err(Refusal::Quic);
    }
    if !standing.is_shut() {
        return Ok(());
    }
    if standing.is_revoked() || to.port != DNS_PORT {
        return Err(Refusal::Datagram);
    }
    // From stopped on, the egress program counts the packet, which it sees for connected sockets too.
    if standing.state < state::STOPPED {
        count(owner.slot, Reason::DnsPassed);
    }
    Ok(())
}
