//! Responses, by hand-written answers in the documented shapes.

use super::*;
use crate::usage::{Endpoint, Quality, Standing, openai::beyond};

const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream");
const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");

fn facts(extra: &str) -> RequestFacts {
    request(true, format!(r#"{{"model":"gpt-5","max_output_tokens":50{extra}}}"#).as_bytes()).unwrap()
}

fn read(mut reader: Box<dyn Reader>, body: &str, step: usize, end: BodyEnd) -> Reading {
    body.as_bytes().chunks(step).for_each(|c| reader.feed(c));
    reader.finish(end)
}

fn looked(path: &str, head: AnswerHead<'_>, body: &str) -> Reading {
    let endpoint: Endpoint = beyond::endpoint("GET", path.split('?').next().unwrap()).unwrap();
    let call = Call::new(endpoint, path);
    read(look(&call, &RequestFacts::default(), head), body, 100, BodyEnd::Complete)
}

const STREAM: &str = concat!(
    "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt-5\",\"usage\":null}}\n\n",
    "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hello\"}\n\n",
    "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"file_search_call\"}}\n\n",
    "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5-2025-08-07\",",
    "\"service_tier\":\"flex\",\"status\":\"completed\",\"output\":[{\"type\":\"web_search_call\",\"action\":{\"type\":\"search\"}},",
    "{\"type\":\"web_search_call\",\"action\":{\"type\":\"open_page\"}}],\"usage\":{\"input_tokens\":30,",
    "\"input_tokens_details\":{\"cached_tokens\":10},\"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":4}}}}\n\n",
);

