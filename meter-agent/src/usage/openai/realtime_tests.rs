//! Realtime, by hand-written messages in the documented shapes.

use super::*;
use crate::usage::{Billing, Endpoint, Usage};

fn open(path: &str) -> Box<dyn SocketReader> {
    socket(&Call::new(Endpoint { name: "realtime_ws", billing: Billing::Socket }, path))
}

fn turns(socket: &mut dyn SocketReader, messages: &[&str]) -> Vec<Reading> {
    messages.iter().filter_map(|message| socket.received(message.as_bytes())).collect()
}

const UPDATED: &str = r#"{"type":"session.updated","session":{"type":"realtime","model":"gpt-realtime","max_output_tokens":4096,
    "audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#;
const CREATED: &str = r#"{"type":"response.created","response":{"usage":null}}"#;
const DONE: &str = r#"{"type":"response.done","response":{"status":"completed","output":[{"type":"mcp_call"}],"usage":{"input_tokens":122,
    "output_tokens":97,"input_token_details":{"text_tokens":96,"audio_tokens":26,"cached_tokens":64,
    "cached_tokens_details":{"text_tokens":60,"audio_tokens":4}},"output_token_details":{"audio_tokens":69}}}}"#;
const HEARD: &str = r#"{"type":"conversation.item.input_audio_transcription.completed","usage":{"type":"tokens","input_tokens":26,
    "input_token_details":{"audio_tokens":26},"output_tokens":9}}"#;

#[test]
fn every_response_is_a_turn_with_its_cached_sound_apart() {
    let mut socket = open("/v1/realtime?model=gpt-realtime-mini");
    assert_eq!(socket.facts().model.as_deref(), Some("gpt-realtime-mini"));
    let got = turns(&mut *socket, &[UPDATED, CREATED, DONE, CREATED, DONE]);
    assert_eq!(got.len(), 2);
    let turn = &got[1];
    assert_eq!((turn.quality, turn.model.as_deref()), (Quality::Exact, Some("gpt-realtime")));
    assert_eq!((turn.usage.input_uncached, turn.usage.cache_read, turn.usage.input_audio), (58, 64, 26));
    assert_eq!((turn.usage.output_tokens, turn.usage.output_audio), (97, 69));
    assert_eq!((turn.lines.len(), turn.lines[0].cache_read_audio), (1, 4));
    assert_eq!(turn.server_tools.get("mcp"), Some(&1));
    let facts = socket.facts();
    assert_eq!((facts.ceiling, facts.input_unbounded, facts.input_audio), (Some(4_096), true, true));
    assert!(socket.finish().is_none());
}

#[test]
fn transcription_is_a_line_of_its_own_model() {
    let mut socket = open("/v1/realtime");
    let got = turns(&mut *socket, &[UPDATED, HEARD, CREATED, DONE]);
    assert_eq!((got.len(), got[0].usage.input_tokens, got[0].lines.len()), (1, 148, 2));
    let line = &got[0].lines[1];
    assert_eq!((line.model.as_deref(), line.usage.input_audio), (Some("gpt-4o-transcribe"), 26));
    let timed = HEARD
        .replace("\"tokens\",\"input_tokens\":26", "\"duration\",\"seconds\":2.5")
        .replace("\"output_tokens\":9", "\"x\":1");
    assert!(turns(&mut *socket, &[&timed, &timed]).is_empty());
    let rest = socket.finish().unwrap();
    assert_eq!((rest.model.as_deref(), rest.usage), (Some("gpt-4o-transcribe"), Usage::default()));
    assert_eq!(rest.units["transcription_seconds"], Quantity::whole(5));
}

