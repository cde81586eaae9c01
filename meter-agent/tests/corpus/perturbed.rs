//! A reading rests on what an answer says and not on how its bytes happen to be written: every recorded answer is
//! written anew in ways that mean the same, and reads as it was billed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, ser::Formatter};

use crate::{
    case::{Case, cases, find, table},
    check::check,
    exceptions::is_excepted,
    report::Failures,
};

/// What is done to every JSON document of an answer.
type Writer = fn(&Value) -> String;

/// Every recorded answer, changed and read, against its truth. `change` says whether it changed anything.
fn reads_the_same(least: usize, mut change: impl FnMut(&mut Case) -> bool) {
    let table = table();
    let mut failures = Failures::default();
    for case in cases().iter().filter(|case| !is_excepted(case)) {
        let found = find(&table, case);
        let mut changed = case.clone();
        if !change(&mut changed) {
            continue;
        }
        failures.looked();
        if let Err(why) = check(case, &changed.reading(&found)) {
            failures.add(case, why);
        }
    }
    failures.end(least);
}

/// The answer as text, where it is text.
fn text(case: &Case) -> Option<String> {
    String::from_utf8(case.body()).ok().filter(|_| case.transport != "grpc")
}

fn replace(case: &mut Case, body: String) {
    case.response_body = Some(body);
    case.response_body_encoding = None;
    case.response_headers.retain(|name, _| !name.eq_ignore_ascii_case("content-encoding"));
}

fn is_events(body: &str) -> bool {
    body.lines().any(|line| line.starts_with("data:")) && serde_json::from_str::<Value>(body).is_err()
}

/// The body with every JSON document in it written by `write`: itself, the lines of it, or the data of its events.
fn rewritten(body: &str, write: Writer) -> String {
    let again = |text: &str| serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |v| write(&v));
    if serde_json::from_str::<Value>(body).is_ok() {
        return again(body);
    }
    let line = |line: &str| match line.strip_prefix("data:") {
        Some(data) => format!("data: {}", again(data.trim_start())),
        None => again(line),
    };
    body.split('\n').map(|l| line(l.strip_suffix('\r').unwrap_or(l))).collect::<Vec<_>>().join("\n")
}

fn documents_written_by(write: Writer) -> impl FnMut(&mut Case) -> bool {
    move |case| {
        let Some(body) = text(case) else { return false };
        let again = rewritten(&body, write);
        let is_other = again != body;
        replace(case, again);
        is_other
    }
}

