//! The kernel's refusals on their way to the ledger: a burst of them is one row with a count.
//!
//! An agent that retries in a loop can be refused 100,000 times a second; the kernel's counters have each of them,
//! the ledger has one row per account, process, destination and reason every [`FLUSH_MS`] at most.

use std::{collections::BTreeMap, net::SocketAddr};

use meter_common::{AccountRef, Reason};
use parking_lot::Mutex;

use crate::{
    clock::Timestamp,
    exchange::{Outcome, Row},
    ids::{AccountPath, ExchangeId, Process},
    kernel::events::Refused,
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

/// How often what has gathered is written.
pub const FLUSH_MS: u64 = 500;
/// Distinct refusals kept between two flushes; a port scan beyond them is counted in one row without a destination.
const KEYS_MAX: usize = 1_024;

/// What has gathered since the last flush.
#[derive(Default)]
pub struct Refusals {
    gathered: Mutex<BTreeMap<Key, Burst>>,
}

/// Ordered, so that rows of one flush come in the same order each time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    slot: u32,
    generation: u32,
    pid: u32,
    dest: Option<SocketAddr>,
    reason: u32,
}

struct Burst {
    /// Read when the first of them came, while the process is likely to be there.
    exe: String,
    count: u64,
}

impl Refusals {
    /// Takes one event of the ring; what is no refusal (a redirect, a drop) is not kept.
    pub fn add(&self, event: &Refused) {
        if sentence(event.reason as u32).is_none() {
            return;
        }
        let AccountRef { slot, generation } = event.account;
        let dest = (event.destination.port() != 0).then_some(event.destination);
        let mut key = Key { slot, generation, pid: event.pid, dest, reason: event.reason as u32 };
        let mut gathered = self.gathered.lock();
        if gathered.len() >= KEYS_MAX && !gathered.contains_key(&key) {
            key = Key { dest: None, pid: 0, ..key };
        }
        gathered.entry(key).or_insert_with(|| Burst { exe: executable(event.pid, &event.comm), count: 0 }).count += 1;
    }

    /// The rows of what has gathered. `account_of` names the account of a reference; one that it does not know
    /// any more is written to the host, so that no refusal is lost.
    pub fn take(&self, account_of: impl Fn(AccountRef) -> Option<AccountPath>, now: Timestamp) -> Vec<Row> {
        let gathered = std::mem::take(&mut *self.gathered.lock());
        let account = |key: &Key| account_of(AccountRef { slot: key.slot, generation: key.generation });
        gathered
            .iter()
            .map(|(key, burst)| row(key, burst, account(key).unwrap_or_else(AccountPath::host), now))
            .collect()
    }
}

fn row(key: &Key, burst: &Burst, account: AccountPath, now: Timestamp) -> Row {
    Row {
        id: ExchangeId::new(),
        time: now,
        account,
        process: Process { pid: key.pid, start_ticks: 0, exe: burst.exe.clone() },
        provider: String::new(),
        endpoint: "connect".to_owned(),
        host: key.dest.map(|dest| dest.to_string()).unwrap_or_default(),
        method: String::new(),
        path: String::new(),
        model: None,
        requested_model: None,
        status: None,
        stream: false,
        usage: Usage::default(),
        usage_quality: Quality::Exact,
        held_usd: Pico::ZERO,
        cost_usd: Pico::ZERO,
        price: PriceKind::Priced,
        clamped: None,
        outcome: Outcome::RefusedKernel,
        ttfb_ms: None,
        duration_ms: 0,
        request_id: None,
        reason: sentence(key.reason).map(str::to_owned),
        count: burst.count,
    }
}

/// The executable's path if the process is still there under the name that was refused, else that name.
fn executable(pid: u32, comm: &str) -> String {
    let is_it = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim_end() == comm);
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|_| is_it);
    path.map_or_else(|| comm.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Why, for the operator; `None` for what refuses nothing.
fn sentence(reason: u32) -> Option<&'static str> {
    const SENTENCES: [(Reason, &str); 11] = [
        (Reason::RefusedSpent, "the account, or one above it, has nothing left"),
        (Reason::RefusedRevoked, "the account, or one above it, is revoked or closed"),
        (Reason::RefusedStale, "the account of the socket no longer exists"),
        (Reason::RefusedNamespace, "the sidecar has no listener in this network namespace"),
        (Reason::RefusedSidecar, "the sidecar did not answer in time"),
        (Reason::RefusedListener, "the destination was one of the sidecar's own listeners"),
        (Reason::RefusedStorage, "the socket could not be tagged"),
        (Reason::RefusedBind, "the port is one of the sidecar's"),
        (Reason::RefusedSocket, "a socket of this kind would escape the meter"),
        (Reason::RefusedDatagram, "a datagram of an account that is not open"),
        (Reason::RefusedQuic, "QUIC can't be metered; the client falls back to TCP"),
    ];
    SENTENCES.iter().find(|(known, _)| *known as u32 == reason).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(port: u16, reason: Reason) -> Refused {
        Refused {
            account: AccountRef { slot: 3, generation: 1 },
            at_boot_ns: 0,
            destination: ([192, 0, 2, 1], port).into(),
            reason,
            pid: u32::MAX,
            comm: "curl".to_owned(),
        }
    }

    fn known(_: AccountRef) -> Option<AccountPath> {
        "research".parse().ok()
    }

    #[test]
    fn a_burst_is_one_row_with_its_count() {
        let refusals = Refusals::default();
        for _ in 0..5 {
            refusals.add(&event(443, Reason::RefusedSpent));
        }
        refusals.add(&event(80, Reason::RefusedSpent));
        refusals.add(&event(443, Reason::Redirected));
        let rows = refusals.take(known, Timestamp::default());
        let shown: Vec<_> = rows.iter().map(|r| (r.host.as_str(), r.count, r.process.exe.as_str())).collect();
        assert_eq!(shown, [("192.0.2.1:80", 1, "curl"), ("192.0.2.1:443", 5, "curl")]);
        assert!(rows.iter().all(|r| r.outcome == Outcome::RefusedKernel && r.account.as_str() == "research"));
        assert!(refusals.take(known, Timestamp::default()).is_empty());
    }

    #[test]
    fn a_scan_of_many_ports_stays_bounded_and_loses_no_refusal() {
        let refusals = Refusals::default();
        for port in 1..=3_000 {
            refusals.add(&event(port, Reason::RefusedSpent));
        }
        let rows = refusals.take(|_| None, Timestamp::default());
        assert_eq!(rows.len(), KEYS_MAX + 1);
        assert_eq!(rows.iter().map(|r| r.count).sum::<u64>(), 3_000);
        assert!(rows.iter().all(|r| r.account.is_host()));
    }
}