#[test]
fn the_final_event_says_usage_tier_and_searches() {
    let facts = facts(r#","stream":true"#);
    for step in [1, 7, 10_000] {
        let got = read(reader(&facts, SSE), STREAM, step, BodyEnd::Complete);
        assert_eq!(got.quality, Quality::Exact);
        assert_eq!(got.model.as_deref(), Some("gpt-5-2025-08-07"));
        assert_eq!(got.service_tier.as_deref(), Some("flex"));
        assert_eq!((got.usage.input_uncached, got.usage.cache_read, got.usage.output_tokens), (20, 10, 9));
        assert_eq!((got.server_tools.get("web_search"), got.server_tools.len()), (Some(&1), 1));
        assert_eq!(got.result, None);
    }
}

#[test]
fn a_final_event_without_output_leaves_the_finished_items_to_count() {
    let body = STREAM.replace("\"output\":[", "\"was\":[");
    let got = read(reader(&facts(r#","stream":true"#), SSE), &body, 9, BodyEnd::Complete);
    assert_eq!(got.server_tools.get("file_search"), Some(&1));
    let nameless = body.lines().filter(|line| !line.starts_with("event")).collect::<Vec<_>>().join("\n");
    assert_eq!(read(reader(&facts(r#","stream":true"#), SSE), &nameless, 9, BodyEnd::Complete), got);
}

#[test]
fn a_cut_stream_of_a_reasoning_model_is_bounded_by_its_ceiling() {
    let cut = STREAM.find("event: response.completed").unwrap();
    let got = read(reader(&facts(r#","stream":true"#), SSE), &STREAM[..cut], 11, BodyEnd::Cut);
    assert_eq!((got.quality, got.usage.output_tokens), (Quality::Estimated, 50));
}

#[test]
fn an_error_alone_costs_nothing_wherever_it_stands() {
    let asked = facts(r#","stream":true"#);
    for (head, body) in [
        (SSE, "event: error\ndata: {\"type\":\"error\",\"code\":\"x\"}\n\n"),
        (SSE, "data: {\"error\":{\"message\":\"x\"}}\n\n"),
        (
            SSE,
            "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"usage\":null,\"error\":{\"code\":\"x\"}}}\n\n",
        ),
        (JSON, r#"{"error":{"message":"x"}}"#),
        (JSON, r#"{"status":"failed","usage":null,"output":[{"type":"message"}]}"#),
    ] {
        let got = read(reader(&asked, head), body, 5, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.output_tokens, got.reason.is_some()), (Quality::Exact, 0, true), "{body}");
    }
}

#[test]
fn a_background_response_is_pending_until_a_look_shows_its_usage() {
    let queued = r#"{"id":"resp_7","background":true,"status":"queued","usage":null,"model":"gpt-5"}"#;
    let asked = facts(r#","background":true"#);
    assert!(asked.background);
    let got = read(reader(&asked, JSON), queued, 9, BodyEnd::Complete);
    let result = got.result.unwrap();
    assert_eq!((got.quality, result.id.as_str(), result.standing), (Quality::Absent, "resp_7", Standing::Pending));

    let early = looked("/v1/responses/resp_7", JSON, queued);
    assert_eq!((early.quality, early.result.unwrap().standing), (Quality::Exact, Standing::Pending));
    let done = queued
        .replace("queued", "completed")
        .replace("\"usage\":null", "\"usage\":{\"input_tokens\":3,\"output_tokens\":4}");
    let late = looked("/v1/responses/resp_7?include=x", JSON, &done);
    let result = late.result.unwrap();
    assert_eq!((result.id.as_str(), result.standing, late.usage.output_tokens), ("resp_7", Standing::Repeat, 4));
    let foreground = looked("/v1/responses/resp_7", JSON, &queued.replace("true", "false"));
    assert_eq!(foreground.result, None);
}

#[test]
fn a_background_stream_that_ends_early_leaves_its_result_to_a_look() {
    let body = STREAM.replacen("\"id\"", "\"background\":true,\"id\"", 1);
    let asked = facts(r#","stream":true,"background":true"#);
    let cut = body.find("event: response.completed").unwrap();
    let got = read(reader(&asked, SSE), &body[..cut], 8, BodyEnd::Cut);
    assert_eq!((got.quality, got.result.unwrap().standing), (Quality::Absent, Standing::Pending));
    let got = read(reader(&asked, SSE), &body, 8, BodyEnd::Complete);
    let result = got.result.unwrap();
    assert_eq!((got.quality, result.id.as_str(), result.standing), (Quality::Exact, "resp_1", Standing::Final));
    let again = looked("/v1/responses/resp_1?stream=true&starting_after=1", SSE, &body);
    assert_eq!(again.result.unwrap().standing, Standing::Repeat);
}

#[test]
fn a_compaction_is_of_the_model_that_was_asked() {
    let body = r#"{"object":"response.compaction","output":[{"type":"compaction"}],"usage":{"input_tokens":9,"output_tokens":5}}"#;
    let got = read(reader(&facts(""), JSON), body, 9, BodyEnd::Complete);
    assert_eq!((got.model.as_deref(), got.usage.input_tokens), (Some("gpt-5"), 9));
}

#[test]
fn charges_are_read_in_ticks_and_in_dollars() {
    for (usage, pico) in [("\"cost_in_usd_ticks\":33534000", 3_353_400_000), ("\"cost\":3.6e-05", 36_000_000)] {
        let body = format!(r#"{{"model":"m","usage":{{"input_tokens":9,"output_tokens":5,{usage}}}}}"#);
        let got = read(reader(&facts(""), JSON), &body, 9, BodyEnd::Complete);
        assert_eq!((got.usage.output_tokens, got.reported.map(crate::money::Pico::get)), (5, Some(pico)));
    }
}

#[test]
fn the_image_tools_own_tokens_are_a_line_of_its_model() {
    let body = r#"{"model":"gpt-5","output":[{"type":"image_generation_call"}],"tools":[{"type":"image_generation",
        "model":"gpt-image-1-mini"}],"usage":{"input_tokens":9,"output_tokens":5},"tool_usage":{"image_gen":{
        "input_tokens":7,"output_tokens":272},"web_search":{"num_requests":0}}}"#;
    let got = read(reader(&facts(""), JSON), body, 9, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.usage.output_tokens, got.usage.output_image), (16, 277, 272));
    assert_eq!(got.lines[1].model.as_deref(), Some("gpt-image-1-mini"));
    assert_eq!(got.server_tools.len(), 1);
}

#[test]
fn on_a_socket_every_response_is_a_turn() {
    let mut socket = socket();
    assert!(socket.facts().input_unbounded);
    socket.sent(br#"{"type":"response.create","model":"gpt-5","max_output_tokens":77,"input":[]}"#);
    assert_eq!((socket.facts().ceiling, socket.facts().model.as_deref()), (Some(77), Some("gpt-5")));
    let events: Vec<&str> = STREAM.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let turns: Vec<Reading> = events.iter().filter_map(|event| socket.received(event.as_bytes())).collect();
    assert_eq!((turns.len(), turns[0].usage.output_tokens), (1, 9));
    assert!(socket.finish().is_none());
    assert!(socket.received(events[0].as_bytes()).is_none());
    assert_eq!(socket.finish().map(|reading| reading.quality), Some(Quality::Absent));
}

#[test]
fn a_ceiling_is_set_and_nothing_else_changes() {
    let got = rewrite(br#"{"model": "gpt-5","input": "x"}"#, Rewrite { ask_usage: false, ceiling: Some(9) }).unwrap();
    assert_eq!(got, br#"{"model":"gpt-5","input":"x","max_output_tokens":9}"#);
}

#[test]
fn a_stated_bound_of_tool_calls_bounds_each_tool() {
    let asked = facts(r#","max_tool_calls":3,"tools":[{"type":"web_search"}]"#);
    assert_eq!(asked.tools.get("web_search"), Some(&3));
}

#[test]
fn an_order_that_cannot_be_read_may_be_for_any_model() {
    let mut socket = socket();
    let model = |socket: &dyn SocketReader| socket.facts().model;
    socket.sent(br#"{"type":"response.create","model":"gpt-5","models":["gpt-4o"],"input":[]}"#);
    assert_eq!((model(&*socket).as_deref(), socket.facts().fallbacks.len()), (Some("gpt-5"), 1));
    assert!(socket.is_under_way());
    socket.sent(br#"{"type":"response.create","type":"response.create","model":"a","model":"gpt-5-mini"}"#);
    assert_eq!(model(&*socket).as_deref(), Some("gpt-5-mini"), "the last of a name counts");
    socket.sent(br#"{"type":"response\u002ecreate","model":"o3"}"#);
    assert_eq!(model(&*socket).as_deref(), Some("o3"));
    let many = serde_json::json!({"type": "response.create", "model": "o3", "models": (0..99).map(|n| format!("m{n}")).collect::<Vec<_>>()});
    socket.sent(many.to_string().as_bytes());
    assert_eq!(model(&*socket), None);
}
