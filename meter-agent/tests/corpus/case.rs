//! A recorded case: how it is found, what it holds, and its answer read through the dialects.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::base64::base64;
use meter_agent::{
    clock::Timestamp,
    coding::decode_whole,
    usage::{
        AnswerHead, Billing, BodyEnd, Call, Dialect, Line, Quality, Quantity, Reading, RequestFacts, Tools, Units,
        Usage, detect,
        hosts::{HostEntry, HostMatch, HostTable},
    },
};
use serde::Deserialize;
use serde_json::Value;

/// 2026-11-21, when every tier and tool price of the catalogue is in force.
pub(crate) const AT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

#[derive(Clone, Deserialize)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) provider: String,
    pub(crate) endpoint: String,
    pub(crate) transport: String,
    pub(crate) request_headers: BTreeMap<String, String>,
    pub(crate) provenance: String,
    pub(crate) host: String,
    pub(crate) method: String,
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) request_body: Option<String>,
    #[serde(default)]
    pub(crate) request_body_encoding: Option<String>,
    pub(crate) status: u16,
    pub(crate) response_headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) response_body: Option<String>,
    #[serde(default)]
    pub(crate) response_body_encoding: Option<String>,
    pub(crate) streaming: bool,
    #[serde(default)]
    pub(crate) synthetic_suspect: bool,
    #[serde(default)]
    pub(crate) recorded_at: Option<String>,
    pub(crate) expected: Expected,
}

#[derive(Clone, Deserialize)]
pub(crate) struct Expected {
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) confidence: String,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) usage: Option<Value>,
    #[serde(default)]
    pub(crate) lines: Vec<Value>,
    #[serde(default)]
    pub(crate) server_tools: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) units: BTreeMap<String, f64>,
    #[serde(default)]
    pub(crate) provider_cost_usd: Option<f64>,
    #[serde(default)]
    pub(crate) is_byok: Option<bool>,
}

/// Hosts of self-hosted servers and gateways in the recordings, as a user would list them.
pub(crate) const LISTED: &[(&str, &str)] = &[
    ("localhost:8080", "openai"),
    ("localhost:8000", "openai"),
    ("localhost:1234", "openai"),
    ("localhost:3000", "openai"),
    ("localhost:8787", "openai"),
    ("0.0.0.0:4000", "openai"),
    ("127.0.0.1:11434", "ollama"),
    ("localhost:11434", "ollama"),
    ("gpustack.local", "openai"),
];

pub(crate) fn table() -> HostTable {
    let entry = |(name, dialect): &(&str, &str)| HostEntry::new(*name, *dialect);
    HostTable::new(&LISTED.iter().map(entry).collect::<Vec<_>>()).unwrap()
}

pub(crate) fn find(table: &HostTable, case: &Case) -> HostMatch {
    let (name, port) = case.host.rsplit_once(':').map_or((case.host.as_str(), 443), |(n, p)| (n, p.parse().unwrap()));
    table.find(name, port).unwrap_or_else(|| panic!("{} is not metered", case.host))
}

impl Case {
    /// Whether it used something in one answer, and not in the turns of a socket.
    pub(crate) fn is_one_answer(&self) -> bool {
        self.expected.kind == "usage" && self.transport != "websocket"
    }

    pub(crate) fn call(&self, found: &HostMatch) -> (&'static dyn Dialect, Call<'_>) {
        let (dialect, endpoint) = detect(Some(found.dialect), &self.method, self.path.split('?').next().unwrap_or(""));
        let content_type = self.request_headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map_or("", |(_, v)| v.as_str());
        (dialect, Call { endpoint, path_and_query: &self.path, content_type, quirks: found.quirks })
    }

