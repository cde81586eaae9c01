//! `meter halt`: stops every agent of the host, by one word that the kernel reads.

use std::process::ExitCode;

use super::revoke::{reason, shut};
use crate::{config::Config, control::wire::Request, ids::AccountPath};

/// Stop every agent of this host at once; `meter resume` lets them go on
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Why; it stands in the refusals, in the status and in the events
    #[arg(long, value_name = "R", value_parser = reason, default_value = "halted")]
    reason: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let request = Request::Revoke { account: AccountPath::host(), reason: args.reason.clone() };
    shut(config, &request, args.json, ["halted", "is halted already"])
}
