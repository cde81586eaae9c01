//! A rewritten request differs in what the rewrite is for and in nothing else.

use meter_agent::usage::Rewrite;
use serde_json::Value;

use crate::case::{cases, decode, filter, find, table};

#[test]
fn a_rewrite_changes_only_what_it_is_for() {
    let table = table();
    let mut rewritten = 0;
    for case in cases() {
        let found = find(&table, case);
        let (dialect, call) = case.call(&found);
        let body = decode(case.request_body.as_deref().unwrap_or(""), case.request_body_encoding.as_deref());
        let (Some(facts), Ok(before)) = (case.facts(&found), serde_json::from_slice::<Value>(&body)) else { continue };
        if !facts.can_clamp {
            continue;
        }
        let rewrite = Rewrite { ask_usage: facts.must_ask_usage, ceiling: Some(777) };
        let done = dialect.rewrite(call.endpoint, &body, rewrite).unwrap();
        let again = dialect.request(&call, &done.clone().into()).unwrap();
        assert_eq!((again.ceiling, again.must_ask_usage), (Some(777), false), "{}", case.id);
        let after: Value = serde_json::from_slice(&done).unwrap();
        assert_eq!(without_changes(after), without_changes(before), "{}", case.id);
        rewritten += 1;
    }
    assert!(rewritten > 200 || filter().is_some(), "only {rewritten} requests were rewritten");
}

/// Ceilings beside what is asked.
const OWN_CEILINGS: [&str; 5] =
    ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "maximum_tokens"];
/// Ceilings within a request's settings.
const CEILINGS: [&str; 5] = ["maxOutputTokens", "max_output_tokens", "maxTokens", "num_predict", "max_new_tokens"];

/// The request without the members that a rewrite may change.
fn without_changes(mut request: Value) -> Value {
    for name in OWN_CEILINGS.into_iter().chain(["stream_options"]) {
        request.as_object_mut().unwrap().remove(name);
    }
    for name in ["generationConfig", "generation_config", "inferenceConfig", "options", "parameters"] {
        let config = request.as_object_mut().unwrap().remove(name);
        if let Some(Value::Object(mut config)) = config {
            config.retain(|key, _| !CEILINGS.contains(&key.as_str()));
            request[format!("{name} without its ceiling")] =
                if config.is_empty() { Value::Null } else { Value::Object(config) };
        } else {
            request[format!("{name} without its ceiling")] = Value::Null;
        }
    }
    request
}
