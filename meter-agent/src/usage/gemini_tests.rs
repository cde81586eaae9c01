//! Gemini, by hand-written answers in the documented shapes.

use super::{
    paths::{GENERATE, STREAM},
    *,
};
use crate::usage::{BodyEnd, Quality, Reading, Usage, detect};

const STREAM_PATH: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream");
const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json; charset=UTF-8");

fn call() -> Call<'static> {
    Call::new(Gemini.endpoint("POST", STREAM_PATH).unwrap(), STREAM_PATH)
}

fn facts(body: &str) -> RequestFacts {
    let path = format!("{STREAM_PATH}?alt=sse");
    Gemini.request(&Call { path_and_query: &path, ..call() }, &body.to_owned().into()).unwrap()
}

fn read(head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let facts = facts(r#"{"generationConfig":{"maxOutputTokens":8000}}"#);
    let mut whole = Gemini.reader(&call(), &facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = Gemini.reader(&call(), &facts, head);
    body.as_bytes().chunks(1).for_each(|b| bytes.feed(b));
    assert_eq!(bytes.finish(end), whole, "any split reads the same");
    whole
}

const FIRST: &str = r#"{"candidates":[{"content":{}}],"usageMetadata":{"promptTokenCount":145,"candidatesTokenCount":3},"modelVersion":"gemini-2.5-flash"}"#;
const LAST: &str = r#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":85,"cachedContentTokenCount":40,
    "candidatesTokenCount":5,"thoughtsTokenCount":11,"toolUsePromptTokenCount":7,"serviceTier":"standard",
    "promptTokensDetails":[{"modality":"AUDIO","tokenCount":9},{"modality":1,"tokenCount":76}]},"modelVersion":"gemini-2.5-flash"}"#;

fn want() -> Usage {
    Usage {
        input_tokens: 92,
        input_uncached: 52,
        cache_read: 40,
        input_audio: 9,
        output_tokens: 16,
        reasoning_tokens: 11,
        ..Usage::default()
    }
}

#[test]
fn the_last_object_holds_as_a_whole() {
    let sse = format!("data: {FIRST}\r\n\r\ndata: {}\r\n\r\n", LAST.replace('\n', " "));
    let array = format!("[{FIRST}\n,\r\n{LAST}\n]\n");
    for (head, body) in [(SSE, &sse), (JSON, &array), (JSON, &LAST.to_owned())] {
        let got = read(head, body, BodyEnd::Complete);
        assert_eq!((got.usage, got.quality), (want(), Quality::Exact));
        assert_eq!(got.model.as_deref(), Some("gemini-2.5-flash"));
        assert_eq!(got.service_tier.as_deref(), Some("standard"));
    }
}

