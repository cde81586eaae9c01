//! What the fuzzers start from: small answers written by hand after the providers' documents, and the recorded cases
//! where they are.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{
    base64::base64,
    entry::{CALLS, CallRow},
};

/// A recorded body beyond this makes each of its mutations slow and none of them better.
const CASE_MAX: usize = 24 * 1024;

/// A seed of the target of that name.
pub(crate) struct Seed {
    pub(crate) target: &'static str,
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Every seed, in an order that does not change.
pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    written(&mut seeds);
    recorded(&mut seeds);
    seeds
}

/// Whether the recorded cases are there.
pub(crate) fn has_cases() -> bool {
    folder().is_dir()
}

fn written(seeds: &mut Vec<Seed>) {
    const REQUEST: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"stream":true}"#;
    const USAGE: &str = r#""usage":{"prompt_tokens":9,"completion_tokens":2,"input_tokens":9,"output_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4},"cache_read_input_tokens":1,"inputTokens":9,"outputTokens":2,"cost":0.25},"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"thoughtsTokenCount":1},"prompt_eval_count":9,"eval_count":2,"meta":{"billed_units":{"input_tokens":9,"output_tokens":2}}"#;
    for (which, (_, _, _, kind)) in CALLS.iter().enumerate() {
        let object = format!(r#"{{"id":"x","model":"m","type":"message_delta",{USAGE},"done":true}}"#);
        let body = match *kind {
            "text/event-stream" => format!(": c\r\nevent: e\r\ndata: {object}\r\n\r\ndata: [DONE]\n\n").into_bytes(),
            "application/x-ndjson" => format!("{object}\n{object}\n").into_bytes(),
            "application/vnd.amazon.eventstream" => frame(object.as_bytes()),
            // Field 1 of a message, a varint, behind the five bytes of a gRPC frame.
            "application/grpc" => vec![0, 0, 0, 0, 4, 0x08, 0x96, 0x01, 0x10],
            _ => format!("[{object},{object}]").into_bytes(),
        };
        let which = u8::try_from(which).expect("there are fewer calls");
        seeds.push(answer(which, REQUEST.as_bytes(), &body, "written"));
        seeds.push(answer(which, REQUEST.as_bytes(), object.as_bytes(), "written-json"));
        seeds.push(Seed {
            target: "request",
            name: format!("written-{which}"),
            bytes: [&[which], REQUEST.as_bytes()].concat(),
        });
    }
    for which in 0..4 {
        let lines =
            format!(">{{\"type\":\"session.update\"}}\n{{\"type\":\"response.done\",\"response\":{{{USAGE}}}}}\n");
        seeds.push(Seed {
            target: "socket",
            name: format!("written-{which}"),
            bytes: [&[which], lines.as_bytes()].concat(),
        });
    }
    // Usage that has to be counted, by a tokenizer that is known.
    let counted = br#"data: {"model":"gpt-4o","choices":[{"delta":{"content":"some words, counted"}}]}"#;
    seeds.push(answer(1, REQUEST.replace("\"m\"", "\"gpt-4o\"").as_bytes(), counted, "counted"));
    others(seeds);
    let strip = format!("data: {{\"choices\":[],{USAGE}}}\n\ndata: [DONE]\n\n").into_bytes();
    seeds.push(Seed { target: "strip", name: "written".to_owned(), bytes: strip });
    for head in
        ["POST /v1/chat/completions", "GET /v1beta/models/m%3AgenerateContent", "PUT /model/a%2Fb/invoke/../x;y"]
    {
        seeds.push(Seed { target: "head", name: format!("written-{}", head.len()), bytes: head.as_bytes().to_vec() });
    }
    let plain: &[(&str, &[u8])] = &[
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV*I\xad(Q\xb2R\xca(\xcdM\xcc\x03\0\x92\x8f\x07\x8a\x0e\0\0\0"),
        ("zlib", b"x\x9cK\xca\xc9/\x02\0\x06\x80\x02\x4e"),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x58\x19\0\0abc\x99\x59\x4f\x22"),
        ("br", b"\x0b\x02\x80hello\n\x03"),
    ];
    for (name, bytes) in plain {
        seeds.push(Seed { target: "coding", name: (*name).to_owned(), bytes: bytes.to_vec() });
    }
    let request = json!({"method": "POST", "url": "https://api.openai.com/v1/chat/completions", "headers": [],
        "postData": {"text": REQUEST}});
    let body = format!("{{\"model\":\"m\",{USAGE}}}");
    let response = json!({"status": 200, "headers": [{"name": "content-type", "value": "application/json"}],
        "content": {"text": body}});
    seeds.push(har(
        "written",
        &[json!({"startedDateTime": "2026-11-01T00:00:00Z", "time": 3, "request": request,
        "response": response, "_webSocketMessages": []})],
    ));
}

/// What is not an exchange: frames, payments, price lists, configs.
fn others(seeds: &mut Vec<Seed>) {
    let mut add = |target: &'static str, name: &str, bytes: &[u8]| {
        seeds.push(Seed { target, name: name.to_owned(), bytes: bytes.to_vec() });
    };
    add("websocket", "text-and-close", b"\x81\x05hello\x88\x02\x03\xe8");
    add("websocket", "masked-in-pieces", b"\x01\x83\x01\x02\x03\x04ikh\x89\x00\x80\x81\x01\x02\x03\x04m");
    add("websocket", "long", b"\x82\x7e\x00\x80and the rest is not there");
    add("websocket", "longer", b"\x82\x7f\x00\x00\x00\x00\x7f\xff\xff\xffx");
    let coin = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";
    let first = json!({"x402Version": 1, "payload": {"authorization": {"value": "10000"}}}).to_string();
    let second = json!({"x402Version": 2, "accepted": {"amount": "10000", "asset": coin}}).to_string();
    let settled = json!({"success": true, "transaction": "0x1", "amount": "9000"}).to_string();
    let offer = json!({"x402Version": 1, "accepts": [{"maxAmountRequired": "10000", "asset": coin}]}).to_string();
    for (name, asked) in [("first", first), ("second", second)] {
        let lines = [base64_of(asked.as_bytes()), base64_of(settled.as_bytes()), offer.clone()].join("\n");
        add("x402", name, lines.as_bytes());
        // Decoded too, since no mutation of base64 is JSON for long.
        add("x402", &format!("{name}-plain"), [&*asked, &*settled, &*offer].join("\n").as_bytes());
    }
    add("x402", "offer", offer.as_bytes());
    let lite = json!({"sample_spec": {}, "a/b": {"litellm_provider": "a", "mode": "chat", "max_output_tokens": 9,
        "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 1e-7,
        "input_cost_per_token_above_200k_tokens": 3e-6, "output_cost_per_image": 0.04}});
    add("prices", "litellm", lite.to_string().as_bytes());
    let list = json!([{"id": "a", "name": "A", "api_pattern": "https://a\\.example", "models": [
        {"id": "b", "match": {"starts_with": "b"}, "prices": {"input_mtok": 1, "output_mtok":
            {"base": 2, "tiers": [{"start": 9, "price": 3}]}}},
        {"id": "c", "match": {"or": [{"equals": "c"}, {"regex": "^c"}]}, "prices": [
            {"prices": {"input_mtok": 1}}, {"constraint": {"start_date": "2026-01-01"}, "prices": {"requests_kcount": 5}}]}]}]);
    add("prices", "genai", list.to_string().as_bytes());
    add(
        "config",
        "all",
        br#"
        unknown_model = "refuse"
        [[agent]]
        name = "a"
        [[host]]
        name = "gpu.example:8000"
        provider = "vllm"
        [[price]]
        provider = "openai"
        model = "gpt-*"
        input_mtok = "0.12"
        output_mtok = 10
        per_unit = { images = "0.04" }
        from = "2026-01-01"
        [[api]]
        host = "weather.example.com"
        path = "/v1/forecast*"
        category = "weather"
        price_usd = "0.002"
        pointer = "/usage/credits"
        max_units = 50
        "#,
    );
}

/// Base64 with its padding.
fn base64_of(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let bits = three.iter().enumerate().fold(0_u32, |bits, (n, byte)| bits | u32::from(*byte) << (16 - 8 * n));
        let sign = |n: usize| char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]);
        (0..4).map(|n| if n <= three.len() { sign(n) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(four).collect()
}

fn recorded(seeds: &mut Vec<Seed>) {
    let Ok(folder) = std::fs::read_dir(folder()) else { return };
    let mut files: Vec<PathBuf> = folder.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    for case in files.iter().filter_map(|file| serde_json::from_slice::<Value>(&std::fs::read(file).ok()?).ok()) {
        from_case(&case, seeds);
    }
}

fn from_case(case: &Value, seeds: &mut Vec<Seed>) {
    let text = |name: &str| case[name].as_str().unwrap_or_default();
    let bytes = |name: &str| {
        let encoding = format!("{name}_encoding");
        if text(&encoding) == "base64" { base64(text(name)) } else { text(name).as_bytes().to_vec() }
    };
    let (asked, body, name) = (bytes("request_body"), bytes("response_body"), text("id"));
    if asked.len() + body.len() > CASE_MAX {
        return;
    }
    if text("transport") == "websocket" {
        let which = u8::from(text("provider") == "gemini") * 3 + u8::from(text("provider") == "xai") * 2;
        let sent = text("request_body").lines().flat_map(|line| [">", line, "\n"]).collect::<String>();
        let bytes = [&[which], sent.as_bytes(), &*body].concat();
        seeds.push(Seed { target: "socket", name: name.to_owned(), bytes });
        return;
    }
    let encoded = case["response_headers"].as_object().is_some_and(|headers| headers.contains_key("content-encoding"));
    if encoded {
        seeds.push(Seed { target: "coding", name: name.to_owned(), bytes: body });
    } else {
        for which in (0_u8..).zip(CALLS).filter(|(_, call)| fits(call, case)).map(|(which, _)| which).take(1) {
            seeds.push(answer(which, &asked, &body, name));
            seeds.push(Seed { target: "request", name: name.to_owned(), bytes: [&[which], &*asked].concat() });
        }
        if case["streaming"] == true && text("endpoint") == "chat_completions" {
            seeds.push(Seed { target: "strip", name: name.to_owned(), bytes: body });
        }
    }
    let path = text("path");
    seeds.push(Seed {
        target: "head",
        name: name.to_owned(),
        bytes: format!("{} {path}", text("method")).into_bytes(),
    });
    let content = |name: &str| json!({"text": text(name), "encoding": text(&format!("{name}_encoding"))});
    let headers = |name: &str| -> Value {
        let pairs = case[name].as_object().into_iter().flatten();
        pairs.map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let request = json!({"method": text("method"), "url": format!("https://{}{path}", text("host")),
        "headers": headers("request_headers"), "postData": content("request_body")});
    let response = json!({"status": case["status"], "headers": headers("response_headers"),
        "content": content("response_body")});
    seeds.push(har(name, &[json!({"startedDateTime": case["recorded_at"], "request": request, "response": response})]));
}

/// Whether a case is such a call: the same last part of the path, and the same kind of answer.
fn fits((_, method, path, kind): &CallRow, case: &Value) -> bool {
    let last = |path: &str| path.split('?').next().and_then(|p| p.rsplit(['/', ':']).next()).map(str::to_owned);
    let same_path = case["path"].as_str().is_some_and(|own| last(own) == last(path));
    let streams = !matches!(*kind, "application/json" | "application/grpc");
    same_path && case["method"] == *method && case["streaming"] == streams
}

fn answer(which: u8, asked: &[u8], body: &[u8], name: &str) -> Seed {
    let asked: Vec<u8> = asked.iter().copied().filter(|b| *b != 0).collect();
    Seed { target: "answer", name: format!("{name}-{which}"), bytes: [&[which, 9], &*asked, &[0], body].concat() }
}

fn har(name: &str, entries: &[Value]) -> Seed {
    let har = json!({"log": {"version": "1.2", "entries": entries}});
    Seed { target: "har", name: name.to_owned(), bytes: har.to_string().into_bytes() }
}

/// A frame of an AWS event stream whose checksums are zero: what a decoder does with a wrong one is a case too.
fn frame(payload: &[u8]) -> Vec<u8> {
    let header = b"\x0b:event-type\x07\0\x08metadata";
    let total = 12 + header.len() + payload.len() + 4;
    let length = |n: usize| u32::try_from(n).expect("a small frame").to_be_bytes();
    [&length(total)[..], &length(header.len()), &[0; 4], header, payload, &[0; 4]].concat()
}

fn folder() -> PathBuf {
    let set = std::env::var_os("METER_CORPUS").map(PathBuf::from);
    set.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus")).join("cases")
}
