//! The kernel's refusals on their way to the ledger: a burst of them is one row with a count.
//!
//! An agent that retries in a loop can be refused 100,000 times a second; the kernel's counters have each of them,
//! the ledger has one row per account, process, destination and reason every [`FLUSH_MS`] at most, and of one account
//! [`ROWS_PER_SECOND_MAX`] in a second, so that one that is noisy neither fills the ledger nor hides others.

use std::{collections::BTreeMap, net::SocketAddr};

use meter_common::{AccountRef, Reason};
use parking_lot::Mutex;

use crate::{
    clock::Timestamp,
    exchange::{Detail, LLM, Outcome, Row},
    ids::{AccountPath, ExchangeId, Process},
    kernel::events::Refused,
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

/// How often what has gathered is written.
pub const FLUSH_MS: u64 = 500;
/// Rows of one account within one second of the clock: more than a person reads, and few enough that an agent that
/// scans ports for a day writes no more than a few gigabytes.
pub const ROWS_PER_SECOND_MAX: usize = 128;
/// Distinct refusals of one account that wait. Those beyond are counted in rows without a process and a destination, one
/// per reason, for which room is left: what waits fits one second's rows.
const KEYS_MAX: usize = ROWS_PER_SECOND_MAX - SENTENCES.len();
/// Distinct refusals of all accounts that wait: a bound of memory, which takes more than a hundred noisy accounts.
const ALL_KEYS_MAX: usize = 16_384;

/// What has gathered since the last flush.
#[derive(Default)]
pub struct Refusals {
    gathered: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    /// By slot and generation; ordered, so that rows of one flush come in the same order each time.
    accounts: BTreeMap<(u32, u32), OfAccount>,
    /// Distinct refusals in all of them.
    keys: usize,
}

#[derive(Default)]
struct OfAccount {
    bursts: BTreeMap<Key, Burst>,
    /// The second in which rows were written last, and how many.
    second: i64,
    written: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
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
        let mut gathered = self.gathered.lock();
        let Gathered { accounts, keys } = &mut *gathered;
        let bursts = &mut accounts.entry((slot, generation)).or_default().bursts;
        let mut key = Key { pid: event.pid, dest, reason: event.reason as u32 };
        if (bursts.len() >= KEYS_MAX || *keys >= ALL_KEYS_MAX) && !bursts.contains_key(&key) {
            key = Key { dest: None, pid: 0, ..key };
        }
        let before = bursts.len();
        bursts.entry(key).or_insert_with(|| Burst { exe: executable(event.pid, &event.comm), count: 0 }).count += 1;
        *keys += bursts.len() - before;
    }

    /// The rows of what has gathered; what an account has beyond its rows of this second waits for the next.
    /// `account_of` names the account of a reference; one that it does not know any more is written to the host, so
    /// that no refusal is lost.
    pub fn take(&self, account_of: impl Fn(AccountRef) -> Option<AccountPath>, now: Timestamp) -> Vec<Row> {
        let mut due = Vec::new();
        let mut gathered = self.gathered.lock();
        gathered.accounts.retain(|&(slot, generation), of| {
            due.extend(of.due(now).into_iter().map(|burst| (AccountRef { slot, generation }, burst)));
            of.written > 0 || !of.bursts.is_empty()
        });
        gathered.keys -= due.len();
        drop(gathered);
        let named = |account| account_of(account).unwrap_or_else(AccountPath::host);
        due.iter().map(|(account, (key, burst))| row(key, burst, named(*account), now)).collect()
    }
}

impl OfAccount {
    /// What may be written now: all of it or nothing.
    fn due(&mut self, now: Timestamp) -> BTreeMap<Key, Burst> {
        let second = now.micros().div_euclid(1_000_000);
        if second != self.second {
            (self.second, self.written) = (second, 0);
        }
        if self.written + self.bursts.len() > ROWS_PER_SECOND_MAX {
            return BTreeMap::new();
        }
        self.written += self.bursts.len();
        std::mem::take(&mut self.bursts)
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
        category: LLM.to_owned(),
        notional_usd: None,
        detail: Detail::default(),
        corrects: None,
    }
}

/// The executable's path if the process is still there under the name that was refused, else that name.
fn executable(pid: u32, comm: &str) -> String {
    let is_it = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim_end() == comm);
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok().filter(|_| is_it);
    path.map_or_else(|| comm.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// Why, for the operator.
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

/// `None` for what refuses nothing.
fn sentence(reason: u32) -> Option<&'static str> {
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

    /// A scan of so many ports by the account in a slot.
    fn scan(refusals: &Refusals, slot: u32, ports: u16) {
        for port in 1..=ports {
            let account = AccountRef { slot, generation: 1 };
            refusals.add(&Refused { account, ..event(port, Reason::RefusedSpent) });
        }
    }

    fn by_slot(account: AccountRef) -> Option<AccountPath> {
        format!("a{}", account.slot).parse().ok()
    }

    fn second(n: i64) -> Timestamp {
        Timestamp::from_micros(n * 1_000_000)
    }

    #[test]
    fn a_scan_of_many_ports_stays_bounded_and_loses_no_refusal() {
        let refusals = Refusals::default();
        scan(&refusals, 3, 3_000);
        let rows = refusals.take(|_| None, second(1));
        assert_eq!(rows.len(), KEYS_MAX + 1);
        assert_eq!(rows.iter().map(|r| r.count).sum::<u64>(), 3_000);
        assert!(rows.iter().all(|r| r.account.is_host()));
    }

    #[test]
    fn a_noisy_account_takes_nothing_from_another() {
        let refusals = Refusals::default();
        scan(&refusals, 1, 60_000);
        scan(&refusals, 2, 5);
        let rows = refusals.take(by_slot, second(1));
        let other = rows.iter().filter(|r| r.account.as_str() == "a2");
        assert_eq!(other.map(|r| r.host.as_str()).collect::<Vec<_>>(), (1..=5).map(host).collect::<Vec<_>>());
    }

    fn host(port: u16) -> String {
        format!("192.0.2.1:{port}")
    }

    #[test]
    fn however_often_it_is_flushed_a_second_has_so_many_rows_of_an_account_and_the_next_has_the_rest() {
        let refusals = Refusals::default();
        let (mut rows, mut count) = (0, 0);
        for _ in 0..50 {
            scan(&refusals, 1, 100);
            let taken = refusals.take(by_slot, second(1));
            rows += taken.len();
            count += taken.iter().map(|r| r.count).sum::<u64>();
        }
        assert!(rows <= ROWS_PER_SECOND_MAX, "{rows}");
        count += refusals.take(by_slot, second(2)).iter().map(|r| r.count).sum::<u64>();
        assert_eq!(count, 5_000);
        assert!(refusals.take(by_slot, second(3)).is_empty());
        let left = refusals.gathered.lock();
        assert!(left.accounts.is_empty() && left.keys == 0);
    }

    #[test]
    fn many_noisy_accounts_stay_within_a_bound_of_memory_and_lose_no_refusal() {
        let refusals = Refusals::default();
        for slot in 0..300 {
            scan(&refusals, slot, 200);
        }
        assert!(refusals.gathered.lock().keys <= ALL_KEYS_MAX + 300);
        assert_eq!(refusals.take(by_slot, second(1)).iter().map(|r| r.count).sum::<u64>(), 60_000);
    }
}
