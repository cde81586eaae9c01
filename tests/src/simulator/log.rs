//! The simulator's log: what was really sent, one JSON line each, so that tests compare the ledger with facts.

use std::{
    fs::File,
    io::Write,
    net::SocketAddr,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::turn::Billed;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    Connection(Connection),
    Exchange(Box<Exchange>),
    Question(Question),
}

/// A TCP connection that was accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    pub time_ms: u64,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// A DNS question that was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Question {
    pub time_ms: u64,
    pub name: String,
    /// 1 is A, 28 is AAAA.
    pub record_type: u16,
    pub answers: usize,
}

/// How an exchange ended, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The last byte was handed to the connection.
    Complete,
    /// Cut by its directive.
    Cut,
    /// The other side left before the end.
    ClientGone,
}

/// One request and its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, read by its name")]
pub struct Exchange {
    pub time_ms: u64,
    pub host: String,
    pub method: String,
    /// With its query.
    pub path: String,
    /// As the request names it.
    pub requested_model: String,
    /// As the answer names it.
    pub model: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    pub tls: bool,
    pub peer: SocketAddr,
    pub request_bytes: usize,
    /// The request as parsed; null where it was not JSON.
    pub request: Value,
    pub authorized: bool,
    pub accept_encoding: Option<String>,
    pub stream: bool,
    pub status: u16,
    pub encoding: Option<String>,
    pub billed: Billed,
    /// The answer told its usage (an OpenAI chat stream does only when asked).
    pub usage_sent: bool,
    /// Bytes of the body handed to the connection.
    pub response_bytes: u64,
    pub request_id: String,
    pub end: End,
}

/// Appends entries; every line is written at once.
pub struct Log {
    file: Mutex<File>,
}

impl Log {
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        Ok(Self { file: Mutex::new(file) })
    }

    pub fn write(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("an entry has only plain fields");
        line.push(b'\n');
        // A full disk shows in the test that misses the line.
        let _ = self.file.lock().write_all(&line);
    }

    pub fn connection(&self, local: SocketAddr, peer: SocketAddr) {
        self.write(&Entry::Connection(Connection { time_ms: now_ms(), local, peer }));
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
