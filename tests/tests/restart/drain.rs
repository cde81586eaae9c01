//! An orderly end.

use super::*;

#[track_caller]
fn assert_since(started_ns: u64, most: Duration) {
    let took = Duration::from_nanos(clock::monotonic_ns() - started_ns);
    assert!(took < most, "{took:?}");
}

fn terminate(lab: &Lab) {
    let pid = i32::try_from(lab.daemon.pid()).ok().and_then(Pid::from_raw).expect("the daemon runs");
    kill_process(pid, Signal::TERM).unwrap();
}

#[test]
fn what_was_admitted_finishes_or_is_settled_within_the_bound_and_the_next_one_goes_on() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    let mut shell = open(&lab.agent(AGENT));
    let stream = |chunks| {
        Chat::ordinary().stream().with(|directive| {
            directive.chunks = Some(chunks);
            directive.delay_ms = 100;
        })
    };
    let silent = Chat::ordinary().with(|directive| directive.ttfb_ms = NEVER_MS);
    shell.run("work=$(mktemp -d); trap 'rm -r $work' EXIT").expect_code(0);
    for (file, chat, options) in [
        ("short", stream(20), "-N"),
        ("long", stream(1000), "-N"),
        ("long1", stream(1000), "-N --http1.1"),
        ("silent", silent.clone(), ""),
        ("silent1", silent, "--http1.1"),
    ] {
        shell.send(&format!("({}) > $work/{file} 2>&1 &", chat.options(options).curl()));
    }
    shell.run("for file in short long long1; do while ! grep -q data: $work/$file; do sleep 0.01; done; done");
    let ledger = LedgerFile::open(&lab.daemon);
    wait_for("the holds' rows", PATIENCE, || (ledger.open_holds() == 5).then_some(()));

    let draining = clock::monotonic_ns();
    terminate(&lab);
    let connections = lab.simulator.connections().len();
    wait_for("new connections to be refused", PATIENCE, || {
        shell.run(CONNECT).stdout.contains("Connection refused").then_some(())
    });
    assert!(lab.daemon.stop().success());
    assert_since(draining, Duration::from_secs(15));
    assert_eq!(lab.simulator.connections().len(), connections);
    let ended = shell.run("wait; cat $work/short; echo; echo --; cat $work/long");
    assert!(ended.took < Duration::from_secs(3), "{:?}", ended.took);
    let (short, long) = ended.stdout.split_once("\n--\n").unwrap();
    assert!(short.contains("data: [DONE]"), "{short}");
    assert!(long.contains("data: ") && !long.contains("[DONE]") && long.contains("curl:"), "{long}");
    assert_eq!((ledger.open_holds(), ledger.rows()), (0, 5), "all is settled before the ledger is closed");

    lab.daemon.launch();
    let account = lab.daemon.account(AGENT);
    let rows = lab.daemon.ledger(AGENT);
    assert_eq!(pico(&account.held_usd), 0);
    assert_eq!(rows.iter().map(Row::cost).sum::<i128>(), account.spent());
    let ends: Vec<_> = rows.iter().map(|row| (row.outcome.as_str(), row.usage_quality.as_str())).collect();
    assert_eq!(ends.iter().filter(|end| **end == ("complete", "exact")).count(), 1, "{ends:?}");
    assert!(rows.iter().all(|row| row.outcome != "unresolved" && row.cost() > 0), "{rows:#?}");
    chat(&mut shell);
}

#[test]
fn a_settlement_that_cant_be_written_before_the_end_is_charged_at_the_next_start() {
    let mut lab = Lab::with_budget(AGENT, PLENTY);
    lab.daemon.expect_log("the ledger is not writable");
    lab.daemon.expect_log("the ledger could not be written before the end");
    let mut shell = open(&lab.agent(AGENT));
    chat(&mut shell);
    let maps = Maps::open();
    let agent = maps.slot(AGENT);
    let ledger = LedgerFile::open(&lab.daemon);
    wait_for("the first row", PATIENCE, || (ledger.rows() == 1).then_some(()));
    let slow = Chat::ordinary().with(|directive| directive.ttfb_ms = 1_500);
    shell.send(&format!("({}) > /dev/null 2>&1 &", slow.curl()));
    wait_for("the hold's row", PATIENCE, || (ledger.open_holds() == 1).then_some(()));
    let (before, held) = (maps.balance(agent).spent, maps.outstanding(agent));
    ledger.lock();
    terminate(&lab);
    let started = clock::monotonic_ns();
    lab.daemon.stop();
    assert_since(started, Duration::from_secs(15));
    assert_eq!((ledger.open_holds(), ledger.rows()), (1, 1));
    ledger.unlock();
    shell.run("wait");

    lab.daemon.launch();
    let after = lab.daemon.account(AGENT);
    assert_eq!(after.spent(), i128::from(before + held));
    let rows = lab.daemon.ledger(AGENT);
    assert_eq!(rows.iter().map(|row| row.outcome.as_str()).collect::<Vec<_>>(), ["complete", "unresolved"]);
    chat(&mut shell);
}
