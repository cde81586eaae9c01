//! `meter status`: every account, its state, its money and its processes.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    print_json, source,
    table::{Align, Table, named_process, usd, usd_or_dash},
};
use crate::{config::Config, control::report::AccountReport};

/// Show every account: state, money, processes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    accounts: Vec<AccountReport>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let accounts = source::accounts(config)?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &Status { accounts })?;
    } else {
        print(&mut out, &accounts)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables of `status` and `balance`.
pub(super) fn print(out: &mut impl Write, accounts: &[AccountReport]) -> io::Result<()> {
    if accounts.is_empty() {
        return writeln!(out, "Nothing has been metered yet; `meter run --agent NAME -- COMMAND` begins.");
    }
    account_table(accounts).print(out)?;
    let processes = process_table(accounts);
    if !processes.is_empty() {
        writeln!(out)?;
        processes.print(out)?;
    }
    Ok(())
}

fn account_table(accounts: &[AccountReport]) -> Table {
    let mut table = Table::new([
        ("ACCOUNT", Align::Left),
        ("STATE", Align::Left),
        ("SPENT", Align::Right),
        ("HELD", Align::Right),
        ("LIMIT", Align::Right),
        ("REMAINING", Align::Right),
        ("EXCHANGES", Align::Right),
        ("CONNECTS", Align::Right),
        ("REFUSED", Align::Right),
    ]);
    for report in accounts {
        let kernel = |count: fn(&crate::control::report::KernelReport) -> u64| {
            report.kernel.as_ref().map_or_else(|| "-".to_owned(), |k| count(k).to_string())
        };
        table.row([
            report.account.to_string(),
            report.state.clone(),
            usd(report.spent_usd),
            usd(report.held_usd),
            usd_or_dash(report.limits.first().map(|limit| limit.limit_usd)),
            usd_or_dash(report.remaining_usd),
            report.exchanges.to_string(),
            kernel(|k| k.connects),
            kernel(|k| k.refused),
        ]);
    }
    table
}

/// An account's processes include those of the accounts below it, so that only the deepest are listed.
fn process_table(accounts: &[AccountReport]) -> Table {
    let mut table = Table::new([
        ("PROCESS", Align::Left),
        ("ACCOUNT", Align::Left),
        ("SPENT", Align::Right),
        ("EXCHANGES", Align::Right),
    ]);
    for report in accounts {
        let below =
            |other: &&AccountReport| other.account != report.account && other.account.is_within(&report.account);
        let deeper: Vec<&AccountReport> = accounts.iter().filter(below).collect();
        for process in &report.processes {
            if deeper.iter().any(|other| other.processes.iter().any(|p| (p.pid, &p.exe) == (process.pid, &process.exe)))
            {
                continue;
            }
            table.row([
                named_process(&process.exe, process.pid),
                report.account.to_string(),
                usd(process.spent_usd),
                process.exchanges.to_string(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::report::ProcessReport, money::Pico};

    fn report(account: &str) -> AccountReport {
        AccountReport {
            account: account.parse().unwrap(),
            state: "open".to_owned(),
            cgroups: Vec::new(),
            spent_usd: "0.02".parse().unwrap(),
            held_usd: Pico::ZERO,
            remaining_usd: None,
            limits: Vec::new(),
            exchanges: 1,
            processes: vec![ProcessReport {
                pid: 7,
                exe: "/usr/bin/curl".to_owned(),
                spent_usd: "0.02".parse().unwrap(),
                exchanges: 1,
            }],
            kernel: None,
        }
    }

    #[test]
    fn a_process_is_listed_once_with_its_deepest_account() {
        let mut out = Vec::new();
        print(&mut out, &[report("host"), report("research"), report("research/t")]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("curl[7]")).collect();
        assert_eq!(listed, ["curl[7]  research/t  $0.02          1"]);
    }
}
