//! The ledger in trouble, with the real daemon: a full disk, a file that can't be written, torn pages, an older copy,
//! and what each durability level waits for.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use meter_tests::harness::{
    Daemon, Lab, LabOptions, Row, Shell,
    chat::{Chat, status},
    cost, must_run, pico, wait_for,
};
use tempfile::TempDir;

const AGENT: &str = "ledger";
const PAGE: usize = 4_096;
/// Enough for the ledger, its log and the certificate authorities; the rest is filled.
const DISK_MIB: u64 = 24;

/// A file system of its own; unmounted when dropped, whatever happened.
struct Disk {
    folder: TempDir,
    frozen: Option<PathBuf>,
}

impl Disk {
    fn tmpfs() -> Self {
        let disk = Self { folder: TempDir::new().unwrap(), frozen: None };
        must_run(&format!("mount -t tmpfs -o size={DISK_MIB}m,mode=700 tmpfs {}", disk.at("disk").display()));
        disk
    }

    fn ext4() -> Self {
        let disk = Self { folder: TempDir::new().unwrap(), frozen: None };
        let image = disk.folder.path().join("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        must_run(&format!("mkfs.ext4 -q {}", image.display()));
        must_run(&format!("mount -o loop {} {}", image.display(), disk.at("disk").display()));
        fs::set_permissions(disk.at("disk"), fs::Permissions::from_mode(0o700)).unwrap();
        disk
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("disk/data")
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("disk/ballast")
    }

    /// Nothing more can be written.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        for size in [1 << 20, 4_096] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// The open log can't be written either.
    fn freeze(&mut self) {
        let log = self.data().join("meter.db-wal");
        must_run(&format!("chattr +i {}", log.display()));
        self.frozen = Some(log);
    }

    fn thaw(&mut self) {
        if let Some(log) = self.frozen.take() {
            must_run(&format!("chattr -i {}", log.display()));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(log) = &self.frozen {
            let _ = Command::new("chattr").arg("-i").arg(log).status();
        }
        let _ = Command::new("umount").args(["-l"]).arg(self.folder.path().join("disk")).status();
    }
}

/// A lab whose ledger lies on a disk. It is not started yet.
fn lab_on(disk: &Disk) -> Lab {
    let lab = Lab::prepare(LabOptions::default().budget(AGENT, "5"));
    let file = lab.daemon.config_file();
    let text = fs::read_to_string(&file).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("data_dir")).collect();
    fs::write(&file, format!("data_dir = \"{}\"\n{}\n", disk.data().display(), kept.join("\n"))).unwrap();
    lab
}

fn charged(rows: &[Row]) -> i128 {
    rows.iter().map(Row::cost).sum()
}

fn verified(daemon: &Daemon) {
    let said = String::from_utf8(daemon.output("ledger", &["verify"]).stdout).unwrap();
    assert!(said.contains("is sound"), "{said}");
}

/// A stream is in flight when the ledger can't be written any more.
fn fails_closed_and_resumes(lab: &mut Lab, disk: &mut Disk, stop: fn(&mut Disk), go_on: fn(&mut Disk)) {
    lab.daemon.expect_log("the ledger is not writable");
    lab.daemon.expect_log("the ledger is writable again");
    lab.daemon.launch();
    let mut shell = Shell::open(&lab.agent(AGENT));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    let stream = Chat::ordinary().stream().options("-N").with(|directive| {
        directive.chunks = Some(200);
        directive.delay_ms = 20;
    });
    shell.run("work=$(mktemp -d)").expect_code(0);
    shell.run(&format!(
        "({}) > $work/stream 2>&1 & while ! grep -q data: $work/stream; do sleep 0.01; done",
        stream.curl()
    ));
    let before = lab.daemon.account(AGENT);
    assert!(pico(&before.held_usd) > 0, "{before:#?}");

    stop(disk);
    // The first request learns of it by its own hold; none after it is forwarded.
    let refused = shell.run(&Chat::ordinary().curl());
    assert_eq!(status(&refused.stdout), 503, "{}", refused.stdout);
    assert!(refused.stdout.contains("meter.db cannot be written"), "{}", refused.stdout);
    let forwarded = lab.simulator.exchanges().len();
    for _ in 0..5 {
        let refused = shell.run(&Chat::ordinary().curl());
        assert_eq!(status(&refused.stdout), 503, "{}", refused.stdout);
        assert!(refused.stdout.contains("nothing is admitted until it can"), "{}", refused.stdout);
    }
    assert_eq!(lab.simulator.exchanges().len(), forwarded, "a request was forwarded that could not be recorded");

    // The stream goes on to its end, and its charge is known at once.
    let ended = shell.run("wait; tail -c 200 $work/stream; rm -r $work");
    assert!(ended.stdout.contains("[DONE]"), "{}", ended.stdout);
    let streamed = pico("0.00275");
    let waiting = wait_for("the stream to be charged", Duration::from_secs(10), || {
        let account = lab.daemon.account(AGENT);
        (account.spent() >= before.spent() + streamed).then_some(account)
    });
    assert!(charged(&lab.daemon.ledger(AGENT)) < waiting.spent(), "it was written in spite of it");

    go_on(disk);
    wait_for("the ledger to be written again", Duration::from_secs(10), || {
        (status(&shell.run(&Chat::ordinary().curl()).stdout) == 200).then_some(())
    });
    let rows = lab.daemon.ledger(AGENT);
    let after = lab.daemon.account(AGENT);
    assert_eq!(charged(&rows), after.spent(), "{rows:#?}");
    assert_eq!(pico(&after.held_usd), 0, "{after:#?}");
    assert_eq!(rows.iter().filter(|row| row.outcome == "complete" && row.stream).count(), 1, "{rows:#?}");
    // The request that learned of it was reset, it may be before its body had arrived: that names no model.
    let exchanges = lab.simulator.exchanges();
    let billed: i128 = exchanges.iter().filter(|e| !e.model.is_empty()).map(|e| cost(&e.model, &e.billed)).sum();
    assert!(after.spent() >= billed, "the provider billed {billed}, charged were {}", after.spent());
    verified(&lab.daemon);
    // What the kernel's map says is neither more nor less.
    lab.daemon.kill();
    lab.daemon.launch();
    assert_eq!(lab.daemon.account(AGENT).spent(), after.spent());
    verified(&lab.daemon);
}

#[test]
fn a_full_disk_with_a_stream_in_flight_fails_closed_and_nothing_is_lost() {
    let mut disk = Disk::tmpfs();
    let mut lab = lab_on(&disk);
    fails_closed_and_resumes(&mut lab, &mut disk, |disk| disk.fill(), |disk| disk.free());
    drop(lab);
}

#[test]
fn a_ledger_that_becomes_read_only_fails_closed_and_nothing_is_lost() {
    let mut disk = Disk::ext4();
    let mut lab = lab_on(&disk);
    fails_closed_and_resumes(&mut lab, &mut disk, Disk::freeze, Disk::thaw);
    drop(lab);
}

#[test]
fn a_read_only_or_full_file_system_refuses_the_start_and_says_why() {
    let disk = Disk::ext4();
    let mut lab = lab_on(&disk);
    lab.daemon.launch();
    lab.agent(AGENT).shell(&Chat::ordinary().curl()).expect_code(0);
    let before = lab.daemon.account(AGENT).spent();
    assert!(lab.daemon.stop().success());
    let place = disk.at("disk");
    must_run(&format!("mount -o remount,ro {}", place.display()));
    let output = lab.daemon.output("daemon", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(&disk.data().display().to_string()), "{said}");
    assert!(said.to_lowercase().contains("read-only"), "{said}");
    must_run(&format!("mount -o remount,rw {}", place.display()));
    lab.daemon.launch();
    assert_eq!(lab.daemon.account(AGENT).spent(), before);
    drop(lab);
}

/// A daemon that was killed after some exchanges, its log copied into the file. Returns what was spent.
fn dead(lab: &mut Lab) -> i128 {
    let mut shell = Shell::open(&lab.agent(AGENT));
    let spent = spend_and_die(lab, &mut shell);
    shell.close();
    spent
}

fn spend_and_die(lab: &mut Lab, shell: &mut Shell) -> i128 {
    for _ in 0..5 {
        assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    }
    let spent = lab.daemon.account(AGENT).spent();
    assert_eq!(charged(&lab.daemon.ledger(AGENT)), spent);
    lab.daemon.kill();
    spent
}

fn root(file: &Path, name: &str) -> u64 {
    let file = rusqlite::Connection::open(file).unwrap();
    file.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    file.query_row(sql, [name], |r| r.get::<_, i64>(0)).unwrap().cast_unsigned()
}

fn tear(file: &Path, page: u64) {
    let file = OpenOptions::new().write(true).open(file).unwrap();
    file.write_all_at(&[0; PAGE], (page - 1) * PAGE as u64).unwrap();
}

#[test]
fn torn_pages_are_refused_named_explained_and_recovered_from() {
    let mut lab = Lab::with_budget(AGENT, "5");
    let ledger = lab.daemon.data_dir().join("meter.db");
    lab.daemon.expect_log("unresolved");
    let mut spent = dead(&mut lab);
    for table in ["rows", "accounts", "rows_account", "sqlite_schema"] {
        let page = if table == "sqlite_schema" { 1 } else { root(&ledger, table) };
        tear(&ledger, page);
        let output = lab.daemon.output("daemon", &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{table}: it started");
        for word in [ledger.to_str().unwrap(), "is damaged", "meter ledger verify", "meter ledger recover"] {
            assert!(said.contains(word), "{table}: {said}");
        }
        let verify = lab.daemon.output("ledger", &["verify"]);
        assert_eq!(verify.status.code(), Some(1));
        let found = String::from_utf8_lossy(&verify.stdout).into_owned();
        assert!(found.contains("meter.db") && found.contains("meter ledger recover"), "{table}: {found}");

        let recovered = lab.daemon.call("ledger", &["recover"]);
        assert!(recovered.contains("is rebuilt") && recovered.contains("meter.db.damaged-"), "{table}: {recovered}");
        verified(&lab.daemon);
        lab.daemon.launch();
        let after = lab.daemon.account(AGENT);
        assert!(after.spent() >= spent, "{table}: {} after {spent}, {recovered}", after.spent());
        spent = after.spent();
        lab.daemon.kill();
    }
}

fn copy(from: &Path, to: &Path, names: &[&str]) {
    for name in names {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

const LEDGER: [&str; 2] = ["meter.db", "meter.db-wal"];
const FOLDER: [&str; 3] = ["meter.db", "meter.db-wal", "meter.mark"];

#[test]
fn an_older_ledger_copied_back_never_lowers_spend() {
    let mut lab = Lab::with_budget(AGENT, "5");
    lab.daemon.expect_log("unresolved");
    let data = lab.daemon.data_dir();
    let mut shell = Shell::open(&lab.agent(AGENT));
    spend_and_die(&mut lab, &mut shell);
    let backup = TempDir::new().unwrap();
    copy(&data, backup.path(), &FOLDER);
    lab.daemon.launch();
    let spent = spend_and_die(&mut lab, &mut shell);

    // The whole folder, as a restored backup has it: the kernel's map knows better.
    copy(backup.path(), &data, &FOLDER);
    lab.daemon.launch();
    assert_eq!(["host", AGENT].map(|account| lab.daemon.account(account).spent()), [spent; 2]);
    verified(&lab.daemon);
    shell.close();
    assert!(lab.daemon.stop().success());

    // The ledger alone, and the map is gone, as after a restart of the machine: its mark knows better.
    copy(backup.path(), &data, &LEDGER);
    lab.daemon.call("uninstall", &[]);
    let output = lab.daemon.output("daemon", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("meter.db") && said.contains("--accept-older"), "{said}");
    let accepted = lab.daemon.call("ledger", &["recover", "--accept-older"]);
    assert!(accepted.contains("goes on with this ledger"), "{accepted}");
    lab.daemon.launch();
    assert_eq!(lab.daemon.account("host").spent(), spent, "the host has spent what it had");
    verified(&lab.daemon);
}

/// Somebody else has the ledger locked for as long as this lives.
fn block(daemon: &Daemon) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(daemon.data_dir().join("meter.db")).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

/// One request while the ledger is blocked, at a durability level: its status, and whether it was forwarded.
fn blocked_at(durability: &str) -> (u16, bool) {
    let mut options = LabOptions::default().budget(AGENT, "5");
    options.daemon.durability = Some(durability.to_owned());
    let mut lab = Lab::start(options);
    lab.daemon.expect_log("the ledger is not writable");
    lab.daemon.expect_log("the ledger is writable again");
    let mut shell = Shell::open(&lab.agent(AGENT));
    assert_eq!(status(&shell.run(&Chat::ordinary().curl()).stdout), 200);
    lab.daemon.ledger(AGENT);
    let before = lab.simulator.exchanges().len();
    let lock = block(&lab.daemon);
    let printed = shell.run(&Chat::ordinary().curl()).stdout;
    let answered = status(&printed);
    let forwarded = lab.simulator.exchanges().len() > before;
    assert_eq!(printed.contains("\"choices\""), answered == 200, "part of an answer was released: {printed}");
    wait_for("the fault to be known", Duration::from_secs(10), || {
        (status(&shell.run(&Chat::ordinary().curl()).stdout) == 503).then_some(())
    });
    drop(lock);
    wait_for("the ledger to be written again", Duration::from_secs(10), || {
        (status(&shell.run(&Chat::ordinary().curl()).stdout) == 200).then_some(())
    });
    let rows = lab.daemon.ledger(AGENT);
    assert_eq!(charged(&rows), lab.daemon.account(AGENT).spent());
    verified(&lab.daemon);
    (answered, forwarded)
}

#[test]
fn strict_forwards_nothing_before_the_row_is_durable() {
    assert_eq!(blocked_at("strict"), (503, false));
}

#[test]
fn full_releases_no_byte_of_an_answer_before_the_row_is_durable() {
    let (answered, _) = blocked_at("full");
    assert_eq!(answered, 503);
}

#[test]
fn relaxed_waits_for_no_row() {
    assert_eq!(blocked_at("relaxed"), (200, true));
}
