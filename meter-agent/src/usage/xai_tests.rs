//! xAI, by messages and events in the documented shapes.

use super::*;
use crate::{
    money::Pico,
    usage::{
        BodyEnd, Quality, Quantity, Reading, ResultRef, Standing, Usage,
        grpc::frame,
        protobuf::write::{bytes, number},
    },
};

const PREFIX: &str = "/xai_api.Chat/";

fn read(method: &str, request: &[u8], body: &[u8], end: BodyEnd) -> Reading {
    let path = format!("{PREFIX}{method}");
    let call = Call::new(Xai.endpoint("POST", &path).unwrap(), &path);
    let facts = Xai.request(&call, &frame(request).into()).unwrap();
    let head = AnswerHead::new(200, "application/grpc");
    let split = |chunks: Vec<&[u8]>| {
        let mut reader = Xai.reader(&call, &facts, head);
        for chunk in chunks {
            reader.feed(chunk);
        }
        reader.finish(end)
    };
    let reading = split(vec![body]);
    for at in 0..body.len() {
        let (left, right) = body.split_at(at);
        assert_eq!(split(vec![left, right]), reading, "split at {at}");
    }
    reading
}

fn request() -> Vec<u8> {
    let message = bytes(1, &bytes(1, &bytes(1, b"hello")));
    [message, bytes(2, b"grok-4"), number(7, 500)].concat()
}

fn usage(completion: u64) -> Vec<u8> {
    [
        number(1, completion),
        number(2, 100),
        number(5, 30),
        number(6, 40),
        number(7, 64),
        bytes(9, &[1, 3, 1, 4]),
        number(11, 25_000_000),
    ]
    .concat()
}

fn want() -> Usage {
    Usage {
        input_tokens: 100,
        input_uncached: 36,
        cache_read: 64,
        input_image: 30,
        output_tokens: 47,
        reasoning_tokens: 40,
        ..Usage::default()
    }
}

fn answer() -> Vec<u8> {
    let output = [number(1, 3), bytes(3, &bytes(1, b"hi"))].concat();
    [bytes(1, b"id"), bytes(2, &output), bytes(6, b"grok-4-0709"), bytes(9, &usage(7))].concat()
}

fn chunk(completion: u64, finish: u64) -> Vec<u8> {
    let output = [bytes(1, &bytes(1, b"hi")), number(3, finish)].concat();
    frame(&[bytes(2, &output), bytes(4, b"grok-4-0709"), bytes(6, &usage(completion))].concat())
}

#[test]
fn reasoning_is_beyond_the_completion_and_the_charge_is_stated() {
    let got = read("GetCompletion", &request(), &frame(&answer()), BodyEnd::Complete);
    assert_eq!((got.usage, got.quality), (want(), Quality::Exact));
    assert_eq!(got.model.as_deref(), Some("grok-4-0709"));
    assert_eq!(got.reported, Some(Pico::new(2_500_000_000)));
    assert_eq!(got.server_tools.get("web_search"), Some(&2));
    assert_eq!(got.server_tools.get("code_interpreter"), Some(&1));
    assert_eq!(got.server_tools.len(), 2, "looking at an image costs tokens alone");
}

#[test]
fn no_more_than_the_prompt_is_cached() {
    let looped = [number(1, 7), number(2, 100), number(7, 900)].concat();
    let got = read("GetCompletion", &request(), &frame(&bytes(9, &looped)), BodyEnd::Complete);
    assert_eq!((got.usage.cache_read, got.usage.input_uncached), (100, 0));
}

#[test]
fn the_last_message_of_a_stream_is_final_once_it_says_why_it_ends() {
    let whole = [chunk(1, 0), chunk(5, 0), chunk(7, 3)].concat();
    let got = read("GetCompletionChunk", &request(), &whole, BodyEnd::Complete);
    assert_eq!((got.usage, got.quality), (want(), Quality::Exact));
    for (body, end) in [(&whole, BodyEnd::Cut), (&[chunk(1, 0), chunk(5, 0)].concat(), BodyEnd::Complete)] {
        let got = read("GetCompletionChunk", &request(), body, end);
        assert_eq!((got.quality, got.reported), (Quality::Estimated, None));
        assert!(got.usage.output_tokens > 4_096);
    }
    let half = &whole[..whole.len() - 4];
    assert_eq!(read("GetCompletionChunk", &request(), half, BodyEnd::Complete).quality, Quality::Estimated);
}

