//! `meter run`: a command as a task of an agent.
//!
//! Works as the user. The daemon moves this process into the task's cgroup; the command is then its child, in the
//! same process group on the same terminal, so that to a shell it looks like the command itself. What can be known
//! to fail is found out before a task is made.

mod identity;
mod lookup;
mod signals;
pub(super) mod start;

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
};

use super::{
    RUN_FAILED, say, sentence,
    table::{counted, usd},
};
use crate::{
    accounts::TaskStatus,
    clock,
    config::Config,
    control::{
        client::{Client, ClientError},
        wire::{Answer, Opened, Request, Summary},
    },
    ids::{AccountPath, ExchangeId},
    labels,
    money::Pico,
    trust::env,
};
use identity::Identity;

/// As a shell says that a command could not be executed.
const NOT_EXECUTABLE: u8 = 126;
/// As a shell says that a command does not exist.
const NOT_FOUND: u8 = 127;
/// As a shell says that signal N ended a command: 128 + N.
const BY_SIGNAL: i32 = 128;

/// Run a command as a task of an agent, metered
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: the command's own, or 128 + N where signal N ended it; 125 if meter itself failed, 126 if \
                  the command can't be executed, 127 if there is none of that name."
)]
pub(super) struct Args {
    /// The agent whose task this is
    #[arg(long, value_name = "NAME", value_parser = AccountPath::of_agent)]
    pub(super) agent: AccountPath,
    /// The task's name [default: made from the time]
    #[arg(long, value_name = "ID", value_parser = task_name)]
    pub(super) task: Option<String>,
    /// Budget of this task, in dollars; those of its agent and of the host hold beside it
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    pub(super) budget: Option<Pico>,
    /// A label of its rows, like team=search; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = labels::pair)]
    pub(super) labels: Vec<(String, String)>,
    /// Close the task when the command ends: success if its exit status is 0, else failed
    #[arg(long)]
    pub(super) close: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let Some((program, arguments)) = args.command.split_first() else {
        anyhow::bail!("there is no command to run; write it after `--`");
    };
    let program = match lookup::find(program) {
        Ok(path) => path,
        Err(miss) => {
            say(&miss.to_string());
            return Ok(ExitCode::from(if miss.exists { NOT_EXECUTABLE } else { NOT_FOUND }));
        }
    };
    let identity = Identity::behind_sudo()?;
    let opened = open_task(args, config)?;
    if let Some(identity) = &identity {
        identity.tell_what_sudo_removed();
    }

    let mut command = Command::new(program);
    command.args(arguments).envs(env::announce(&opened.bundle));
    if let Some(identity) = &identity {
        identity.apply(&mut command);
    }
    // From here on signals wait for the loop in `wait`.
    let signals = signals::Signals::block()?;
    signals.unblock_in(&mut command);
    let mut succeeded = false;
    let code = match command.spawn() {
        Ok(child) => {
            let status = signals.wait(child)?;
            succeeded = status.success();
            exit_code(status)
        }
        Err(error) => {
            say(&format!("{} can't be executed ({error})", command.get_program().display()));
            spawn_failure(&error)
        }
    };
    say(&last_line(config, &opened.account));
    if args.close {
        let status = if succeeded { TaskStatus::Success } else { TaskStatus::Failed };
        if let Err(error) = close_task(config, &opened.account, status) {
            let close = format!("meter task close {} --status {}", opened.account, status.as_str());
            say(&format!("the task is not closed ({}); `{close}` closes it", sentence(&error)));
        }
    }
    Ok(code)
}

/// After the last line, which waits for the last exchange: closing would cut it.
fn close_task(config: &Config, account: &AccountPath, status: TaskStatus) -> anyhow::Result<()> {
    let mut client = Client::connect(&config.socket())?;
    match client.ask(Request::CloseTask { account: account.clone(), status })? {
        Answer::Closed { .. } => Ok(()),
        _ => Err(ClientError::Mismatch.into()),
    }
}

fn open_task(args: &Args, config: &Config) -> anyhow::Result<Opened> {
    let request = Request::OpenTask {
        agent: args.agent.to_string(),
        task: args.task.clone().unwrap_or_else(|| task_id(clock::now())),
        budget_usd: args.budget,
        labels: labels::collect(args.labels.clone())?,
        closes: args.close,
        extra_roots_pem: env::named_roots(|name| std::env::var_os(name)),
    };
    match start::ask_or_start(config, &request)? {
        Answer::Opened(opened) => Ok(opened),
        _ => Err(ClientError::Mismatch.into()),
    }
}

