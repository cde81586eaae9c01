//! Everything that most tests need, put together and taken apart in the right order.

use std::net::IpAddr;

use super::{Agent, Daemon, DaemonOptions, HostLock, Names, Net, Simulator};
use crate::simulator::{Config, PROVIDERS};

/// What a lab is made of.
#[derive(Clone, Debug, Default)]
pub struct LabOptions {
    pub daemon: DaemonOptions,
    pub simulator: Config,
    /// Names beside the providers', and where they lead; they come before a provider's own addresses.
    pub names: Vec<(String, IpAddr)>,
    /// Resolve through a name server instead of a hosts file.
    pub resolver: bool,
    /// Only IPv4 for the providers' names.
    pub ipv4_only: bool,
}

impl LabOptions {
    /// An agent's budget, in dollars.
    #[must_use]
    pub fn budget(mut self, agent: &str, usd: &str) -> Self {
        self.daemon.budgets.push((agent.to_owned(), usd.to_owned()));
        self
    }

    /// When an answer may be released relative to its hold's row.
    #[must_use]
    pub fn durability(mut self, level: &str) -> Self {
        self.daemon.durability = Some(level.to_owned());
        self
    }

    /// Tables of the config, as they stand in the file.
    #[must_use]
    pub fn config(mut self, tables: &str) -> Self {
        self.daemon.tables.push_str(tables);
        self
    }

    /// A name that leads to an address.
    #[must_use]
    pub fn name(mut self, name: &str, address: IpAddr) -> Self {
        self.names.push((name.to_owned(), address));
        self
    }
}

/// A lab. Fields drop from top to bottom: the daemon first, the lock last.
pub struct Lab {
    pub daemon: Daemon,
    pub simulator: Simulator,
    pub net: Net,
    _lock: HostLock,
}

impl Lab {
    /// A lab whose daemon runs.
    pub fn start(options: LabOptions) -> Self {
        let mut lab = Self::prepare(options);
        lab.daemon.launch();
        lab
    }

    /// A lab whose daemon is configured and not started.
    pub fn prepare(options: LabOptions) -> Self {
        let lock = HostLock::take();
        let net = Net::new();
        let mut entries = options.names.clone();
        for provider in PROVIDERS {
            if !options.ipv4_only {
                entries.push((provider.to_owned(), net.v6.into()));
            }
            entries.push((provider.to_owned(), net.v4.into()));
        }
        let mut config = options.simulator;
        if options.resolver {
            for (name, address) in &entries {
                config.dns.entry(name.clone()).or_default().push(*address);
            }
        }
        let simulator = Simulator::start(&net, config);
        let names = if options.resolver {
            Names::resolver(net.v4.into())
        } else {
            let entries: Vec<(&str, IpAddr)> =
                entries.iter().map(|(name, address)| (name.as_str(), *address)).collect();
            Names::hosts(&entries)
        };
        let daemon = Daemon::configure(names, &simulator.ca_file(), &options.daemon);
        Self { daemon, simulator, net, _lock: lock }
    }

    /// A lab with one agent's budget and nothing else special.
    pub fn with_budget(agent: &str, usd: &str) -> Self {
        Self::start(LabOptions::default().budget(agent, usd))
    }

    pub fn agent(&self, name: &str) -> Agent<'_> {
        Agent::new(&self.daemon, name)
    }
}
