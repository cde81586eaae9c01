//! `meter daemon`: serves in the foreground, or starts itself in the background and waits until it is ready.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use tracing_subscriber::EnvFilter;

use super::sentence;
use crate::{
    clock,
    config::Config,
    control::{
        client::Client,
        wire::{Answer, Request},
    },
    daemon::{self, DaemonError, Options, RUN_DIR_MODE, directory, lock::LockError},
    users,
};

/// First words of the line in which a background daemon tells how its start went.
const READY: &str = "ready";
const RUNNING: &str = "running";
/// How long an ending daemon may keep the next one waiting: its drain, and some more.
const START_WAIT_NS: u64 = 20_000_000_000;
const START_PAUSE: Duration = Duration::from_millis(50);

/// Attach to the kernel and serve, in the foreground
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGHUP puts the config file into force again. SIGTERM ends the daemon once what is under way has \
                  finished; the kernel goes on refusing, and nothing passes unmetered until the next start or \
                  `meter uninstall`."
)]
pub(super) struct Args {
    /// End, detaching everything, when no account has a process any more
    #[arg(long)]
    until_idle: bool,
    /// Go to the background once it is ready
    #[arg(long, hide = true)]
    detach: bool,
    /// Tell on standard output how the start went, in a session of its own
    #[arg(long, hide = true)]
    announce: bool,
}

pub(super) fn run(args: &Args, config: Config) -> anyhow::Result<ExitCode> {
    if !users::is_root() {
        return Err(DaemonError::NotRoot.into());
    }
    if args.detach {
        return detach(args, &config);
    }
    let filter = EnvFilter::try_from_env("METER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false).init();
    if args.announce {
        // It is no group leader, being a fresh child, so that this can't fail; and if so, it stays where it is.
        let _ = rustix::process::setsid();
    }
    let bound = match daemon::bind(Options { config, until_idle: args.until_idle }) {
        Ok(bound) => bound,
        Err(error) => {
            let already = matches!(error, DaemonError::Lock(LockError::Running { .. }));
            let error = error.into();
            if args.announce {
                tell(&if already { RUNNING.to_owned() } else { sentence(&error) });
            }
            return Err(error);
        }
    };
    bound.serve(|| {
        if args.announce {
            tell(READY);
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// To whoever started this; nothing is lost when nobody listens.
fn tell(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Returns when a daemon is ready: the one started here, or another that was faster.
fn detach(args: &Args, config: &Config) -> anyhow::Result<ExitCode> {
    let deadline = clock::monotonic_ns() + START_WAIT_NS;
    loop {
        if serves(config) {
            return Ok(ExitCode::SUCCESS);
        }
        match start(args, config)?.as_str() {
            READY => return Ok(ExitCode::SUCCESS),
            // Another one starts or ends at this moment; which of the two shows.
            RUNNING if clock::monotonic_ns() < deadline => thread::sleep(START_PAUSE),
            RUNNING => bail!(
                "another meter daemon holds {} and does not answer; look at {}",
                config.lock_file().display(),
                config.log_file().display()
            ),
            "" => bail!("the meter daemon ended while it started; look at {}", config.log_file().display()),
            failure => bail!("{failure}"),
        }
    }
}

/// Whether a daemon answers that is not about to end.
fn serves(config: &Config) -> bool {
    let answer = Client::connect(&config.socket()).and_then(|mut client| client.ask(Request::Ping));
    matches!(answer, Ok(Answer::Pong(pong)) if !pong.ending)
}

/// Starts a daemon and returns the line it tells.
fn start(args: &Args, config: &Config) -> anyhow::Result<String> {
    directory::make(&config.run_dir, RUN_DIR_MODE)?;
    let log = open_log(config).with_context(|| format!("{} can't be opened", config.log_file().display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["daemon", "--announce"]);
    if args.until_idle {
        command.arg("--until-idle");
    }
    if let Some(file) = &config.file {
        command.arg("--config").arg(std::path::absolute(file)?);
    }
    let mut child =
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log)).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    Ok(line.trim_end().to_owned())
}

fn open_log(config: &Config) -> io::Result<File> {
    File::options().create(true).append(true).mode(0o640).open(config.log_file())
}
