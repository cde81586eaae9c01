//! `meter fund`: raises an account's limit. Needs the daemon, which is the ledger's only writer.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{print_json, run::start, table::usd};
use crate::{
    config::Config,
    control::{
        client::ClientError,
        wire::{Answer, Request},
    },
    ids::AccountPath,
    money::Pico,
};

/// Add money to an account's budget, for good; a stopped account goes on by itself
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An agent, a task as AGENT/TASK, or host for all agents together
    #[arg(value_name = "ACCOUNT")]
    account: AccountPath,
    /// Dollars to add, like 0.50
    #[arg(value_name = "USD", allow_negative_numbers = true)]
    amount: Pico,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Funded<'a> {
    account: &'a AccountPath,
    amount_usd: Pico,
    remaining_usd: Pico,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let request = Request::Fund { account: args.account.clone(), amount_usd: args.amount };
    let Answer::Funded { account, remaining_usd } = start::ask_or_start(config, &request)? else {
        return Err(ClientError::Mismatch.into());
    };
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &Funded { account: &account, amount_usd: args.amount, remaining_usd })?;
    } else {
        writeln!(out, "{account}: {} added, {} remaining now", usd(args.amount), usd(remaining_usd))?;
    }
    Ok(ExitCode::SUCCESS)
}
