//! Asks the daemon, starting one that ends by itself when none answers.
//!
//! Two shells can do so at once, and a daemon can be ending just then: the daemon's lock decides who serves, and
//! this asks again until it is answered or the deadline has passed.

use std::{
    io,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::{
    clock,
    config::Config,
    control::{
        client::{Client, ClientError},
        wire::{Answer, FaultKind, Request},
    },
    users,
};

/// Longer than an ending daemon's drain and a new one's start together.
const WAIT_NS: u64 = 60_000_000_000;
const PAUSE: Duration = Duration::from_millis(100);

/// What to do after a failed try.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    StartOne,
    AskAgain,
    GiveUp,
}

pub(in crate::cli) fn ask_or_start(config: &Config, request: &Request) -> anyhow::Result<Answer> {
    let deadline = clock::monotonic_ns() + WAIT_NS;
    loop {
        let error = match Client::connect(&config.socket()).and_then(|mut client| client.ask(request.clone())) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match next(&error) {
            Next::GiveUp => return Err(error.into()),
            _ if clock::monotonic_ns() >= deadline => return Err(error.into()),
            Next::StartOne => start(config)?,
            Next::AskAgain => thread::sleep(PAUSE),
        }
    }
}

fn next(error: &ClientError) -> Next {
    match error {
        ClientError::NoDaemon => Next::StartOne,
        // It went away between the connect and the answer.
        ClientError::Broken(cause) if is_gone(cause) => Next::AskAgain,
        ClientError::Refused(fault) => match fault.kind {
            FaultKind::Ending => Next::AskAgain,
            FaultKind::Unknown | FaultKind::Forbidden | FaultKind::Malformed | FaultKind::Failed => Next::GiveUp,
        },
        ClientError::NotOpen(_) | ClientError::Broken(_) | ClientError::Mismatch => Next::GiveUp,
    }
}

fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Returns when a daemon is ready.
fn start(config: &Config) -> anyhow::Result<()> {
    let meter = std::env::current_exe().context("meter's own path is not known")?;
    let mut command = if users::is_root() {
        Command::new(meter)
    } else {
        let mut sudo = Command::new("sudo");
        sudo.arg("--").arg(meter);
        sudo
    };
    command.args(["daemon", "--until-idle", "--detach"]);
    if let Some(file) = &config.file {
        command.arg("--config").arg(std::path::absolute(file)?);
    }
    // Standard input stays: sudo may want a password.
    match command.stdout(Stdio::null()).status() {
        Ok(status) => started(status),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("the meter daemon needs root and there is no sudo; start `meter daemon` as root, then run again")
        }
        Err(error) => Err(error).context("the meter daemon can't be started"),
    }
}

/// The daemon, or sudo, has said why on standard error.
fn started(status: ExitStatus) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    bail!("the meter daemon did not start; correct what is said above, or start it with `sudo meter daemon`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::Fault;

    #[test]
    fn a_daemon_that_ends_is_asked_again_and_one_that_refuses_is_not() {
        let refused = |kind| next(&ClientError::Refused(Fault::new(kind, "")));
        assert_eq!(next(&ClientError::NoDaemon), Next::StartOne);
        assert_eq!(refused(FaultKind::Ending), Next::AskAgain);
        assert_eq!(refused(FaultKind::Forbidden), Next::GiveUp);
        assert_eq!(next(&ClientError::Broken(io::ErrorKind::UnexpectedEof.into())), Next::AskAgain);
        assert_eq!(next(&ClientError::Broken(io::ErrorKind::WouldBlock.into())), Next::GiveUp);
    }
}
