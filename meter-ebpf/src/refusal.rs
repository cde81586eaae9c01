//! From a refusal to the kernel's verdict: the errno, the counter and the record on the ring, in one place.

use aya_ebpf::helpers::{
    bpf_get_current_comm,
    generated::{bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns, bpf_set_retval},
};
use meter_common::{AccountRef, Event, HOST_SLOT, Reason};

use crate::{
    account::{Stale, Standing},
    address::Address,
    atomics,
    maps::{COUNTERS, EVENTS},
};

/// Verdicts of the cgroup hooks.
pub const PASS: i32 = 1;
pub const REFUSE: i32 = 0;

const EACCES: i32 = 13;
const EPROTONOSUPPORT: i32 = 93;
const ENETUNREACH: i32 = 101;
const ECONNREFUSED: i32 = 111;

/// Why a call is refused.
#[derive(Clone, Copy)]
pub enum Refusal {
    Spent,
    Revoked,
    Stale,
    Namespace,
    Sidecar,
    Listener,
    Storage,
    Bind,
    Socket,
    Datagram,
    Quic,
    NoIpv6Route,
}

impl From<Stale> for Refusal {
    #[inline(always)]
    fn from(Stale: Stale) -> Self {
        Self::Stale
    }
}

/// Where a call wanted to go.
#[derive(Clone, Copy)]
pub struct Destination {
    pub address: Address,
    /// Host byte order.
    pub port: u16,
}

impl Destination {
    pub const NONE: Self = Self { address: Address([0; 4]), port: 0 };
}

/// What a new connection to an account in this standing meets.
#[inline(always)]
pub fn unless_open(standing: Standing) -> Result<(), Refusal> {
    if standing.is_revoked() {
        Err(Refusal::Revoked)
    } else if standing.is_shut() {
        Err(Refusal::Spent)
    } else {
        Ok(())
    }
}

/// Refuses for the account: sets the errno that the caller sees, counts, and tells the ring.
#[inline(always)]
pub fn refuse(account: AccountRef, destination: Destination, refusal: Refusal) -> i32 {
    let (reason, errno, told) = match refusal {
        Refusal::Spent => (Reason::RefusedSpent, ECONNREFUSED, true),
        Refusal::Revoked => (Reason::RefusedRevoked, ECONNREFUSED, true),
        Refusal::Stale => (Reason::RefusedStale, ECONNREFUSED, true),
        Refusal::Namespace => (Reason::RefusedNamespace, ECONNREFUSED, true),
        Refusal::Sidecar => (Reason::RefusedSidecar, ECONNREFUSED, true),
        Refusal::Listener => (Reason::RefusedListener, ECONNREFUSED, true),
        Refusal::Storage => (Reason::RefusedStorage, ECONNREFUSED, true),
        Refusal::Bind => (Reason::RefusedBind, EACCES, true),
        Refusal::Socket => (Reason::RefusedSocket, EPROTONOSUPPORT, true),
        Refusal::Datagram => (Reason::RefusedDatagram, ECONNREFUSED, true),
        Refusal::Quic => (Reason::RefusedQuic, ECONNREFUSED, true),
        // What the kernel alone would have answered, and every dual-stack name asks for it: no news.
        Refusal::NoIpv6Route => (Reason::NoIpv6Route, ENETUNREACH, false),
    };
    // A stale reference's slot is another account's by now; its refusals are the host's.
    let slot = if let Refusal::Stale = refusal { HOST_SLOT } else { account.slot };
    count(slot, reason);
    if told {
        tell(account, destination, reason);
    }
    // SAFETY: takes a number. Where it fails, the verdict alone makes the call fail with EPERM.
    unsafe { bpf_set_retval(-errno) };
    REFUSE
}

/// Counts one more of `reason` for the slot.
#[inline(always)]
pub fn count(slot: u32, reason: Reason) {
    if let Some(counters) = COUNTERS.get_ptr_mut(slot) {
        // SAFETY: `Reason`s index `counts`, which lies in a live map value.
        unsafe { atomics::add((&raw mut (*counters).counts).cast::<u64>().add(reason as usize), 1) };
    }
}

/// Who calls: the process, not the thread.
#[inline(always)]
pub fn process() -> u32 {
    // SAFETY: takes nothing and gives a number.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// Puts the refusal on the ring. A full ring loses the record and not the count.
#[inline(always)]
fn tell(account: AccountRef, destination: Destination, reason: Reason) {
    let Some(mut record) = EVENTS.reserve_untyped::<Event>(0) else { return };
    record.write(Event {
        account,
        // SAFETY: takes nothing and gives a number.
        at_boot_ns: unsafe { bpf_ktime_get_boot_ns() },
        dest_addr: destination.address.bytes(),
        dest_port: destination.port,
        reserved: 0,
        reason: reason as u32,
        pid: process(),
        reserved2: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    });
    record.submit(0);
}
