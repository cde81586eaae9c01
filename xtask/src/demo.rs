//! `cargo xtask demo`: builds, and shows an agent that runs against the wall (`tests/src/bin/demo.rs`).

use crate::packages::{self, CA_CERTIFICATES, CURL, IPROUTE, as_root, cargo, run_command};

pub(crate) fn run() -> anyhow::Result<()> {
    packages::ensure(&[&IPROUTE, &CURL, &CA_CERTIFICATES])?;
    run_command(cargo().args(["build", "--quiet", "--package", "meter-agent", "--package", "meter-tests"]))?;
    run_command(&mut as_root(packages::target().join("debug/demo")))
}
