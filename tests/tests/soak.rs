//! Exchanges with random faults: nothing stays held, no dollar is lost, and nothing is leaked.
//!
//! `METER_SOAK=100000` asks for so many exchanges, `METER_SOAK_SEED` for the same ones again.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    time::Duration,
};

use meter_tests::{
    client::soak::{Fates, Soak, UNREACHABLE, UNTRUSTED},
    harness::{Books, Lab, LabOptions, Row, Shell, cost, pico, wait_for},
    simulator::log::{End, Exchange},
};

const EXCHANGES: u64 = 2_000;
const WORKERS: usize = 16;
/// Before which memory is not looked at: pools, caches and the allocator's own store fill first.
const WARM: u64 = 1_000;
/// What the rest of the run may add to the sidecar's memory: the allocator's slack, and no thousandth of a run's bodies.
const ADDED_KIB_MAX: u64 = 24 * 1024;
/// Descriptors beyond those of a sidecar at rest: connections to providers that are kept for the next request.
const POOLED_MAX: usize = 2 * 32 + 8;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn rss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a process has a resident set")
}

#[test]
fn exchanges_with_random_faults_leave_nothing_held_and_nothing_lost() {
    let exchanges = number("METER_SOAK").unwrap_or(EXCHANGES);
    let seed = number("METER_SOAK_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("METER_SOAK={exchanges} METER_SOAK_SEED={seed}");
    let net = |last| std::net::Ipv4Addr::new(10, 88, 1, last).into();
    let mut options = LabOptions::default().budget("soak", "1000000").name(UNREACHABLE, net(3)).name(UNTRUSTED, net(2));
    options.daemon.hosts = [UNREACHABLE, UNTRUSTED].map(|host| (host.to_owned(), "openai".to_owned())).to_vec();
    let lab = Lab::start(options);
    let shell = Shell::open(&lab.agent("soak"));
    let pid = lab.daemon.pid();
    let at_rest = descriptors(pid);
    let run = |first, exchanges| lab.agent("soak").soak(Soak { seed, exchanges, workers: WORKERS, first }).wait();

    let warm = run(0, WARM.min(exchanges));
    let before = rss_kib(pid);
    let rest = run(WARM.min(exchanges), exchanges.saturating_sub(WARM));
    let took = Duration::from_millis(warm.elapsed_ms + rest.elapsed_ms);
    report(&[&warm, &rest]);
    let after = wait_for_rest(pid, at_rest);
    println!("{exchanges} exchanges in {took:?}; resident {before} KiB, then {after} KiB");
    assert_no_hang(&warm);
    assert_no_hang(&rest);
    assert!(after < before + ADDED_KIB_MAX, "{before} KiB, then {after} KiB");

    let books = Books::check(&lab.daemon, &[]);
    assert_charged(&books.rows, &lab.simulator.exchanges());
    assert!(books.spent("soak") > 0);
    drop(shell);
}

/// The connections of agents that have ended are closed, and what providers' connections are kept is bounded.
fn wait_for_rest(pid: u32, at_rest: usize) -> u64 {
    wait_for("the sidecar's descriptors to be closed", Duration::from_secs(20), || {
        (descriptors(pid) <= at_rest + POOLED_MAX).then(|| rss_kib(pid))
    })
}

fn report(parts: &[&Fates]) {
    let mut all: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (fate, seen) in parts.iter().flat_map(|fates| &fates.seen) {
        for (what, count) in seen {
            *all.entry(fate).or_default().entry(what).or_default() += count;
        }
    }
    for (fate, seen) in all {
        println!("{fate}: {seen:?}");
    }
}

#[track_caller]
fn assert_no_hang(fates: &Fates) {
    for (fate, seen) in &fates.seen {
        assert!(!seen.contains_key("hung"), "{fate}: {seen:?}");
        if ["Whole", "Stream"].contains(&fate.as_str()) {
            assert_eq!(seen.keys().map(String::as_str).collect::<Vec<_>>(), ["200"], "{fate}");
        }
    }
}

/// Each exchange that the provider saw has one row that charges what it billed, or what is known of it.
fn assert_charged(rows: &[Row], exchanges: &[Exchange]) {
    let by_id: HashMap<&str, &Exchange> = exchanges.iter().map(|e| (e.request_id.as_str(), e)).collect();
    let mut whole = 0;
    for row in rows {
        let at = || format!("{row:#?}");
        let exchange = row.request_id.as_deref().and_then(|id| by_id.get(id));
        match row.outcome.as_str() {
            "complete" => {
                let exchange = exchange.unwrap_or_else(|| panic!("nobody's: {}", at()));
                assert_eq!(row.cost(), cost(&exchange.model, &exchange.billed), "{}", at());
                assert_eq!(row.usage_quality, "exact", "{}", at());
                whole += 1;
            }
            "upstream_error" | "refused_request" => assert_eq!(row.cost(), 0, "{}", at()),
            "cut" | "client_gone" | "upstream_unreachable" => {
                assert!((0..=pico(&row.held_usd)).contains(&row.cost()), "{}", at());
                // What the provider has seen is never free.
                assert!(exchange.is_none_or(|exchange| exchange.status != 200 || row.cost() > 0), "{}", at());
            }
            other => panic!("{other}: {}", at()),
        }
    }
    let ids: std::collections::HashSet<_> = rows.iter().filter_map(|row| row.request_id.as_deref()).collect();
    assert_eq!(ids.len(), rows.iter().filter(|row| row.request_id.is_some()).count(), "two rows for one exchange");
    // An exchange that was whole on the provider's side is not lost, whoever left on the other.
    let complete = exchanges.iter().filter(|e| e.end == End::Complete && e.status == 200);
    assert!(complete.clone().count() >= whole);
    for exchange in complete {
        let seen = ids.contains(exchange.request_id.as_str());
        // One that was answered to an agent that had left before has a row without the id.
        assert!(seen || rows.iter().any(|row| row.request_id.is_none() && row.cost() > 0), "{exchange:#?}");
    }
    let forwarded = rows.iter().filter(|row| !row.is_refusal()).count();
    assert!(forwarded >= exchanges.len(), "{forwarded} rows for {} exchanges", exchanges.len());
}
