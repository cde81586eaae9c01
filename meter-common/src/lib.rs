//! The types that the kernel programs (`meter-ebpf`) and the agent (`meter-agent`) share.
//!
//! Everything here crosses the kernel boundary as raw bytes, so a struct is `repr(C)`, holds only
//! integers and byte arrays, names its padding, and has its size and offsets asserted at compile time.
//! Any change of a layout or of a meaning raises [`ABI_VERSION`], which the loader compares with what
//! is pinned before it touches it.

#![no_std]

use core::mem::{offset_of, size_of};

/// Version of every layout and meaning in this file; stored in [`Status`] and compared at load.
pub const ABI_VERSION: u32 = 1;

/// Accounts that can be bound to the kernel at one time: 1 MiB of [`Balance`] records.
pub const SLOTS: u32 = 16_384;
/// The host's slot: the root of every path, and the global stop.
pub const HOST_SLOT: u32 = 0;
/// Accounts on one path from a task to the host, both included.
pub const PATH_DEPTH: u32 = 8;
/// Levels of the cgroup tree that are looked at for an account, counted from the root. An account's
/// cgroup lies within these levels; what lies below it may be as deep as it likes.
pub const CGROUP_LEVELS: u32 = 16;
/// Listener ports per network namespace.
pub const PORTS: usize = 4;
/// A heartbeat older than this means that the sidecar hangs, and redirected connects are refused.
pub const HEARTBEAT_STALE_NS: u64 = 3_000_000_000;
/// Flow records that can wait for their accept at one time.
pub const FLOWS_MAX: u32 = 65_536;

/// Bytes of the `EVENTS` ring: some 3,600 refusals between two reads; what does not fit is counted all the same.
pub const EVENTS_BYTES: u32 = 256 * 1024;
/// Addresses of all namespaces together that are direct or metered by name.
pub const LOCALS_MAX: u32 = 16_384;
/// Network namespaces with listeners.
pub const NAMESPACES_MAX: u32 = 4_096;

/// Names of the maps, as the programs define them and as they are pinned.
pub mod map {
    pub const ACCOUNTS: &str = "ACCOUNTS";
    pub const BALANCES: &str = "BALANCES";
    pub const COUNTERS: &str = "COUNTERS";
    pub const FLOWS: &str = "FLOWS";
    pub const LISTENERS: &str = "LISTENERS";
    pub const LOCALS: &str = "LOCALS";
    pub const EVENTS: &str = "EVENTS";
    pub const STATUS: &str = "STATUS";
    pub const SOCKETS: &str = "SOCKETS";
    /// Every one of them. `STATUS` is last: it is pinned last, so that finding it means finding all of them.
    pub const ALL: [&str; 9] = [ACCOUNTS, BALANCES, COUNTERS, FLOWS, LISTENERS, LOCALS, EVENTS, SOCKETS, STATUS];
}

/// `remaining` of an account that no `any` limit falls on.
pub const UNLIMITED: i64 = i64::MAX;

/// What the kernel enforces for an account; the strictest on the path to the host wins.
pub mod state {
    /// No account owns the slot: whatever still refers to it is refused.
    pub const FREE: u32 = 0;
    /// Connects pass while `remaining` is positive.
    pub const OPEN: u32 = 1;
    /// Nothing new: connects are refused; what was admitted finishes.
    pub const DRAINING: u32 = 2;
    /// Connects are refused and packets drop, except DNS.
    pub const STOPPED: u32 = 3;
    /// Connects are refused and packets drop, DNS included.
    pub const REVOKED: u32 = 4;
    /// As revoked; the task has ended.
    pub const CLOSED: u32 = 5;
}

/// Bits of [`Balance::flags`].
pub mod flag {
    /// `wall = "requests"`: a spent balance refuses priced requests only, connects go on.
    pub const WALL_REQUESTS: u32 = 1;
}

/// One account as the kernel sees it. Written by the sidecar alone, by atomic stores into the mapped page.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Pico-dollars: the smallest `limit - spent` over the account's limits of category `any`.
    pub remaining: i64,
    /// Pico-dollars ever spent; never falls.
    pub spent: i64,
    /// Pico-dollars ever set aside; only rises, and wraps.
    pub hold_granted: i64,
    /// Pico-dollars of holds ever ended, however they ended; only rises, and wraps. Outstanding is the difference.
    pub hold_ended: i64,
    /// Raised each time the slot changes hands; a reference with another one is stale.
    pub generation: u32,
    /// Slot of the parent; the host is its own.
    pub parent: u32,
    /// One of [`state`].
    pub state: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    pub reserved: [u64; 2],
}

