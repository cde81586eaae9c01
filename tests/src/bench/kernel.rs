//! What the kernel programs cost, by the kernel's own run-time statistics.

use std::{collections::BTreeMap, os::fd::OwnedFd, time::Duration};

use aya::sys::{Stats, enable_stats};

/// Statistics, kept by the kernel as long as this value lives.
pub struct Statistics {
    _enabled: OwnedFd,
}

/// One program's cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub runs: u64,
    pub time: Duration,
}

impl Cost {
    /// Nanoseconds per run.
    pub fn per_run_ns(&self) -> u128 {
        self.time.as_nanos() / u128::from(self.runs.max(1))
    }
}

impl Statistics {
    pub fn enable() -> anyhow::Result<Self> {
        Ok(Self { _enabled: enable_stats(Stats::RunTime)? })
    }

    /// Cost of every loaded program that has run, by name; programs of one name are added up.
    pub fn read() -> anyhow::Result<BTreeMap<String, Cost>> {
        let mut costs: BTreeMap<String, Cost> = BTreeMap::new();
        for program in aya::programs::loaded_programs() {
            let program = program?;
            let name = program.name_as_str().unwrap_or("unnamed").to_owned();
            let cost = costs.entry(name).or_default();
            cost.runs += program.run_count();
            cost.time += program.run_time();
        }
        costs.retain(|_, cost| cost.runs > 0);
        Ok(costs)
    }
}
