//! All of the recorded traffic as one HAR file through `meter replay`, as a stranger would convert it.
//!
//! Bodies go in as the cases have them, raw ones in base64 with the headers they came with. A WebSocket is one entry
//! with its messages; its rows are its turns.

use std::collections::BTreeMap;

use meter_agent::{
    exchange::{Outcome, Row},
    pricing::Prices,
    replay::{Setting, replay},
    usage::{Quality, Quantity, Usage, hosts::HostTable},
};
use serde_json::{Value, json};

use crate::{
    case::{AT, Case, cases, filter, table},
    check::usage_of,
    report::Failures,
};

#[test]
fn a_har_of_everything_replays_to_the_truth() {
    let failures = replayed(&table(), |_| true);
    failures.end(1_300);
}

#[test]
fn hosts_that_are_not_listed_replay_to_the_truth_too() {
    // What is not listed and has no shape of a paid call is not taken for one.
    let failures = replayed(&HostTable::new(&[]).unwrap(), |case| case.expected.kind == "usage");
    failures.end(1_000);
}

fn replayed(hosts: &HostTable, wanted: impl Fn(&Case) -> bool) -> Failures {
    let cases: Vec<&Case> = cases().iter().filter(|case| wanted(case)).collect();
    let entries: Vec<Value> = cases.iter().map(|case| entry(case)).collect();
    let har =
        json!({"log": {"version": "1.2", "creator": {"name": "x", "version": "1"}, "entries": entries}}).to_string();
    let prices = Prices::embedded();
    let mut rows: BTreeMap<usize, Vec<Row>> = BTreeMap::new();
    let mut last = 0;
    replay(har.as_bytes(), Setting { hosts, prices: &prices, now: AT }, &mut |entry| {
        let replayed = entry.expect("every entry can be used");
        assert!(replayed.index >= last, "rows are in the file's order");
        last = replayed.index;
        rows.entry(replayed.index).or_default().push(replayed.row);
    })
    .unwrap();
    assert_eq!(rows.len(), cases.len(), "every entry has a row");
    let mut failures = Failures::default();
    for (case, rows) in cases.iter().zip(rows.values()) {
        failures.looked();
        if let Err(why) = check(case, rows) {
            failures.add(case, why);
        }
    }
    failures
}

fn entry(case: &Case) -> Value {
    let scheme = if case.host.contains(':') { "http" } else { "https" };
    let socket = case.transport == "websocket";
    let mut request = json!({
        "method": case.method, "url": format!("{scheme}://{}{}", case.host, case.path), "httpVersion": "HTTP/1.1",
        "headers": headers(&case.request_headers), "queryString": [], "cookies": [], "headersSize": -1, "bodySize": -1,
    });
    if let (Some(text), false) = (&case.request_body, socket) {
        request["postData"] = content(case.request_headers.iter(), text, case.request_body_encoding.as_deref());
    }
    let body = if socket { "" } else { case.response_body.as_deref().unwrap_or("") };
    let response = json!({
        "status": case.status, "statusText": "", "httpVersion": "HTTP/1.1", "headers": headers(&case.response_headers),
        "cookies": [], "content": content(case.response_headers.iter(), body, case.response_body_encoding.as_deref()),
        "redirectURL": "", "headersSize": -1, "bodySize": -1,
    });
    let at = case.recorded_at.clone().filter(|at| at.len() > 19).unwrap_or_else(|| AT.rfc3339());
    let mut entry = json!({
        "startedDateTime": at, "time": 1000.0, "request": request, "response": response, "cache": {},
        "timings": {"send": 1, "wait": 500, "receive": 499},
    });
    if socket {
        let lines =
            |text: &Option<String>| text.clone().unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
        let message = |kind: &str, data: &String| json!({"type": kind, "time": 0, "opcode": 1, "data": data});
        let sent = lines(&case.request_body);
        let received = lines(&case.response_body);
        let messages = sent.iter().map(|m| message("send", m)).chain(received.iter().map(|m| message("receive", m)));
        entry["_webSocketMessages"] = messages.collect();
    }
    entry
}

fn headers(headers: &BTreeMap<String, String>) -> Value {
    headers.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
}

fn content<'a>(
    mut headers: impl Iterator<Item = (&'a String, &'a String)>,
    text: &str,
    encoding: Option<&str>,
) -> Value {
    let kind = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type")).map_or("", |(_, value)| value);
    let mut content = json!({"mimeType": kind, "size": text.len(), "text": text});
    if encoding == Some("base64") {
        content["encoding"] = json!("base64");
    }
    content
}

