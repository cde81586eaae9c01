//! `meter status`: every account, its state, its money and its processes; and what is in force beyond one budget.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    print_json, source,
    table::{self, Align, Table, named_process, plain, usd, usd_or_dash},
    when,
};
use crate::{
    cashier::LimitStatus,
    config::Config,
    control::{
        in_force::{self, ConfigState},
        report::AccountReport,
    },
    labels,
    money::Pico,
};

/// Show every account: state, money, processes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only accounts with this label, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    labels: Vec<(String, String)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Status {
    /// Whether the config file is what is in force; `null` without a daemon.
    config: Option<ConfigState>,
    accounts: Vec<AccountReport>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let asked = labels::collect(args.labels.clone())?;
    let mut accounts = source::accounts(config)?;
    accounts.retain(|report| labels::have(&report.labels, &asked));
    let state = source::config_state(config)?;
    let mut out = io::stdout().lock();
    if args.json {
        print_json(&mut out, &Status { config: state, accounts })?;
    } else if accounts.is_empty() && !asked.is_empty() {
        writeln!(out, "No account has these labels.")?;
    } else {
        print(&mut out, &accounts)?;
        if let Some(complaint) = state.and_then(|state| state.complaint()) {
            writeln!(out, "\n{complaint}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The tables of `status` and `balance`.
pub(super) fn print(out: &mut impl Write, accounts: &[AccountReport]) -> io::Result<()> {
    if accounts.is_empty() {
        return writeln!(out, "Nothing has been metered yet; `meter run --agent NAME -- COMMAND` begins.");
    }
    account_table(accounts).print(out)?;
    for table in [limit_table(accounts), process_table(accounts)] {
        if !table.is_empty() {
            writeln!(out)?;
            table.print(out)?;
        }
    }
    let notes: Vec<String> = accounts.iter().filter_map(note).collect();
    if !notes.is_empty() {
        writeln!(out)?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn account_table(accounts: &[AccountReport]) -> Table {
    let mut table = Table::new([
        ("ACCOUNT", Align::Left),
        ("STATE", Align::Left),
        ("STAGE", Align::Left),
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
            state(report),
            report.stage.clone().unwrap_or_else(|| "-".to_owned()),
            usd(report.spent_usd),
            usd(report.held_usd),
            limit_cell(report),
            usd_or_dash(report.remaining_usd),
            report.exchanges.to_string(),
            kernel(|k| k.connects),
            kernel(|k| k.refused),
        ]);
    }
    table
}

/// `open`, `stopped`, `open (host)`: the account's own, and the one above that shuts it.
fn state(report: &AccountReport) -> String {
    match &report.shut_by {
        Some(above) if above.is_host() => format!("{} (halt)", report.state),
        Some(above) => format!("{} ({above})", report.state),
        None => report.state.clone(),
    }
}

/// The budget, or the only limit; where there are more they have a table of their own.
fn limit_cell(report: &AccountReport) -> String {
    let budget = report.limits.iter().find(|limit| is_budget(limit)).or(report.limits.first());
    let more = report.limits.len().saturating_sub(1);
    match budget {
        Some(limit) if more > 0 => format!("{} +{more}", shown(limit)),
        Some(limit) => shown(limit),
        None => "-".to_owned(),
    }
}

fn is_budget(limit: &LimitStatus) -> bool {
    (limit.window.as_str(), limit.category.as_str(), limit.unit.as_str()) == ("total", "any", "usd")
}

/// Every limit of accounts for which the columns above do not say all.
fn limit_table(accounts: &[AccountReport]) -> Table {
    let mut table = Table::new([
        ("ACCOUNT", Align::Left),
        ("LIMIT", Align::Left),
        ("SPENT", Align::Right),
        ("HELD", Align::Right),
        ("REMAINING", Align::Right),
        ("RESETS (UTC)", Align::Left),
    ]);
    for report in accounts.iter().filter(|report| !report.limits.iter().all(is_budget)) {
        for limit in &report.limits {
            table.row([
                report.account.to_string(),
                shown(limit),
                amount(limit, &limit.spent),
                amount(limit, &limit.held),
                amount(limit, &limit.remaining),
                limit.reset.as_deref().map_or_else(|| "-".to_owned(), |at| plain(at).chars().take(16).collect()),
            ]);
        }
    }
    table
}

/// In the limit's unit; dollars as everywhere, counts bare.
fn amount(limit: &LimitStatus, amount: &str) -> String {
    match amount.parse::<Pico>() {
        Ok(usd) if limit.unit == "usd" => table::usd(usd),
        Ok(_) | Err(_) => plain(amount),
    }
}

/// What else is to be known of an account: why it is shut, how it ended, what is in force, its labels.
fn note(report: &AccountReport) -> Option<String> {
    let mut told = Vec::new();
    if matches!(report.state.as_str(), "revoked" | "closed") {
        let since = report.since.map(|at| format!(" since {}", when::shown(at))).unwrap_or_default();
        let why = report.reason.as_deref().or(report.status.as_deref()).map(|why| format!(": {}", plain(why)));
        told.push(format!("{}{since}{}", report.state, why.unwrap_or_default()));
    }
    told.extend(report.in_force.as_ref().map(in_force::told).unwrap_or_default().iter().map(|text| plain(text)));
    if !report.labels.is_empty() {
        told.push(plain(&labels::shown(&report.labels)));
    }
    (!told.is_empty()).then(|| format!("{}: {}", report.account, told.join("; ")))
}

/// `$5.00`, `day $5.00`, `hour 100 requests`, `$1.00 (x402)`.
fn shown(limit: &LimitStatus) -> String {
    let unit = if limit.unit == "usd" { String::new() } else { format!(" {}", limit.unit) };
    let amount = format!("{}{unit}", amount(limit, &limit.limit));
    let window = if limit.window == "total" { String::new() } else { format!("{} ", limit.window) };
    let category = if limit.category == "any" { String::new() } else { format!(" ({})", limit.category) };
    format!("{window}{amount}{category}")
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
    use crate::control::report::ProcessReport;

    fn report(account: &str) -> AccountReport {
        AccountReport {
            account: account.parse().unwrap(),
            state: "open".to_owned(),
            since: None,
            reason: None,
            shut_by: None,
            status: None,
            in_force: None,
            labels: labels::Labels::new(),
            cgroups: Vec::new(),
            spent_usd: "0.02".parse().unwrap(),
            held_usd: Pico::ZERO,
            remaining_usd: None,
            stage: None,
            overage_usd: Pico::ZERO,
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

    fn limit(window: &str, category: &str, unit: &str, amount: &str) -> LimitStatus {
        LimitStatus {
            window: window.to_owned(),
            category: category.to_owned(),
            unit: unit.to_owned(),
            limit: amount.to_owned(),
            spent: "1".to_owned(),
            held: "0".to_owned(),
            remaining: "4".to_owned(),
            reset: (window != "total").then(|| "2026-11-22T00:00:00.000Z".to_owned()),
        }
    }

    #[test]
    fn several_limits_are_listed_and_one_budget_is_not() {
        let mut alone = report("nightly");
        alone.limits = vec![limit("total", "any", "usd", "5")];
        let mut several = report("research");
        several.limits = vec![limit("day", "any", "requests", "5"), limit("total", "any", "usd", "5")];
        let mut out = Vec::new();
        print(&mut out, &[alone, several]).unwrap();
        let text = String::from_utf8(out).unwrap();
        let listed = text.lines().skip_while(|line| !line.contains("LIMIT  ")).skip(1);
        assert!(!listed.clone().any(|line| line.starts_with("nightly  $5.00  ")), "{text}");
        assert!(text.contains("$5.00 +1"), "{text}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let limits: Vec<String> = listed.map(words).filter(|line| line.starts_with("research ")).collect();
        assert!(limits.contains(&"research day 5 requests 1 0 4 2026-11-22T00:00".to_owned()), "{text}");
    }

    #[test]
    fn a_shut_account_says_why_since_when_and_by_whom() {
        let mut host = report("host");
        host.state = "revoked".to_owned();
        host.since = crate::clock::Timestamp::parse("2026-11-21T08:15:30Z");
        host.reason = Some("runs \u{1b}wild".to_owned());
        let mut agent = report("research");
        agent.shut_by = Some(host.account.clone());
        agent.labels = labels::collect([("team".to_owned(), "search".to_owned())]).unwrap();
        let mut out = Vec::new();
        print(&mut out, &[host, agent]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("host: revoked since 2026-11-21 08:15:30: runs ?wild\n"), "{text}");
        assert!(text.contains("open (halt)"), "{text}");
        assert!(text.contains("research: team=search\n"), "{text}");
    }
}
