//! The sidecar killed in the middle: nothing passes unmetered, and nothing spent is forgotten.

use std::time::Duration;

use meter_tests::harness::{
    Lab, Shell,
    chat::{Chat, status},
    pico, wait_for,
};

#[test]
fn killed_during_a_stream_it_neither_leaks_nor_forgets() {
    let mut lab = Lab::with_budget("crash", "0.1");
    let mut shell = Shell::open(&lab.agent("crash"));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    let stream = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(1000);
        directive.delay_ms = 50;
    });
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!(
        "({}) > $work/stream 2>&1 & while ! grep -q data: $work/stream; do sleep 0.01; done",
        stream.curl()
    ));
    let before = lab.daemon.account("crash");
    let held = pico(&before.held_usd);
    assert!(held > 0, "{before:#?}");

    lab.daemon.expect_log("unresolved");
    lab.daemon.kill();
    // The stream ends at once, and as a broken one.
    let ended = shell.run("wait; tail -c 300 $work/stream; rm -r $work");
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    assert!(!ended.stdout.contains("[DONE]"), "{}", ended.stdout);
    let connections = lab.simulator.connections().len();
    for _ in 0..20 {
        let printed = shell.run("(exec 9<>/dev/tcp/api.openai.com/443)");
        assert!(printed.stdout.contains("Connection refused"), "{}", printed.stdout);
    }
    assert_eq!(lab.simulator.connections().len(), connections, "a connection passed unmetered");

    lab.daemon.launch();
    let after = lab.daemon.account("crash");
    assert_eq!(after.spent(), before.spent() + held, "the open hold is charged in full");
    assert_eq!(pico(&after.held_usd), 0);
    let rows = lab.daemon.ledger("crash");
    assert_eq!(rows.iter().filter(|row| row.outcome == "unresolved").count(), 1, "{rows:#?}");
    // The agent itself was never restarted.
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
}

#[test]
fn killed_again_and_again_spent_never_falls() {
    let mut lab = Lab::with_budget("crash", "1");
    lab.daemon.expect_log("unresolved");
    let mut shell = Shell::open(&lab.agent("crash"));
    let mut spent = 0;
    for _ in 0..3 {
        let crowd = format!("for i in 1 2 3 4; do ({}) & done", Chat::ordinary().with(|d| d.ttfb_ms = 100).curl());
        shell.run(&format!("{crowd} > /dev/null 2>&1"));
        wait_for("an answer", Duration::from_secs(10), || (lab.daemon.account("crash").spent() > spent).then_some(()));
        let before = lab.daemon.account("crash").spent();
        lab.daemon.kill();
        lab.daemon.launch();
        let after = lab.daemon.account("crash").spent();
        assert!(after >= before, "{after} after {before}");
        spent = after;
        shell.run("wait");
    }
    let sent: i128 = lab.simulator.exchanges().iter().map(|e| meter_tests::harness::cost(&e.model, &e.billed)).sum();
    assert!(lab.daemon.account("crash").spent() >= sent, "the provider billed more than was charged");
}
