//! LLM providers, simulated: their APIs over real TLS, in the shapes that their own SDKs parse.
//!
//! A request steers its own answer by a directive in its last user text (see [`directive`]), so one running
//! simulator serves every test, and the log says what each exchange really sent and billed. Nothing here
//! knows that a meter may stand in between.

pub mod apis;
pub mod background;
pub mod body;
pub mod certs;
pub mod directive;
pub mod dns;
pub mod event_stream;
pub mod extreme;
pub mod grpc;
pub mod grpc_chat;
pub mod instant;
pub mod log;
pub mod paid;
pub mod plain;
pub mod realtime;
pub mod recorded;
pub mod serve;
pub mod sigv4;
pub mod turn;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};

use self::{certs::Authority, log::Log};

/// Names of the providers that every simulator answers for.
pub const PROVIDERS: [&str; 5] = [
    "api.openai.com",
    "api.anthropic.com",
    "generativelanguage.googleapis.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "api.x.ai",
];
/// Port of the service that speaks first.
pub const SPEAKS_FIRST_PORT: u16 = 2525;
/// What that service says when a connection opens.
pub const BANNER: &str = "220 simulator ready\r\n";

/// What one simulator does; its binary reads this from a JSON file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens: TLS on 443, plain HTTP on 80, the service that speaks first on [`SPEAKS_FIRST_PORT`].
    pub addresses: Vec<IpAddr>,
    /// Names of the leaf certificate beside [`PROVIDERS`].
    pub names: Vec<String>,
    /// Names (SNI) behind which TLS bytes are echoed instead of served.
    pub echo_names: Vec<String>,
    /// Written at start: the test CA's certificate as PEM. Its key never leaves the process.
    pub ca_file: PathBuf,
    /// Written at start: one JSON line per connection, exchange and DNS question.
    pub log_file: PathBuf,
    /// TLS answers a fixed body at once and logs nothing: the bench's upstream.
    pub instant: bool,
    /// When not empty, DNS on UDP 53 answers from this table, and NXDOMAIN for anything else.
    pub dns: BTreeMap<String, Vec<IpAddr>>,
}

/// Binds everything, calls `ready`, and serves until the process ends.
pub async fn run(config: Config, ready: impl FnOnce()) -> anyhow::Result<()> {
    let mut names: Vec<String> = PROVIDERS.iter().map(ToString::to_string).collect();
    names.extend(config.names.iter().chain(&config.echo_names).cloned());
    let authority = Authority::new().context("making the test CA")?;
    std::fs::write(&config.ca_file, authority.pem()).with_context(|| config.ca_file.display().to_string())?;
    let log = Arc::new(Log::create(&config.log_file)?);

    let mut tls_listeners = Vec::new();
    let mut plain_listeners = Vec::new();
    let mut banner_listeners = Vec::new();
    let mut dns_sockets = Vec::new();
    for &address in &config.addresses {
        tls_listeners.push(bind(address, 443).await?);
        if !config.instant {
            plain_listeners.push(bind(address, 80).await?);
            banner_listeners.push(bind(address, SPEAKS_FIRST_PORT).await?);
        }
        if !config.dns.is_empty() {
            dns_sockets.push(UdpSocket::bind((address, 53)).await.with_context(|| format!("binding {address}:53"))?);
        }
    }

    for listener in tls_listeners {
        if config.instant {
            tokio::spawn(instant::serve(listener, authority.acceptor(&names, &[b"http/1.1"])?));
        } else {
            let acceptor = authority.acceptor(&names, &[b"h2", b"http/1.1"])?;
            tokio::spawn(serve::tls(listener, acceptor, config.echo_names.clone(), log.clone()));
        }
    }
    for listener in plain_listeners {
        tokio::spawn(serve::http(listener, log.clone()));
    }
    for listener in banner_listeners {
        tokio::spawn(plain::speak_first(listener, log.clone()));
    }
    let table = Arc::new(config.dns);
    for socket in dns_sockets {
        tokio::spawn(dns::serve(socket, table.clone(), log.clone()));
    }
    ready();
    std::future::pending().await
}

async fn bind(address: IpAddr, port: u16) -> anyhow::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    TcpListener::bind(address).await.with_context(|| format!("binding {address}"))
}
