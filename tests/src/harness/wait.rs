//! Waiting for facts instead of sleeping, and running the commands that make them.

use std::{
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How often a fact is looked at.
const STEP: Duration = Duration::from_millis(5);
/// No command that a test runs to its end takes this long.
const OUTPUT: Duration = Duration::from_mins(1);

/// Waits until `fact` holds.
///
/// # Panics
/// After `timeout`, with `what` was waited for.
pub fn wait_for<T>(what: &str, timeout: Duration, mut fact: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = fact() {
            return value;
        }
        assert!(start.elapsed() < timeout, "waited {timeout:?} in vain for {what}");
        thread::sleep(STEP);
    }
}

/// Runs a command that ends by itself: one that does not fails its test instead of keeping every other waiting.
///
/// # Panics
/// When it still runs after a minute; it is killed then.
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = Pid::from_child(&child);
    let (ended, told) = mpsc::channel();
    let reader = thread::spawn(move || {
        let output = child.wait_with_output();
        // Nobody listens where the wait below has ended.
        let _ = ended.send(());
        output
    });
    let in_time = told.recv_timeout(OUTPUT).is_ok();
    if !in_time {
        let _ = kill_process(pid, Signal::KILL);
    }
    let output = reader.join().expect("it only waits").expect("a child can be waited for");
    assert!(in_time, "{command:?} did not end by itself: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs a command line whose words hold no spaces, and returns what it printed.
///
/// # Panics
/// When it fails, with everything it said.
pub fn must_run(line: &str) -> String {
    let (output, said) = attempt(line);
    assert!(output, "`{line}` failed: {said}");
    said
}

/// Runs a command line that may fail: whether it did not, and what it said.
pub(super) fn attempt(line: &str) -> (bool, String) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command line has a first word");
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("`{line}`: {error}"));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said)
}