/// As Python writes it: a blank after each colon and comma, and nothing beyond ASCII.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, w: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { w.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, w: &mut W) -> std::io::Result<()> {
        w.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + std::io::Write>(&mut self, w: &mut W, text: &str) -> std::io::Result<()> {
        let mut units = [0; 2];
        for c in text.chars() {
            if c.is_ascii() {
                w.write_all(&[c as u8])?;
                continue;
            }
            for unit in c.encode_utf16(&mut units) {
                write!(w, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

fn python(value: &Value) -> String {
    let mut out = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Python)).unwrap();
    String::from_utf8(out).unwrap()
}

/// Every object with a member of each kind that nobody knows yet, before and after its own.
fn with_new_members(value: &Value) -> String {
    fn add(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(add);
                members.insert("_0_new".to_owned(), serde_json::json!([{"usage": 1, "x": null}, "y", 2.5]));
                members.insert("zz_new".to_owned(), serde_json::json!({"a": {"b": []}}));
            }
            Value::Array(items) => items.iter_mut().for_each(add),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = value.clone();
    add(&mut value);
    value.to_string()
}

/// Counts of tokens with a decimal point.
fn with_fractions(value: &Value) -> String {
    fn change(name: &str, value: &mut Value) {
        let is_count = name.to_ascii_lowercase().contains("token");
        match value {
            Value::Object(members) => members.iter_mut().for_each(|(name, value)| change(name, value)),
            Value::Array(items) => items.iter_mut().for_each(|item| change("", item)),
            Value::Number(n) if is_count => *value = n.as_f64().into(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut value = value.clone();
    change("", &mut value);
    value.to_string()
}

#[test]
fn members_in_another_order_mean_the_same() {
    reads_the_same(300, documents_written_by(Value::to_string));
}

#[test]
fn blanks_and_escapes_mean_nothing() {
    reads_the_same(800, documents_written_by(python));
}

#[test]
fn indented_documents_mean_the_same() {
    reads_the_same(300, |case| {
        // A result of a batch is one line by definition.
        let is_lines = case.endpoint == "messages_batch_results";
        let value = text(case).and_then(|body| serde_json::from_str::<Value>(&body).ok()).filter(|_| !is_lines);
        let Some(value) = value else { return false };
        replace(case, format!("\n\n  {value:#}\n\n"));
        true
    });
}

#[test]
fn new_members_change_nothing() {
    reads_the_same(800, documents_written_by(with_new_members));
}

#[test]
fn counts_may_be_fractions() {
    reads_the_same(700, documents_written_by(with_fractions));
}

/// Changes of the text of server-sent events, whose lines end in LF.
fn events_changed(change: fn(&str) -> String) {
    reads_the_same(250, |case| {
        let Some(body) = text(case).filter(|body| is_events(body) && case.transport == "http") else { return false };
        replace(case, change(&body.replace("\r\n", "\n")));
        true
    });
}

#[test]
fn events_end_their_lines_as_they_like() {
    events_changed(|body| body.replace('\n', "\r\n"));
    events_changed(|body| body.replace('\n', "\r"));
    events_changed(str::to_owned);
}

#[test]
fn events_need_no_blank_after_the_colon() {
    events_changed(|body| body.replace("\ndata: ", "\ndata:").replace("\nevent: ", "\nevent:"));
}

#[test]
fn comments_and_ids_between_the_lines_of_events_mean_nothing() {
    events_changed(|body| {
        format!("\u{feff}: hello\n\n{}", body.replace("\ndata:", "\n: PROCESSING\nid: 7\nretry: 3\ndata:"))
    });
}

#[test]
fn events_need_no_blank_line_at_their_end_and_no_done() {
    events_changed(|body| body.replace("data: [DONE]", "").trim_end().to_owned());
}

#[test]
fn a_byte_order_mark_and_what_follows_a_document_mean_nothing() {
    let is_document = |body: &String| serde_json::from_str::<Value>(body).is_ok_and(|value| value.is_object());
    for (before, after) in [("\u{feff}", ""), ("", "\0\0"), ("\r\n \t", "garbage")] {
        reads_the_same(500, |case| {
            // Of a batch's results every line is a document.
            let is_lines = case.endpoint == "messages_batch_results";
            let Some(body) = text(case).filter(|body| is_document(body) && !is_lines) else { return false };
            replace(case, format!("{before}{body}{after}"));
            case.transport == "http"
        });
    }
}

#[test]
fn the_case_of_header_names_and_the_parameters_of_types_mean_nothing() {
    let upper = |headers: &BTreeMap<String, String>| {
        let value = |name: &str, value: &str| match name {
            "content-type" if !value.contains(';') => format!("{}; charset=UTF-8", value.replacen("json", "JSON", 1)),
            _ => value.to_owned(),
        };
        headers.iter().map(|(n, v)| (n.to_ascii_uppercase(), value(&n.to_ascii_lowercase(), v))).collect()
    };
    reads_the_same(1_000, |case| {
        case.response_headers = upper(&case.response_headers);
        case.request_headers = upper(&case.request_headers);
        true
    });
}

#[test]
fn an_answer_need_not_say_its_type() {
    reads_the_same(1_000, |case| {
        case.response_headers.retain(|name, _| !name.eq_ignore_ascii_case("content-type"));
        true
    });
}

#[test]
fn an_answer_is_what_it_is_seen_to_be() {
    reads_the_same(900, |case| {
        let Some(body) = text(case).filter(|_| case.transport == "http") else { return false };
        let is_document = body.trim_start().starts_with(['{', '[']);
        let other = if is_document { "text/event-stream" } else { "application/json" };
        let is_other = is_events(&body) || is_document;
        case.response_headers.retain(|name, _| !name.eq_ignore_ascii_case("content-type"));
        case.response_headers.insert("content-type".to_owned(), other.to_owned());
        is_other
    });
}

#[test]
fn any_prefix_of_the_path_means_the_same() {
    for prefix in ["/gateway/route-7", "//router/v2", "/v1"] {
        reads_the_same(1_000, |case| {
            // A call of an agent may be no more than `/agents/ID`, which is anything behind a prefix.
            let is_bare = case.path.trim_start_matches('/').split('/').count() < 3;
            case.path = format!("{prefix}{}", case.path);
            !(is_bare && case.provider == "bedrock-agent")
        });
    }
}
