//! `meter uninstall`: removes everything that outlives the daemon, except the ledger.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::ensure;

use crate::{
    config::Config,
    daemon::{self, lock::Lock},
    kernel::Kernel,
    users,
};

/// Remove meter from the kernel; the ledger stays
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    ensure!(users::is_root(), "removing meter from the kernel needs root; use `sudo meter uninstall`");
    // Without the directory no daemon can be running with this config.
    let lock = if config.run_dir.is_dir() { Some(Lock::take(&config.lock_file())?) } else { None };
    // One with another run_dir is not kept out by the lock.
    daemon::attached::wait_for_the_last_one()?;
    let removed = Kernel::uninstall()?;
    daemon::clean_run_dir(config);
    drop(lock);
    let done = if removed { "meter is removed from the kernel" } else { "meter was not attached to the kernel" };
    writeln!(io::stdout(), "{done}; the ledger stays in {}", config.data_dir.display())?;
    Ok(ExitCode::SUCCESS)
}
