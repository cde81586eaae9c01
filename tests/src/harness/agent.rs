//! A program run as an agent, through `meter run`.

use std::{
    io::Read,
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Daemon, SDK_KEYS};

/// An agent about to run a command.
pub struct Agent<'a> {
    daemon: &'a Daemon,
    name: String,
    task: Option<String>,
    budget: Option<String>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub stdout: String,
    pub stderr: String,
    /// Exit code; 128 and the signal's number where one ended it, as shells count.
    pub code: i32,
    pub took: Duration,
}

/// A command that still runs; killed when dropped.
pub struct Running {
    child: Option<Child>,
    started: Instant,
}

impl<'a> Agent<'a> {
    pub fn new(daemon: &'a Daemon, name: &str) -> Self {
        let environment = SDK_KEYS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { daemon, name: name.to_owned(), task: None, budget: None, options: Vec::new(), environment }
    }

    #[must_use]
    pub fn task(mut self, task: &str) -> Self {
        self.task = Some(task.to_owned());
        self
    }

    #[must_use]
    pub fn budget(mut self, usd: &str) -> Self {
        self.budget = Some(usd.to_owned());
        self
    }

    /// A further option of `meter run`, with its value where it has one.
    #[must_use]
    pub fn option(mut self, words: &[&str]) -> Self {
        self.options.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command line up to `--`, to which the caller adds the agent's own.
    pub fn command(&self) -> Command {
        let mut command = self.daemon.meter("run");
        command.args(["--agent", &self.name]);
        if let Some(task) = &self.task {
            command.args(["--task", task]);
        }
        if let Some(budget) = &self.budget {
            command.args(["--budget", budget]);
        }
        command.args(&self.options);
        command.arg("--").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn spawn(&self, words: &[&str]) -> Running {
        let mut command = self.command();
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("meter can be started");
        Running { child: Some(child), started: Instant::now() }
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        self.spawn(words).wait()
    }

    /// Runs a script of the shell.
    pub fn shell(&self, script: &str) -> Outcome {
        self.run(&["bash", "-c", script])
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid")).expect("a pid is not 0");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    /// Its output as it comes, for tests that act in between. What is read here is not in the [`Outcome`].
    pub fn stdout(&mut self) -> impl Read + use<> {
        self.child.as_mut().and_then(|child| child.stdout.take()).expect("piped and not taken yet")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn wait(mut self) -> Outcome {
        let child = self.child.take().expect("it runs");
        let output = child.wait_with_output().expect("a child can be waited for");
        Outcome {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            took: self.started.elapsed(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Outcome {
    /// Asserts the exit code, and shows everything where it differs.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}
