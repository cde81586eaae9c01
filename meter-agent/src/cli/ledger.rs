//! `meter ledger`: the exchanges and refusals, the oldest first; and what is done with the file itself.

mod recover;
mod verify;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};

use super::{
    FAILED, print_json, source,
    table::{Align, Table, plain, process, usd},
    when,
};
use crate::{config::Config, exchange::Row, ids::AccountPath, labels};

/// Rows of a screen or two; JSON is for programs, which get all of them.
const SHOWN_DEFAULT: usize = 50;

/// Show exchanges and refusals, or check and repair the ledger
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Args {
    #[command(subcommand)]
    act: Option<Act>,
    /// Only this agent's, its tasks' included
    #[arg(long, value_name = "A", value_parser = AccountPath::of_agent)]
    agent: Option<AccountPath>,
    /// Only this task's
    #[arg(long, value_name = "T", requires = "agent")]
    task: Option<String>,
    /// Only with this label, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    labels: Vec<(String, String)>,
    /// Only the last N [default: 50, or all with --json]
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
    /// Print a JSON object per line
    #[arg(long)]
    json: bool,
}

/// What is done with the ledger's file.
#[derive(Debug, clap::Subcommand)]
enum Act {
    Verify(verify::Args),
    Recover(recover::Args),
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    if args.act.is_some() && (args.agent.is_some() || !args.labels.is_empty() || args.limit.is_some() || args.json) {
        bail!("--agent, --task, --label and --limit choose rows to show; --json goes after `verify` or `recover`");
    }
    match &args.act {
        Some(Act::Verify(args)) => return verify::run(args, config),
        Some(Act::Recover(args)) => return recover::run(args, config),
        None => {}
    }
    let account = args.account()?;
    let limit = args.limit.unwrap_or(if args.json { usize::MAX } else { SHOWN_DEFAULT });
    let rows = source::rows(config, account.as_ref(), limit, &labels::collect(args.labels.clone())?)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        rows.iter().try_for_each(|row| print_json(&mut out, row))?;
    } else {
        print(&mut out, &rows)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn account(&self) -> anyhow::Result<Option<AccountPath>> {
        match (&self.agent, &self.task) {
            (Some(agent), Some(task)) => Ok(Some(format!("{agent}/{task}").parse().context("--task")?)),
            (agent, _) => Ok(agent.clone()),
        }
    }
}

fn print(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "The ledger has no such rows.");
    }
    let mut table = Table::new([
        ("TIME (UTC)", Align::Left),
        ("ACCOUNT", Align::Left),
        ("PROCESS", Align::Left),
        ("WHAT", Align::Left),
        ("OUTCOME", Align::Left),
        ("INPUT", Align::Right),
        ("OUTPUT", Align::Right),
        ("COST", Align::Right),
    ]);
    for row in rows {
        table.row([
            when::shown(row.time),
            row.account.to_string(),
            process(&row.process),
            what(row),
            outcome(row),
            row.usage.input_tokens.to_string(),
            row.usage.output_tokens.to_string(),
            usd(row.cost_usd),
        ]);
    }
    table.print(out)
}

/// The model where there is one, else the host. Both are the other side's words, hence without control characters.
fn what(row: &Row) -> String {
    let model = row.model.as_deref().or(row.requested_model.as_deref());
    plain(model.unwrap_or(&row.host))
}

fn outcome(row: &Row) -> String {
    let name = serde_json::to_value(row.outcome).ok();
    let name = name.as_ref().and_then(|v| v.as_str()).unwrap_or("?").replace('_', " ");
    if row.count > 1 { format!("{name} x{}", row.count) } else { name }
}
