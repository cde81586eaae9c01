//! Every mistake gets one clear sentence with its fix, and leaves nothing attached or half-written.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::Output,
};

use meter_tests::harness::{Daemon, Lab, LabOptions, Shell, binary, chat::Chat, output};

/// Fails, says each of `parts` in one line, and leaves nothing behind.
#[track_caller]
fn assert_sentence(lab: &Lab, output: &Output, parts: &[&str]) {
    assert_says(output, parts);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "more than a sentence: {said}");
    assert_nothing_left(lab);
}

/// Fails, says each of `parts`, and does not show its insides.
#[track_caller]
fn assert_says(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it succeeded: {said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is missing: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{said}");
}

/// Nothing pinned, no cgroup, and nothing in the run directory.
#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    let mut outside = Shell::outside(lab.daemon.names());
    let pinned = outside.run("ls /sys/fs/bpf/meter");
    assert_ne!(pinned.code, 0, "left pinned: {}", pinned.stdout);
    let cgroups = outside.run("ls -d $(findmnt -n -t cgroup2 -o TARGET | head -1)/meter");
    assert_ne!(cgroups.code, 0, "left cgroups: {}", cgroups.stdout);
    assert!(!lab.daemon.run_dir().exists(), "left a run directory");
}

fn lab() -> Lab {
    Lab::prepare(LabOptions::default())
}

