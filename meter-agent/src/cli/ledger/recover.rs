//! `meter ledger recover`: a damaged ledger rebuilt, or an older copy accepted. The daemon must not run.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::print_json;
use crate::{
    clock,
    config::Config,
    ledger::{self, Recovered, Store},
    money::Pico,
};

/// Rebuild a damaged ledger from what can be read of it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on with an older copy that was put back; what the host had spent since is charged to it
    #[arg(long)]
    accept_older: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What an accepted copy lacks; `null` where it is the ledger in use.
#[derive(Serialize)]
struct Accepted {
    missing_usd: Option<Pico>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if args.accept_older {
        let missing = Store::accept_older(&config.data_dir)?;
        if missing.is_none() {
            // Fails where there is none at all.
            ledger::Reader::open(&config.data_dir)?;
        }
        if args.json {
            print_json(&mut out, &Accepted { missing_usd: missing })?;
            return Ok(ExitCode::SUCCESS);
        }
        match missing {
            None => writeln!(out, "The ledger is the one that was in use last; there is nothing to accept.")?,
            Some(missing) => writeln!(
                out,
                "The daemon goes on with this ledger. ${missing} that it lacks are charged when it starts: to the accounts \
                 that the kernel's map still knows to have spent them, else to the host."
            )?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let recovered = ledger::recover(&config.data_dir, clock::now())?;
    if args.json {
        print_json(&mut out, &recovered)?;
    } else {
        print(&mut out, &recovered)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut impl Write, recovered: &Recovered) -> io::Result<()> {
    let Recovered { file, damaged, accounts, rows, open_holds, lost } = recovered;
    lost.iter().try_for_each(|sentence| writeln!(out, "{sentence}"))?;
    if lost.is_empty() {
        writeln!(out, "Nothing was lost.")?;
    }
    writeln!(
        out,
        "{} is rebuilt. Accounts: {accounts}, rows: {rows}, open holds: {open_holds}. The damaged file is kept as {}.",
        file.display(),
        damaged.display()
    )
}
