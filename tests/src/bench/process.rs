//! A process's CPU time and memory, and the core it runs on.

use std::{fs, process::Command};

/// The core of load and upstream, and the one of the proxy.
pub const LOAD_CORE: &str = "0";
pub const PROXY_CORE: &str = "1";

/// Binds all threads of a process to a core, where there is more than one.
pub fn pin(pid: u32, core: &str) {
    // On a host with one core this fails, as said above.
    let _ = Command::new("taskset").args(["-a", "-c", "-p", core, &pid.to_string()]).output();
}

/// Nanoseconds of CPU that the processes have used, in user and kernel mode (`/proc/PID/stat`, fields 14 and 15).
pub fn cpu_ns(pids: &[u32]) -> u64 {
    let ticks: u64 = pids.iter().filter_map(|pid| ticks(*pid)).sum();
    // The kernel shows user space 100 ticks a second on every architecture with BPF (`USER_HZ`).
    ticks * 10_000_000
}

fn ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields follow its last one.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The largest resident set that the processes had, in KiB (`VmHWM`).
pub fn peak_rss_kib(pids: &[u32]) -> u64 {
    pids.iter()
        .filter_map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}
