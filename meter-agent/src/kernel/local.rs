//! What this network namespace has: its own addresses, and whether it reaches the IPv6 internet.
//!
//! Connects to the namespace's own addresses are direct, so the kernel must know them; both change at run time, and
//! [`Watch`] tells when to look again.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use tokio::io::unix::AsyncFd;

use super::{KernelError, netlink};

/// Own addresses in the kernel map at most, so that it is never filled by one namespace.
pub const ADDRESSES_MAX: usize = 1_024;

/// A namespace as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Addresses of its interfaces, loopback's 127.0.0.1 and ::1 among them; sorted.
    pub addresses: Vec<IpAddr>,
    /// Whether any IPv6 route leads beyond the host.
    pub has_ipv6_route: bool,
    /// Whether ::1 is there to listen on.
    pub has_ipv6_loopback: bool,
}

impl Local {
    /// Reads the calling thread's namespace.
    pub fn read() -> Result<Self, KernelError> {
        let mut addresses =
            interface_addresses().map_err(KernelError::system("this namespace's addresses could not be read"))?;
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        let has_ipv6_loopback = addresses.contains(&Ipv6Addr::LOCALHOST.into());
        // Absent where the kernel has no IPv6. `thread-self`: a thread may be in a namespace of its own.
        let routes = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
        Ok(Self { addresses, has_ipv6_route: has_route_beyond_host(&routes), has_ipv6_loopback })
    }
}

/// Becomes readable when an address or a route of the namespace that it was opened in changes.
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
}

impl Watch {
    /// Opens it in the calling thread's namespace. Call within a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        let groups = libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_IPV6_ROUTE | libc::RTMGRP_LINK;
        let failed = "changes of this namespace's addresses can't be watched";
        let groups = u32::try_from(groups).expect("these bits are positive");
        let socket = netlink::open(libc::NETLINK_ROUTE, groups).map_err(KernelError::system(failed))?;
        // SAFETY: the descriptor stays the same and open for as long as it is owned.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| KernelError::system(failed)(error.into()))?;
        Ok(Self { socket })
    }

    /// Waits for a change. Several at once are one; what changed is to be read anew.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut any = false;
            loop {
                match netlink::receive(ready.get_inner()) {
                    // Overrun: messages were lost, which is a change too.
                    Ok(_) => any = true,
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            ready.clear_ready();
            if any {
                return Ok(());
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.get_ref().as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.get_ref().as_raw_fd()
    }
}

fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the C library stores the list's head, which is freed below.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut entry = list;
    while !entry.is_null() {
        // SAFETY: an entry of the list, which is not freed before the loop ends.
        let interface = unsafe { &*entry };
        // SAFETY: the entry's address, or null.
        addresses.extend(unsafe { ip_of(interface.ifa_addr) });
        entry = interface.ifa_next;
    }
    // SAFETY: the head that getifaddrs stored; nothing of it is used any more.
    unsafe { libc::freeifaddrs(list) };
    Ok(addresses)
}

/// # Safety
///
/// `address` is null or points to a socket address of the size that its family has.
unsafe fn ip_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address starts with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: of this family, so of this type; it may lie unaligned.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Whether any route leads beyond the host, from `/proc/net/ipv6_route`: destination, prefix length, source, its
/// length, next hop, metric, two counters, flags, device, in hexadecimal.
///
/// Any such route counts, not only a default one: a network of unique local addresses is reachable without. Where
/// the route turns out not to lead to an address, the sidecar's dial fails as fast as the agent's would have.
fn has_route_beyond_host(table: &str) -> bool {
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [destination, _, _, _, _, _, _, _, flags, device] = fields[..] else { return false };
        let flags = u32::from_str_radix(flags, 16).unwrap_or(RTF_REJECT);
        let beyond_link = !destination.starts_with("fe80") && !destination.starts_with("ff");
        beyond_link && device != "lo" && flags & (RTF_REJECT | RTF_LOCAL) == 0
    })
}

/// `linux/ipv6_route.h` and `linux/route.h`: the address is the host's own; the route refuses.
const RTF_LOCAL: u32 = 0x8000_0000;
const RTF_REJECT: u32 = 0x0200;

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
    const DEFAULT: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n";
    const LINK: &str = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n";

    const UNIQUE_LOCAL: &str = "fd880000000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001     veth0\n";
    const OWN: &str = "fd880000000000000000000000000001 80 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000000 00000002 00000000 80200001     veth0\n";

    #[test]
    fn only_a_route_that_leaves_the_host_counts() {
        assert!(!has_route_beyond_host(""));
        assert!(!has_route_beyond_host(&format!("{LINK}{LOOPBACK}{OWN}")));
        assert!(has_route_beyond_host(&format!("{LINK}{LOOPBACK}{DEFAULT}")));
        assert!(has_route_beyond_host(&format!("{LINK}{LOOPBACK}{UNIQUE_LOCAL}")));
        assert!(!has_route_beyond_host(&DEFAULT[..DEFAULT.len() - 8]));
    }

    #[test]
    fn this_namespace_has_loopback() {
        assert!(Local::read().unwrap().addresses.contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
