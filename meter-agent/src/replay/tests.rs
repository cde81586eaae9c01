//! What a recording comes to, entry by entry.

use serde_json::{Value, json};

use super::*;
use crate::{
    exchange::Outcome,
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, hosts::HostEntry},
};

const NOW: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);
const ORDERS: &str = "https://generativelanguage.googleapis.com/v1beta/interactions";

fn rows_with(hosts: &[HostEntry], entries: &[Value]) -> Vec<Replayed> {
    let hosts = HostTable::new(hosts).unwrap();
    let har = json!({"log": {"version": "1.2", "entries": entries}}).to_string();
    let mut rows = Vec::new();
    let setting = Setting { hosts: &hosts, prices: &Prices::embedded(), now: NOW };
    replay(har.as_bytes(), setting, &mut |entry| rows.push(entry.unwrap())).unwrap();
    rows
}

fn rows(entries: &[Value]) -> Vec<Replayed> {
    rows_with(&[], entries)
}

fn row(entry: Value) -> Row {
    let mut all = rows(&[entry]);
    assert_eq!(all.len(), 1);
    all.remove(0).row
}

fn entry(method: &str, url: &str, request: &Value, status: u16, answer: &Value) -> Value {
    json!({
        "startedDateTime": "2026-11-20T10:00:00.000+01:00", "time": 1500, "timings": {"send": 1, "wait": 900, "receive": 500},
        "request": {"method": method, "url": url, "headers": [], "postData": {"text": request.to_string()}},
        "response": {"status": status, "headers": [{"name": "Content-Type", "value": "application/json"}],
            "content": {"text": answer.to_string()}},
    })
}