/// What a task's name may be is what an account's may be.
fn task_name(text: &str) -> Result<String, crate::ids::NameError> {
    AccountPath::host().child("agent").and_then(|agent| agent.child(text)).map(|_| text.to_owned())
}

/// Sortable by time, to the second, and different for any number in one second: `20261121T081530-7f3a90c2`.
fn task_id(now: clock::Timestamp) -> String {
    let stamp: String = now.rfc3339().chars().take(19).filter(|c| *c != '-' && *c != ':').collect();
    let id = ExchangeId::new().0;
    let [.., a, b, c, d] = *id.as_bytes();
    format!("{stamp}-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|n| BY_SIGNAL + n));
    ExitCode::from(code.and_then(|c| u8::try_from(c).ok()).unwrap_or(RUN_FAILED))
}

/// The command was there when it was looked for; its interpreter may be missing, or its format be unknown.
fn spawn_failure(error: &io::Error) -> ExitCode {
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

fn last_line(config: &Config, account: &AccountPath) -> String {
    let asked = Client::connect(&config.socket())
        .and_then(|mut client| client.ask(Request::Summary { account: account.clone() }));
    match asked {
        Ok(Answer::Summary(summary)) => summary_line(account, &summary),
        Ok(_) => format!("{account}: {}", ClientError::Mismatch),
        Err(error) => format!("{account}: what was spent is in the ledger; {}", sentence(&error.into())),
    }
}

fn summary_line(account: &AccountPath, summary: &Summary) -> String {
    let budget = match &summary.budget {
        Some(own) if own.account == *account => format!("of {}", usd(own.limit_usd)),
        Some(above) => format!("({}: {} of {})", above.account, usd(above.spent_usd), usd(above.limit_usd)),
        None => "without a budget".to_owned(),
    };
    format!(
        "{account}: {} spent {budget}, {}, {}",
        usd(summary.spent_usd),
        counted(summary.exchanges, "exchange"),
        counted(summary.refusals, "refusal")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cashier::Budget, money::Pico};

    #[test]
    fn task_ids_are_names_sort_by_time_and_differ() {
        let at = |us| task_id(clock::Timestamp::from_micros(us));
        let first = at(1_795_248_930_000_000);
        assert!(first.starts_with("20261121T081530-"), "{first}");
        assert_eq!(first.len(), 24);
        assert_eq!(task_name(&first).unwrap(), first);
        assert!(first < at(1_795_248_931_000_000));
        let many: std::collections::BTreeSet<String> = (0..100).map(|_| at(0)).collect();
        assert_eq!(many.len(), 100);
    }

    #[test]
    fn the_status_is_the_commands_own() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), ExitCode::from(7));
        assert_eq!(exit_code(ExitStatus::from_raw(15)), ExitCode::from(143));
        assert_eq!(spawn_failure(&io::ErrorKind::NotFound.into()), ExitCode::from(127));
        assert_eq!(spawn_failure(&io::ErrorKind::PermissionDenied.into()), ExitCode::from(126));
    }

    #[test]
    fn the_last_line_has_all_four_numbers() {
        let account: AccountPath = "research/t".parse().unwrap();
        let summary = Summary {
            spent_usd: "0.019".parse().unwrap(),
            budget: Some(Budget {
                account: account.clone(),
                limit_usd: "0.02".parse().unwrap(),
                spent_usd: Pico::ZERO,
            }),
            exchanges: 3,
            refusals: 1,
        };
        assert_eq!(summary_line(&account, &summary), "research/t: $0.019 spent of $0.02, 3 exchanges, 1 refusal");
        let research = AccountPath::of_agent("research").unwrap();
        let agents = Budget { account: research, limit_usd: "5".parse().unwrap(), spent_usd: "4".parse().unwrap() };
        let under = Summary { budget: Some(agents), ..summary.clone() };
        assert_eq!(
            summary_line(&account, &under),
            "research/t: $0.019 spent (research: $4.00 of $5.00), 3 exchanges, 1 refusal"
        );
        let free = Summary { budget: None, ..summary };
        assert_eq!(summary_line(&account, &free), "research/t: $0.019 spent without a budget, 3 exchanges, 1 refusal");
    }
}