#[test]
fn a_session_that_only_transcribes_has_a_turn_for_each() {
    let mut socket = open("/v1/realtime?intent=transcription");
    socket.sent(br#"{"type":"session.update","session":{"input_audio_transcription":{"model":"whisper-1"}}}"#);
    let got = turns(&mut *socket, &[HEARD, HEARD]);
    assert_eq!((got.len(), got[0].model.as_deref(), got[0].usage.output_tokens), (2, Some("whisper-1"), 9));
}

#[test]
fn transcriptions_without_turns_are_not_kept_for_ever() {
    let mut socket = open("/v1/realtime");
    let got = turns(&mut *socket, &[HEARD; 33]);
    assert_eq!((got.len(), got[0].usage.output_tokens), (2, 144));
    assert_eq!(socket.finish().unwrap().usage.output_tokens, 9);
}

#[test]
fn usage_beside_the_response_counts_with_its_billable_seconds() {
    let done = r#"{"type":"response.done","usage":{"input_tokens":5,"output_tokens":42,"output_token_details":{"audio_tokens":39},
        "billable_audio_seconds":1},"response":{"status":"completed","usage":{}}}"#;
    let mut socket = open("/v1/realtime?model=grok-voice-latest");
    let got = turns(&mut *socket, &[done]);
    assert_eq!((got[0].usage.output_audio, got[0].units["billable_audio_seconds"]), (39, Quantity::whole(1)));
    assert!(got[0].lines.is_empty());
}

#[test]
fn an_unfinished_turn_is_absent_and_a_failed_one_free() {
    let mut socket = open("/v1/realtime");
    assert!(turns(&mut *socket, &[CREATED, r#"{"type":"response.output_audio.delta","delta":"AAAA"}"#]).is_empty());
    assert_eq!(socket.finish().map(|r| r.quality), Some(Quality::Absent));
    let failed = r#"{"type":"response.done","response":{"status":"failed","usage":null}}"#;
    let got = turns(&mut *socket, &[failed, &failed.replace("failed", "completed")]);
    assert_eq!((got[0].quality, got[1].quality), (Quality::Exact, Quality::Absent));
}

#[test]
fn no_ceiling_is_none() {
    let mut socket = open("/v1/realtime");
    let unlimited = UPDATED.replace("4096", "\"inf\"");
    turns(&mut *socket, &[UPDATED, &unlimited]);
    assert_eq!(socket.facts().ceiling, None);
}

#[test]
fn a_turn_is_under_way_from_its_first_event_to_its_last() {
    let mut socket = open("/v1/realtime?model=gpt-realtime");
    let mut seen = Vec::new();
    socket.sent(br#"{"type":"response.create"}"#);
    for message in [UPDATED, CREATED, HEARD, DONE, HEARD] {
        socket.received(message.as_bytes());
        seen.push(socket.is_under_way());
    }
    assert_eq!(seen, [false, true, true, false, false]);
}

#[test]
fn what_the_agent_asks_for_is_what_a_turn_is_held_for() {
    let mut socket = open("/v1/realtime?model=gpt-realtime-mini");
    socket.sent(UPDATED.replace("session.updated", "session.update").as_bytes());
    socket.sent(br#"{"type":"response.create","response":{"max_output_tokens":9}}"#);
    let facts = socket.facts();
    assert_eq!((facts.model.as_deref(), facts.ceiling), (Some("gpt-realtime"), Some(9)));
    assert_eq!(facts.fallbacks, ["gpt-realtime-mini"], "the provider may not have changed it");
    turns(&mut *socket, &[CREATED, DONE]);
    assert_eq!(socket.facts().ceiling, Some(4_096), "that of the session again");
}

#[test]
fn a_session_that_only_transcribes_is_of_the_model_that_does() {
    let mut socket = open("/v1/realtime?intent=transcription");
    assert_eq!(socket.facts().model, None);
    socket.sent(
        br#"{"type":"transcription_session.update","session":{"input_audio_transcription":{"model":"whisper-1"}}}"#,
    );
    assert_eq!(socket.facts().model.as_deref(), Some("whisper-1"));
}

#[test]
fn a_refusal_is_an_error_event_with_how_the_limit_stands() {
    let problem = Problem { status: 403, code: "model_not_allowed", message: "no".to_owned(), budget: None };
    let event: serde_json::Value = serde_json::from_slice(&open("/v1/realtime").refusal(&problem).unwrap()).unwrap();
    assert_eq!((&event["type"], &event["error"]["code"]), (&"error".into(), &"model_not_allowed".into()));
    assert_eq!((&event["status"], &event["error"]["message"]), (&403.into(), &"no".into()));
}
