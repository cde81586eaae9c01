//! Chat Completions, by hand-written answers in the documented shapes.

use super::*;

const SSE: AnswerHead<'_> = AnswerHead { status: 200, content_type: "text/event-stream; charset=utf-8" };
const JSON: AnswerHead<'_> = AnswerHead { status: 200, content_type: "application/json" };

fn facts(extra: &str) -> RequestFacts {
    request(format!(r#"{{"model":"gpt-4o","messages":[]{extra}}}"#).as_bytes()).unwrap()
}

fn read(facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let mut whole = reader(facts, head, Totals::Plain);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = reader(facts, head, Totals::Plain);
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
    assert_eq!((done.quality, done.usage.input_tokens), (Quality::Estimated, asked.input_bound));
    assert!((12..200).contains(&done.usage.output_tokens));
    assert!(read(&asked, SSE, unasked, BodyEnd::Cut).usage.output_tokens > done.usage.output_tokens);
}

#[test]
fn a_running_total_is_not_final_when_the_stream_is_cut() {
    let body = "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n";
    let got = read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Cut);
    assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, 3));
    assert!(got.usage.output_tokens > 4_000);
    assert_eq!(read(&facts(""), JSON, "{\"choices\":[{\"mess", BodyEnd::Cut).quality, Quality::Absent);
}

#[test]
fn an_error_before_any_output_costs_nothing() {
    let body = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let got = read(&facts(r#","stream":true"#), SSE, body, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage), (Quality::Exact, Usage::default()));
}

#[test]
fn the_thinking_that_only_the_total_shows_is_output() {
    let usage: ChatUsage =
        serde_json::from_str(r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#).unwrap();
    let got = usage.usage(Totals::ThinkingInTotal);
    assert_eq!(got.output_tokens, 74);
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
fn choices_and_ceilings_are_read_in_both_spellings() {
    assert_eq!(facts(r#","max_tokens":5,"n":3"#).ceiling, Some(5));
    assert_eq!(facts(r#","max_completion_tokens":6"#).ceiling, Some(6));
    assert_eq!(facts(r#","n":3"#).choices, 3);
    assert!(request(b"[]").is_err());
}
