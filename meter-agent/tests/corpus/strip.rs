//! A stream from which the usage event was taken has lost that and nothing else.

use bytes::Bytes;
use meter_agent::usage::strip::UsageStripper;
use serde_json::Value;

use crate::case::{cases, filter};

#[test]
fn a_stripped_stream_has_no_usage_and_all_else_unchanged() {
    let mut stripped = 0;
    for case in cases().iter().filter(|c| c.endpoint == "chat_completions" && c.streaming && c.status == 200) {
        let body = case.body();
        let mut results = [usize::MAX, 1, 100].map(|size| strip(&body, size)).into_iter();
        let whole = results.next().unwrap();
        assert!(results.all(|r| r == whole), "{}: any split gives the same bytes", case.id);
        let text = String::from_utf8(body).unwrap();
        let want: Vec<Value> = events(&text).filter(|e| !is_usage_event(e)).map(without_null_usage).collect();
        assert_eq!(events(&whole).collect::<Vec<_>>(), want, "{}", case.id);
        stripped += usize::from(whole.len() < text.len());
    }
    assert!(stripped > 15 || filter().is_some(), "only {stripped} streams had anything to strip");
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