/// A slot as others refer to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AccountRef {
    pub slot: u32,
    pub generation: u32,
}

/// What a socket remembers: whose it is, and where it wanted to go before it was redirected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketTag {
    pub account: AccountRef,
    /// Process (tgid) that made the socket, replaced by the one that connects it.
    pub pid: u32,
    /// Bits of [`tag`].
    pub flags: u32,
    /// The destination asked for; IPv4 as v4-mapped. Zero before a connect.
    pub dest_addr: [u8; 16],
    /// Key under which the flow record was published, to take it back at close. Its `listener` is known from
    /// the connect on, the rest once the connection has a local port.
    pub flow: FlowKey,
    /// `CLOCK_BOOTTIME` of the connect.
    pub connected_boot_ns: u64,
    /// The kernel's name of the thread that connected.
    pub comm: [u8; 16],
    /// Host byte order.
    pub dest_port: u16,
    pub reserved: [u16; 3],
}

/// Bits of [`SocketTag::flags`].
pub mod tag {
    /// The connect was redirected; `dest_*` is what getpeername shows.
    pub const REDIRECTED: u32 = 1;
    /// The destination was given as an `AF_INET6` address.
    pub const DEST_V6: u32 = 2;
    /// `flow` is published.
    pub const FLOW: u32 = 4;
}

/// Names one redirected connection as its accept sees it: the peer's address in its namespace, and the port it was
/// accepted on, because the kernel gives one local port to connections to different listeners at the same time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub netns_cookie: u64,
    /// IPv4 as v4-mapped.
    pub addr: [u8; 16],
    /// Host byte order.
    pub port: u16,
    /// Which of [`Listeners::ports`]; host byte order.
    pub listener: u16,
    pub reserved: [u16; 2],
}

/// What the sidecar learns about a connection it accepts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    pub account: AccountRef,
    /// `CLOCK_BOOTTIME` of the connect: a process that started later is not the one that connected.
    pub connected_boot_ns: u64,
    /// IPv4 as v4-mapped.
    pub dest_addr: [u8; 16],
    /// Host byte order.
    pub dest_port: u16,
    pub reserved: u16,
    /// Process (tgid) that called connect.
    pub pid: u32,
    /// The kernel's name of that thread, for when the process is gone before its executable is read.
    pub comm: [u8; 16],
}

/// The sidecar's listeners in one network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Host byte order; all of them are open on 127.0.0.1 and, where the namespace has IPv6, on ::1.
    pub ports: [u16; PORTS],
    /// 1 when the namespace has a route to the IPv6 internet.
    pub ipv6_route: u32,
    /// 1 when the listeners on ::1 are open.
    pub ipv6_listeners: u32,
}

/// An address that is not redirected because it is the namespace's own, or is in spite of that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocalKey {
    pub netns_cookie: u64,
    /// IPv4 as v4-mapped.
    pub addr: [u8; 16],
    /// Host byte order; 0 stands for every port.
    pub port: u16,
    pub reserved: [u16; 3],
}

/// Values of the map keyed by [`LocalKey`].
pub mod local {
    /// The namespace's own address: direct, obeying the account's state.
    pub const DIRECT: u32 = 1;
    /// A `[[host]]` entry names it: redirected like any other.
    pub const METERED: u32 = 2;
}

/// The single record of the `STATUS` map, mapped by the sidecar.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub abi_version: u32,
    /// 1: with the sidecar gone or hung, connects go direct (`on_sidecar_loss = "direct"`).
    pub loss_direct: u32,
    /// `CLOCK_MONOTONIC` of the sidecar's last sign of life.
    pub heartbeat_ns: u64,
    /// `/proc/sys/kernel/random/boot_id`, as bytes.
    pub boot_id: [u8; 16],
}