#[test]
fn a_cut_within_a_loop_of_tools_is_absent() {
    let tools = [request(), bytes(17, &bytes(3, b""))].concat();
    let got = read("GetCompletionChunk", &tools, &chunk(5, 0), BodyEnd::Cut);
    assert_eq!(got.quality, Quality::Absent);
}

#[test]
fn a_failed_call_costs_nothing() {
    let got = read("GetCompletion", &request(), b"", BodyEnd::Complete);
    assert_eq!((got.quality, got.is_empty()), (Quality::Exact, true));
    assert_eq!(read("GetCompletion", &request(), b"", BodyEnd::Cut).quality, Quality::Absent);
    let call = Call::new(Xai.endpoint("POST", "/xai_api.Chat/GetCompletion").unwrap(), "/xai_api.Chat/GetCompletion");
    let header = |name: &str| (name == "grpc-status").then(|| "8".to_owned());
    let head = AnswerHead { header: &header, ..AnswerHead::new(200, "application/grpc") };
    assert_eq!(Xai.reader(&call, &RequestFacts::default(), head).finish(BodyEnd::Cut), Reading::nothing());
}

#[test]
fn a_deferred_completion_is_billed_by_the_get_that_shows_it() {
    let id = |standing| Some(ResultRef { id: "r1".to_owned(), standing });
    let started = read("StartDeferredCompletion", &request(), &frame(&bytes(1, b"r1")), BodyEnd::Complete);
    assert_eq!((started.result, started.usage), (id(Standing::Pending), Usage::default()));
    let asked = bytes(1, b"r1");
    let pending = read("GetDeferredCompletion", &asked, &frame(&number(2, 3)), BodyEnd::Complete);
    assert_eq!((pending.result, pending.usage), (id(Standing::Pending), Usage::default()));
    let done = [bytes(1, &answer()), number(2, 1)].concat();
    let done = read("GetDeferredCompletion", &asked, &frame(&done), BodyEnd::Complete);
    assert_eq!((done.result, done.usage, done.quality), (id(Standing::Repeat), want(), Quality::Exact));
    let failed = read("GetDeferredCompletion", &asked, &frame(&number(2, 4)), BodyEnd::Complete);
    assert_eq!((failed.result, failed.quality), (id(Standing::Repeat), Quality::Exact));
}

#[test]
fn requests_state_model_ceiling_tools_and_images() {
    let facts = |message: Vec<u8>| {
        let call = Call::new(Xai.endpoint("POST", "/xai_api.Chat/GetCompletion").unwrap(), PREFIX);
        Xai.request(&call, &frame(&message).into()).unwrap()
    };
    let plain = facts(request());
    assert_eq!((plain.model.as_deref(), plain.ceiling, plain.hidden_output), (Some("grok-4"), None, true));
    assert!(!plain.input_unbounded && plain.input_bound > 1_000);
    let open = facts([bytes(2, b"grok-4-fast-non-reasoning"), number(7, 500), number(8, 3)].concat());
    assert_eq!((open.ceiling, open.choices, open.hidden_output), (Some(500), 3, false));
    let tools = facts([request(), bytes(17, &bytes(4, b""))].concat());
    assert!(tools.input_unbounded && tools.tools.contains_key("x_search"));
    let image = facts(bytes(1, &bytes(1, &bytes(2, &bytes(1, b"https://x")))));
    assert!(image.input_image && image.input_bound > plain.input_bound);
    let file = facts(bytes(1, &bytes(1, &bytes(3, &bytes(1, b"file_1")))));
    assert!(file.server_tools && file.tools.contains_key("attachment_search"));
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, billing) in [
        ("POST", "/xai_api.Chat/GetCompletionChunk", Some(Billing::Metered)),
        ("POST", "/xai_api.Chat/GetStoredCompletion", Some(Billing::Free)),
        ("POST", "/xai_api.Models/ListLanguageModels", Some(Billing::Free)),
        ("POST", "/xai_api.Video/GenerateVideo", Some(Billing::Unknown)),
        ("POST", "/xai_api.Chat/SomethingNew", Some(Billing::Unknown)),
        ("GET", "/v1/realtime", Some(Billing::Socket)),
        ("POST", "/v1/chat/completions", None),
    ] {
        assert_eq!(Xai.endpoint(method, path).map(|e| e.billing), billing, "{path}");
    }
}

