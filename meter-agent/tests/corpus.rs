//! Recorded provider traffic with an expected truth, read through the public dialects.
//!
//! The cases are no part of the project. They are found by `METER_CORPUS`, else in `../shared/corpus` beside the
//! workspace; where neither is there the test fails and says so.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use meter_agent::{
    clock::Timestamp,
    pricing::{PriceKind, Prices},
    usage::{
        AnswerHead, Billing, BodyEnd, Dialect, Quality, Reading, RequestFacts, Rewrite, Usage, hosts::HostTable,
        strip::UsageStripper,
    },
};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

/// The calls that this version reads.
const ENDPOINTS: [&str; 6] =
    ["chat_completions", "responses", "embeddings", "messages", "generate_content", "stream_generate_content"];
const PROVIDERS: [&str; 3] = ["openai", "anthropic", "gemini"];

/// Cases whose recording, and not the reader, is why they differ.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// Cases whose charge may pass their quote, each with the reason.
const PAST_THE_QUOTE: &[(&str, &str)] = &[];

/// 2026-11-21, when every tier and tool price of the catalogue is in force.
const AT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

#[derive(Deserialize)]
struct Case {
    id: String,
    provider: String,
    endpoint: String,
    provenance: String,
    host: String,
    method: String,
    path: String,
    #[serde(default)]
    request_body: Option<String>,
    #[serde(default)]
    request_body_encoding: Option<String>,
    status: u16,
    response_headers: BTreeMap<String, String>,
    #[serde(default)]
    response_body: Option<String>,
    #[serde(default)]
    response_body_encoding: Option<String>,
    streaming: bool,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    kind: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    lines: Vec<Value>,
}

