//! Many requests at once against little money: admission never overshoots.

use meter_tests::harness::{
    Lab, Shell, assert_rows_match,
    chat::{Chat, status},
    pico,
};

#[test]
fn sixty_four_at_once_never_overspend_a_budget_for_ten() {
    // Each can cost $0.00275 and is held for its 1,200 and more bytes and 200 tokens: about $0.005.
    let lab = Lab::with_budget("crowd", "0.05");
    let mut shell = Shell::open(&lab.agent("crowd"));
    let chat = Chat::ordinary().with(|directive| directive.ttfb_ms = 500);
    let printed = shell.run(&format!("for i in $(seq 64); do ({}) & done; wait", chat.curl()));
    let answered = printed.stdout.lines().filter(|line| line.trim() == "200").count();
    assert!((1..=18).contains(&answered), "{answered} of 64 were answered");
    let exchanges = lab.simulator.exchanges();
    assert_eq!(exchanges.len(), answered);
    let account = lab.daemon.account("crowd");
    assert!(account.spent() <= pico("0.05"), "{account:#?}");
    assert_eq!(pico(&account.held_usd), 0, "{account:#?}");
    let rows = lab.daemon.ledger("crowd");
    let charged: i128 = rows.iter().map(meter_tests::harness::Row::cost).sum();
    assert_eq!(charged, account.spent());
    assert_rows_match(&rows, &exchanges);
}

#[test]
fn one_dear_outlier_stops_nobody() {
    let lab = Lab::with_budget("outlier", "0.05");
    let mut shell = Shell::open(&lab.agent("outlier"));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    let dear = Chat::ordinary().ceiling(Some(16_000)).curl();
    assert_eq!(status(&shell.run(&dear).stdout), 402);
    assert_eq!(lab.daemon.account("outlier").state, "open");
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    assert_rows_match(&lab.daemon.ledger("outlier"), &lab.simulator.exchanges());
}
