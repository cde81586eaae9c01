//! An agent's shell that stays open, so that a test can do one thing after another inside one account.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use super::{Agent, Daemon, Names, Outcome};

/// Ends the output of one command; followed by its exit code.
const MARK: &str = "--end-of-command--";

/// The shell. Dropping it ends it.
pub struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub fn open(agent: &Agent<'_>) -> Self {
        let mut command = agent.command();
        command.args(["bash", "--norc"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("meter can be started");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped above"));
        Self { child, input, output }
    }

    /// A shell outside every account, in the same namespace of names.
    pub fn outside(names: &Names) -> Self {
        let mut command = std::process::Command::new("bash");
        command.arg("--norc").stdin(Stdio::piped()).stdout(Stdio::piped());
        names.enter(&mut command);
        let mut child = command.spawn().expect("bash can be started");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("piped above"));
        Self { child, input, output }
    }

    /// Runs one command line; its error output is in the outcome's `stdout` too.
    pub fn run(&mut self, line: &str) -> Outcome {
        let started = Instant::now();
        self.send(&format!("{{ {line}\n}} 2>&1 </dev/null; echo \"{MARK}$?\""));
        let mut stdout = String::new();
        loop {
            let mut text = String::new();
            let read = self.output.read_line(&mut text).expect("a shell prints text");
            assert!(read > 0, "the agent's shell ended in `{line}` after\n{stdout}");
            if let Some((last, code)) = text.split_once(MARK) {
                stdout.push_str(last);
                let code = code.trim().parse().expect("an exit code");
                return Outcome { stdout, stderr: String::new(), code, took: started.elapsed() };
            }
            stdout.push_str(&text);
        }
    }

    /// Sends a line without waiting for it.
    pub fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open until closed");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("the agent's shell reads on");
    }

    /// Ends the shell by the end of its input, and returns the exit code of the whole `meter run`.
    pub fn close(mut self) -> i32 {
        self.input = None;
        self.child.wait().ok().and_then(|status| status.code()).unwrap_or(-1)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.input = None;
        // Most shells end with their input; one that waits for a command is not waited for.
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until an account is in a state: longer than the sidecar gives the connections of one that stops.
pub fn wait_for_state(daemon: &Daemon, account: &str, state: &str) {
    super::wait_for(&format!("{account} to be {state}"), Duration::from_secs(30), || {
        (daemon.account(account).state == state).then_some(())
    });
}
