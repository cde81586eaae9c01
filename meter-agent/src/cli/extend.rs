//! `meter extend`: raises an account's dollar limits for a time, and no longer.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;

use super::{print_json, run::start, table::usd, when};
use crate::{
    clock::Timestamp,
    config::Config,
    control::{
        client::ClientError,
        wire::{Answer, Request},
    },
    duration,
    ids::AccountPath,
    money::Pico,
};

/// Raise an account's dollar limits for a time; the raise ends by itself
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An agent, a task as AGENT/TASK, or host for all agents together
    #[arg(value_name = "ACCOUNT")]
    account: AccountPath,
    /// How long, like 1h, 90m or 2d
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_above_zero)]
    lasts: Duration,
    /// Dollars on top of each limit, like 5
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    by: Pico,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    account: &'a AccountPath,
    by_usd: Pico,
    until: Timestamp,
    remaining_usd: Option<Pico>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let for_s = args.lasts.as_secs() + u64::from(args.lasts.subsec_nanos() > 0);
    let request = Request::Extend { account: args.account.clone(), by_usd: args.by, for_s };
    let Answer::Extended { account, until, remaining_usd } = start::ask_or_start(config, &request)? else {
        return Err(ClientError::Mismatch.into());
    };
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &Told { account: &account, by_usd: args.by, until, remaining_usd })?;
    } else {
        let left = remaining_usd.map(|left| format!(", {} remaining now", usd(left))).unwrap_or_default();
        writeln!(out, "{account}: {} more until {} UTC{left}", usd(args.by), when::shown(until))?;
    }
    Ok(ExitCode::SUCCESS)
}