#[test]
fn an_image_counts_and_states_its_charge() {
    let path = "/xai_api.Image/GenerateImage";
    let call = Call::new(Xai.endpoint("POST", path).unwrap(), path);
    let request = frame(&[bytes(1, b"a cat"), bytes(2, b"grok-2-image"), number(3, 2)].concat());
    let facts = Xai.request(&call, &request.into()).unwrap();
    assert_eq!(facts.units.get("images"), Some(&Quantity::whole(2)));
    let image = bytes(1, &bytes(3, b"https://x"));
    let body = frame(&[image.clone(), image, bytes(2, b"grok-2-image"), bytes(3, &number(11, 1_400_000_000))].concat());
    let mut reader = Xai.reader(&call, &facts, AnswerHead::new(200, "application/grpc"));
    reader.feed(&body);
    let got = reader.finish(BodyEnd::Complete);
    assert_eq!(got.units.get("images"), Some(&Quantity::whole(2)));
    assert_eq!(got.reported, Some(Pico::new(140_000_000_000)));
}

#[test]
fn a_session_is_billed_turn_by_turn_from_the_event() {
    let path = "/v1/realtime?model=grok-voice";
    let mut session = Xai.socket(&Call::new(Xai.endpoint("GET", "/v1/realtime").unwrap(), path)).unwrap();
    assert_eq!(session.facts().model.as_deref(), Some("grok-voice"));
    let created = br#"{"type":"session.created","session":{"model":"grok-voice-latest"}}"#;
    assert_eq!(session.received(created), None);
    session.sent(br#"{"type":"response.create"}"#);
    let done = br#"{"type":"response.done","response":{"usage":{}},"usage":{"input_tokens":7,"output_tokens":42,
        "output_token_details":{"audio_tokens":39},"billable_audio_seconds":1.5}}"#;
    let got = session.received(done).unwrap();
    assert_eq!((got.usage.input_tokens, got.usage.output_tokens, got.usage.output_audio), (7, 42, 39));
    assert_eq!(got.units.get("billable_audio_seconds"), Some(&Quantity::from_micros(1_500_000)));
    assert_eq!((got.model.as_deref(), got.quality), (Some("grok-voice-latest"), Quality::Exact));
    assert_eq!(session.finish(), None);
    session.sent(br#"{"type":"response.create"}"#);
    assert_eq!(session.finish().unwrap().quality, Quality::Absent, "a turn that the session ends in");
}

#[test]
fn a_refusal_has_the_providers_shape() {
    let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
    let body: serde_json::Value = serde_json::from_slice(&Xai.error_body(&problem)).unwrap();
    assert_eq!((&body["code"], &body["error"]), (&"budget_exceeded".into(), &"spent".into()));
}

#[test]
fn a_realtime_session_may_name_its_model_later_or_another_one() {
    let path = "/v1/realtime";
    let mut session = Xai.socket(&Call::new(Xai.endpoint("GET", path).unwrap(), path)).unwrap();
    assert_eq!(session.facts().model, None);
    session.received(br#"{"type":"session.created","session":{"model":"grok-voice-latest"}}"#);
    assert_eq!(session.facts().model.as_deref(), Some("grok-voice-latest"));
    session.sent(br#"{"type":"session.update","session":{"model":"grok-other"}}"#);
    assert_eq!(session.facts().model.as_deref(), Some("grok-other"));
    assert!(!session.is_under_way());
    session.sent(br#"{"type":"response.create"}"#);
    assert!(session.is_under_way());
}
