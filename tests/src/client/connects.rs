//! Bare connects at a rate: what a retry loop costs others.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use rustix::net::{AddressFamily, SocketType, connect, ipproto, socket};
use serde::{Deserialize, Serialize};

use crate::bench::process::cpu_ns;

/// How often the rate is caught up with.
const STEP: Duration = Duration::from_millis(1);

/// So many connects a second, for so long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connects {
    /// `name:port`; its first IPv4 address is taken.
    pub to: String,
    pub per_second: u64,
    pub seconds: u64,
}

/// How they ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Ended {
    /// By the name of the error; `connected` for those that were not refused.
    pub outcomes: BTreeMap<String, u64>,
    pub elapsed_ms: u64,
    /// The slowest of them.
    pub slowest_us: u64,
    /// CPU that all of it took on this side, the kernel's refusals included.
    pub cpu_ms: u64,
}

pub(super) fn run(plan: &Connects) -> anyhow::Result<Ended> {
    let address = plan.to.to_socket_addrs()?.find(SocketAddr::is_ipv4).context("a name with an IPv4 address")?;
    let (mut ended, started) = (Ended::default(), Instant::now());
    let all = plan.per_second * plan.seconds;
    let mut done = 0;
    while done < all {
        let due = u64::try_from(started.elapsed().as_micros())? * plan.per_second / 1_000_000;
        while done < due.min(all) {
            let before = Instant::now();
            let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP))?;
            let outcome = match connect(&socket, &address) {
                Ok(()) => "connected".to_owned(),
                Err(error) => format!("{:?}", std::io::Error::from(error).kind()),
            };
            *ended.outcomes.entry(outcome).or_default() += 1;
            ended.slowest_us = ended.slowest_us.max(u64::try_from(before.elapsed().as_micros())?);
            done += 1;
        }
        thread::sleep(STEP);
    }
    ended.cpu_ms = cpu_ns(std::process::id()) / 1_000_000;
    ended.elapsed_ms = u64::try_from(started.elapsed().as_millis())?;
    Ok(ended)
}
