//! `meter ledger verify`: is the file sound, and does what it says add up? With a daemon and without.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use super::{FAILED, print_json};
use crate::{
    config::Config,
    ledger::{self, Verified},
};

/// Check the ledger's file and its sums; changes nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Fails where there is a finding.
pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let verified = ledger::verify(&config.data_dir)?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &verified)?;
    } else {
        print(&mut out, &verified)?;
    }
    Ok(if verified.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn print(out: &mut impl Write, verified: &Verified) -> io::Result<()> {
    let Verified { file, accounts, rows, rollups, open_holds, findings } = verified;
    let file = file.display();
    if findings.is_empty() {
        return writeln!(
            out,
            "The ledger {file} is sound. Accounts: {accounts}, rows: {rows}, sums of days: {rollups}, open holds: \
             {open_holds}."
        );
    }
    findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    if findings.iter().all(|finding| finding.starts_with(ledger::NOT_THE_LAST)) {
        return Ok(());
    }
    writeln!(out, "To rebuild {file} from what can be read, stop the meter daemon and run `meter ledger recover`.")
}
