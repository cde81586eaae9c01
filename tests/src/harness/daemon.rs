//! `meter daemon` under test: its folders, its config, its log, and its command line.

use std::{
    fmt::Write,
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;

use super::{Names, Row, binary, output, pico, wait_for};

/// Long enough for a debug build on a busy machine to load its kernel programs.
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// What the config says beyond paths.
#[derive(Clone, Debug, Default)]
pub struct DaemonOptions {
    /// `[agent.NAME] budget_usd`.
    pub budgets: Vec<(String, String)>,
    /// `[[host]]` entries: name and dialect.
    pub hosts: Vec<(String, String)>,
    /// `durability`.
    pub durability: Option<String>,
    /// Tables beside those, as they stand in the file.
    pub tables: String,
}

/// A daemon, running or killed; its folders live as long as this value.
pub struct Daemon {
    child: Option<Child>,
    folder: TempDir,
    names: Names,
    expected: Vec<String>,
}

/// `meter status --json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub accounts: Vec<Account>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    pub account: String,
    pub state: String,
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    pub spent_usd: String,
    pub held_usd: String,
    pub remaining_usd: Option<String>,
    pub stage: Option<String>,
    pub overage_usd: String,
    #[serde(default)]
    pub limits: Vec<LimitStatus>,
    pub exchanges: u64,
    #[serde(default)]
    pub processes: Vec<ProcessSpend>,
    /// Nothing counted where the account is not bound to the kernel.
    #[serde(deserialize_with = "null_is_zero")]
    pub kernel: KernelCounts,
}

/// One limit of an account's own.
#[derive(Clone, Debug, Deserialize)]
pub struct LimitStatus {
    pub window: String,
    pub category: String,
    pub unit: String,
    #[serde(rename = "limit")]
    pub limit_usd: String,
    #[serde(rename = "spent")]
    pub spent_usd: String,
    #[serde(rename = "remaining")]
    pub remaining_usd: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ProcessSpend {
    pub pid: u32,
    pub exe: String,
    pub spent_usd: String,
    pub exchanges: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct KernelCounts {
    pub connects: u64,
    pub refused: u64,
    pub dropped_packets: u64,
    pub egress_bytes: u64,
    pub ingress_bytes: u64,
}

fn null_is_zero<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<KernelCounts, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Account {
    pub fn spent(&self) -> i128 {
        pico(&self.spent_usd)
    }
}

impl Daemon {
    /// Writes a config into new folders and starts the daemon.
    pub fn start(names: Names, upstream_ca: &Path, options: &DaemonOptions) -> Self {
        let mut daemon = Self::configure(names, upstream_ca, options);
        daemon.launch();
        daemon
    }

    /// Writes a config into new folders and starts nothing.
    pub fn configure(names: Names, upstream_ca: &Path, options: &DaemonOptions) -> Self {
        let folder = TempDir::new().expect("a folder for the daemon");
        let path = folder.path();
        let mut text = String::new();
        let _ = writeln!(text, "data_dir = \"{}\"", path.join("data").display());
        let _ = writeln!(text, "run_dir = \"{}\"", path.join("run").display());
        let _ = writeln!(text, "upstream_ca_file = \"{}\"", upstream_ca.display());
        if let Some(durability) = &options.durability {
            let _ = writeln!(text, "durability = {durability:?}");
        }
        for (name, dialect) in &options.hosts {
            let _ = writeln!(text, "[[host]]\nname = {name:?}\ndialect = {dialect:?}");
        }
        for (agent, budget) in &options.budgets {
            let _ = writeln!(text, "[agent.{agent}]\nbudget_usd = {budget:?}");
        }
        text.push_str(&options.tables);
        fs::write(path.join("meter.toml"), text).expect("a config file");
        Self { child: None, folder, names, expected: Vec::new() }
    }

    /// Starts the daemon, or starts it again after it was killed; returns when it answers.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).expect("a log file");
        let mut command = self.meter("daemon");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a copy of a descriptor")).stderr(log);
        self.child = Some(command.spawn().expect("meter can be started"));
        wait_for("the daemon to answer", START, || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            // Status is answered without a daemon too; the socket is what says that one listens.
            let socket = fs::read_dir(self.run_dir())
                .ok()?
                .flatten()
                .find(|e| e.file_name().to_string_lossy().ends_with(".sock"))?;
            std::os::unix::net::UnixStream::connect(socket.path()).ok()?;
            self.try_status()
        });
    }

