//! The kernel edge: the only place that knows aya.
//!
//! [`Kernel`] is what stands above it uses: loading and taking over, the balances as mapped memory, and the maps as
//! plain functions. It decides nothing about accounts; whom a slot belongs to is the cashier's to know. Fails closed:
//! what can't be attached is an error that stops the start.

mod book;
pub mod cgroup;
pub mod checks;
mod counters;
mod error;
pub mod events;
mod flows;
mod load;
pub mod local;
pub mod marks;
mod mounts;
mod netlink;
pub mod netns;
pub mod sockets;
pub mod stats;
mod sys;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use meter_common::{AccountRef, Balance, Counters, FlowRecord, Listeners, LocalKey, SLOTS, map};

use self::{
    book::{MappedBook, MappedStatus},
    load::Attached,
};
pub use self::{cgroup::CgroupTree, error::KernelError, events::EventReader};
use crate::clock;

/// The `BALANCES` map as the cashier uses it. The kernel's implementation stores into the mapped page.
pub trait Book: Send + Sync + 'static {
    /// Publishes a slot's record: every field by an atomic store, `generation` and `state` in an order that never
    /// shows an open account with another one's balance.
    fn publish(&self, slot: u32, record: &Balance);
    /// The record as it stands, which is what survived when the sidecar was restarted.
    fn read(&self, slot: u32) -> Balance;
}

/// The attached programs and their maps. Dropping it detaches nothing: enforcement outlives the sidecar.
pub struct Kernel {
    maps: Vec<(&'static str, OwnedFd)>,
    book: Arc<MappedBook>,
    status: MappedStatus,
    survived: bool,
}

impl Kernel {
    /// Loads and attaches, or takes over what an earlier sidecar of this boot left pinned.
    pub fn attach() -> Result<Self, KernelError> {
        let Attached { maps, survived } = load::attach()?;
        let book = MappedBook::new(fd_of(&maps, map::BALANCES)).map_err(KernelError::map(map::BALANCES, "mapped"))?;
        let status = MappedStatus::new(fd_of(&maps, map::STATUS)).map_err(KernelError::map(map::STATUS, "mapped"))?;
        Ok(Self { maps, book: Arc::new(book), status, survived })
    }

    /// Whether another sidecar serves on this machine: attaching would take its enforcement over.
    pub fn another_is_alive() -> Result<bool, KernelError> {
        load::is_alive()
    }

    /// Whether the maps of an earlier sidecar of this boot were reused.
    pub fn survived(&self) -> bool {
        self.survived
    }

    pub fn book(&self) -> Arc<dyn Book> {
        self.book.clone()
    }

    /// The sidecar lives. Connects are refused when this is not called for `HEARTBEAT_STALE_NS`.
    pub fn heartbeat(&self) {
        self.status.set_heartbeat(clock::monotonic_ns());
    }

    /// The sidecar ends: nobody has to wait until its last heartbeat is stale, neither the next one nor the agents'
    /// connects, which are refused from here on.
    pub fn end_heartbeat(&self) {
        self.status.set_heartbeat(0);
    }

    /// `on_sidecar_loss = "direct"`: whether connects go direct, and unmetered, while the sidecar is lost.
    pub fn set_loss_direct(&self, direct: bool) {
        self.status.set_loss_direct(direct);
    }

    /// Announces the listeners in a namespace; until then its accounts' connects are refused. Unused ports are 0.
    pub fn set_listeners(&self, netns_cookie: u64, listeners: Listeners) -> Result<(), KernelError> {
        // A place left empty would send connections to port 0.
        let first = listeners.ports[0];
        let ports = listeners.ports.map(|port| if port == 0 { first } else { port });
        sys::update(self.fd(map::LISTENERS), &netns_cookie, &Listeners { ports, ..listeners })
            .map_err(KernelError::map(map::LISTENERS, "written"))
    }

    pub fn clear_listeners(&self, netns_cookie: u64) -> Result<(), KernelError> {
        sys::delete(self.fd(map::LISTENERS), &netns_cookie)
            .map(drop)
            .map_err(KernelError::map(map::LISTENERS, "written"))
    }

    /// Deletes the records of connections that nobody will accept any more; returns how many there were.
    pub fn clear_flows(&self) -> Result<usize, KernelError> {
        flows::clear(self.fd(map::FLOWS)).map_err(KernelError::map(map::FLOWS, "cleared"))
    }

    /// Deletes the records of connects older than this: established, and yet never accepted, because the queue of a
    /// listener overflowed. To be called about once a minute; returns how many there were.
    pub fn sweep_flows(&self, age: std::time::Duration) -> Result<usize, KernelError> {
        let age_ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        flows::sweep(self.fd(map::FLOWS), clock::boot_ns().saturating_sub(age_ns))
            .map_err(KernelError::map(map::FLOWS, "swept"))
    }

