//! What the programs cost, from the kernel's own run-time statistics.

use std::os::fd::OwnedFd;

use aya::sys::Stats;

use super::{KernelError, load};

/// One program of ours since it was loaded, as far as statistics were on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramStats {
    pub program: &'static str,
    pub runs: u64,
    /// Nanoseconds of all runs together.
    pub nanos: u64,
}

/// Has the kernel measure every run for as long as it lives; that costs each some tens of nanoseconds.
pub struct Measuring {
    _switch: OwnedFd,
}

impl Measuring {
    pub fn start() -> Result<Self, KernelError> {
        let switch = aya::sys::enable_stats(Stats::RunTime).map_err(|error| {
            KernelError::system("the kernel's run-time statistics could not be switched on; this needs root")(
                error.io_error,
            )
        })?;
        Ok(Self { _switch: switch })
    }
}

/// The programs that are loaded now. Where two of a name are, the newer one counts: its id is larger.
pub fn read() -> Vec<ProgramStats> {
    let mut found: Vec<ProgramStats> = Vec::new();
    // The kernel lists programs by ascending id.
    for info in aya::programs::loaded_programs().flatten() {
        let Some((program, _)) = load::PROGRAMS.iter().find(|(name, _)| info.name_as_str() == Some(*name)) else {
            continue;
        };
        let nanos = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
        found.retain(|older| older.program != *program);
        found.push(ProgramStats { program, runs: info.run_count(), nanos });
    }
    found
}
