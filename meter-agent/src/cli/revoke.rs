//! `meter revoke`: shuts an account, in the kernel too, until somebody restores it.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use super::{print_json, run::start};
use crate::{
    accounts::State,
    config::Config,
    control::{
        client::ClientError,
        wire::{Answer, REASON_BYTES_MAX, Request},
    },
    ids::AccountPath,
};

/// Shut an account at once, whatever it has left; `meter restore` opens it again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An agent, or a task as AGENT/TASK
    #[arg(value_name = "ACCOUNT")]
    account: AccountPath,
    /// Why; it stands in the refusals, in the status and in the events
    #[arg(long, value_name = "R", value_parser = reason)]
    reason: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let request = Request::Revoke { account: args.account.clone(), reason: args.reason.clone() };
    shut(config, &request, args.json, ["revoked", "is revoked already"])
}

/// Asks for an account's state to change and tells what it is then; `words` are for one that changed and for one that
/// was so already.
pub(super) fn shut(config: &Config, request: &Request, json: bool, words: [&str; 2]) -> anyhow::Result<ExitCode> {
    #[derive(Serialize)]
    struct Told<'a> {
        account: &'a AccountPath,
        changed: bool,
        state: &'a str,
        shut_by: &'a Option<AccountPath>,
    }

    let Answer::Shut { account, changed, state, shut_by } = start::ask_or_start(config, request)? else {
        return Err(ClientError::Mismatch.into());
    };
    let mut out = io::stdout().lock();
    if json {
        print_json(&mut out, &Told { account: &account, changed, state: &state, shut_by: &shut_by })?;
    } else {
        writeln!(out, "{}", sentence(&account, changed, &state, shut_by.as_ref(), words))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn sentence(
    account: &AccountPath,
    changed: bool,
    state: &str,
    shut_by: Option<&AccountPath>,
    [did, was]: [&str; 2],
) -> String {
    let done = if changed { did } else { was };
    // What is revoked of the host is called halted.
    let is_said = done.contains(state) || (account.is_host() && state == State::Revoked.as_str());
    let state = if is_said { String::new() } else { format!(", {state} now") };
    let above = shut_by.map(|above| format!("; {above} above it is not open")).unwrap_or_default();
    format!("{account}: {done}{state}{above}")
}

/// What a reason may be is what the daemon takes.
pub(super) fn reason(text: &str) -> Result<String, String> {
    if (1..=REASON_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        let fix = if text.is_empty() { "write one" } else { "shorten it" };
        Err(format!("a reason is 1 to {REASON_BYTES_MAX} bytes of text on one line; {fix}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_what_still_shuts_an_account_is_told() {
        let account: AccountPath = "a/t".parse().unwrap();
        let words = ["revoked", "is revoked already"];
        assert_eq!(sentence(&account, true, "revoked", None, words), "a/t: revoked");
        assert_eq!(sentence(&account, false, "revoked", None, words), "a/t: is revoked already");
        let host = AccountPath::host();
        assert_eq!(sentence(&host, true, "revoked", None, ["halted", "is halted already"]), "host: halted");
        let words = ["restored", "is not revoked"];
        assert_eq!(
            sentence(&account, true, "open", Some(&host), words),
            "a/t: restored, open now; host above it is not open"
        );
    }
}
