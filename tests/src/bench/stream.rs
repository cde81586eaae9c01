//! How late a stream's events arrive: a client that reads the time of sending out of every event.
//!
//! The probe runs as a process of its own, inside an agent or outside; it trusts what `SSL_CERT_FILE` names.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use anyhow::Context;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize};

use crate::{
    harness::chat::Chat,
    simulator::body::{STAMP, monotonic_ns},
};

const HOST: &str = "api.openai.com";
/// Streams, one after the other on one connection, and events of each.
const STREAMS: usize = 200;
const EVENTS: usize = 20;

/// Delays in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Delays {
    pub ttfb_p50_us: u64,
    pub ttfb_p99_us: u64,
    pub event_p50_us: u64,
    pub event_p99_us: u64,
}

/// Measures, and prints the delays as JSON.
pub fn probe() -> anyhow::Result<()> {
    let mut stream = connect()?;
    let chat = Chat::ordinary().stream().with(|directive| {
        directive.stamp = true;
        directive.chunks = Some(EVENTS);
        directive.delay_ms = 1;
    });
    let body = chat.body();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut firsts, mut events) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        let sent = monotonic_ns();
        stream.write_all(request.as_bytes())?;
        stream.flush()?;
        one_stream(&mut stream, sent, &mut firsts, &mut events)?;
    }
    let delays = Delays {
        ttfb_p50_us: percentile(&mut firsts, 50),
        ttfb_p99_us: percentile(&mut firsts, 99),
        event_p50_us: percentile(&mut events, 50),
        event_p99_us: percentile(&mut events, 99),
    };
    println!("{}", serde_json::to_string(&delays)?);
    Ok(())
}

/// Reads one answer to its end, and notes how long everything took.
fn one_stream(stream: &mut impl Read, sent: u64, firsts: &mut Vec<u64>, events: &mut Vec<u64>) -> anyhow::Result<()> {
    let mut received = Vec::new();
    let mut seen = 0;
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        let now = monotonic_ns();
        anyhow::ensure!(count > 0, "the connection ended in an answer: {}", String::from_utf8_lossy(&received));
        if received.is_empty() {
            firsts.push(now - sent);
        }
        received.extend_from_slice(&buffer[..count]);
        while let Some((stamp, end)) = next_stamp(&received, seen) {
            events.push(now.saturating_sub(stamp));
            seen = end;
        }
        // The last chunk of a chunked body.
        if received.ends_with(b"\r\n0\r\n\r\n") {
            return Ok(());
        }
    }
}

/// The next time of sending after `from`, and where it ends.
fn next_stamp(bytes: &[u8], from: usize) -> Option<(u64, usize)> {
    let at = from + bytes[from..].windows(3).position(|window| window == b"at:")?;
    let digits = bytes.get(at + 3..at + STAMP.len())?;
    match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()) {
        Some(stamp) => Some((stamp, at + STAMP.len())),
        // Letters that only look like the beginning of a stamp.
        None => next_stamp(bytes, at + 3),
    }
}

fn connect() -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let path = std::env::var("SSL_CERT_FILE").context("SSL_CERT_FILE names the roots")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        // A system's bundle may hold roots that are no longer valid.
        let _ = roots.add(certificate?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from(HOST)?)?;
    let socket = TcpStream::connect((HOST, 443))?;
    socket.set_nodelay(true)?;
    Ok(StreamOwned::new(connection, socket))
}

/// A percentile of nanoseconds, in microseconds.
fn percentile(values: &mut [u64], percent: usize) -> u64 {
    values.sort_unstable();
    let index = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(index).copied().unwrap_or(0) / 1000
}
