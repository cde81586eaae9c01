//! Waiting for facts instead of sleeping, and running the commands that make them.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// How often a fact is looked at.
const STEP: Duration = Duration::from_millis(5);

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
        sleep(STEP);
    }
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
