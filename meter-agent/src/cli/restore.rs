//! `meter restore`: lifts a revocation.

use std::process::ExitCode;

use super::revoke::shut;
use crate::{config::Config, control::wire::Request, ids::AccountPath};

/// Open a revoked account again, as far as its limits allow
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An agent, or a task as AGENT/TASK
    #[arg(value_name = "ACCOUNT")]
    account: AccountPath,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let request = Request::Restore { account: args.account.clone() };
    shut(config, &request, args.json, ["restored", "is not revoked"])
}