#[test]
fn every_recorded_answer_reads_as_it_was_billed() {
    let table = HostTable::new(&[]).unwrap();
    let mut failures = Vec::new();
    let mut seen = 0;
    for case in cases() {
        let dialect = table.find(&case.host, 443).unwrap_or_else(|| panic!("{} is not metered", case.host)).dialect;
        let readings = case.readings(dialect);
        seen += 1;
        for (split, reading) in readings {
            if let Err(why) = check(&case, &reading) {
                failures.push(format!("{} ({split}): {why}", case.id));
            }
        }
    }
    assert!(seen > 250, "only {seen} cases were found");
    failures.retain(|f| !EXCEPTIONS.iter().any(|(id, _)| f.starts_with(id)));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn no_priced_answer_costs_more_than_its_quote() {
    let table = HostTable::new(&[]).unwrap();
    let prices = Prices::embedded();
    let mut failures = Vec::new();
    let mut priced = 0;
    for case in cases().into_iter().filter(|c| c.expected.kind == "usage" && c.request_body.is_some()) {
        let found = table.find(&case.host, 443).unwrap();
        let Some(facts) = case.facts(found.dialect) else { continue };
        let reading = case.readings(found.dialect).remove(0).1;
        let charge = prices.charge(found.price_provider, facts.model.as_deref(), &reading, AT);
        if charge.kind != PriceKind::Priced {
            continue;
        }
        priced += 1;
        assert!(charge.cost.is_positive() || reading.usage == Usage::default(), "{}", case.id);
        let quote = prices.quote(found.price_provider, &facts, AT);
        if quote.worst() < charge.cost {
            failures.push(format!(
                "{}: quoted {} but cost {} {facts:?} {reading:?}",
                case.id,
                quote.worst(),
                charge.cost
            ));
        }
    }
    assert!(priced > 150, "only {priced} cases were priced");
    failures.retain(|f| !PAST_THE_QUOTE.iter().any(|(id, _)| f.starts_with(id)));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_cut_anywhere_is_never_exact_and_below_the_truth() {
    let table = HostTable::new(&[]).unwrap();
    let mut failures = Vec::new();
    for case in cases().into_iter().filter(|c| c.streaming && c.expected.kind == "usage" && c.provenance != "C") {
        let dialect = table.find(&case.host, 443).unwrap().dialect;
        let Some(facts) = case.facts(dialect) else { continue };
        let body = case.body();
        let truth: Usage = usage_of(case.expected.usage.as_ref().unwrap());
        for tenth in 1..10 {
            let reading = case.read(dialect, &facts, &[&body[..body.len() * tenth / 10]], BodyEnd::Cut);
            let short =
                reading.usage.input_tokens < truth.input_tokens || reading.usage.output_tokens < truth.output_tokens;
            if reading.quality == Quality::Exact && short {
                failures.push(format!("{} at {tenth}/10: {:?} but {truth:?}", case.id, reading.usage));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_rewrite_changes_only_what_it_is_for() {
    let table = HostTable::new(&[]).unwrap();
    let mut rewritten = 0;
    for case in cases() {
        let dialect = table.find(&case.host, 443).unwrap().dialect;
        let path = case.path.split('?').next().unwrap_or("");
        let endpoint = dialect.endpoint(&case.method, path);
        let body = decode(case.request_body.as_deref().unwrap_or(""), case.request_body_encoding.as_deref());
        let (Some(facts), Ok(before)) = (case.facts(dialect), serde_json::from_slice::<Value>(&body)) else { continue };
        if !facts.can_clamp {
            continue;
        }
        let rewrite = Rewrite { ask_usage: facts.must_ask_usage, ceiling: Some(777) };
        let done = dialect.rewrite(endpoint, &body, rewrite).unwrap();
        let again = dialect.request(endpoint, &case.path, &done).unwrap();
        assert_eq!((again.ceiling, again.must_ask_usage), (Some(777), false), "{}", case.id);
        let after: Value = serde_json::from_slice(&done).unwrap();
        assert_eq!(without_changes(after), without_changes(before), "{}", case.id);
        rewritten += 1;
    }
    assert!(rewritten > 200, "only {rewritten} requests were rewritten");
}

/// The request without the members that a rewrite may change.
fn without_changes(mut request: Value) -> Value {
    for name in ["max_tokens", "max_completion_tokens", "max_output_tokens", "stream_options"] {
        request.as_object_mut().unwrap().remove(name);
    }
    for name in ["generationConfig", "generation_config"] {
        let config = request.as_object_mut().unwrap().remove(name);
        if let Some(Value::Object(mut config)) = config {
            config.retain(|key, _| key != "maxOutputTokens" && key != "max_output_tokens");
            request[format!("{name} without its ceiling")] =
                if config.is_empty() { Value::Null } else { Value::Object(config) };
        } else {
            request[format!("{name} without its ceiling")] = Value::Null;
        }
    }
    request
}

#[test]
fn a_stripped_stream_has_no_usage_and_all_else_unchanged() {
    let mut stripped = 0;
    for case in cases().into_iter().filter(|c| c.endpoint == "chat_completions" && c.streaming && c.status == 200) {
        let body = case.body();
        let mut results = [usize::MAX, 1, 100].map(|size| strip(&body, size)).into_iter();
        let whole = results.next().unwrap();
        assert!(results.all(|r| r == whole), "{}: any split gives the same bytes", case.id);
        let text = String::from_utf8(body).unwrap();
        let want: Vec<Value> = events(&text).filter(|e| !is_usage_event(e)).map(without_null_usage).collect();
        assert_eq!(events(&whole).collect::<Vec<_>>(), want, "{}", case.id);
        stripped += usize::from(whole.len() < text.len());
    }
    assert!(stripped > 15, "only {stripped} streams had anything to strip");
}

fn strip(body: &[u8], size: usize) -> String {
    let mut stripper = UsageStripper::new();
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        for part in stripper.push(Bytes::copy_from_slice(chunk)) {
            out.extend_from_slice(&part);
        }
    }
    out.extend(stripper.finish().unwrap_or_default());
    String::from_utf8(out).unwrap()
}

fn events(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| line.strip_prefix("data:")).filter_map(|data| serde_json::from_str(data).ok())
}

fn is_usage_event(event: &Value) -> bool {
    event["usage"].is_object() && event["choices"].as_array().is_some_and(Vec::is_empty)
}

fn without_null_usage(mut event: Value) -> Value {
    if event["usage"].is_null()
        && let Some(members) = event.as_object_mut()
    {
        members.shift_remove("usage");
    }
    event
}

fn check(case: &Case, reading: &Reading) -> Result<(), String> {
    let expected = &case.expected;
    match expected.kind.as_str() {
        "usage" => {
            let want = usage_of(expected.usage.as_ref().ok_or("no usage in the case")?);
            if reading.usage != want || reading.quality != Quality::Exact {
                return Err(format!("{:?} {:?}, want {want:?}", reading.quality, reading.usage));
            }
            let lines = reading.lines.len().max(1);
            if expected.lines.len() > 1 && lines != expected.lines.len() {
                return Err(format!("{lines} lines, want {}", expected.lines.len()));
            }
            for (line, want) in reading.lines.iter().zip(&expected.lines) {
                let model = line.model.as_deref().or(reading.model.as_deref());
                if line.usage != usage_of(&want["usage"]) || model != want["model"].as_str() {
                    return Err(format!("line {line:?}, want {want}"));
                }
            }
            if reading.model != expected.model && expected.model.is_some() {
                return Err(format!("model {:?}, want {:?}", reading.model, expected.model));
            }
            Ok(())
        }
        "zero" if reading.usage != Usage::default() || reading.quality != Quality::Exact => {
            Err(format!("{:?} {:?}, want nothing", reading.quality, reading.usage))
        }
        "absent" | "pending" if reading.quality == Quality::Exact => Err("exact, but nothing is known".to_owned()),
        "zero" | "absent" | "pending" => Ok(()),
        other => Err(format!("a kind that this test does not know: {other}")),
    }
}

fn usage_of(value: &Value) -> Usage {
    let n = |key: &str| value[key].as_u64().unwrap_or(0);
    Usage {
        input_tokens: n("input_tokens"),
        input_uncached: n("input_uncached"),
        cache_read: n("cache_read"),
        cache_write_5m: n("cache_write_5m"),
        cache_write_1h: n("cache_write_1h"),
        cache_write_other: n("cache_write_other"),
        input_audio: n("input_audio"),
        input_image: n("input_image"),
        output_tokens: n("output_tokens"),
        reasoning_tokens: n("reasoning_tokens"),
        output_audio: n("output_audio"),
        output_image: n("output_image"),
    }
}

impl Case {
    fn facts(&self, dialect: &dyn Dialect) -> Option<RequestFacts> {
        let path = self.path.split('?').next().unwrap_or("");
        let body = decode(self.request_body.as_deref()?, self.request_body_encoding.as_deref());
        dialect.request(dialect.endpoint(&self.method, path), &self.path, &body).ok()
    }

    fn body(&self) -> Vec<u8> {
        let raw = decode(self.response_body.as_deref().unwrap_or(""), self.response_body_encoding.as_deref());
        match self.header("content-encoding") {
            Some("gzip") => gunzip(&raw),
            Some("identity" | "") | None => raw,
            Some(other) => panic!("{}: {other} is not expected here", self.id),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.response_headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Whole, and for streams at a few splits.
    fn readings(&self, dialect: &dyn Dialect) -> Vec<(String, Reading)> {
        let facts = self.facts(dialect).unwrap_or_else(|| RequestFacts {
            stream: self.streaming,
            input_unbounded: true,
            hidden_output: true,
            ..RequestFacts::default()
        });
        let body = self.body();
        let mut all = vec![("whole".to_owned(), self.read(dialect, &facts, &[&body], BodyEnd::Complete))];
        if self.streaming {
            for size in [1, 7, 1_000] {
                let chunks: Vec<&[u8]> = body.chunks(size).collect();
                all.push((format!("by {size}"), self.read(dialect, &facts, &chunks, BodyEnd::Complete)));
            }
        }
        all
    }

    fn read(&self, dialect: &dyn Dialect, facts: &RequestFacts, chunks: &[&[u8]], end: BodyEnd) -> Reading {
        let path = self.path.split('?').next().unwrap_or("");
        let endpoint = dialect.endpoint(&self.method, path);
        if self.method == "POST" {
            assert_eq!((endpoint.billing, endpoint.name), (Billing::Tokens, self.endpoint.as_str()), "{}", self.id);
        }
        let head = AnswerHead { status: self.status, content_type: self.header("content-type").unwrap_or("") };
        let mut reader = dialect.reader(endpoint, facts, head);
        for chunk in chunks {
            reader.feed(chunk);
        }
        reader.finish(end)
    }
}

fn cases() -> Vec<Case> {
    let folder = folder();
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("cases"))
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let wanted =
        |case: &Case| PROVIDERS.contains(&case.provider.as_str()) && ENDPOINTS.contains(&case.endpoint.as_str());
    files
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

fn decode(text: &str, encoding: Option<&str>) -> Vec<u8> {
    if encoding == Some("base64") { base64(text) } else { text.as_bytes().to_vec() }
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut have) = (0_u32, 0);
    for value in text.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)) {
        bits = bits << 6 | u32::try_from(value).unwrap();
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from(bits >> have & 0xff).unwrap());
        }
    }
    out
}

fn gunzip(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async_compression::tokio::bufread::GzipDecoder::new(raw).read_to_end(&mut out))
        .unwrap();
    out
}
