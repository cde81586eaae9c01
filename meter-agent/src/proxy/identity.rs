//! Who is behind an accepted connection: account, process, destination.

use std::{fs, net::SocketAddr, sync::Arc};

use meter_common::{AccountRef, FlowRecord};

use crate::{
    ids::{AccountPath, Process},
    kernel,
};

/// `/proc/PID/stat` counts in these (`USER_HZ`, fixed by the kernel's ABI).
const TICK_NS: u64 = 10_000_000;

/// The agent's side of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) account: AccountRef,
    pub(crate) path: AccountPath,
    pub(crate) process: Arc<Process>,
    /// Where the agent wanted to go.
    pub(crate) destination: SocketAddr,
}

impl Peer {
    pub(crate) fn new(flow: &FlowRecord, path: AccountPath) -> Self {
        Self {
            account: flow.account,
            path,
            process: Arc::new(process(flow)),
            destination: SocketAddr::new(kernel::address(flow.dest_addr), flow.dest_port),
        }
    }
}

/// The process that connected. `/proc` is believed only where that process had started before the connect: a
/// later one with the same id is another process, and then the kernel's short name is all that is known.
fn process(flow: &FlowRecord) -> Process {
    let started = start_ticks(flow.pid).filter(|ticks| ticks.saturating_mul(TICK_NS) <= flow.connected_boot_ns);
    let exe = started.and_then(|_| fs::read_link(format!("/proc/{}/exe", flow.pid)).ok()).map_or_else(
        || {
            let end = flow.comm.iter().position(|b| *b == 0).unwrap_or(flow.comm.len());
            String::from_utf8_lossy(&flow.comm[..end]).into_owned()
        },
        |exe| exe.to_string_lossy().trim_end_matches(" (deleted)").to_owned(),
    );
    Process { pid: flow.pid, start_ticks: started.unwrap_or(0), exe }
}

/// Field 22 of `/proc/PID/stat`. The second field is the name, in brackets, and may hold anything.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}
