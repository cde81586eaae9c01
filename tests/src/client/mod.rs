//! A fast agent: thousands of requests at once, connects at a rate, or exchanges that go wrong in every way.
//!
//! It runs as a process of its own inside an account's cgroup (`client PLAN.json`), knows nothing of a meter, trusts
//! what `SSL_CERT_FILE` names, and prints one JSON object about what it saw.

pub mod connects;
pub mod leg;
pub mod load;
pub mod soak;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// What one run does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    Load(load::Load),
    Connects(connects::Connects),
    Soak(soak::Soak),
}

/// Runs the plan in a file and prints what it saw.
pub fn main(path: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
    let seen = match serde_json::from_str(&text).with_context(|| path.to_owned())? {
        Plan::Load(load) => serde_json::to_string(&on_runtime(load::run(load))?)?,
        Plan::Connects(connects) => serde_json::to_string(&connects::run(&connects)?)?,
        Plan::Soak(soak) => serde_json::to_string(&on_runtime(soak::run(soak))?)?,
    };
    println!("{seen}");
    Ok(())
}

/// One core: the other is for those who are measured.
fn on_runtime<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(work))
}
