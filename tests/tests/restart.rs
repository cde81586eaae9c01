//! What a start believes of what was before: the ledger, the config, and of the kernel only what is surely the same.
//!
//! Machine restarts, edited limits, cgroups and slots that changed hands, maps that are full, and an orderly end.

#[path = "restart/drain.rs"]
mod drain;
#[path = "restart/full.rs"]
mod full;
#[path = "restart/identity.rs"]
mod identity;
#[path = "restart/machine.rs"]
mod machine;
#[path = "restart/money.rs"]
mod money;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use meter_agent::{
    accounts::TaskStatus,
    clock,
    control::{client::Client, wire::Request},
    ids::AccountPath,
    labels::Labels,
};
use meter_common::{AccountRef, Reason, SLOTS, state};
use meter_tests::{
    bench::process::cpu_ns,
    harness::{
        Account, Agent, Lab, LabOptions, LedgerFile, Maps, Row, Shell, assert_rows_match,
        chat::{Chat, status},
        must_run, pico, wait_for, wait_for_state,
    },
};
use rustix::process::{Pid, Signal, kill_process};

const AGENT: &str = "keeper";
const PLENTY: &str = "1";
/// Fits a few ordinary chats.
const LITTLE: &str = "0.02";
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any test: the provider does not answer before the end.
const NEVER_MS: u64 = 600_000;
/// A new connection by name, with nothing but the shell.
const CONNECT: &str = "(exec 9<>/dev/tcp/api.openai.com/443)";

#[track_caller]
fn chat(shell: &mut Shell) {
    let printed = shell.run(&Chat::ordinary().curl());
    assert_eq!(status(&printed.stdout), 200, "{}", printed.stdout);
}

/// A shell that is inside its account.
fn open(agent: &Agent<'_>) -> Shell {
    let mut shell = Shell::open(agent);
    shell.run("true").expect_code(0);
    shell
}

fn spend_all(lab: &Lab, shell: &mut Shell, account: &str) {
    while status(&shell.run(&Chat::ordinary().curl()).stdout) == 200 {}
    wait_for_state(&lab.daemon, account, "stopped");
}

fn remaining(account: &Account) -> i128 {
    pico(account.remaining_usd.as_deref().expect("it has a limit"))
}
