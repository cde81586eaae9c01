//! `client PLAN.json`: the fast agent of the tests, run inside an account; see `meter_tests::client`.

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    meter_tests::client::main(&std::env::args().nth(1).context("usage: client PLAN.json")?)
}
