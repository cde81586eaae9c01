//! Keeps the kernel's list of the host's own addresses, which agents reach directly, and whether IPv6 leads anywhere.
//!
//! Told once before anything is served, and again at each change of addresses. Fail-closed: an address that is
//! missing from the list is redirected, hence metered.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    control::reload::TellLocals,
    kernel::{
        Kernel, KernelError,
        local::{Local, Watch},
        netns,
    },
    proxy::Announcer,
    usage::hosts::{HostEntry, HostTable},
};

/// The list has been told to the kernel once; nothing watches yet.
pub struct Locals {
    kernel: Arc<Kernel>,
    hosts: watch::Receiver<Arc<HostTable>>,
    cookie: u64,
    watch: Watch,
}

impl Locals {
    /// Within a runtime.
    pub fn open(kernel: Arc<Kernel>, hosts: watch::Receiver<Arc<HostTable>>) -> Result<Self, KernelError> {
        // Watching begins before reading, so that no change falls between the two.
        let watch = Watch::open()?;
        let locals = Self { kernel, hosts, cookie: netns::current_cookie()?, watch };
        tell(&locals.kernel, locals.cookie, locals.hosts.borrow().added())?;
        Ok(locals)
    }

    /// For whoever has other hosts and can't wait for the next change of addresses.
    pub fn teller(&self) -> TellLocals {
        let (kernel, cookie) = (Arc::clone(&self.kernel), self.cookie);
        Box::new(move |hosts| tell(&kernel, cookie, hosts))
    }

    /// Tells the kernel at each change.
    pub async fn run(self, listeners: Announcer) {
        loop {
            if let Err(error) = self.watch.changed().await {
                tracing::error!(%error, "changes of this host's addresses are not seen any more; new ones are redirected");
                return;
            }
            let routes = Local::read().and_then(|local| listeners.tell(local.has_ipv6_route));
            if let Err(error) = routes {
                tracing::warn!(%error, "this host's IPv6 routes could not be told to the kernel");
            }
            if let Err(error) = self.tell_once().await {
                tracing::warn!(%error, "this host's addresses could not be told to the kernel");
            }
        }
    }

    /// Names may be looked up on the way, which blocks.
    async fn tell_once(&self) -> io::Result<()> {
        let (kernel, cookie, hosts) = (Arc::clone(&self.kernel), self.cookie, Arc::clone(&self.hosts.borrow()));
        let told = tokio::task::spawn_blocking(move || tell(&kernel, cookie, hosts.added())).await;
        told.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

fn tell(kernel: &Kernel, cookie: u64, hosts: &[HostEntry]) -> Result<(), KernelError> {
    let own = Local::read()?.addresses;
    kernel.set_locals(cookie, &own, &metered(hosts, &own))
}

/// Own addresses that a `[[host]]` entry names, with its port (0: every port). They are redirected all the same.
fn metered(hosts: &[HostEntry], own: &[IpAddr]) -> Vec<(IpAddr, u16)> {
    let is_own = |ip: &IpAddr| ip.is_loopback() || own.contains(ip);
    let exact = hosts.iter().filter(|host| !host.name.contains('*'));
    exact
        .flat_map(|host| {
            let (name, port) = name_and_port(&host.name);
            addresses(name).into_iter().map(move |ip| (ip, port))
        })
        .filter(|(ip, _)| is_own(ip))
        .collect()
}

fn addresses(name: &str) -> Vec<IpAddr> {
    match name.parse() {
        Ok(ip) => vec![ip],
        // A name that can't be resolved now names no address of this host.
        Err(_) => (name, 0).to_socket_addrs().map(|found| found.map(|a| a.ip()).collect()).unwrap_or_default(),
    }
}

/// `name:port`, `[v6]:port`, or a bare name or address.
fn name_and_port(entry: &str) -> (&str, u16) {
    if let Some((name, port)) = entry.rsplit_once(':')
        && let Ok(port) = port.parse()
        && (!name.contains(':') || name.ends_with(']'))
    {
        return (name.trim_start_matches('[').trim_end_matches(']'), port);
    }
    (entry.trim_start_matches('[').trim_end_matches(']'), 0)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn an_entry_that_names_an_own_address_is_metered_there() {
        let host = |name: &str| HostEntry::new(name, "openai");
        let own = [IpAddr::from([192, 0, 2, 7])];
        let hosts = [host("127.0.0.1:8080"), host("192.0.2.7"), host("192.0.2.8"), host("*.example"), host("[::1]:9")];
        let expected = [
            (IpAddr::from([127, 0, 0, 1]), 8080),
            (IpAddr::from([192, 0, 2, 7]), 0),
            (IpAddr::from(Ipv6Addr::LOCALHOST), 9),
        ];
        assert_eq!(metered(&hosts, &own), expected);
    }
}
