//! `cargo xtask bench`: builds for release, and measures (`tests/src/bin/bench.rs`).

use crate::packages::{self, CURL, IPROUTE, OPENSSL, WRK, as_root, cargo, run_command};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One part alone, without a proxy.
    #[arg(value_parser = ["reader", "exchange", "admission", "ledger"])]
    part: Option<String>,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Rounds, of which the medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Connections that wrk keeps open.
    #[arg(long, default_value_t = 16)]
    connections: u32,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages::ensure(&[&IPROUTE, &CURL, &OPENSSL, &WRK])?;
    run_command(cargo().args(["build", "--release", "--package", "meter-agent", "--package", "meter-tests"]))?;
    let mut bench = as_root(packages::target().join("release/bench"));
    let Arguments { part, seconds, rounds, connections } = arguments;
    if let Some(part) = part {
        return run_command(bench.arg(part));
    }
    run_command(bench.args([seconds, rounds, connections].map(ToString::to_string)))
}