#[test]
fn a_bad_config_tells_all_mistakes_with_file_and_line() {
    let lab = lab();
    let path = lab.daemon.config_file();
    fs::write(&path, "data_dirr = \"/tmp/x\"\n[agent.a]\nbudget_usd = \"ten\"\n[agent.b]\nbudget_usd = \"9000001\"\n")
        .unwrap();
    let output = lab.daemon.output("daemon", &[]);
    let file = path.display().to_string();
    assert_says(&output, &[&file, "data_dirr", ":1", "ten", ":3", "9000001", ":5"]);
    assert_nothing_left(&lab);
    // A run's own failure is 125, and its command was not run.
    let output = lab.daemon.output("run", &["--agent", "a", "--", "touch", "/tmp/meter-must-not-exist"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(!std::path::Path::new("/tmp/meter-must-not-exist").exists());
    fs::write(path, "").unwrap();
}

#[test]
fn a_config_that_is_named_and_absent_is_an_error() {
    let lab = lab();
    fs::remove_file(lab.daemon.config_file()).unwrap();
    let output = lab.daemon.output("daemon", &[]);
    assert_sentence(&lab, &output, &[&lab.daemon.config_file().display().to_string()]);
    fs::write(lab.daemon.config_file(), "").unwrap();
}

#[test]
fn without_root_it_says_so() {
    let lab = lab();
    // Where anybody may read and run it.
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("meter");
    fs::copy(binary("meter"), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let config = folder.path().join("meter.toml");
    let state = folder.path().display();
    fs::write(&config, format!("data_dir = \"{state}/data\"\nrun_dir = \"{state}/run\"\n")).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(copy)
        .arg("daemon")
        .arg("--config")
        .arg(config);
    assert_sentence(&lab, &output(&mut command), &["root"]);
}

#[test]
fn without_cgroup_v2_it_says_so() {
    let lab = lab();
    let mut command = std::process::Command::new("unshare");
    let script = "umount -a -t cgroup2 && exec \"$0\" daemon --config \"$1\"";
    command.args(["--mount", "bash", "-c", script]).arg(binary("meter")).arg(lab.daemon.config_file());
    assert_sentence(&lab, &output(&mut command), &["cgroup", "mount"]);
}

#[test]
fn on_an_old_kernel_it_says_so() {
    let lab = lab();
    // The personality by which programs for Linux 2.6 are shown one.
    let mut command = std::process::Command::new("setarch");
    command.arg("--uname-2.6").arg(binary("meter")).arg("daemon").arg("--config").arg(lab.daemon.config_file());
    assert_sentence(&lab, &output(&mut command), &["this kernel is 2.6", "6.1"]);
}

#[test]
fn a_busy_port_is_named_with_the_fix() {
    let lab = lab();
    let (port, taken) = (700..1000)
        .find_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?)))
        .expect("a free port below 1024");
    let mut config = File::options().append(true).open(lab.daemon.config_file()).unwrap();
    // The others are opened before it is found to be taken.
    writeln!(config, "listen_ports = [1001, 1002, 1003, {port}]").unwrap();
    let output = lab.daemon.output("daemon", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_sentence(&lab, &output, &[&format!("port {port} "), "127.0.0.1", "stop it", "listen_ports"]);
    let ledger = database(&lab.daemon);
    for entry in fs::read_dir(lab.daemon.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        // What SQLite would have to recover from, and what was not renamed into its place.
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(!["-wal", "-journal", ".tmp"].iter().any(|end| name.ends_with(end)), "{name} beside {ledger:?}");
    }
    drop(taken);
}

#[test]
fn a_command_that_does_not_exist_is_named_before_anything_is_started() {
    let lab = lab();
    let output = lab.daemon.output("run", &["--agent", "a", "--", "no-such-command-anywhere"]);
    assert_eq!(output.status.code(), Some(127));
    assert_sentence(&lab, &output, &["no-such-command-anywhere"]);
    assert!(!lab.daemon.data_dir().exists(), "a ledger was made for it");
}

#[test]
fn a_second_daemon_says_who_runs_already() {
    let lab = Lab::start(LabOptions::default());
    let output = lab.daemon.output("daemon", &[]);
    assert_says(&output, &["already running", &format!("pid {}", lab.daemon.pid())]);
    // The first goes on.
    lab.daemon.status();
}

#[test]
fn a_corrupt_ledger_is_named_and_kept() {
    let mut lab = Lab::with_budget("ledger", "1");
    lab.agent("ledger").shell(&Chat::ordinary().curl()).expect_code(0);
    assert!(lab.daemon.stop().success());
    lab.daemon.call("uninstall", &[]);
    let ledger = database(&lab.daemon);
    let mut bytes = fs::read(&ledger).unwrap();
    bytes.fill(0x55);
    fs::write(&ledger, &bytes).unwrap();
    let output = lab.daemon.output("daemon", &[]);
    assert_sentence(&lab, &output, &[&ledger.display().to_string()]);
    assert_eq!(fs::read(&ledger).unwrap(), bytes, "what is left of the ledger was changed");
}

#[test]
fn an_unreadable_ledger_is_named() {
    let mut lab = Lab::with_budget("ledger", "1");
    assert!(lab.daemon.stop().success());
    lab.daemon.call("uninstall", &[]);
    let ledger = database(&lab.daemon);
    fs::remove_file(&ledger).unwrap();
    fs::create_dir(&ledger).unwrap();
    let output = lab.daemon.output("daemon", &[]);
    assert_sentence(&lab, &output, &[&ledger.display().to_string()]);
}

#[test]
fn an_unknown_agent_is_named_and_the_known_ones_listed() {
    let lab = Lab::with_budget("known", "1");
    for (command, arguments) in [("balance", vec!["nobody"]), ("fund", vec!["nobody", "1"])] {
        let output = lab.daemon.output(command, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("nobody") && said.contains("known"), "{command}: {said}");
    }
}

#[test]
fn an_amount_that_is_none_is_refused() {
    let lab = Lab::with_budget("known", "1");
    for amount in ["ten", "-1", "9000001", "0.0000000000001"] {
        let output = lab.daemon.output("fund", &["known", "--", amount]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(amount), "{amount}: {said}");
    }
}

/// The ledger's file.
fn database(daemon: &Daemon) -> std::path::PathBuf {
    let is_database =
        |path: &std::path::PathBuf| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3"));
    let files = fs::read_dir(daemon.data_dir()).unwrap().map(|entry| entry.unwrap().path());
    files.into_iter().find(is_database).expect("a ledger below data_dir")
}
