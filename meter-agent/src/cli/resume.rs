//! `meter resume`: lifts a halt.

use std::process::ExitCode;

use super::revoke::shut;
use crate::{config::Config, control::wire::Request, ids::AccountPath};

/// Let the agents of this host go on after `meter halt`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    shut(config, &Request::Restore { account: AccountPath::host() }, args.json, ["resumed", "is not halted"])
}
