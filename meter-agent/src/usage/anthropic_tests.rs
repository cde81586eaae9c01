//! Anthropic Messages, by hand-written answers in the documented shapes.

use super::*;
use crate::usage::{ResultRef, Standing, Usage, detect};

const ENDPOINT: Endpoint = Endpoint { name: MESSAGES, billing: Billing::Metered };
const CALL: Call<'_> = Call::new(ENDPOINT, "/v1/messages");
const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream");
const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");

fn facts(extra: &str) -> RequestFacts {
    let body = format!(r#"{{"model":"claude-sonnet-4-5","max_tokens":6000,"messages":[]{extra}}}"#);
    Anthropic.request(&CALL, &body.into()).unwrap()
}

fn read(facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let mut whole = Anthropic.reader(&CALL, facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = Anthropic.reader(&CALL, facts, head);
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
fn what_was_used_so_far_passes_the_ceiling_where_the_answer_does() {
    let mut reader = Anthropic.reader(&CALL, &facts(r#","stream":true"#), SSE);
    reader.feed(START.as_bytes());
    let so_far = reader.so_far().unwrap();
    assert_eq!((so_far.usage.input_tokens, so_far.usage.output_tokens), (22, 1));
    for _ in 0..14_000 {
        reader.feed(TEXT.as_bytes());
    }
    let so_far = reader.so_far().unwrap();
    assert_eq!((so_far.quality, so_far.usage.output_tokens), (Quality::Estimated, 7_000));
    let quote = format!(
        "{{\"type\":\"content_block_delta\",\"delta\":{{\"type\":\"citations_delta\",\"cited_text\":\"{}\"}}}}",
        "x".repeat(90_000)
    );
    reader.feed(format!("event: content_block_delta\ndata: {quote}\n\n").as_bytes());
    assert_eq!(reader.so_far().unwrap().usage.output_tokens, 7_000, "nobody generated what is quoted");
    reader.feed(DELTA.as_bytes());
    assert_eq!(reader.so_far().unwrap().usage.output_tokens, 7_000);
}

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
    assert_eq!(searching.tools["web_search"], 3);
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
    assert_eq!(got.server_tools["web_search"], 2);
    assert!(got.lines.iter().all(|l| l.surcharge_percent == 110));
}

#[test]
fn requests_state_ceilings_cache_marks_and_images() {
    let got = facts(r#","system":[{"text":"x","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#);
    assert!(got.cache_1h && !got.cache_5m && got.can_clamp && !got.input_unbounded);
    assert_eq!((got.ceiling, got.choices), (Some(6_000), 1));
    let blob = "A".repeat(80_000);
    let image = format!(
        r#","system":[{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{blob}"}}}}]"#
    );
    let got = facts(&image);
    assert!(got.input_image && got.input_bound < 6_000, "{}", got.input_bound);
    assert!(facts(&image.replace("image/png", "application/pdf")).input_unbounded);
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, billing) in [
        ("POST", "/v1/messages", Billing::Metered),
        ("POST", "/api/v1/messages/", Billing::Metered),
        ("POST", "/v1/messages/count_tokens", Billing::Free),
        ("POST", "/v1/messages/batches", Billing::Metered),
        ("GET", "/v1/messages/batches", Billing::Free),
        ("GET", "/v1/messages/batches/b", Billing::Result),
        ("GET", "/api/v1/messages/batches/b/results", Billing::Result),
        ("DELETE", "/v1/messages/batches/b", Billing::Free),
        ("POST", "/v1/messages/batches/b/cancel", Billing::Free),
        ("POST", "/v1/complete", Billing::Metered),
        ("GET", "/v1/models", Billing::Free),
        ("POST", "/v1/new", Billing::Unknown),
    ] {
        assert_eq!(detect(Some(&Anthropic), method, path).1.billing, billing, "{method} {path}");
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

fn at(method: &str, path: &'static str) -> Call<'static> {
    Call::new(Anthropic.endpoint(method, path).unwrap(), path)
}

fn read_at(call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let mut whole = Anthropic.reader(call, facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = Anthropic.reader(call, facts, head);
    body.as_bytes().chunks(1).for_each(|b| bytes.feed(b));
    assert_eq!(bytes.finish(end), whole, "any split reads the same");
    whole
}

const ROUTED: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"a/claude\",\
    \"usage\":{\"input_tokens\":0,\"output_tokens\":0}}}\n\n";

#[test]
fn a_gateways_charge_is_the_one_reported() {
    let delta = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\
        \"usage\":{\"input_tokens\":32,\"output_tokens\":16,\"cost\":8.5e-05,\"is_byok\":false}}";
    let got = read(&facts(r#","stream":true"#), SSE, &[ROUTED, TEXT, delta].concat(), BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 32, 16));
    assert_eq!(got.reported.unwrap().to_string(), "0.000085");
}

#[test]
fn a_start_that_says_zeros_bounds_nothing() {
    let asked = facts(r#","stream":true"#);
    let got = read(&asked, SSE, &[ROUTED, TEXT].concat(), BodyEnd::Cut);
    assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, asked.input_bound));
    assert!(got.usage.output_tokens > 4_000);
}

#[test]
fn of_several_deltas_the_last_counts_and_no_final_blank_line_is_needed() {
    let last = DELTA.replace("40", "30").replace("22", "50");
    let body = [START, DELTA, last.trim_end()].concat();
    let got = read(&facts(r#","stream":true"#), SSE, &body, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_uncached, got.usage.output_tokens), (Quality::Exact, 30, 50));
}

#[test]
fn a_fallback_bills_the_attempts_that_made_something() {
    let body = r#"{"model":"claude-opus-5","usage":{"input_tokens":30,"output_tokens":4,"speed":"fast","iterations":[
        {"type":"message","model":"claude-opus-5","input_tokens":30,"output_tokens":0},
        {"type":"fallback_message","model":"claude-sonnet-5","input_tokens":31,"output_tokens":4}]}}"#;
    let got = read(&facts(""), JSON, body, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.lines.len()), (31, 1));
    assert_eq!((got.lines[0].model.as_deref(), got.lines[0].surcharge_percent), (Some("claude-sonnet-5"), 600));
}

#[test]
fn a_batch_is_pending_under_its_id_and_costs_nothing_yet() {
    let call = at("POST", "/v1/messages/batches");
    let body = r#"{"requests":[{"custom_id":"a","params":{"model":"m","max_tokens":100,"messages":[]}},
        {"custom_id":"b","params":{"model":"m","max_tokens":50,"messages":[]}}]}"#;
    let asked = Anthropic.request(&call, &body.into()).unwrap();
    assert_eq!((asked.model.as_deref(), asked.ceiling, asked.background), (Some("m"), Some(150), true));
    let mixed = Anthropic.request(&call, &body.replacen("\"m\"", "\"n\"", 1).into()).unwrap();
    assert_eq!(mixed.model, None);
    let got =
        read_at(&call, &asked, JSON, r#"{"id":"msgbatch_1","processing_status":"in_progress"}"#, BodyEnd::Complete);
    assert!(got.is_empty() && got.quality == Quality::Exact);
    let result = got.result.unwrap();
    assert_eq!((result.id.as_str(), result.standing), ("msgbatch_1", Standing::Pending));
}

#[test]
fn a_batchs_results_are_summed_by_model_and_billed_under_its_id() {
    let call = at("GET", "/v1/messages/batches/msgbatch_1/results");
    let row = |model: &str, input: u64| {
        format!(
            "{{\"custom_id\":\"x\",\"result\":{{\"type\":\"succeeded\",\"message\":{{\"model\":\"{model}\",\"usage\":\
             {{\"input_tokens\":{input},\"output_tokens\":2,\"service_tier\":\"batch\"}}}}}}}}\n"
        )
    };
    let failed = "{\"custom_id\":\"y\",\"result\":{\"type\":\"errored\",\"error\":{}}}\n";
    let none = RequestFacts::default();
    let body = [row("a", 10), failed.to_owned(), row("b", 20), row("a", 1)].concat();
    let got = read_at(&call, &none, JSON, &body, BodyEnd::Complete);
    assert_eq!(
        (got.quality, got.batch, got.usage.input_tokens, got.usage.output_tokens),
        (Quality::Exact, true, 31, 6)
    );
    assert_eq!(got.lines.iter().map(|l| l.usage.input_tokens).collect::<Vec<_>>(), [11, 20]);
    assert_eq!(got.result, Some(ResultRef { id: "msgbatch_1".to_owned(), standing: Standing::Final }));
    let one = read_at(&call, &none, JSON, row("a", 10).trim_end(), BodyEnd::Complete);
    assert_eq!((one.model.as_deref(), one.lines.len(), one.usage.input_tokens), (Some("a"), 0, 10));
    for (part, end) in [(&body[..body.len() - 9], BodyEnd::Complete), (&body[..], BodyEnd::Cut)] {
        let cut = read_at(&call, &none, JSON, part, end);
        assert_eq!((cut.quality, cut.result.unwrap().standing), (Quality::Absent, Standing::Pending));
    }
}

#[test]
fn legacy_completions_are_estimated_from_their_text() {
    let call = at("POST", "/v1/complete");
    let body =
        r#"{"model":"claude-2.1","prompt":"\n\nHuman: hi\n\nAssistant:","max_tokens_to_sample":300,"stream":true}"#;
    let asked = Anthropic.request(&call, &body.into()).unwrap();
    assert_eq!((asked.ceiling, asked.stream), (Some(300), true));
    let stream = "event: completion\ndata: {\"type\":\"completion\",\"completion\":\" Hello\",\"stop_reason\":null,\
        \"model\":\"claude-2.1\"}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n";
    let got = read_at(&call, &asked, SSE, stream, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.output_tokens), (Quality::Estimated, 70));
    assert_eq!(read_at(&call, &asked, SSE, stream, BodyEnd::Cut).usage.output_tokens, 300);
    let whole = r#"{"type":"completion","completion":" Hello","model":"claude-2.1"}"#;
    let got = read_at(&call, &asked, JSON, whole, BodyEnd::Complete);
    assert_eq!(
        (got.quality, got.usage.output_tokens, got.model.as_deref()),
        (Quality::Estimated, 70, Some("claude-2.1"))
    );
}

#[test]
fn a_poll_is_free_and_ends_the_wait_for_a_batch_that_made_nothing() {
    let call = at("GET", "/v1/messages/batches/msgbatch_1");
    for (status, succeeded, ends) in [("in_progress", 0, false), ("ended", 2, false), ("ended", 0, true)] {
        let body = format!(
            "{{\"id\":\"msgbatch_1\",\"processing_status\":\"{status}\",\"request_counts\":{{\"succeeded\":{succeeded}}}}}"
        );
        let got = read_at(&call, &RequestFacts::default(), JSON, &body, BodyEnd::Complete);
        assert!(got.is_empty() && got.quality == Quality::Exact && got.reason.is_some());
        assert_eq!(got.result.is_some_and(|r| r.standing == Standing::Final), ends, "{status} {succeeded}");
    }
}
