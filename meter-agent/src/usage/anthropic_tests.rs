//! Anthropic Messages, by hand-written answers in the documented shapes.

use super::*;
use crate::usage::Usage;

const ENDPOINT: Endpoint = Endpoint { name: MESSAGES, billing: Billing::Tokens };
const SSE: AnswerHead<'_> = AnswerHead { status: 200, content_type: "text/event-stream" };
const JSON: AnswerHead<'_> = AnswerHead { status: 200, content_type: "application/json" };

fn facts(extra: &str) -> RequestFacts {
    let body = format!(r#"{{"model":"claude-sonnet-4-5","max_tokens":6000,"messages":[]{extra}}}"#);
    Anthropic.request(ENDPOINT, "/v1/messages", body.as_bytes()).unwrap()
}

fn read(facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let mut whole = Anthropic.reader(ENDPOINT, facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = Anthropic.reader(ENDPOINT, facts, head);
    body.as_bytes().chunks(1).for_each(|b| bytes.feed(b));
    assert_eq!(bytes.finish(end), whole, "any split reads the same");
    whole
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5-20250929\",\
    \"usage\":{\"input_tokens\":10,\"cache_read_input_tokens\":5,\"cache_creation_input_tokens\":7,\
    \"cache_creation\":{\"ephemeral_5m_input_tokens\":2,\"ephemeral_1h_input_tokens\":3},\"output_tokens\":1}}}\n\n";
const TEXT: &str =
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"hi\"}}\n\n";
const DELTA: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
    \"usage\":{\"input_tokens\":40,\"output_tokens\":22}}\n\n";

#[test]
fn a_delta_replaces_and_the_unsplit_rest_of_a_write_lives_five_minutes() {
    let got = read(&facts(r#","stream":true"#), SSE, &[START, TEXT, DELTA].concat(), BodyEnd::Complete);
    let want = Usage {
        input_tokens: 52,
        input_uncached: 40,
        cache_read: 5,
        cache_write_5m: 4,
        cache_write_1h: 3,
        output_tokens: 22,
        ..Usage::default()
    };
    assert_eq!((got.usage, got.quality), (want, Quality::Exact));
    assert_eq!(got.model.as_deref(), Some("claude-sonnet-4-5-20250929"));
}

#[test]
fn a_cut_keeps_the_starts_input_and_bounds_the_output() {
    let got = read(&facts(r#","stream":true"#), SSE, &[START, TEXT].concat(), BodyEnd::Cut);
    assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, 22));
    assert!(got.usage.output_tokens > 4_000 && got.usage.output_tokens <= 6_000);
    let thinking = facts(r#","stream":true,"thinking":{"type":"enabled"}"#);
    assert_eq!(read(&thinking, SSE, START, BodyEnd::Cut).usage.output_tokens, 6_000);
    let searching = facts(r#","tools":[{"type":"web_search_20250305","max_uses":3}]"#);
    assert_eq!(read(&searching, SSE, START, BodyEnd::Cut).quality, Quality::Absent);
    assert_eq!(searching.web_searches, 3);
}

#[test]
fn an_error_before_the_start_costs_nothing() {
    let body = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    assert_eq!(read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Complete), Reading::nothing());
}

#[test]
fn runs_that_the_top_level_leaves_out_are_lines_of_their_own() {
    let body = r#"{"model":"claude-sonnet-4-6","usage":{"input_tokens":30,"output_tokens":4,"inference_geo":"us",
        "server_tool_use":{"web_search_requests":2},"iterations":[
        {"type":"compaction","input_tokens":500,"output_tokens":9},
        {"type":"advisor_message","model":"claude-opus-4-8","input_tokens":70,"output_tokens":2},
        {"type":"message","input_tokens":30,"output_tokens":4}]}}"#;
    let got = read(&facts(""), JSON, body, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.usage.output_tokens), (600, 15));
    assert_eq!(got.lines.len(), 3);
    assert_eq!(got.lines[1].model.as_deref(), Some("claude-opus-4-8"));
    assert_eq!(got.lines[2].web_searches, 2);
    assert!(got.lines.iter().all(|l| l.surcharge_percent == 110));
}

#[test]
fn requests_state_ceilings_cache_marks_and_images() {
    let got = facts(r#","system":[{"text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#);
    assert!(got.cache_1h && !got.cache_5m && got.can_clamp && !got.input_unbounded);
    assert_eq!((got.ceiling, got.choices), (Some(6_000), 1));
    let blob = "A".repeat(80_000);
    let image =
        format!(r#","x":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{blob}"}}}}]"#);
    let got = facts(&image);
    assert!(got.input_image && got.input_bound < 6_000, "{}", got.input_bound);
    assert!(facts(&image.replace("image/png", "application/pdf")).input_unbounded);
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, billing) in [
        ("POST", "/v1/messages", Billing::Tokens),
        ("POST", "/api/v1/messages/", Billing::Tokens),
        ("POST", "/v1/messages/count_tokens", Billing::Free),
        ("POST", "/v1/messages/batches", Billing::Unknown),
        ("POST", "/v1/messages/batches/b/cancel", Billing::Free),
        ("POST", "/v1/complete", Billing::Unknown),
        ("GET", "/v1/models", Billing::Free),
        ("POST", "/v1/new", Billing::Unknown),
    ] {
        assert_eq!(Anthropic.endpoint(method, path).billing, billing, "{method} {path}");
    }
}

#[test]
fn a_ceiling_is_set_in_its_own_field() {
    let got =
        Anthropic.rewrite(ENDPOINT, br#"{"max_tokens": 10,"a":1.0}"#, Rewrite { ask_usage: true, ceiling: Some(3) });
    assert_eq!(got.unwrap(), br#"{"max_tokens":3,"a":1.0}"#);
}

#[test]
fn a_refusal_has_the_providers_shape() {
    let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
    let body: serde_json::Value = serde_json::from_slice(&Anthropic.error_body(&problem)).unwrap();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"billing_error".into()));
}