fn chat(url: &str) -> Value {
    // A prompt that can be a thousand tokens.
    let prompt = "hi ".repeat(1_000);
    let request = json!({"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]});
    let answer = json!({"model": "gpt-4o-2024-08-06", "choices": [], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}});
    entry("POST", url, &request, 200, &answer)
}

/// An answer about background work.
fn work(method: &str, url: &str, status: &str, usage: &Value) -> Value {
    let answer = json!({"id": "work_1", "status": status, "model": "gemini-2.5-flash", "usage": usage});
    let request = json!({"model": "gemini-2.5-flash", "input": "hi", "background": true});
    entry(method, url, &request, 200, &answer)
}

fn reason(row: &Row) -> &str {
    row.reason.as_deref().unwrap_or_default()
}

#[test]
fn an_exchange_is_priced_at_its_time_and_by_its_host() {
    let row = row(chat("https://api.openai.com/v1/chat/completions?x=1"));
    assert_eq!((row.cost_usd, row.price), (Pico::new(3_500_000_000), PriceKind::Priced));
    assert_eq!((row.usage_quality, row.usage.input_tokens, row.usage.output_tokens), (Quality::Exact, 1_000, 100));
    assert_eq!((&*row.provider, &*row.path, row.account.as_str()), ("openai", "/v1/chat/completions", "replay"));
    assert_eq!(
        (row.time.rfc3339().as_str(), row.ttfb_ms, row.duration_ms),
        ("2026-11-20T09:00:00.000Z", Some(1_000), 1_500)
    );
    assert_eq!((row.status, row.outcome, row.reason), (Some(200), Outcome::Complete, None));
}

#[test]
fn a_line_of_json_is_a_ledger_row_with_its_number() {
    let line = serde_json::to_value(&rows(&[chat("https://api.openai.com/v1/chat/completions")])[0]).unwrap();
    for name in ["index", "id", "provider", "usage", "cost_usd", "server_tools", "units", "lines"] {
        assert!(line.get(name).is_some(), "{name}");
    }
    assert_eq!((&line["index"], &line["lines"]), (&json!(0), &json!([])));
}

#[test]
fn a_host_that_is_not_listed_is_read_by_its_shape_and_says_that_it_is_guessed() {
    let guessed = row(chat("https://gateway.example.com/api/openai/v1/chat/completions"));
    assert_eq!((&*guessed.provider, guessed.cost_usd), ("openai (guessed)", Pico::new(3_500_000_000)));
    let listed = [HostEntry::new("gateway.example.com", "openai")];
    let listed = rows_with(&listed, &[chat("https://gateway.example.com/v1/chat/completions")]).remove(0).row;
    assert_eq!(listed.provider, "openai");
}

#[test]
fn the_rest_of_a_browsers_traffic_costs_nothing_and_says_why() {
    let page = json!({"html": true});
    for (method, url, part) in [
        ("GET", "https://www.example.com/", "not a metered API"),
        ("POST", "https://www.example.com/analytics", "not a metered API"),
        ("POST", "https://chat.example.com/v1/messages", "not a metered API"),
        ("GET", "https://api.openai.com/v1/models", "costs nothing"),
    ] {
        let row = row(entry(method, url, &json!({"event": 1}), 200, &page));
        assert!(reason(&row).contains(part), "{url}: {}", reason(&row));
        assert_eq!((row.cost_usd, row.usage_quality), (Pico::ZERO, Quality::Exact), "{url}");
    }
}

#[test]
fn an_unknown_call_of_a_paid_host_is_absent_and_charged_at_its_bound() {
    let row = row(entry("POST", "https://api.openai.com/v1/new/thing", &json!({}), 200, &json!({})));
    assert_eq!((row.usage_quality, row.price), (Quality::Absent, PriceKind::Unpriced));
    assert!(row.cost_usd.is_positive() && row.cost_usd == row.held_usd);
}

#[test]
fn what_failed_costs_nothing_unless_it_may_have_been_answered() {
    let url = "https://api.openai.com/v1/chat/completions";
    let error = json!({"error": {"message": "no"}});
    let refused = row(entry("POST", url, &json!({"model": "gpt-4o"}), 429, &error));
    assert_eq!((refused.cost_usd, refused.outcome), (Pico::ZERO, Outcome::UpstreamError));
    assert!(reason(&refused).contains("error"));
    let mut lost = chat(url);
    lost["response"] = json!({"status": 0, "_error": "net::ERR_CONNECTION_RESET"});
    let row_of_lost = row(lost.clone());
    assert_eq!((row_of_lost.usage_quality, row_of_lost.status), (Quality::Absent, None));
    assert!(reason(&row_of_lost).contains("ERR_CONNECTION_RESET") && row_of_lost.cost_usd.is_positive());
    lost["timings"] = json!({"send": -1, "wait": -1, "receive": -1});
    let never = row(lost);
    assert_eq!((never.cost_usd, never.usage_quality), (Pico::ZERO, Quality::Exact));
    assert!(reason(&never).contains("failed"));
}

#[test]
fn a_body_that_was_not_recorded_is_never_exact() {
    let mut entry = chat("https://api.openai.com/v1/chat/completions");
    entry["response"]["content"] = json!({"size": 900});
    let row = row(entry);
    assert!(row.usage_quality != Quality::Exact && row.cost_usd.is_positive());
    assert!(reason(&row).contains("record it with contents"));
}

#[test]
fn a_coding_is_undone_only_where_the_bytes_are_in_it() {
    // {"model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1000,"completion_tokens":100}}, stored, not compressed.
    let plain = br#"{"model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1000,"completion_tokens":100}}"#;
    let length = u16::try_from(plain.len()).unwrap();
    let raw = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), plain].concat();
    for (coding, content) in [
        ("gzip", json!({"text": std::str::from_utf8(plain).unwrap()})),
        ("br", json!({"text": std::str::from_utf8(plain).unwrap()})),
        ("nonsense", json!({"text": std::str::from_utf8(plain).unwrap()})),
        ("deflate", json!({"text": encode(&raw), "encoding": "base64"})),
        ("deflate", json!({"text": encode(plain), "encoding": "base64"})),
    ] {
        let mut entry = chat("https://api.openai.com/v1/chat/completions");
        entry["response"]["headers"] = json!([{"name": "content-encoding", "value": coding}]);
        entry["response"]["content"] = content;
        assert_eq!(row(entry).usage.input_tokens, 1_000, "{coding}");
    }
}

fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sixes = |three: &[u8]| {
        let bits = three.iter().enumerate().fold(0_u32, |bits, (n, b)| bits | u32::from(*b) << (16 - 8 * n));
        (0..=three.len()).map(move |n| char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize])).collect::<String>()
    };
    bytes.chunks(3).map(sixes).collect()
}

#[test]
fn background_work_is_billed_once_by_the_read_that_has_its_result() {
    let usage = json!({"total_input_tokens": 1000, "total_output_tokens": 100});
    let one = format!("{ORDERS}/work_1");
    let all = rows(&[
        work("POST", ORDERS, "queued", &Value::Null),
        chat("https://api.openai.com/v1/chat/completions"),
        work("GET", &one, "in_progress", &Value::Null),
        work("GET", &one, "completed", &usage),
        work("GET", &one, "completed", &usage),
    ]);
    let indices: Vec<usize> = all.iter().map(|replayed| replayed.index).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4], "the file's order, though the first was decided by the fourth");
    let costs: Vec<i64> = all.iter().map(|replayed| replayed.row.cost_usd.get()).collect();
    assert_eq!(costs, [0, 3_500_000_000, 0, 550_000_000, 0]);
    assert!(reason(&all[0].row).contains("billed by entry 3"));
    assert!(reason(&all[2].row).contains("when it is read") && reason(&all[4].row).contains("already"));
}

#[test]
fn background_work_whose_result_is_not_there_is_held_and_flagged() {
    let row = row(work("POST", ORDERS, "queued", &Value::Null));
    assert_eq!((row.usage_quality, row.outcome), (Quality::Absent, Outcome::Unresolved));
    assert!(row.cost_usd == Pico::ZERO && row.held_usd.is_positive() && reason(&row).contains("not in the recording"));
}

#[test]
fn an_order_is_never_a_repeat_though_the_file_holds_it_twice() {
    let usage = json!({"total_input_tokens": 1000, "total_output_tokens": 100});
    let done = work("POST", ORDERS, "completed", &usage);
    let all = rows(&[done.clone(), done]);
    assert!(all.iter().all(|replayed| replayed.row.cost_usd == Pico::new(550_000_000)));
}

#[test]
fn a_web_socket_that_cannot_be_read_is_flagged_on_a_paid_host_alone() {
    let with = |url: &str| {
        json!({"request": {"url": url}, "response": {"status": 101},
            "_webSocketMessages": [{"type": "send", "time": 1, "opcode": 1, "data": "{}"}]})
    };
    let paid = row(with("wss://api.openai.com/v1/unheard/of"));
    assert_eq!((paid.usage_quality, paid.status), (Quality::Absent, Some(101)));
    let other = row(with("wss://www.example.com/chat"));
    assert_eq!((other.usage_quality, other.cost_usd), (Quality::Exact, Pico::ZERO));
    assert!(!reason(&paid).is_empty() && !reason(&other).is_empty());
}

#[test]
fn a_bad_entry_is_named_and_the_others_are_metered() {
    let har = json!({"log": {"entries": [{}, chat("https://api.openai.com/v1/chat/completions"), {"request": {}}]}});
    let hosts = HostTable::new(&[]).unwrap();
    let setting = Setting { hosts: &hosts, prices: &Prices::embedded(), now: NOW };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    replay(har.to_string().as_bytes(), setting, &mut |entry| match entry {
        Ok(replayed) => good.push(replayed.index),
        Err(entry) => bad.push(entry.to_string()),
    })
    .unwrap();
    assert_eq!(good, [1]);
    assert!(bad[0].starts_with("entry 0: it has no `request`") && bad[1].starts_with("entry 2: "), "{bad:?}");
}