    /// `meter SUBCOMMAND --config FILE`, in the namespace of names, with nothing of sudo in its environment.
    pub fn meter(&self, subcommand: &str) -> Command {
        let mut command = Command::new(binary("meter"));
        command.arg(subcommand).arg("--config").arg(self.config_file());
        for variable in ["SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND"] {
            command.env_remove(variable);
        }
        for variable in TRUST_VARIABLES {
            command.env_remove(variable);
        }
        self.names.enter(&mut command);
        command
    }

    pub fn names(&self) -> &Names {
        &self.names
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("meter.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Replaces text of the config, which is read at the next start.
    pub fn edit_config(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.config_file()).expect("the config was written");
        assert!(text.contains(from), "`{from}` is not in the config:\n{text}");
        fs::write(self.config_file(), text.replace(from, to)).expect("the config can be written");
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("daemon.log")
    }

    /// What the daemon wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Warnings and errors that hold this text are part of what the test does.
    pub fn expect_log(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// Ends the daemon as a crash would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("a child can be killed");
        child.wait().expect("a killed child ends");
    }

    /// Ends the daemon as an operator would, and returns how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        terminate(&mut child).unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            ExitStatus::from_raw(9)
        })
    }

    /// Runs a subcommand to its end.
    pub fn output(&self, subcommand: &str, arguments: &[&str]) -> Output {
        output(self.meter(subcommand).args(arguments))
    }

    /// Runs a subcommand that must succeed, and returns what it printed.
    pub fn call(&self, subcommand: &str, arguments: &[&str]) -> String {
        let output = self.output(subcommand, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "meter {subcommand} {arguments:?}: {}: {errors}", output.status);
        String::from_utf8(output.stdout).expect("meter prints text")
    }

    fn try_status(&self) -> Option<Status> {
        let output = self.output("status", &["--json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    pub fn status(&self) -> Status {
        let text = self.call("status", &["--json"]);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// One account's status.
    pub fn account(&self, name: &str) -> Account {
        let status = self.status();
        let found = status.accounts.iter().find(|account| account.account == name);
        found.unwrap_or_else(|| panic!("no account {name} in {status:#?}")).clone()
    }

    /// The agent's rows, its tasks' included, oldest first.
    pub fn ledger(&self, agent: &str) -> Vec<Row> {
        rows(&self.call("ledger", &["--json", "--agent", agent, "--limit", "100000"]))
    }

    /// Every row of the host, oldest first.
    pub fn all_rows(&self) -> Vec<Row> {
        rows(&self.call("ledger", &["--json"]))
    }

    /// As [`Self::ledger`], with every member that the lines have.
    pub fn ledger_json(&self, agent: &str) -> Vec<serde_json::Value> {
        let text = self.call("ledger", &["--json", "--agent", agent, "--limit", "100000"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    }

    /// What events of a kind say about an account and those below it, the oldest first.
    pub fn events(&self, account: &str, kind: &str) -> Vec<String> {
        let text = self.call("events", &["--json", "--account", account, "--kind", kind, "--limit", "1000"]);
        let parse =
            |line| -> serde_json::Value { serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")) };
        text.lines().map(|line| parse(line)["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn unexpected(&self) -> Vec<String> {
        let bad = |line: &&str| ["WARN", "ERROR", "panicked"].iter().any(|word| line.contains(word));
        let log = self.log();
        let lines = log.lines().filter(bad);
        lines.filter(|line| !self.expected.iter().any(|text| line.contains(text))).map(str::to_owned).collect()
    }
}

impl Drop for Daemon {
    /// Stops it, removes what it pinned, and fails the test for what its log should not hold.
    fn drop(&mut self) {
        let stopped = self.child.is_none() || self.stop().success();
        let uninstalled = self.output("uninstall", &[]);
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
            return;
        }
        assert!(stopped, "the daemon did not end well:\n{}", self.log());
        let errors = String::from_utf8_lossy(&uninstalled.stderr);
        assert!(uninstalled.status.success(), "meter uninstall: {errors}");
        let unexpected = self.unexpected();
        assert!(unexpected.is_empty(), "unexpected lines in the daemon's log:\n{}", unexpected.join("\n"));
    }
}

fn rows(lines: &str) -> Vec<Row> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    let mut rows: Vec<Row> = lines.lines().map(parse).collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    rows
}

/// Variables by which a developer's shell could decide what an agent trusts.
const TRUST_VARIABLES: [&str; 11] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "DENO_CERT",
    "CARGO_HTTP_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// Asks a child to end; how it ended, or nothing when it did not.
fn terminate(child: &mut Child) -> Option<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).ok()?)?;
    kill_process(pid, Signal::TERM).ok()?;
    let start = std::time::Instant::now();
    while start.elapsed() < STOP {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}