/// The sums of an entry's rows.
#[derive(Default)]
struct Sum {
    usage: Usage,
    tools: BTreeMap<String, u64>,
    units: BTreeMap<String, Quantity>,
    /// By model, in the order of their first use.
    lines: Vec<(Option<String>, Usage)>,
}

impl Sum {
    fn of(rows: &[Row]) -> Self {
        let mut sum = Self::default();
        for row in rows {
            sum.usage = sum.usage.plus(row.usage);
            row.detail.server_tools.iter().for_each(|(name, n)| *sum.tools.entry(name.to_string()).or_default() += n);
            for (name, n) in &row.detail.units {
                let one = sum.units.entry(name.to_string()).or_default();
                *one = one.plus(*n);
            }
            if row.detail.lines.is_empty() {
                sum.line(row.model.clone(), row.usage, rows.len() > 1);
            }
            for line in &row.detail.lines {
                sum.line(line.model.clone().or_else(|| row.model.clone()), line.usage, rows.len() > 1);
            }
        }
        sum
    }

    /// The turns of a WebSocket are summed by model; the lines of one exchange are as they are.
    fn line(&mut self, model: Option<String>, usage: Usage, merge: bool) {
        match self.lines.iter_mut().find(|(own, _)| merge && *own == model) {
            Some((_, sum)) => *sum = sum.plus(usage),
            None => self.lines.push((model, usage)),
        }
    }
}

fn check(case: &Case, rows: &[Row]) -> Result<(), String> {
    let sum = Sum::of(rows);
    let exact = rows.iter().all(|row| row.usage_quality == Quality::Exact);
    // The announcement of a batch costs nothing by itself, and says that something is still to come.
    let ordered = rows.iter().all(|row| row.outcome == Outcome::Unresolved);
    let said = || format!("{:?} cost {}, {:?}", rows[0].usage_quality, rows[0].cost_usd, rows[0].reason);
    match case.expected.kind.as_str() {
        "usage" if !exact => Err(format!("not exact: {} {:?}", said(), sum.usage)),
        "usage" => check_usage(case, rows, &sum),
        "zero" if !(exact || ordered) || sum.usage != Usage::default() => {
            Err(format!("not zero: {} {:?}", said(), sum.usage))
        }
        "zero" if rows.iter().any(|row| row.cost_usd.is_positive()) => Err(format!("costs: {}", said())),
        "zero" if rows.iter().any(|row| row.reason.is_none()) => Err("costs nothing and does not say why".to_owned()),
        "absent" if exact => Err(format!("exact, but nothing is known: {}", said())),
        "pending" if exact || rows[0].reason.is_none() => Err(format!("not pending: {}", said())),
        "zero" | "absent" | "pending" => Ok(()),
        other => Err(format!("a kind that this test does not know: {other}")),
    }
}

fn check_usage(case: &Case, rows: &[Row], sum: &Sum) -> Result<(), String> {
    let expected = &case.expected;
    let want = usage_of(expected.usage.as_ref().ok_or("no usage in the case")?);
    if sum.usage != want {
        return Err(format!("{:?}, want {want:?}", sum.usage));
    }
    if expected.model.is_some() && rows[0].model != expected.model {
        return Err(format!("model {:?}, want {:?}", rows[0].model, expected.model));
    }
    if sum.tools != expected.server_tools {
        return Err(format!("server tools {:?}, want {:?}", sum.tools, expected.server_tools));
    }
    let units = |(name, n): (&String, &f64)| (name.clone(), Quantity::from_f64(*n).expect("a quantity"));
    let want: BTreeMap<String, Quantity> = expected.units.iter().map(units).collect();
    if sum.units != want {
        return Err(format!("units {:?}, want {want:?}", sum.units));
    }
    let want: Vec<Usage> = expected.lines.iter().map(|line| usage_of(&line["usage"])).collect();
    let lines: Vec<Usage> = sum.lines.iter().map(|(_, usage)| *usage).collect();
    if want.len() > 1 && lines != want {
        return Err(format!("lines {:?}, want {want:?}", sum.lines));
    }
    Ok(())
}

#[test]
fn a_har_in_pieces_of_garbage_is_refused_with_a_sentence() {
    if filter().is_some() {
        return;
    }
    let har = json!({"log": {"entries": [entry(&cases()[0]), {"response": {}}, entry(&cases()[1])]}}).to_string();
    let hosts = table();
    let prices = Prices::embedded();
    let setting = Setting { hosts: &hosts, prices: &prices, now: AT };
    let mut seen = Vec::new();
    replay(har.as_bytes(), setting, &mut |entry| seen.push(entry.map(|e| e.index).map_err(|bad| bad.index))).unwrap();
    assert_eq!(seen, [Ok(0), Err(1), Ok(2)]);
}