/// Why the kernel refused, dropped or passed something: the index into [`Counters::counts`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Connect redirected to the sidecar.
    Redirected = 0,
    /// Connect to loopback or the namespace's own address, left alone.
    Direct = 1,
    /// DNS of a stopped account, passed.
    DnsPassed = 2,
    /// Connect refused: the account, or one above it, is not open or has nothing left.
    RefusedSpent = 3,
    /// Connect refused: revoked or closed.
    RefusedRevoked = 4,
    /// Refused: the reference's generation is not the slot's.
    RefusedStale = 5,
    /// Connect refused: no listener in this network namespace.
    RefusedNamespace = 6,
    /// Connect refused: the sidecar's heartbeat is stale.
    RefusedSidecar = 7,
    /// Connect to one of the sidecar's own listeners refused.
    RefusedListener = 8,
    /// Connect refused: the socket's storage or its device binding could not be changed.
    RefusedStorage = 9,
    /// Bind to one of the sidecar's ports refused.
    RefusedBind = 10,
    /// Socket of a kind that would escape the meter refused.
    RefusedSocket = 11,
    /// Datagram refused: account not open.
    RefusedDatagram = 12,
    /// Datagram to port 443 refused, sent by itself.
    RefusedQuic = 13,
    /// IPv6 connect refused: the namespace has no IPv6 route.
    NoIpv6Route = 14,
    /// The flow record could not be published; the accept finds none and resets.
    FlowLost = 15,
    /// Packet dropped: account stopped, revoked or closed.
    DroppedState = 16,
    /// Packet dropped: connected UDP to port 443.
    DroppedQuic = 17,
}

/// Number of [`Reason`]s.
pub const REASONS: usize = 18;

impl Reason {
    /// All of them, each at its own index.
    pub const ALL: [Self; REASONS] = [
        Self::Redirected,
        Self::Direct,
        Self::DnsPassed,
        Self::RefusedSpent,
        Self::RefusedRevoked,
        Self::RefusedStale,
        Self::RefusedNamespace,
        Self::RefusedSidecar,
        Self::RefusedListener,
        Self::RefusedStorage,
        Self::RefusedBind,
        Self::RefusedSocket,
        Self::RefusedDatagram,
        Self::RefusedQuic,
        Self::NoIpv6Route,
        Self::FlowLost,
        Self::DroppedState,
        Self::DroppedQuic,
    ];

    /// `None` for a number that is no reason's.
    pub fn from_u32(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// Per-CPU, by slot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub counts: [u64; REASONS],
    /// From the IP header on, at the agent's end of each connection.
    pub egress_bytes: u64,
    pub ingress_bytes: u64,
}

impl Counters {
    pub fn of(&self, reason: Reason) -> u64 {
        self.counts[reason as usize]
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.egress_bytes += other.egress_bytes;
        self.ingress_bytes += other.ingress_bytes;
        self
    }
}

/// One refusal, on the `EVENTS` ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub account: AccountRef,
    /// `CLOCK_BOOTTIME`.
    pub at_boot_ns: u64,
    /// IPv4 as v4-mapped.
    pub dest_addr: [u8; 16],
    /// Host byte order.
    pub dest_port: u16,
    pub reserved: u16,
    /// A [`Reason`].
    pub reason: u32,
    pub pid: u32,
    pub reserved2: u32,
    pub comm: [u8; 16],
}

const _: () = {
    assert!(size_of::<Balance>() == 64);
    assert!(offset_of!(Balance, generation) == 32);
    assert!(offset_of!(Balance, state) == 40);
    assert!(size_of::<AccountRef>() == 8);
    assert!(size_of::<FlowKey>() == 32);
    assert!(offset_of!(FlowKey, port) == 24);
    assert!(offset_of!(FlowKey, listener) == 26);
    assert!(size_of::<SocketTag>() == 96);
    assert!(offset_of!(SocketTag, flow) == 32);
    assert!(offset_of!(SocketTag, dest_port) == 88);
    assert!(size_of::<FlowRecord>() == 56);
    assert!(offset_of!(FlowRecord, pid) == 36);
    assert!(size_of::<Listeners>() == 16);
    assert!(size_of::<LocalKey>() == 32);
    assert!(size_of::<Status>() == 32);
    assert!(size_of::<Counters>() == 8 * (REASONS + 2));
    assert!(size_of::<Event>() == 64);
    let mut index = 0;
    while index < REASONS {
        assert!(Reason::ALL[index] as usize == index);
        index += 1;
    }
};
