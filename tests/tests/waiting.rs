//! Requests that wait for others to settle, as agents see it.

use std::time::Duration;

use meter_tests::harness::{
    Lab, Shell,
    chat::{Chat, status},
    pico, wait_for,
};

const SOON: Duration = Duration::from_secs(10);

/// Held for most of $1, and answered only after a while.
fn slow(ttfb_ms: u64) -> Chat {
    Chat::ordinary().ceiling(Some(60_000)).with(|directive| directive.ttfb_ms = ttfb_ms)
}

fn wait_until_held(lab: &Lab, agent: &str) {
    wait_for("the hold", SOON, || (pico(&lab.daemon.account(agent).held_usd) >= pico("0.5")).then_some(()));
}

/// Runs a line in the background of a shell; nobody asks what it prints.
fn in_background(shell: &mut Shell, chat: &Chat) {
    shell.run(&format!("{{ {} ; }} > /dev/null 2>&1 &", chat.curl()));
}

#[test]
fn a_request_that_fits_once_another_has_settled_waits_for_it() {
    let lab = Lab::with_budget("patient", "1");
    let mut shell = Shell::open(&lab.agent("patient"));
    in_background(&mut shell, &slow(2_000));
    wait_until_held(&lab, "patient");
    let second = shell.run(&slow(0).curl());
    assert_eq!(status(&second.stdout), 200, "{second:#?}");
    assert!(second.took > Duration::from_millis(500), "{second:#?}");
    shell.run("wait");
    let rows = lab.daemon.ledger("patient");
    assert_eq!(rows.iter().filter(|row| row.outcome == "complete").count(), 2, "{rows:#?}");
    assert_eq!(lab.daemon.account("patient").held_usd, "0");
}

#[test]
fn an_agent_that_leaves_waits_no_longer_and_costs_nothing() {
    let lab = Lab::with_budget("hasty", "1");
    let mut shell = Shell::open(&lab.agent("hasty"));
    in_background(&mut shell, &slow(3_000));
    wait_until_held(&lab, "hasty");
    for version in ["--http1.1", "--http2"] {
        let left = shell.run(&slow(0).options(&format!("--max-time 0.5 {version}")).curl());
        assert!(left.took < Duration::from_secs(2), "{left:#?}");
    }
    let gone = wait_for("the rows of those that left", SOON, || {
        let rows = lab.daemon.ledger("hasty");
        let gone: Vec<_> = rows.into_iter().filter(|row| row.outcome == "client_gone").collect();
        (gone.len() == 2).then_some(gone)
    });
    assert!(gone.iter().all(|row| row.cost() == 0 && row.held_usd == "0"), "{gone:#?}");
    shell.run("wait");
    wait_for("the first to settle", SOON, || (lab.daemon.account("hasty").held_usd == "0").then_some(()));
    assert_eq!(lab.simulator.exchanges().len(), 1, "what waited never left");
}

#[test]
fn a_request_that_others_leave_no_room_for_is_refused_with_how_the_limit_stands() {
    let lab = Lab::with_budget("refused", "1");
    let mut shell = Shell::open(&lab.agent("refused"));
    let too_much = Chat::ordinary().ceiling(Some(200_000)).curl();
    let refused = shell.run(&too_much);
    assert_eq!(status(&refused.stdout), 402, "{refused:#?}");
    for fact in ["refused", "total $1", "any", "$0 spent", "$0 held", "needed", "does not reset"] {
        assert!(refused.stdout.contains(fact), "{fact}: {}", refused.stdout);
    }
}
