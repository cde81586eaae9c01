//! `COUNTERS`, summed over the CPUs.

use std::{io, os::fd::BorrowedFd};

use meter_common::Counters;

use super::sys;

pub(super) fn read(map: BorrowedFd<'_>, slot: u32) -> io::Result<Counters> {
    let mut per_cpu = vec![Counters::default(); cpus()?];
    sys::look_up_per_cpu(map, slot, &mut per_cpu)?;
    Ok(per_cpu.iter().fold(Counters::default(), |sum, one| add(sum, *one)))
}

/// Sets a slot's counters to nothing, for its next account. What is counted at that moment may survive.
pub(super) fn reset(map: BorrowedFd<'_>, slot: u32) -> io::Result<()> {
    sys::update_per_cpu(map, slot, &vec![Counters::default(); cpus()?])
}

fn add(mut sum: Counters, one: Counters) -> Counters {
    for (total, count) in sum.counts.iter_mut().zip(one.counts) {
        *total = total.wrapping_add(count);
    }
    sum.egress_bytes = sum.egress_bytes.wrapping_add(one.egress_bytes);
    sum.ingress_bytes = sum.ingress_bytes.wrapping_add(one.ingress_bytes);
    sum
}

/// Possible CPUs, present or not: the kernel copies a value for each.
fn cpus() -> io::Result<usize> {
    aya::util::nr_cpus().map_err(|(_, error)| error)
}
