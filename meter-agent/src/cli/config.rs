//! `meter config`: is a file right, what would it change, and what is in force.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;

use super::{
    FAILED, print_json,
    table::{Align, Table, counted},
};
use crate::{
    config::{self, Config, ConfigError, DEFAULT_FILE},
    control::{
        client::{Client, ClientError},
        in_force::{self, AccountInForce, ConfigDiff, ConfigState, KeyChange, Keys, LimitChange},
        wire::{Answer, Request},
    },
};

/// Check a config file, compare it with what is in force, or show what is
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show every mistake of a file with its line and column; exits with 1 if there is one
    Check {
        /// The file [default: the config file]
        file: Option<PathBuf>,
    },
    /// Show what a file would change of what is in force in the running daemon
    Diff {
        /// The file [default: the daemon's config file]
        file: Option<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show what is in force in the running daemon: settings, limits, and of each account's policy what differs from the
    /// account above it
    Show {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Serialize)]
struct Shown {
    config: ConfigState,
    settings: Keys,
    accounts: Vec<AccountInForce>,
}

/// `config check`, which needs no config but the one it is asked about; `None` for the other commands.
pub(super) fn check(args: &Args, named: Option<&Path>) -> anyhow::Result<Option<ExitCode>> {
    let What::Check { file } = &args.what else { return Ok(None) };
    let given = file.as_deref().or(named);
    let file = given.unwrap_or(Path::new(DEFAULT_FILE));
    let mut out = io::stdout().lock();
    match Config::load(Some(file)) {
        Ok(_) => {
            writeln!(out, "{}: no mistakes", file.display())?;
            Ok(Some(ExitCode::SUCCESS))
        }
        Err(ConfigError::Mistakes(mistakes)) => {
            writeln!(out, "{mistakes}")?;
            Ok(Some(ExitCode::from(FAILED)))
        }
        // Without a name nobody said that there is one.
        Err(ConfigError::Absent(path)) if given.is_none() => {
            bail!("there is no {}; name the file: `meter config check FILE`", path.display())
        }
        Err(error @ (ConfigError::Absent(_) | ConfigError::Unreadable { .. })) => Err(error.into()),
    }
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match &args.what {
        // It was done before there was a config.
        What::Check { .. } => {}
        What::Diff { file, json } => diff(&mut out, file.as_deref(), *json, config)?,
        What::Show { json } => show(&mut out, *json, config)?,
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn diff(out: &mut impl Write, file: Option<&Path>, json: bool, config: &Config) -> anyhow::Result<()> {
    let mut client = Client::connect(&config.socket())?;
    let file = match file {
        Some(file) => file.to_owned(),
        None => state(&mut client)?.file,
    };
    let text = config::read_text(&file).with_context(|| format!("{} can't be read", file.display()))?;
    let Answer::ConfigDiff(diff) = client.ask(Request::DiffConfig { file, text })? else {
        return Err(ClientError::Mismatch.into());
    };
    if json { print_json(out, &diff) } else { Ok(print_diff(out, &diff)?) }
}

fn state(client: &mut Client) -> anyhow::Result<ConfigState> {
    match client.ask(Request::ConfigState)? {
        Answer::ConfigState(state) => Ok(state),
        _ => Err(ClientError::Mismatch.into()),
    }
}

/// What was changed, or would be: accounts, then their limits, then everything else.
pub(super) fn print_diff(out: &mut impl Write, diff: &ConfigDiff) -> io::Result<()> {
    if diff.is_empty() {
        return writeln!(out, "Nothing changes: what the file says is in force.");
    }
    for renamed in &diff.renamed {
        writeln!(out, "~ {} becomes {}, with what it spent", renamed.from, renamed.to)?;
    }
    for account in &diff.added {
        writeln!(out, "+ {account}")?;
    }
    for account in &diff.removed {
        writeln!(out, "- {account} (what it spent stays)")?;
    }
    if !diff.limits.is_empty() {
        let mut table = Table::new([
            ("ACCOUNT", Align::Left),
            ("LIMIT", Align::Left),
            ("BEFORE", Align::Right),
            ("AFTER", Align::Right),
            ("SPENT", Align::Right),
        ]);
        for change in &diff.limits {
            table.row(limit_row(change));
        }
        table.print(out)?;
    }
    for change in diff.policies.iter().chain(&diff.settings) {
        writeln!(out, "{}", key_line(change, &diff.restart))?;
    }
    Ok(())
}

fn limit_row(change: &LimitChange) -> [String; 5] {
    let amount = |amount: &str| measured(amount, &change.unit);
    let or_none = |limit: &Option<String>| limit.as_deref().map_or_else(|| "none".to_owned(), amount);
    [
        change.account.to_string(),
        named(&change.window, &change.category),
        or_none(&change.before),
        or_none(&change.after),
        amount(&change.spent),
    ]
}

fn key_line(change: &KeyChange, restart: &[String]) -> String {
    let whose = change.account.as_ref().map(|account| format!("{account}: ")).unwrap_or_default();
    let when = if change.account.is_none() && restart.contains(&change.key) { " (after a restart)" } else { "" };
    format!("{whose}{}: {} -> {}{when}", change.key, text(&change.before), text(&change.after))
}

fn show(out: &mut impl Write, json: bool, config: &Config) -> anyhow::Result<()> {
    let answer = Client::connect(&config.socket())?.ask(Request::InForce)?;
    let Answer::InForce { state, settings, accounts } = answer else { return Err(ClientError::Mismatch.into()) };
    if json {
        return print_json(out, &Shown { config: state, settings, accounts });
    }
    if let Some(complaint) = state.complaint() {
        writeln!(out, "{complaint}\n")?;
    }
    for (key, value) in &settings {
        writeln!(out, "{key} = {}", text(value))?;
    }
    Ok(print_accounts(out, &accounts)?)
}

/// Of the host everything; of the others what they have by themselves.
fn print_accounts(out: &mut impl Write, accounts: &[AccountInForce]) -> io::Result<()> {
    let policies: BTreeMap<_, _> = accounts.iter().map(|account| (&account.account, &account.policy)).collect();
    let mut plain = 0;
    for account in accounts {
        let own = match account.account.parent().and_then(|parent| policies.get(&parent)) {
            Some(above) => in_force::own(&account.policy, Some(above)),
            None => account.policy.clone().into_iter().filter(|(_, value)| !says_nothing(value)).collect(),
        };
        if own.is_empty() && account.limits.is_empty() {
            plain += 1;
        } else {
            print_account(out, account, &own)?;
        }
    }
    if plain > 0 {
        writeln!(out, "\nwithout limits and policy of their own: {}", counted(plain, "account"))?;
    }
    Ok(())
}

fn print_account(out: &mut impl Write, account: &AccountInForce, own: &[(String, Value)]) -> io::Result<()> {
    writeln!(out, "\n{}", account.account)?;
    for limit in &account.limits {
        let amount = |amount: &str| measured(amount, &limit.unit);
        let (what, most, spent) = (named(&limit.window, &limit.category), amount(&limit.limit), amount(&limit.spent));
        writeln!(out, "  limit {what} = {most} (spent {spent}, left {})", amount(&limit.remaining))?;
    }
    for (key, value) in own {
        writeln!(out, "  {key} = {}", text(value))?;
    }
    Ok(())
}

/// `day`, `total (x402)`.
fn named(window: &str, category: &str) -> String {
    if category == "any" { window.to_owned() } else { format!("{window} ({category})") }
}

fn measured(amount: &str, unit: &str) -> String {
    match (unit, amount.strip_prefix('-')) {
        ("usd", Some(owed)) => format!("-${owed}"),
        ("usd", None) => format!("${amount}"),
        _ => format!("{amount} {unit}"),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// As the config would have it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(all) => format!("[{}]", all.iter().map(text).collect::<Vec<_>>().join(", ")),
        Value::Object(all) => {
            let pairs: Vec<String> =
                all.iter().map(|(key, value)| format!("{} = {}", bare(key), text(value))).collect();
            if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// A key of TOML, in quotes where it needs them.
fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if plain { key.to_owned() } else { format!("{key:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(diff: &ConfigDiff) -> String {
        let mut out = Vec::new();
        print_diff(&mut out, diff).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn of_an_account_is_shown_what_it_has_by_itself() {
        let account = |path: &str, enforce: bool| AccountInForce {
            account: path.parse().unwrap(),
            limits: Vec::new(),
            policy: json!({ "enforce": enforce, "until": null, "each_task": [], "wait": "30s" })
                .as_object()
                .cloned()
                .unwrap(),
        };
        let mut out = Vec::new();
        let accounts = [account("host", true), account("a", false), account("a/t", false), account("b", true)];
        print_accounts(&mut out, &accounts).unwrap();
        let expected = "\nhost\n  enforce = true\n  wait = \"30s\"\n\na\n  enforce = false\n\n\
                        without limits and policy of their own: 2 accounts\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(
            (measured("-0.5", "usd"), measured("-2", "requests")),
            ("-$0.5".to_owned(), "-2 requests".to_owned())
        );
    }

    #[test]
    fn a_diff_says_what_was_and_what_is() {
        let key = |account: Option<&str>, key: &str, before, after| KeyChange {
            account: account.map(|a| a.parse().unwrap()),
            key: key.to_owned(),
            before,
            after,
        };
        let diff = ConfigDiff {
            added: vec!["new".parse().unwrap()],
            removed: vec!["old".parse().unwrap()],
            limits: vec![LimitChange {
                account: "research".parse().unwrap(),
                window: "day".to_owned(),
                category: "any".to_owned(),
                unit: "usd".to_owned(),
                before: Some("5".to_owned()),
                after: None,
                spent: "4.5".to_owned(),
            }],
            policies: vec![key(Some("a"), "stages", Value::Null, json!({ "warn": 50, "x y": ["b"] }))],
            settings: vec![key(None, "durability", json!("full"), json!("strict"))],
            restart: vec!["durability".to_owned()],
            ..ConfigDiff::default()
        };
        let expected = "+ new\n- old (what it spent stays)\n\
                        ACCOUNT   LIMIT  BEFORE  AFTER  SPENT\n\
                        research  day        $5   none   $4.5\n\
                        a: stages: none -> { warn = 50, \"x y\" = [\"b\"] }\n\
                        durability: \"full\" -> \"strict\" (after a restart)\n";
        assert_eq!(printed(&diff), expected);
        assert_eq!(printed(&ConfigDiff::default()), "Nothing changes: what the file says is in force.\n");
    }
}
