//! `meter task`: a task's life without a command of meter's own around it: opened for whoever enters, closed for good.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{print_json, run::start, table::usd};
use crate::{
    accounts::TaskStatus,
    config::Config,
    control::{
        client::ClientError,
        wire::{Answer, Opened, Request},
    },
    ids::{AccountPath, NameError},
    labels,
    money::Pico,
    trust::env,
};

/// Open a task for processes that enter its cgroup, or close one for good
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a task's account and cgroup, or go on with them
    Open(Open),
    /// Close a task: nothing is admitted any more, and it can't be opened again
    Close(Close),
}

#[derive(Debug, clap::Args)]
struct Open {
    /// The task
    #[arg(value_name = "AGENT/TASK", value_parser = task)]
    account: AccountPath,
    /// Budget of this task, in dollars; those of its agent and of the host hold beside it
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    budget: Option<Pico>,
    /// A label of its rows, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    labels: Vec<(String, String)>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Close {
    /// The task
    #[arg(value_name = "AGENT/TASK", value_parser = task)]
    account: AccountPath,
    /// How it ended: success, failed or abandoned
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: TaskStatus,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match &args.what {
        What::Open(args) => open(&mut out, args, config)?,
        What::Close(args) => close(&mut out, args, config)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open(out: &mut impl Write, args: &Open, config: &Config) -> anyhow::Result<()> {
    let request = Request::MakeTask {
        account: args.account.clone(),
        budget_usd: args.budget,
        labels: labels::collect(args.labels.clone())?,
        extra_roots_pem: env::named_roots(|name| std::env::var_os(name)),
    };
    let Answer::Opened(opened) = start::ask_or_start(config, &request)? else {
        return Err(ClientError::Mismatch.into());
    };
    if args.json {
        return print_json(out, &opened);
    }
    Ok(print_opened(out, &opened)?)
}

fn print_opened(out: &mut impl Write, opened: &Opened) -> io::Result<()> {
    let Opened { account, bundle, cgroup } = opened;
    writeln!(out, "account  {account}\ncgroup   {}\nbundle   {}", cgroup.display(), bundle.display())?;
    // A task of an agent itself; one further below is entered by its cgroup.
    if let Some((agent, task)) = account.as_str().split_once('/').filter(|(_, task)| !task.contains('/')) {
        writeln!(out, "enter    meter run --agent {agent} --task {task} -- COMMAND")?;
    }
    writeln!(
        out,
        "enter    echo PID > {}/cgroup.procs   (as root, with SSL_CERT_FILE={} in its environment)",
        cgroup.display(),
        bundle.display()
    )?;
    writeln!(out, "close    meter task close {account} --status success")
}

fn close(out: &mut impl Write, args: &Close, config: &Config) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Told<'a> {
        account: &'a AccountPath,
        changed: bool,
        status: &'a str,
        spent_usd: Pico,
    }

    let request = Request::CloseTask { account: args.account.clone(), status: args.status };
    let Answer::Closed { account, status, changed, spent_usd } = start::ask_or_start(config, &request)? else {
        return Err(ClientError::Mismatch.into());
    };
    if args.json {
        return print_json(out, &Told { account: &account, changed, status: &status, spent_usd });
    }
    let closed = if changed { "closed" } else { "was closed already" };
    Ok(writeln!(out, "{account}: {closed}, {status}, {} spent", usd(spent_usd))?)
}

/// What is no task is found out before a daemon is started for it.
fn task(text: &str) -> Result<AccountPath, String> {
    let account: AccountPath = text.parse().map_err(|error: NameError| error.to_string())?;
    if !account.is_task() {
        let agent = if account.is_host() { "research" } else { account.as_str() };
        return Err(format!("`{account}` is no task; name one below an agent, like {agent}/nightly-7"));
    }
    Ok(account)
}

fn status(text: &str) -> Result<TaskStatus, String> {
    TaskStatus::named(text).ok_or_else(|| format!("`{text}` is not a status; use success, failed or abandoned"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_to_enter_a_task_is_told_and_one_further_below_by_its_cgroup_alone() {
        let told = |account: &str| {
            let opened = Opened { account: account.parse().unwrap(), bundle: "/b.pem".into(), cgroup: "/c".into() };
            let mut out = Vec::new();
            print_opened(&mut out, &opened).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = told("research/t");
        assert!(text.contains("meter run --agent research --task t -- COMMAND"), "{text}");
        assert!(text.contains("/c/cgroup.procs"), "{text}");
        assert!(!told("research/t/u").contains("meter run"));
    }

    #[test]
    fn an_agent_is_no_task() {
        assert_eq!(task("research/t/u").unwrap().as_str(), "research/t/u");
        assert!(task("research").unwrap_err().contains("like research/nightly-7"));
        assert!(task("research/../t").is_err());
    }

    #[test]
    fn a_status_is_one_of_three() {
        assert_eq!(status("failed"), Ok(TaskStatus::Failed));
        assert!(status("done").unwrap_err().contains("use success, failed or abandoned"));
    }
}
