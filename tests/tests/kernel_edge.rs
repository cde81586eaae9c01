//! The kernel programs and the agent's kernel edge, on the real kernel: real cgroups, sockets and namespaces.
//!
//! The sidecar is an accept loop here; what it does with a connection is not this file's matter.

#[path = "kernel_edge/cost.rs"]
mod cost;
#[path = "kernel_edge/escape.rs"]
mod escape;
#[path = "kernel_edge/harness.rs"]
mod harness;
#[path = "kernel_edge/local.rs"]
mod local;
#[path = "kernel_edge/redirect.rs"]
mod redirect;
#[path = "kernel_edge/sidecar.rs"]
mod sidecar;
#[path = "kernel_edge/wall.rs"]
mod wall;

use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::{IpAddr, TcpListener},
    process::Command,
};

use harness::{
    AGENT, ELSEWHERE, ELSEWHERE_V6, Edge, TASK, finish, go_on, line, python_in, remove_cgroup, scratch_cgroup,
};
use meter_agent::kernel::{Kernel, address, cgroup, events, sockets};
use meter_common::{HOST_SLOT, Listeners, Reason, flag, state};

/// A device to bind sockets to, removed when dropped.
struct Device;

impl Device {
    fn new() -> Self {
        let _ = Command::new("ip").args(["link", "del", "meter-t0"]).stderr(std::process::Stdio::null()).status();
        run("ip", &["link", "add", "meter-t0", "type", "veth", "peer", "name", "meter-t1"]);
        run("ip", &["link", "set", "meter-t0", "up"]);
        Self
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        run("ip", &["link", "del", "meter-t0"]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program} {arguments:?}");
}

/// An IPv4 address of this machine besides loopback's.
fn own_address() -> IpAddr {
    meter_agent::kernel::local::Local::read()
        .unwrap()
        .addresses
        .into_iter()
        .find(|address| address.is_ipv4() && !address.is_loopback())
        .expect("this machine has an address")
}
