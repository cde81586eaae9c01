//! `meter balance`: one account.

use std::{io, process::ExitCode};

use super::{print_json, source, status};
use crate::{config::Config, ids::AccountPath};

/// Show one account: what it spent and what remains
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An agent, a task as AGENT/TASK, or host for all agents together
    #[arg(value_name = "ACCOUNT")]
    account: AccountPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let report = source::account(config, &args.account)?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &report)?;
    } else {
        status::print(&mut out, &[report])?;
    }
    Ok(ExitCode::SUCCESS)
}
