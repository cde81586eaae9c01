//! The harness: one struct per concern, each of which cleans up when it is dropped, also when a test panics.
//!
//! The kernel programs are attached to the whole host, so whoever uses them holds the [`HostLock`]; [`Lab`] takes
//! it and puts the rest together. Everything needs root, and says so instead of skipping.

mod agent;
mod books;
pub mod chat;
mod client;
mod daemon;
mod lab;
mod ledger;
mod ledger_file;
mod lock;
mod maps;
mod names;
mod net;
mod prices;
mod sdk;
pub mod sdk_check;
mod shell;
mod simulator;
mod wait;

pub use self::{
    agent::{Agent, Outcome, Running},
    books::{Books, KernelBalance, KernelMaps},
    client::Client,
    daemon::{Account, Daemon, DaemonOptions, LimitStatus, Status},
    lab::{Lab, LabOptions},
    ledger::{Row, assert_rows_match},
    ledger_file::LedgerFile,
    lock::HostLock,
    maps::Maps,
    names::Names,
    net::Net,
    prices::{cost, pico, usd},
    sdk::{SDK_CA_FILES, SDK_KEYS, Step, node_script, python_script, steps},
    shell::{Shell, wait_for_state},
    simulator::Simulator,
    wait::{must_run, output, wait_for},
};

use std::path::PathBuf;

/// A binary of the workspace, beside the running test or tool.
pub fn binary(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("a running program has a path");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask test`, which builds it", path.display());
    path
}

/// Stops a test that is not run as root: it could prove nothing.
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test uses the kernel: run it as root, or by `cargo xtask test`"
    );
}