#[test]
fn a_cut_keeps_the_last_usage_said_and_bounds_the_rest() {
    let cut_array = format!("[{FIRST}\n,\r\n{{\"candidates\":[{{\"con");
    for (head, body) in [(SSE, format!("data: {FIRST}\r\n\r\ndata: {{\"cand")), (JSON, cut_array)] {
        let got = read(head, &body, BodyEnd::Cut);
        assert_eq!((got.quality, got.usage.input_tokens), (Quality::Estimated, 145));
        assert!(got.usage.output_tokens > 4_000 && got.usage.output_tokens <= 8_000);
    }
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, name, billing) in [
        ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", GENERATE, Billing::Metered),
        ("POST", "/v1beta/models/gemini-2.5-pro%3AgenerateContent", GENERATE, Billing::Metered),
        ("POST", STREAM_PATH, STREAM, Billing::Metered),
        ("POST", "/v1beta/models/gemini-2.5-pro:countTokens", "count_tokens", Billing::Free),
        ("POST", "/v1beta/openai/chat/completions", openai::CHAT, Billing::Metered),
        ("POST", "/v1beta/cachedContents", paths::CACHED_CONTENTS, Billing::Metered),
        ("PATCH", "/v1beta/cachedContents/x", paths::CACHED_CONTENTS, Billing::Free),
        ("GET", "/v1beta/cachedContents/x", paths::CACHED_CONTENTS, Billing::Free),
        ("POST", "/v1beta/models/m:embedContent", paths::EMBED, Billing::Metered),
        ("POST", "/v1beta/models/m:batchGenerateContent", paths::BATCH_GENERATE, Billing::Metered),
        ("GET", "/v1beta/batches/x", paths::BATCHES, Billing::Result),
        ("GET", "/v1beta/batches", "batches", Billing::Free),
        ("POST", "/v1beta/interactions", paths::INTERACTIONS, Billing::Metered),
        ("POST", "/v1beta/interactions/v1_x/cancel", paths::INTERACTIONS, Billing::Free),
        ("GET", "/v1beta/interactions/v1_x", paths::INTERACTIONS, Billing::Result),
        ("GET", "/v1beta/models/veo/operations/x", "operations", Billing::Free),
        ("POST", "/v1/projects/p/publishers/anthropic/models/c@1:rawPredict", paths::RAW_PREDICT, Billing::Metered),
        ("POST", "/v1/projects/p/publishers/anthropic/models/count-tokens:rawPredict", "count_tokens", Billing::Free),
        ("POST", "/v1/projects/p/locations/l/endpoints/openapi/chat/completions", openai::CHAT, Billing::Metered),
        ("POST", "/v1beta/fileSearchStores/s:importFile", "other", Billing::Unknown),
        ("GET", "/v1beta/models", "models", Billing::Free),
        (
            "GET",
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            paths::LIVE,
            Billing::Socket,
        ),
    ] {
        assert_eq!(detect(Some(&Gemini), method, path).1, Endpoint { name, billing }, "{method} {path}");
    }
}

#[test]
fn requests_state_model_ceiling_and_what_they_only_name() {
    let got = facts(r#"{"generation_config":{"max_output_tokens":9,"candidate_count":2}}"#);
    assert_eq!(
        (got.model.as_deref(), got.ceiling, got.choices, got.stream),
        (Some("gemini-2.5-flash"), Some(9), 2, true)
    );
    let encoded = "/v1beta/models/gemini%2D2.5%2dpro:generateContent";
    let call = Call::new(Gemini.endpoint("POST", encoded).unwrap(), encoded);
    assert_eq!(Gemini.request(&call, &"{}".into()).unwrap().model.as_deref(), Some("gemini-2.5-pro"));
    assert!(facts(r#"{"cachedContent":"cachedContents/x"}"#).input_unbounded);
    assert!(facts(r#"{"tools":[{"googleSearch":{}}]}"#).input_unbounded);
    let blob = "A".repeat(50_000);
    let image =
        format!(r#"{{"contents":[{{"parts":[{{"inlineData":{{"data":"{blob}","mimeType":"image/png"}}}}]}}]}}"#);
    assert!(facts(&image).input_bound < 6_000);
    assert!(facts(&image.replace("image/png", "application/pdf")).input_unbounded);
}

#[test]
fn a_ceiling_goes_into_the_config_in_the_spelling_used() {
    let set = |body: &str| {
        let all = Rewrite { ask_usage: false, ceiling: Some(7) };
        String::from_utf8(Gemini.rewrite(call().endpoint, body.as_bytes(), all).unwrap()).unwrap()
    };
    assert_eq!(set(r#"{"contents":[]}"#), r#"{"contents":[],"generationConfig":{"maxOutputTokens":7}}"#);
    assert_eq!(
        set(r#"{"generation_config":{"temperature":1.0,"max_output_tokens":1}}"#),
        r#"{"generation_config":{"temperature":1.0,"max_output_tokens":7}}"#
    );
}

#[test]
fn a_refusal_has_the_providers_shape() {
    let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
    let body: serde_json::Value = serde_json::from_slice(&Gemini.error_body(&problem)).unwrap();
    assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&402.into(), &"RESOURCE_EXHAUSTED".into()));
}
