//! The other proxies, as plain TLS-to-TLS proxies on one core; those that are installed.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::process::{PROXY_CORE, on_core};
use crate::{harness::wait_for, simulator::certs::Authority};

/// A proxy that runs; ended when dropped.
pub struct Proxy {
    pub port: u16,
    child: Child,
}

/// Where a proxy sends to, and the roots by which it verifies that.
pub struct Upstream<'a> {
    pub address: Ipv4Addr,
    pub name: &'a str,
    pub ca: &'a Path,
}

type Prepare = fn(&Path, u16, &Upstream<'_>) -> std::io::Result<Command>;

/// A proxy that can be measured.
pub struct Known {
    pub name: &'static str,
    /// `None`: it is a part of this program.
    program: Option<&'static str>,
    pub port: u16,
    prepare: Prepare,
}

const KNOWN: [Known; 4] = [
    Known { name: "plain", program: None, port: 9442, prepare: super::plain::prepare },
    Known { name: "haproxy", program: Some("haproxy"), port: 9443, prepare: haproxy },
    Known { name: "Envoy", program: Some("envoy"), port: 9444, prepare: envoy },
    Known { name: "mitmproxy", program: Some("mitmdump"), port: 9445, prepare: mitmproxy },
];

/// Those that are installed, and the names of those that are not.
pub fn installed() -> (Vec<Known>, Vec<&'static str>) {
    let (here, missing): (Vec<Known>, Vec<Known>) =
        KNOWN.into_iter().partition(|known| known.program.is_none_or(is_installed));
    (here, missing.into_iter().map(|known| known.name).collect())
}

impl Known {
    /// Starts it on its core, and returns when it listens.
    pub fn start(&self, folder: &Path, upstream: &Upstream<'_>) -> anyhow::Result<Proxy> {
        let authority = Authority::new()?;
        let (certificate, key) = authority.leaf_pem(&[upstream.name.to_owned()])?;
        fs::write(folder.join("leaf.pem"), format!("{certificate}{key}"))?;
        fs::write(folder.join("leaf.crt"), certificate)?;
        fs::write(folder.join("leaf.key"), key)?;
        let mut command = (self.prepare)(folder, self.port, upstream)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = on_core(PROXY_CORE, || command.spawn())?;
        let proxy = Proxy { port: self.port, child };
        wait_for(self.name, Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", self.port)).ok());
        Ok(proxy)
    }
}

impl Proxy {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    Command::new("which").arg(program).output().is_ok_and(|output| output.status.success())
}

fn haproxy(folder: &Path, port: u16, upstream: &Upstream<'_>) -> std::io::Result<Command> {
    let Upstream { address, name, ca } = upstream;
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  \
         timeout connect 5s\n  http-reuse always\nfrontend in\n  bind 127.0.0.1:{port} ssl crt {0}/leaf.pem alpn http/1.1\n  \
         default_backend out\nbackend out\n  server one {address}:443 ssl verify required ca-file {1} sni str({name}) \
         verifyhost {name} alpn http/1.1\n",
        folder.display(),
        ca.display()
    );
    fs::write(folder.join("haproxy.cfg"), text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
    Ok(command)
}

fn envoy(folder: &Path, port: u16, upstream: &Upstream<'_>) -> std::io::Result<Command> {
    let Upstream { address, name, ca } = upstream;
    let text = serde_json::json!({
        "static_resources": {
            "listeners": [{
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [{
                    "transport_socket": {
                        "name": "envoy.transport_sockets.tls",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                            "common_tls_context": {"tls_certificates": [{
                                "certificate_chain": {"filename": folder.join("leaf.crt")},
                                "private_key": {"filename": folder.join("leaf.key")},
                            }]},
                        },
                    },
                    "filters": [{
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                            "stat_prefix": "in",
                            "route_config": {"virtual_hosts": [{
                                "name": "all",
                                "domains": ["*"],
                                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "out"}}],
                            }]},
                            "http_filters": [{
                                "name": "envoy.filters.http.router",
                                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                            }],
                        },
                    }],
                }],
            }],
            "clusters": [{
                "name": "out",
                "type": "STATIC",
                "load_assignment": {"cluster_name": "out", "endpoints": [{"lb_endpoints": [{"endpoint": {
                    "address": {"socket_address": {"address": address.to_string(), "port_value": 443}},
                }}]}]},
                "transport_socket": {
                    "name": "envoy.transport_sockets.tls",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                        "sni": name,
                        "common_tls_context": {"validation_context": {"trusted_ca": {"filename": ca}}},
                    },
                },
            }],
        },
    });
    // JSON is YAML.
    fs::write(folder.join("envoy.yaml"), text.to_string())?;
    let mut command = Command::new("envoy");
    command.args(["--concurrency", "1", "--log-level", "off", "-c"]).arg(folder.join("envoy.yaml"));
    Ok(command)
}

#[expect(clippy::unnecessary_wraps, reason = "one of the `Prepare` functions")]
fn mitmproxy(folder: &Path, port: u16, upstream: &Upstream<'_>) -> std::io::Result<Command> {
    let Upstream { address, ca, .. } = upstream;
    let mut command = Command::new("mitmdump");
    command.args(["--quiet", "--mode", &format!("reverse:https://{address}"), "--listen-port", &port.to_string()]);
    command.args(["--listen-host", "127.0.0.1", "--set", "keep_host_header=true"]);
    command.arg("--set").arg(format!("ssl_verify_upstream_trusted_ca={}", ca.display()));
    command.arg("--set").arg(format!("confdir={}", folder.display()));
    // The upstream's certificate names the provider, not its address.
    command.arg("--ssl-insecure");
    Ok(command)
}
