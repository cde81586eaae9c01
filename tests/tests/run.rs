//! `meter run` as a shell's user sees it: exit codes, signals, the line at its end, and a daemon that comes and goes.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use meter_tests::harness::{
    Lab, LabOptions, Shell, assert_rows_match,
    chat::{Chat, status},
    must_run, wait_for,
};
use rustix::process::Signal;

#[test]
fn it_ends_with_the_commands_own_status() {
    let lab = Lab::with_budget("status", "1");
    let agent = lab.agent("status");
    agent.shell("exit 0").expect_code(0);
    agent.shell("exit 7").expect_code(7);
    agent.shell("kill -KILL $$").expect_code(137);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not-executable");
    std::fs::write(&file, "text").unwrap();
    agent.run(&[file.to_str().unwrap()]).expect_code(126);
    let outcome = agent.run(&["no-such-command-anywhere"]);
    outcome.expect_code(127);
    assert!(outcome.stderr.contains("no-such-command-anywhere"), "{}", outcome.stderr);
}

#[test]
fn it_forwards_signals() {
    let lab = Lab::with_budget("signals", "1");
    let agent = lab.agent("signals");
    let mut running = agent.spawn(&["bash", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"]);
    let mut line = String::new();
    BufReader::new(running.stdout()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    running.signal(Signal::TERM);
    running.wait().expect_code(42);
}

#[test]
fn it_prints_one_line_at_its_end() {
    let lab = Lab::with_budget("line", "1");
    let outcome = lab.agent("line").budget("0.006").shell(&format!("{0}; {0}", Chat::ordinary().curl()));
    let lines: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains("spent")).collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    for fact in ["0.00275", "0.006", "1 exchange", "1 refus"] {
        assert!(lines[0].contains(fact), "`{fact}` is missing: {}", lines[0]);
    }
    assert!(outcome.stdout.contains("200") && outcome.stdout.contains("402"), "{}", outcome.stdout);
}

#[test]
fn the_environment_is_the_users_own_and_trusts_the_meter() {
    let lab = Lab::with_budget("environment", "1");
    let outcome = lab.agent("environment").env("MINE", "kept").shell("echo $MINE; pwd; echo $SSL_CERT_FILE");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[0], "kept");
    assert_eq!(Path::new(lines[1]), std::env::current_dir().unwrap());
    assert!(!lines[2].is_empty());
}

#[test]
fn under_sudo_the_command_runs_as_the_invoking_user() {
    let lab = Lab::with_budget("sudo", "1");
    let agent = lab.agent("sudo");
    let mut command = agent.command();
    command.args(["id", "-u"]).envs([("SUDO_USER", "nobody"), ("SUDO_UID", "65534"), ("SUDO_GID", "65534")]);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "65534", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_agents_without_a_daemon_share_one_that_ends_by_itself() {
    let lab = Lab::prepare(LabOptions::default().budget("first", "1").budget("second", "1"));
    let mut first = Shell::open(&lab.agent("first"));
    let mut second = Shell::open(&lab.agent("second"));
    assert_eq!(status(&first.run(&Chat::ordinary().curl()).stdout), 200);
    assert_eq!(status(&second.run(&Chat::ordinary().curl()).stdout), 200);
    assert_eq!(first.close(), 0);
    // The first is gone; the second goes on.
    assert_eq!(status(&second.run(&Chat::ordinary().curl()).stdout), 200);
    assert_eq!(second.close(), 0);

    wait_for("the daemon to end", Duration::from_secs(20), || {
        let daemons = must_run("ps -eo args");
        let config = lab.daemon.config_file().display().to_string();
        (!daemons.lines().any(|line| line.contains("daemon") && line.contains(&config))).then_some(())
    });
    let mut outside = Shell::outside(lab.daemon.names());
    let left = outside.run("ls /sys/fs/bpf/meter");
    assert_ne!(left.code, 0, "left pinned: {}", left.stdout);
    let left = outside.run("ls -d $(findmnt -n -t cgroup2 -o TARGET | head -1)/meter");
    assert_ne!(left.code, 0, "left cgroups: {}", left.stdout);

    // What they spent is read straight from the ledger.
    let rows = [lab.daemon.ledger("first"), lab.daemon.ledger("second")].concat();
    assert_rows_match(&rows, &lab.simulator.exchanges());
    assert_eq!(rows.len(), 3);
}

#[test]
fn inside_an_account_a_run_is_a_task_below_it() {
    let lab = Lab::with_budget("outer", "1");
    let meter = meter_tests::harness::binary("meter");
    let inner = format!(
        "{} run --config {} --agent outer --task inner -- {}",
        meter.display(),
        lab.daemon.config_file().display(),
        Chat::ordinary().curl()
    );
    lab.agent("outer").task("parent").shell(&inner).expect_code(0);
    let rows = lab.daemon.ledger("outer");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].account, "outer/parent/inner");
}
