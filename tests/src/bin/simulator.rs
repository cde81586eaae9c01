//! `simulator CONFIG.json`: runs the provider simulator until it is ended; prints `ready` once everything listens.

use anyhow::Context;
use meter_tests::simulator::{self, Config};

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("usage: simulator CONFIG.json")?;
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let config: Config = serde_json::from_str(&text).with_context(|| path)?;
    let runtime = if config.instant {
        // One core, as every proxy of the bench gets one.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?
    };
    runtime.block_on(simulator::run(config, || println!("ready")))
}
