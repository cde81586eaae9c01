//! The command line: one file per command, and here what they share.
//!
//! A new command is one file with `Args` and `run`, one variant of [`Command`] and one arm in [`dispatch`].

mod balance;
mod config;
mod daemon;
mod doctor;
mod events;
mod extend;
mod fund;
mod halt;
mod ledger;
mod prices;
mod reload;
mod replay;
mod report;
mod restore;
mod resume;
mod revoke;
mod run;
mod source;
mod status;
mod table;
mod task;
mod uninstall;
mod when;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::config::Config;

/// Exit status of a command that failed.
const FAILED: u8 = 1;
/// Exit status of a command line that makes no sense.
const USAGE: u8 = 2;
/// Exit status of `meter run` when meter itself failed, as container runners have it.
const RUN_FAILED: u8 = 125;

/// Meters what AI agents spend on LLM providers, on the network layer, and stops them at their budget.
#[derive(Debug, Parser)]
#[command(name = "meter", version, disable_help_subcommand = true)]
struct Cli {
    /// Config file [default: /etc/meter/meter.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Status(status::Args),
    Balance(balance::Args),
    Fund(fund::Args),
    Extend(extend::Args),
    Revoke(revoke::Args),
    Restore(restore::Args),
    Halt(halt::Args),
    Resume(resume::Args),
    Task(task::Args),
    Ledger(ledger::Args),
    Report(report::Args),
    Events(events::Args),
    Replay(replay::Args),
    Prices(prices::Args),
    Config(config::Args),
    Reload(reload::Args),
    Daemon(daemon::Args),
    Doctor(doctor::Args),
    Uninstall(uninstall::Args),
}

/// Parses the command line, does what it says, and reports a failure in one sentence.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let on_failure = if matches!(cli.command, Command::Run(_)) { RUN_FAILED } else { FAILED };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say(&sentence(&error));
            ExitCode::from(on_failure)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let named = cli.config.as_deref();
    if let Command::Config(args) = &cli.command
        && let Some(code) = config::check(args, named)?
    {
        return Ok(code);
    }
    let config = cli.command.config(named)?;
    match cli.command {
        Command::Run(args) => run::run(&args, &config),
        Command::Status(args) => status::run(&args, &config),
        Command::Balance(args) => balance::run(&args, &config),
        Command::Fund(args) => fund::run(&args, &config),
        Command::Extend(args) => extend::run(&args, &config),
        Command::Revoke(args) => revoke::run(&args, &config),
        Command::Restore(args) => restore::run(&args, &config),
        Command::Halt(args) => halt::run(&args, &config),
        Command::Resume(args) => resume::run(&args, &config),
        Command::Task(args) => task::run(&args, &config),
        Command::Ledger(args) => ledger::run(&args, &config),
        Command::Report(args) => report::run(&args, &config),
        Command::Events(args) => events::run(&args, &config),
        Command::Replay(args) => replay::run(&args, &config),
        Command::Prices(args) => prices::run(&args, &config),
        Command::Config(args) => config::run(&args, &config),
        Command::Reload(args) => reload::run(&args, &config),
        Command::Daemon(args) => daemon::run(&args, config),
        Command::Doctor(args) => doctor::run(&args, &config),
        Command::Uninstall(args) => uninstall::run(&args, &config),
    }
}

impl Command {
    /// The config, of which those that ask a daemon need only where it is: it goes on with what it has in force.
    fn config(&self, named: Option<&Path>) -> anyhow::Result<Config> {
        match self {
            Self::Replay(_) | Self::Prices(_) | Self::Daemon(_) => Ok(Config::load(named)?),
            Self::Run(_)
            | Self::Status(_)
            | Self::Balance(_)
            | Self::Fund(_)
            | Self::Extend(_)
            | Self::Revoke(_)
            | Self::Restore(_)
            | Self::Halt(_)
            | Self::Resume(_)
            | Self::Task(_)
            | Self::Report(_)
            | Self::Events(_)
            | Self::Ledger(_)
            | Self::Uninstall(_) => {
                let (config, mistakes) = Config::load_in_part(named)?;
                if let Some(first) = mistakes.0.first() {
                    say(&format!("{first} (`meter config check` shows all mistakes)"));
                }
                Ok(config)
            }
            // They say themselves what is wrong with the file.
            Self::Config(_) | Self::Reload(_) | Self::Doctor(_) => Ok(Config::load_in_part(named)?.0),
        }
    }
}

/// Help and version are no failures; a mistake in the words of `meter run` is one of meter's own.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be said when the terminal is gone.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    // The words could not be parsed, so this is a guess: `run` before the command's own words.
    let is_run = std::env::args_os().skip(1).take_while(|word| word != "--").any(|word| word == "run");
    ExitCode::from(if is_run { RUN_FAILED } else { USAGE })
}

/// One line, or the lines of one message, on standard error.
fn say(message: &str) {
    // Nothing can be said when the terminal is gone.
    let _ = writeln!(io::stderr(), "meter: {message}");
}

/// The error with its causes, as far as it has not named them itself.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        text
    })
}

/// Whoever reads the output has seen enough (`meter ledger | head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// One value as a line of JSON on standard output.
fn print_json(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    let line = serde_json::to_string(value)?;
    writeln!(out, "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_takes_everything_after_the_dashes_as_the_command() {
        let cli = parse("meter run --agent research --budget 0.50 -- python -u agent.py --budget 9").unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        assert_eq!(args.agent.as_str(), "research");
        assert_eq!(args.budget.unwrap().to_string(), "0.5");
        assert_eq!(args.command, ["python", "-u", "agent.py", "--budget", "9"]);
    }

    #[test]
    fn the_config_can_be_named_before_and_after_the_command() {
        for line in ["meter --config /a.toml status", "meter status --config /a.toml"] {
            assert_eq!(parse(line).unwrap().config, Some(PathBuf::from("/a.toml")));
        }
    }

    #[test]
    fn amounts_and_names_are_checked_as_they_are_read() {
        for line in [
            "meter run --agent a --budget -1 -- x",
            "meter run --agent a --budget 1e3 -- x",
            "meter run --agent a/b -- x",
            "meter run --agent host -- x",
            "meter run --agent a --task ../b -- x",
            "meter run --agent a",
            "meter run -- x",
            "meter fund a 9000001",
            "meter fund a -5",
            "meter task open a",
            "meter balance a..b",
            "meter ledger --task t",
            "meter ledger repair",
            "meter ledger --label Team=x",
            "meter run --agent a --label team -- x",
            "meter revoke a",
            "meter extend a --for 1h",
            "meter extend a --for 5 --by 1",
            "meter task close a/t --status done",
            "meter task close a/t",
            "meter report --by colour",
            "meter report --json --csv",
            "meter events --kind unheard",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_cause_is_named_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer ({source})")]
        struct Outer {
            source: io::Error,
        }
        let named = anyhow::Error::from(Outer { source: io::Error::other("inner") });
        assert_eq!(sentence(&named), "outer (inner)");
        assert_eq!(sentence(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }
}
