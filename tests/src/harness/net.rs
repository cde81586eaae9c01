//! A network namespace for the providers, joined to the host's by a veth pair.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::OwnedFd,
};

use rustix::{
    fs::{Mode, OFlags, open},
    process::{Pid, Signal, kill_process},
};

use super::wait::{attempt, must_run};

const NAMESPACE: &str = "msim";
const HOST_LINK: &str = "msim-host";

/// The namespace. Its names are fixed, because there is one at a time (see [`super::HostLock`]).
pub struct Net {
    /// The simulator's addresses.
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    /// A second IPv4 address of the simulator.
    pub other_v4: Ipv4Addr,
    /// An address that is routed to the namespace and answers nothing at all.
    pub dead_v6: Ipv6Addr,
    /// The host's own addresses on that link.
    pub host_v4: Ipv4Addr,
    pub host_v6: Ipv6Addr,
}

impl Net {
    pub fn new() -> Self {
        remove();
        let net = Self {
            v4: Ipv4Addr::new(10, 88, 1, 2),
            v6: Ipv6Addr::new(0xfd88, 1, 0, 0, 0, 0, 0, 2),
            other_v4: Ipv4Addr::new(10, 88, 1, 3),
            dead_v6: Ipv6Addr::new(0xfd88, 2, 0, 0, 0, 0, 0, 0xdead),
            host_v4: Ipv4Addr::new(10, 88, 1, 1),
            host_v6: Ipv6Addr::new(0xfd88, 1, 0, 0, 0, 0, 0, 1),
        };
        let Self { v4, v6, other_v4, dead_v6, host_v4, host_v6 } = &net;
        must_run(&format!("ip netns add {NAMESPACE}"));
        must_run(&format!("ip link add {HOST_LINK} type veth peer name eth0 netns {NAMESPACE}"));
        must_run(&format!("ip addr add {host_v4}/24 dev {HOST_LINK}"));
        must_run(&format!("ip addr add {host_v6}/64 dev {HOST_LINK} nodad"));
        must_run(&format!("ip link set {HOST_LINK} up"));
        must_run(&format!("ip -n {NAMESPACE} link set lo up"));
        must_run(&format!("ip -n {NAMESPACE} addr add {v4}/24 dev eth0"));
        must_run(&format!("ip -n {NAMESPACE} addr add {other_v4}/24 dev eth0"));
        must_run(&format!("ip -n {NAMESPACE} addr add {v6}/64 dev eth0 nodad"));
        must_run(&format!("ip -n {NAMESPACE} link set eth0 up"));
        must_run(&format!("ip -n {NAMESPACE} route add default via {host_v4}"));
        // Packets to it arrive in a namespace that does not forward: they vanish, as in a broken IPv6 path.
        must_run(&format!("ip -6 route add {dead_v6}/128 via {v6} dev {HOST_LINK}"));
        // The kernel tells programs in a namespace without a route that there is no IPv6; these tests have it.
        if attempt("ip -6 route show default").1.trim().is_empty() {
            must_run(&format!("ip -6 route add default via {v6} dev {HOST_LINK} metric 4096"));
        }
        net
    }

    /// Both families of the simulator's main address.
    pub fn addresses(&self) -> Vec<IpAddr> {
        vec![self.v4.into(), self.v6.into()]
    }

    /// From here on nothing that is sent from the namespace arrives, as when a provider's machine has lost its power.
    pub fn vanish(&self) {
        must_run(&format!("ip -n {NAMESPACE} route add blackhole {}/32", self.host_v4));
        must_run(&format!("ip -n {NAMESPACE} -6 route add blackhole {}/128", self.host_v6));
    }

    /// The namespace, to be entered.
    pub fn namespace(&self) -> OwnedFd {
        open(format!("/run/netns/{NAMESPACE}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .expect("the namespace was made above")
    }

    /// Name of the link on the host's side.
    pub fn host_link(&self) -> &'static str {
        HOST_LINK
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        remove();
    }
}

/// Removes what is there, also what a killed test left: the namespace's processes, and with it the links and routes.
fn remove() {
    let (_, pids) = attempt(&format!("ip netns pids {NAMESPACE}"));
    for pid in pids.lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    attempt(&format!("ip link del {HOST_LINK}"));
    attempt(&format!("ip netns del {NAMESPACE}"));
}
