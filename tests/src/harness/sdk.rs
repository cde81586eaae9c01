//! The SDK agents in `tests/sdk`, and the lines they print.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Outcome, binary};
use crate::simulator::sigv4;

/// What the SDKs take from their environment; the simulator takes any key, and AWS's where the signature is right.
pub const SDK_KEYS: [(&str, &str); 6] = [
    ("OPENAI_API_KEY", "test-key"),
    ("ANTHROPIC_API_KEY", "test-key"),
    ("GEMINI_API_KEY", "test-key"),
    ("AWS_ACCESS_KEY_ID", "test-key"),
    ("AWS_SECRET_ACCESS_KEY", sigv4::SECRET),
    ("AWS_DEFAULT_REGION", "us-east-1"),
];

/// The variables by which they find the simulator's CA where no meter tells them.
pub const SDK_CA_FILES: [&str; 3] = ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "AWS_CA_BUNDLE"];

/// One line that an agent printed: its step and its facts.
#[derive(Clone, Debug)]
pub struct Step {
    pub name: String,
    pub facts: Value,
}

/// Interpreter and script of a Python agent.
pub fn python_script(name: &str) -> [String; 2] {
    let python = target().join("sdk/python/bin/python");
    [existing(&python), existing(&source().join("python").join(name))]
}

/// Interpreter and script of a Node agent. Modules are looked for beside the script, so it was copied there.
pub fn node_script(name: &str) -> [String; 2] {
    ["node".to_owned(), existing(&target().join("sdk/node").join(name))]
}

/// What an agent printed, line by line.
pub fn steps(outcome: &Outcome) -> Vec<Step> {
    let parse = |line: &str| {
        let facts: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`\n{outcome:#?}"));
        Step { name: facts["step"].as_str().unwrap_or_default().to_owned(), facts }
    };
    outcome.stdout.lines().map(parse).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

/// The target folder: two above a binary in it.
fn target() -> PathBuf {
    let mut path = binary("simulator");
    path.pop();
    path.pop();
    path
}

fn existing(path: &Path) -> String {
    assert!(path.exists(), "{} is missing: run `cargo xtask test`, which installs the SDKs", path.display());
    path.display().to_string()
}
