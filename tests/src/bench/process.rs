//! A process's CPU time and memory, and the core it runs on.

use std::fs;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The core of load and upstream, and the one of the proxy.
pub const LOAD_CORE: usize = 0;
pub const PROXY_CORE: usize = 1;

/// Starts something whose processes and threads are all to stay on a core, where there is more than one. They
/// inherit it, so that a proxy that asks how many cores it has is told of one.
pub fn on_core<T>(core: usize, start: impl FnOnce() -> T) -> T {
    let all = sched_getaffinity(None).ok().filter(|all| all.is_set(core) && all.count() > 1);
    let Some(all) = all else { return start() };
    let mut one = CpuSet::new();
    one.set(core);
    // Asked for a core that the host has, neither call can fail.
    let _ = sched_setaffinity(None, &one);
    let started = start();
    let _ = sched_setaffinity(None, &all);
    started
}

/// Nanoseconds of CPU that the process has used, in user and kernel mode (`/proc/PID/stat`, fields 14 and 15).
pub fn cpu_ns(pid: u32) -> u64 {
    // The kernel shows user space 100 ticks a second on every architecture with BPF (`USER_HZ`).
    ticks(pid).unwrap_or(0) * 10_000_000
}

fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields follow its last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The largest resident set that the process had, in KiB (`VmHWM`).
pub fn peak_rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