    pub(crate) fn facts(&self, found: &HostMatch) -> Option<RequestFacts> {
        let body = decode(self.request_body.as_deref()?, self.request_body_encoding.as_deref());
        let (dialect, call) = self.call(found);
        dialect.request(&call, &body.into()).ok()
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let raw = decode(self.response_body.as_deref().unwrap_or(""), self.response_body_encoding.as_deref());
        match self.header("content-encoding") {
            Some("identity" | "") | None => raw,
            coding => decode_whole(coding, &raw, usize::MAX).unwrap_or_else(|error| panic!("{}: {error}", self.id)),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response_headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// What the whole answer says; of a WebSocket, the sum of its turns.
    pub(crate) fn reading(&self, found: &HostMatch) -> Reading {
        if self.transport == "websocket" {
            return self.turns(found);
        }
        let facts = self.facts_or_unknown(found);
        self.read(found, &facts, &[&self.body()], BodyEnd::Complete)
    }

    /// What the request says, and where it says nothing what bounds any request.
    pub(crate) fn facts_or_unknown(&self, found: &HostMatch) -> RequestFacts {
        self.facts(found).unwrap_or_else(|| RequestFacts {
            stream: self.streaming,
            input_unbounded: true,
            hidden_output: true,
            ..RequestFacts::default()
        })
    }

    pub(crate) fn read(&self, found: &HostMatch, facts: &RequestFacts, chunks: &[&[u8]], end: BodyEnd) -> Reading {
        let (dialect, call) = self.call(found);
        let header = |name: &str| self.header(name).map(str::to_owned);
        let content_type = self.header("content-type").unwrap_or("");
        if !(200..300).contains(&self.status) || call.endpoint.billing == Billing::Free {
            return Reading::nothing();
        }
        let head = AnswerHead { status: self.status, content_type, header: &header };
        let mut reader = dialect.reader(&call, facts, head);
        for chunk in chunks {
            reader.feed(chunk);
        }
        reader.finish(end)
    }

    /// What the start of a successful answer is said to have used.
    pub(crate) fn so_far(&self, found: &HostMatch, facts: &RequestFacts, start: &[u8]) -> Option<Reading> {
        let (dialect, call) = self.call(found);
        let header = |name: &str| self.header(name).map(str::to_owned);
        let head = AnswerHead {
            status: self.status,
            content_type: self.header("content-type").unwrap_or(""),
            header: &header,
        };
        let mut reader = dialect.reader(&call, facts, head);
        reader.feed(start);
        reader.so_far()
    }

    /// The sum of a WebSocket's turns: the recordings hold one message per line, the agent's first.
    pub(crate) fn turns(&self, found: &HostMatch) -> Reading {
        let (dialect, call) = self.call(found);
        let Some(mut socket) = dialect.socket(&call).filter(|_| call.endpoint.billing == Billing::Socket) else {
            return Reading::absent();
        };
        let lines =
            |text: &Option<String>| text.clone().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        for message in lines(&self.request_body) {
            socket.sent(message.as_bytes());
        }
        let mut turns: Vec<Reading> =
            lines(&self.response_body).iter().filter_map(|m| socket.received(m.as_bytes())).collect();
        turns.extend(socket.finish());
        let mut sum = turns.first().cloned().unwrap_or_else(Reading::absent);
        let mut lines: Vec<Line> = Vec::new();
        let (mut usage, mut tools, mut units) = (Usage::default(), Tools::new(), Units::new());
        for turn in &turns {
            usage = usage.plus(turn.usage);
            turn.server_tools.iter().for_each(|(name, n)| *tools.entry(name.clone()).or_default() += n);
            for (name, n) in &turn.units {
                let sum: &mut Quantity = units.entry(name.clone()).or_default();
                *sum = sum.plus(*n);
            }
            let own = Line { usage: turn.usage, ..Line::default() };
            for line in if turn.lines.is_empty() { std::slice::from_ref(&own) } else { &turn.lines } {
                let model = line.model.clone().or_else(|| turn.model.clone());
                match lines.iter_mut().find(|l| l.model == model) {
                    Some(same) => same.usage = same.usage.plus(line.usage),
                    None => lines.push(Line { model, ..line.clone() }),
                }
            }
            if turn.quality != Quality::Exact {
                sum.quality = turn.quality;
            }
        }
        if lines.len() < 2 {
            lines.clear();
        }
        Reading { usage, server_tools: tools, units, lines, ..sum }
    }
}

/// Set to a part of a case's id (or several, with commas) to look at those alone.
pub(crate) fn filter() -> Option<String> {
    std::env::var("METER_CORPUS_ONLY").ok()
}

/// Every case that is wanted, loaded once.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(load)
}

/// Whether every split and truncation is looked at.
pub(crate) fn exhaustive() -> bool {
    std::env::var_os("METER_EXHAUSTIVE").is_some_and(|set| set == "1")
}

/// The cases' files, in the order of their ids.
pub(crate) fn files() -> Vec<PathBuf> {
    let folder = folder();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("cases"))
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn load() -> Vec<Case> {
    let only = filter();
    let wanted = |case: &Case| only.as_ref().is_none_or(|parts| parts.split(',').any(|part| case.id.contains(part)));
    files()
        .iter()
        .map(|file| {
            let text = std::fs::read(file).unwrap();
            serde_json::from_slice::<Case>(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
        })
        .filter(wanted)
        .collect()
}

fn folder() -> PathBuf {
    if let Some(set) = std::env::var_os("METER_CORPUS") {
        return PathBuf::from(set);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    assert!(
        beside.join("cases").is_dir(),
        "the recorded traffic is neither in {} nor named by METER_CORPUS; set it to the folder that holds `cases`",
        beside.display()
    );
    beside
}

pub(crate) fn decode(text: &str, encoding: Option<&str>) -> Vec<u8> {
    if encoding == Some("base64") { base64(text) } else { text.as_bytes().to_vec() }
}