    /// Who is at the other end of an accepted connection: looks the record up and deletes it. `peer` is the accepted
    /// socket's peer, `listener` its local port. `None` is refused by resetting the connection.
    pub fn take_flow(&self, netns_cookie: u64, peer: SocketAddr, listener: u16) -> Option<FlowRecord> {
        match flows::take(self.fd(map::FLOWS), netns_cookie, peer, listener) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(%error, "the kernel map FLOWS could not be read");
                None
            }
        }
    }

    /// From now on the processes of that cgroup, and of those below it, are the account's. The root cgroup can't be bound.
    pub fn bind_cgroup(&self, cgroup_id: u64, account: AccountRef) -> Result<(), KernelError> {
        sys::update(self.fd(map::ACCOUNTS), &cgroup_id, &account).map_err(|source| match source.raw_os_error() {
            Some(libc::E2BIG) => KernelError::Full { max: SLOTS },
            Some(_) | None => KernelError::map(map::ACCOUNTS, "written")(source),
        })
    }

    /// The account that a cgroup is bound to; those above it are not looked at.
    pub fn bound_to(&self, cgroup_id: u64) -> Result<Option<AccountRef>, KernelError> {
        sys::look_up(self.fd(map::ACCOUNTS), &cgroup_id).map_err(KernelError::map(map::ACCOUNTS, "read"))
    }

    pub fn unbind_cgroup(&self, cgroup_id: u64) -> Result<(), KernelError> {
        sys::delete(self.fd(map::ACCOUNTS), &cgroup_id).map(drop).map_err(KernelError::map(map::ACCOUNTS, "written"))
    }

    pub fn bound_cgroups(&self) -> Result<Vec<(u64, AccountRef)>, KernelError> {
        let accounts = self.fd(map::ACCOUNTS);
        let read = || -> std::io::Result<Vec<(u64, AccountRef)>> {
            let mut bound = Vec::new();
            for id in sys::keys::<u64>(accounts)? {
                bound.extend(sys::look_up(accounts, &id)?.map(|account| (id, account)));
            }
            Ok(bound)
        };
        read().map_err(KernelError::map(map::ACCOUNTS, "read"))
    }

    /// What the kernel counted for the slot alone; the slots below it are not in it.
    pub fn counters(&self, slot: u32) -> Result<Counters, KernelError> {
        counters::read(self.fd(map::COUNTERS), slot).map_err(KernelError::map(map::COUNTERS, "read"))
    }

    pub fn reset_counters(&self, slot: u32) -> Result<(), KernelError> {
        counters::reset(self.fd(map::COUNTERS), slot).map_err(KernelError::map(map::COUNTERS, "written"))
    }

    /// Sets a namespace's own addresses, which are direct, and those that host entries name (port 0 for every port),
    /// which are redirected in spite of that. What was set before and is not named again goes.
    ///
    /// `direct` is [`local::Local`]'s addresses.
    pub fn set_locals(
        &self,
        netns_cookie: u64,
        direct: &[IpAddr],
        metered: &[(IpAddr, u16)],
    ) -> Result<(), KernelError> {
        let key = |ip: &IpAddr, port| LocalKey { netns_cookie, addr: mapped(*ip), port, reserved: [0; 3] };
        let mut wanted: Vec<(LocalKey, u32)> =
            metered.iter().map(|(ip, port)| (key(ip, *port), meter_common::local::METERED)).collect();
        for ip in direct {
            let key = key(ip, 0);
            if !wanted.iter().any(|(metered, _)| *metered == key) {
                wanted.push((key, meter_common::local::DIRECT));
            }
        }
        self.replace_locals(netns_cookie, &wanted).map_err(KernelError::map(map::LOCALS, "written"))
    }

    fn replace_locals(&self, netns_cookie: u64, wanted: &[(LocalKey, u32)]) -> std::io::Result<()> {
        let locals = self.fd(map::LOCALS);
        // New ones first: an address that stays is never missing in between.
        for (key, value) in wanted {
            sys::update(locals, key, value)?;
        }
        for key in sys::keys::<LocalKey>(locals)? {
            if key.netns_cookie == netns_cookie && !wanted.iter().any(|(kept, _)| *kept == key) {
                sys::delete(locals, &key)?;
            }
        }
        Ok(())
    }

    /// The ring of refusals. Take one reader: two would each miss what the other takes.
    pub fn events(&self) -> Result<EventReader, KernelError> {
        EventReader::open()
    }

    /// Detaches everything and removes what is pinned, and the cgroups of meter that are empty. Returns whether
    /// anything was there to remove. A cgroup with processes in it stays: without a binding it is a folder like any
    /// other.
    pub fn uninstall() -> Result<bool, KernelError> {
        if !rustix::process::geteuid().is_root() {
            return Err(KernelError::NotRoot);
        }
        let was_pinned = load::remove()?;
        let had_cgroups = CgroupTree::find()?.remove_all();
        Ok(was_pinned || had_cgroups)
    }

    fn fd(&self, name: &'static str) -> BorrowedFd<'_> {
        fd_of(&self.maps, name)
    }
}

fn fd_of<'a>(maps: &'a [(&'static str, OwnedFd)], name: &'static str) -> BorrowedFd<'a> {
    maps.iter().find(|(known, _)| *known == name).map(|(_, fd)| fd.as_fd()).expect("every map's name is in `map::ALL`")
}

/// An address as the kernel's records have it: IPv4 as v4-mapped.
pub fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The address of a kernel record: v4-mapped as IPv4.
pub fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}
