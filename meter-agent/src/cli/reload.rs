//! `meter reload`: the daemon reads its config file again, and says what that changed.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{config::print_diff, print_json};
use crate::{
    config::Config,
    control::{
        client::{Client, ClientError},
        wire::{Answer, Request},
    },
};

/// Put the config file into force in the running daemon, and show what that changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Answer::ConfigDiff(diff) = Client::connect(&config.socket())?.ask(Request::ReloadConfig)? else {
        return Err(ClientError::Mismatch.into());
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        print_json(&mut out, &diff)?;
    } else {
        print_diff(&mut out, &diff)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
