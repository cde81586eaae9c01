//! Chat Completions, by hand-written answers in the documented shapes.

use super::*;
use crate::{
    money::Pico,
    usage::{Billing, Endpoint},
};

const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream; charset=utf-8");
const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");

const CALL: Call<'_> =
    Call::new(Endpoint { name: "chat_completions", billing: Billing::Metered }, "/v1/chat/completions");

fn facts(extra: &str) -> RequestFacts {
    request(&CALL, &format!(r#"{{"model":"gpt-4o","messages":[]{extra}}}"#).into()).unwrap()
}

fn read(facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let mut whole = reader(&CALL, facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = reader(&CALL, facts, head);
    body.as_bytes().chunks(1).for_each(|b| bytes.feed(b));
    assert_eq!(bytes.finish(end), whole, "any split reads the same");
    whole
}

#[test]
fn details_are_parts_of_the_totals() {
    let body = "\n\n {\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"choices\":[{}],\"usage\":{\"prompt_tokens\":100,\
        \"completion_tokens\":20,\"prompt_tokens_details\":{\"cached_tokens\":30,\"cache_write_tokens\":50,\"audio_tokens\":5},\
        \"completion_tokens_details\":{\"reasoning_tokens\":8,\"audio_tokens\":2}}}";
    let got = read(&facts(""), JSON, body, BodyEnd::Complete);
    let want = Usage {
        input_tokens: 100,
        input_uncached: 20,
        cache_read: 30,
        cache_write_other: 50,
        input_audio: 5,
        output_tokens: 20,
        reasoning_tokens: 8,
        output_audio: 2,
        ..Usage::default()
    };
    assert_eq!((got.usage, got.quality), (want, Quality::Exact));
    assert_eq!(got.model.as_deref(), Some("gpt-4o-2024-08-06"));
    assert_eq!(got.service_tier.as_deref(), Some("default"));
}

const CHUNKS: &str = concat!(
    "data: {\"model\":\"gpt-4o\",\"choices\":[{\"delta\":{\"content\":\"he said \\\"hi\\\"\"}}],\"usage\":null}\n\n",
    "data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":13,\"completion_tokens\":5}}\n\n",
    "data: [DONE]\n\n",
);

#[test]
fn a_stream_says_usage_in_its_last_chunk() {
    let asked = facts(r#","stream":true,"stream_options":{"include_usage":true}"#);
    assert!(!asked.must_ask_usage && facts(r#","stream":true"#).must_ask_usage);
    let got = read(&asked, SSE, CHUNKS, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 13, 5));
}

#[test]
fn usage_said_twice_is_counted_once() {
    let body = "data: {\"choices\":[{\"delta\":{}}],\"x_groq\":{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    let got = read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.usage.output_tokens), (3, 4));
}

#[test]
fn without_usage_a_stream_is_estimated_from_what_was_seen() {
    let asked = facts(r#","stream":true,"max_tokens":9000"#);
    let unasked = CHUNKS.split_inclusive("\n\n").next().unwrap();
    let done = read(&asked, SSE, unasked, BodyEnd::Complete);
    assert_eq!(done.quality, Quality::Estimated);
    assert!(done.usage.input_tokens < 40, "{}", done.usage.input_tokens);
    assert!((5..40).contains(&done.usage.output_tokens), "{}", done.usage.output_tokens);
    assert!(read(&asked, SSE, unasked, BodyEnd::Cut).usage.output_tokens > done.usage.output_tokens);
}

#[test]
fn a_running_total_is_not_final_when_the_stream_is_cut() {
    let body = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    for reason in ["", "null", "\"\""] {
        let field = if reason.is_empty() { String::new() } else { format!(",\"finish_reason\":{reason}") };
        let body = body.replace("\"delta\":{}", &format!("\"delta\":{{}}{field}"));
        let got = read(&facts(r#","stream":true"#), SSE, &body, BodyEnd::Cut);
        assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, 3));
    }
    let last = body.replace("\"delta\":{}", "\"delta\":{},\"finish_reason\":\"stop\"");
    assert_eq!(read(&facts(r#","stream":true"#), SSE, &last, BodyEnd::Cut).quality, Quality::Exact);
    let more = [&last, "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"].concat();
    assert_eq!(read(&facts(r#","stream":true"#), SSE, &more, BodyEnd::Cut).quality, Quality::Estimated);
    let got = read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Cut);
    assert!(got.usage.output_tokens > 4_000);
    assert_eq!(read(&facts(""), JSON, "{\"choices\":[{\"mess", BodyEnd::Cut).quality, Quality::Absent);
}

#[test]
fn an_error_in_a_stream_costs_nothing_unless_usage_is_said() {
    const ERROR: &str = "event: error\ndata: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let begun = CHUNKS.split_inclusive("\n\n").next().unwrap();
    for body in [ERROR.to_owned(), [begun, ERROR].concat()] {
        let got = read(&facts(r#","stream":true"#), SSE, &body, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage, got.reason), (Quality::Exact, Usage::default(), Some(FAILED)));
    }
    let got = read(&facts(r#","stream":true"#), SSE, &[CHUNKS, ERROR].concat(), BodyEnd::Complete);
    assert_eq!(got.usage.input_tokens, 13);
    let null = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"error\":null}\n\n";
    assert_eq!(read(&facts(""), SSE, null, BodyEnd::Complete).quality, Quality::Estimated);
}

#[test]
fn the_charge_of_the_last_usage_is_reported() {
    let body = ": OPENROUTER PROCESSING\n\ndata: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3,\"cost\":1}}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"cost\":6.3e-06,\
        \"server_tool_use_details\":{\"web_search_requests\":2}}}\n\n";
    let got = read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Complete);
    assert_eq!(got.reported, Some(Pico::new(6_300_000)));
    assert_eq!(got.server_tools.get("web_search"), Some(&2));
    let whole = "\n\n\n{\"usage\":{\"prompt_tokens\":3,\"cost\":{\"total_cost\":0.00501}}}";
    assert_eq!(read(&facts(""), JSON, whole, BodyEnd::Complete).reported, Some(Pico::new(5_010_000_000)));
    let cut = body.split_inclusive("\n\n").take(2).collect::<String>();
    assert_eq!(read(&facts(r#","stream":true"#), SSE, &cut, BodyEnd::Cut).reported, None);
}

#[test]
fn a_usage_that_says_nothing_is_no_usage() {
    for usage in ["{}", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#] {
        let body = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a b\"}}}}]}}\n\ndata: {{\"choices\":[],\"usage\":{usage}}}\n\n"
        );
        assert_eq!(
            read(&facts(r#","stream":true"#), SSE, &body, BodyEnd::Complete).quality,
            Quality::Estimated,
            "{usage}"
        );
    }
}

#[test]
fn searches_are_bounded_by_what_asks_for_them() {
    for extra in
        [r#","web_search_options":{}"#, r#","plugins":[{"id":"web"}]"#, r#","search_parameters":{"mode":"on"}"#]
    {
        let facts = facts(extra);
        assert!(facts.input_unbounded && facts.tools.contains_key("web_search"), "{extra}");
    }
    assert!(facts("").tools.is_empty());
}

#[test]
fn a_rewrite_merges_and_keeps_the_ceilings_own_name() {
    let all = Rewrite { ask_usage: true, ceiling: Some(7) };
    let done = |body: &str| String::from_utf8(rewrite(body.as_bytes(), all).unwrap()).unwrap();
    assert_eq!(
        done(r#"{"stream_options":{"x":1.0},"max_tokens":99,"temperature":1.0}"#),
        r#"{"stream_options":{"x":1.0,"include_usage":true},"max_tokens":7,"temperature":1.0}"#
    );
    assert_eq!(
        done(r#"{"model":"m","stream_options":null}"#),
        r#"{"model":"m","stream_options":{"include_usage":true},"max_completion_tokens":7}"#
    );
}

#[test]
fn a_ceiling_goes_into_the_field_that_the_models_servers_know() {
    let done = |model: &str| {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let rewrite_to = Rewrite { ask_usage: false, ceiling: Some(7) };
        String::from_utf8(rewrite(body.as_bytes(), rewrite_to).unwrap()).unwrap()
    };
    assert!(done("gpt-5").contains("\"max_completion_tokens\":7"));
    assert!(done("my-deployment").contains("\"max_completion_tokens\":7"));
    for model in ["mistral-large-latest", "deepseek-chat", "openai/gpt-oss-120b"] {
        assert!(done(model).ends_with("\"max_tokens\":7}"), "{model}");
    }
}

#[test]
fn choices_and_ceilings_are_read_in_both_spellings() {
    assert_eq!(facts(r#","max_tokens":5,"n":3"#).ceiling, Some(5));
    assert_eq!(facts(r#","max_completion_tokens":6"#).ceiling, Some(6));
    assert_eq!(facts(r#","n":3"#).choices, 3);
    assert!(request(&CALL, &Bytes::from_static(b"[]")).is_err());
}
