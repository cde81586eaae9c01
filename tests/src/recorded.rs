//! Recorded provider traffic with an expected truth: where it lies and how a case is read.
//!
//! The cases are no part of the project. They are found by `METER_CORPUS`, else in `../shared/corpus` beside the
//! workspace; where neither is there, whoever needs them fails and says so.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

/// One recorded exchange.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub id: String,
    pub transport: String,
    pub host: String,
    pub method: String,
    pub path: String,
    pub request_headers: BTreeMap<String, String>,
    request_body: Option<String>,
    request_body_encoding: Option<String>,
    pub status: u16,
    pub response_headers: BTreeMap<String, String>,
    response_body: Option<String>,
    response_body_encoding: Option<String>,
    pub streaming: bool,
    pub expected: Expected,
}

/// What it used, by an independent reading.
#[derive(Clone, Debug, Deserialize)]
pub struct Expected {
    /// `usage`, `zero`, `absent` or `pending`.
    pub kind: String,
    pub model: Option<String>,
    pub usage: Option<Value>,
    #[serde(default)]
    pub server_tools: BTreeMap<String, u64>,
    #[serde(default)]
    pub units: BTreeMap<String, f64>,
}

impl Case {
    pub fn load(folder: &Path, id: &str) -> Self {
        let path = folder.join("cases").join(format!("{id}.json"));
        let text = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn request_bytes(&self) -> Vec<u8> {
        decode(self.request_body.as_deref(), self.request_body_encoding.as_deref())
    }

    pub fn response_bytes(&self) -> Vec<u8> {
        decode(self.response_body.as_deref(), self.response_body_encoding.as_deref())
    }
}

/// The folder with the cases.
pub fn folder() -> PathBuf {
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

/// Every case, in the order of their ids.
pub fn cases(folder: &Path) -> Vec<Case> {
    let entries = fs::read_dir(folder.join("cases")).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut ids: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned()))
        .collect();
    ids.sort();
    ids.iter().map(|id| Case::load(folder, id)).collect()
}

fn decode(text: Option<&str>, encoding: Option<&str>) -> Vec<u8> {
    let text = text.unwrap_or_default();
    if encoding == Some("base64") { base64(text) } else { text.as_bytes().to_vec() }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut have) = (0_u32, 0);
    for value in text.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)) {
        bits = bits << 6 | u32::try_from(value).expect("an alphabet of 64");
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from(bits >> have & 0xff).expect("eight bits"));
        }
    }
    out
}
