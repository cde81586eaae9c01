//! `meter status`: every account, its state, its money and its processes; and what is in force beyond one budget.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{
    config, print_json, source,
    table::{self, Align, Table, counted, named_process, plain, usd, usd_or_dash},
    when,
};
use crate::{
    cashier::LimitStatus,
    config::Config,
    control::{
        in_force::{self, ConfigState, Keys},
        report::{AccountReport, ProcessReport},
    },
    labels,
    money::Pico,
};

/// Processes of a screen; JSON has all of them.
const PROCESSES_MAX: usize = 20;

/// Show every account: state, money, processes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only accounts with this label, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    labels: Vec<(String, String)>,
    /// Tasks that have ended too
    #[arg(long)]
    all: bool,
    /// Print one JSON object, with every account
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
        let shown = |report: &AccountReport| args.all || !asked.is_empty() || !has_ended(report);
        print_some(&mut out, &accounts, shown)?;
        if let Some(complaint) = state.and_then(|state| state.complaint()) {
            writeln!(out, "\n{complaint}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A task whose processes have ended, and of which nothing is to be done.
fn has_ended(report: &AccountReport) -> bool {
    report.account.is_task()
        && report.cgroups.is_empty()
        && report.held_usd == Pico::ZERO
        && ["open", "stopped", "closed"].contains(&report.state.as_str())
}

/// The tables of `balance`.
pub(super) fn print(out: &mut impl Write, accounts: &[AccountReport]) -> io::Result<()> {
    print_some(out, accounts, |_| true)
}

/// The tables of `status`, of the accounts that are to be shown; what is in force is told where it begins.
fn print_some(
    out: &mut impl Write,
    accounts: &[AccountReport],
    is_shown: impl Fn(&AccountReport) -> bool,
) -> io::Result<()> {
    if accounts.is_empty() {
        return writeln!(out, "Nothing has been metered yet; `meter run --agent NAME -- COMMAND` begins.");
    }
    let shown: Vec<&AccountReport> = accounts.iter().filter(|report| is_shown(report)).collect();
    account_table(&shown).print(out)?;
    for table in [limit_table(&shown), process_table(accounts, &shown)] {
        if !table.is_empty() {
            writeln!(out)?;
            table.print(out)?;
        }
    }
    let in_force: BTreeMap<_, _> =
        accounts.iter().filter_map(|report| Some((&report.account, report.in_force.as_ref()?))).collect();
    let above = |report: &AccountReport| in_force.get(&report.account.parent()?).copied();
    let mut notes: Vec<String> = shown.iter().filter_map(|report| note(report, above(report))).collect();
    let ended = accounts.len() - shown.len();
    if ended > 0 {
        let (tasks, are) =
            (counted(ended as u64, "task"), if ended == 1 { "has ended and is" } else { "have ended and are" });
        notes.push(format!("{tasks} {are} not shown; `meter status --all` shows every one"));
    }
    if !notes.is_empty() {
        writeln!(out)?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "{note}"))
}

fn account_table(accounts: &[&AccountReport]) -> Table {
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
fn limit_table(accounts: &[&AccountReport]) -> Table {
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
    // An amount that people write is not negative; what remains can be.
    let (sign, size) = amount.strip_prefix('-').map_or(("", amount), |size| ("-", size));
    match size.parse::<Pico>() {
        Ok(usd) if limit.unit == "usd" => format!("{sign}{}", table::usd(usd)),
        Ok(_) | Err(_) => plain(amount),
    }
}

/// What else is to be known of an account: why it is shut, how it ended, what is in force, its labels.
fn note(report: &AccountReport, above: Option<&Keys>) -> Option<String> {
    let mut told = Vec::new();
    if matches!(report.state.as_str(), "revoked" | "closed") {
        let since = report.since.map(|at| format!(" since {}", when::shown(at))).unwrap_or_default();
        let why = report.reason.as_deref().or(report.status.as_deref()).map(|why| format!(": {}", plain(why)));
        told.push(format!("{}{since}{}", report.state, why.unwrap_or_default()));
    }
    if report.overage_usd.is_positive() {
        told.push(format!("overage {}", usd(report.overage_usd)));
    }
    let own = report.in_force.as_ref().map(|keys| in_force::own(keys, above)).unwrap_or_default();
    // Labels are shown as such.
    let own = own.iter().filter(|(key, _)| key != "labels");
    told.extend(own.map(|(key, value)| plain(&format!("{key} = {}", config::text(value)))));
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

/// An account's processes include those of the accounts below it, so that only the deepest are listed; the dearest, where
/// there are many.
fn process_table(accounts: &[AccountReport], shown: &[&AccountReport]) -> Table {
    let mut table = Table::new([
        ("PROCESS", Align::Left),
        ("ACCOUNT", Align::Left),
        ("SPENT", Align::Right),
        ("EXCHANGES", Align::Right),
    ]);
    let mut rows: Vec<(&AccountReport, &ProcessReport)> = Vec::new();
    for report in shown {
        let below =
            |other: &&AccountReport| other.account != report.account && other.account.is_within(&report.account);
        let deeper: Vec<&AccountReport> = accounts.iter().filter(below).collect();
        for process in &report.processes {
            if deeper.iter().any(|other| other.processes.iter().any(|p| (p.pid, &p.exe) == (process.pid, &process.exe)))
            {
                continue;
            }
            rows.push((report, process));
        }
    }
    if rows.len() > PROCESSES_MAX {
        rows.sort_by_key(|(_, process)| std::cmp::Reverse(process.spent_usd));
    }
    for (report, process) in rows.iter().take(PROCESSES_MAX) {
        table.row([
            named_process(&process.exe, process.pid),
            report.account.to_string(),
            usd(process.spent_usd),
            process.exchanges.to_string(),
        ]);
    }
    if let Some(rest) = rows.get(PROCESSES_MAX..).filter(|rest| !rest.is_empty()) {
        let spent = rest.iter().fold(Pico::ZERO, |sum, (_, process)| sum.saturating_add(process.spent_usd));
        let exchanges: u64 = rest.iter().map(|(_, process)| process.exchanges).sum();
        table.row([format!("{} more", rest.len()), String::new(), usd(spent), exchanges.to_string()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn a_task_that_ended_is_counted_and_shown_where_it_is_asked_for() {
        let mut busy = report("research/t");
        busy.cgroups = vec!["/c".into()];
        let mut revoked = report("research/u");
        revoked.state = "revoked".to_owned();
        let all = [report("host"), report("research"), report("research/old"), busy, revoked];
        let shown = |is_shown: fn(&AccountReport) -> bool| {
            let mut out = Vec::new();
            print_some(&mut out, &all, is_shown).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = shown(|report| !has_ended(report));
        assert!(!text.contains("research/old") && text.contains("research/t") && text.contains("research/u"), "{text}");
        assert!(text.contains("1 task has ended and is not shown; `meter status --all`"), "{text}");
        assert!(shown(|_| true).contains("research/old"));
    }

    #[test]
    fn of_many_processes_the_dearest_are_listed_and_the_rest_summed() {
        let mut busy = report("research");
        let process = |pid: u32| ProcessReport {
            pid,
            exe: "curl".to_owned(),
            spent_usd: Pico::new(i64::from(pid) * Pico::USD),
            exchanges: 1,
        };
        busy.processes = (1..=30).map(process).collect();
        let mut out = Vec::new();
        print(&mut out, &[busy]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("curl[")).count(), PROCESSES_MAX, "{text}");
        let rest = text.lines().find(|line| line.starts_with("10 more")).unwrap();
        assert_eq!(rest.split_whitespace().collect::<Vec<_>>(), ["10", "more", "$55.00", "10"]);
    }

    #[test]
    fn what_is_in_force_is_told_where_it_begins() {
        let keys = |enforce: bool| serde_json::json!({ "enforce": enforce, "until": null, "each_task": [] });
        let of = |path: &str, enforce: bool| {
            let mut of = report(path);
            of.in_force = keys(enforce).as_object().cloned();
            of
        };
        let mut out = Vec::new();
        print(&mut out, &[of("host", true), of("a", false), of("a/t", false)]).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\na: enforce = false\n") && !text.contains("a/t: enforce"), "{text}");
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
        let mut beyond = limit("day", "any", "usd", "5");
        beyond.remaining = "-0.5".to_owned();
        assert_eq!(amount(&beyond, &beyond.remaining), "-$0.50");
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
