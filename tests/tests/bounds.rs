//! Answers past every bound: the agent gets its bytes, the exchange is settled, and the sidecar's memory stays bounded.

use meter_tests::{
    bench::process::peak_rss_kib,
    harness::{Lab, Shell, chat::Chat},
    simulator::extreme::{DOCUMENT_BYTES, EXTREME_HEADER, LINE_BYTES},
};

/// More than any hold of these tests.
const PLENTY: &str = "1000";
/// What one answer past the bounds may add to the sidecar's memory: a copy of 32 MiB that grows by doubling, and what a
/// decoder works with.
const ADDED_KIB_MAX: u64 = 96 * 1024;

/// Asks for the extreme answer and returns how many bytes of body the agent got, and how much memory it took.
fn ask(lab: &Lab, name: &str, chat: &Chat) -> (u64, u64) {
    let mut shell = Shell::open(&lab.agent("bounds"));
    shell.run(&Chat::ordinary().curl()).expect_code(0);
    let before = peak_rss_kib(lab.daemon.pid());
    let command = chat.clone().options(&format!("-H '{EXTREME_HEADER}: {name}'")).curl();
    let printed = shell.run(&format!("{command} | wc -c"));
    let bytes = printed.stdout.trim().parse().unwrap_or_else(|_| panic!("{printed:?}"));
    (bytes, peak_rss_kib(lab.daemon.pid()).saturating_sub(before))
}

/// The last row of the agent that is not the ordinary one.
fn row(lab: &Lab) -> meter_tests::harness::Row {
    let rows = lab.daemon.ledger("bounds");
    assert_eq!(rows.len(), 2, "{rows:#?}");
    rows[1].clone()
}

#[test]
fn a_document_of_100_mb_passes_and_consumes_its_hold() {
    let lab = Lab::with_budget("bounds", PLENTY);
    let (bytes, added_kib) = ask(&lab, "big", &Chat::ordinary());
    assert!(bytes > DOCUMENT_BYTES as u64, "{bytes}");
    let row = row(&lab);
    assert_eq!((row.usage_quality.as_str(), &row.cost_usd), ("absent", &row.held_usd));
    assert!(added_kib < ADDED_KIB_MAX, "{added_kib} KiB");
}

#[test]
fn an_event_of_10_mb_is_passed_and_read() {
    let lab = Lab::with_budget("bounds", PLENTY);
    let (bytes, added_kib) = ask(&lab, "line", &Chat::ordinary().stream());
    assert!(bytes > LINE_BYTES as u64, "{bytes}");
    let row = row(&lab);
    assert_eq!((row.usage_quality.as_str(), row.usage.output_tokens), ("exact", 200));
    assert!(added_kib < ADDED_KIB_MAX, "{added_kib} KiB");
}

#[test]
fn a_decompression_bomb_passes_as_it_came_and_consumes_its_hold() {
    let lab = Lab::with_budget("bounds", PLENTY);
    let (bytes, added_kib) = ask(&lab, "bomb", &Chat::ordinary());
    assert!((100_000..10_000_000).contains(&bytes), "curl was not asked to decompress: {bytes}");
    let row = row(&lab);
    assert_eq!((row.usage_quality.as_str(), &row.cost_usd), ("absent", &row.held_usd));
    assert!(added_kib < ADDED_KIB_MAX, "{added_kib} KiB");
}
