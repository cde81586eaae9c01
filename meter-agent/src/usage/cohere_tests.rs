//! Cohere, by hand-written answers in the documented shapes.

use super::*;
use crate::usage::{BodyEnd, Quality, Quantity, Reading, detect};

const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");
const LINES: AnswerHead<'_> = AnswerHead::new(200, "application/stream+json");
const SSE: AnswerHead<'_> = AnswerHead::new(200, "text/event-stream");

fn call(path: &'static str) -> Call<'static> {
    Call::new(Cohere.endpoint("POST", path).unwrap(), path)
}

fn facts(path: &'static str, body: &'static str) -> RequestFacts {
    Cohere.request(&call(path), &body.into()).unwrap()
}

fn read(path: &'static str, facts: &RequestFacts, head: AnswerHead<'_>, body: &str, end: BodyEnd) -> Reading {
    let call = call(path);
    let mut whole = Cohere.reader(&call, facts, head);
    whole.feed(body.as_bytes());
    let whole = whole.finish(end);
    let mut bytes = Cohere.reader(&call, facts, head);
    body.as_bytes().chunks(1).for_each(|b| bytes.feed(b));
    assert_eq!(bytes.finish(end), whole, "any split reads the same");
    whole
}

const CHAT: &str =
    r#"{"model":"command-a","messages":[{"role":"user","content":"hi"}],"max_tokens":900,"stream":true}"#;
const END_V2: &str = "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"COMPLETE\",\
    \"usage\":{\"billed_units\":{\"input_tokens\":12,\"output_tokens\":49},\"tokens\":{\"input_tokens\":212}}}}\n\n";
const TEXT_V2: &str = "event: content-delta\ndata: {\"type\":\"content-delta\",\"delta\":{}}\n\n";
const TEXT_V1: &str = "{\"is_finished\":false,\"event_type\":\"text-generation\",\"text\":\"Ar\"}\n";
const END_V1: &str = "{\"is_finished\":true,\"event_type\":\"stream-end\",\"response\":{\"text\":\"Ar\",\
    \"meta\":{\"billed_units\":{\"input_tokens\":7.0,\"output_tokens\":149.0},\"tokens\":{\"input_tokens\":69}}}}";

#[test]
fn billed_units_are_the_truth_in_every_shape() {
    let asked = facts("/v2/chat", CHAT);
    let v2 =
        r#"{"id":"x","usage":{"billed_units":{"input_tokens":8,"output_tokens":9},"tokens":{"input_tokens":503}}}"#;
    let meta =
        r#"{"id":"x","meta":{"billed_units":{"input_tokens":8,"output_tokens":9},"tokens":{"input_tokens":503}}}"#;
    for (path, body) in [("/v2/chat", v2), ("/v1/chat", meta), ("/v1/generate", meta), ("/v1/summarize", meta)] {
        let got = read(path, &asked, JSON, body, BodyEnd::Complete);
        assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 8, 9), "{path}");
        assert_eq!(got.model.as_deref(), Some("command-a"));
    }
    let got = read("/v2/chat", &asked, SSE, &[TEXT_V2, END_V2, "data: [DONE]\n\n"].concat(), BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 12, 49));
    let got = read("/v1/chat", &asked, LINES, &[TEXT_V1, END_V1].concat(), BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 7, 149));
}

#[test]
fn a_cut_stream_is_estimated_within_its_ceiling() {
    let asked = facts("/v2/chat", CHAT);
    for (path, head, body) in [("/v2/chat", SSE, TEXT_V2), ("/v1/chat", LINES, TEXT_V1)] {
        let got = read(path, &asked, head, body, BodyEnd::Cut);
        assert_eq!((got.quality, got.usage.output_tokens), (Quality::Estimated, 900), "{path}");
        assert_eq!(got.usage.input_tokens, asked.input_bound);
    }
}

#[test]
fn a_stream_has_used_what_was_generated_so_far_and_nothing_that_it_quotes() {
    let asked = facts("/v2/chat", CHAT);
    let so_far = |path, head, events: &[&str]| {
        let mut reader = Cohere.reader(&call(path), &asked, head);
        for event in events {
            reader.feed(event.as_bytes());
        }
        reader.so_far().unwrap()
    };
    let piece = |text: &str| {
        let data = serde_json::json!({"type": "content-delta", "delta": {"message": {"content": {"text": text}}}});
        format!("event: content-delta\ndata: {data}\n\n")
    };
    let long = "word ".repeat(3_200);
    let quote = r#"{"type":"citation-start","delta":{"message":{"citations":{"text":"TEXT","sources":[]}}}}"#;
    let quote = format!("event: citation-start\ndata: {}\n\n", quote.replace("TEXT", &long));
    let none = so_far("/v2/chat", SSE, &[&quote]);
    assert_eq!((none.quality, none.usage.output_tokens), (Quality::Estimated, 0));
    assert_eq!((none.usage.input_tokens, none.model.as_deref()), (asked.input_bound, Some("command-a")));
    assert_eq!(so_far("/v2/chat", SSE, &[&piece("a"), &quote, &piece("b"), &piece("")]).usage.output_tokens, 2);
    let past = so_far("/v2/chat", SSE, &[&piece(&long)]);
    assert_eq!(past.usage.output_tokens, 2_000, "whatever the ceiling of 900 is");
    let lines = [TEXT_V1, "{\"event_type\":\"search-results\",\"documents\":[{\"text\":\"a\"}]}\n", TEXT_V1];
    assert_eq!(so_far("/v1/chat", LINES, &lines).usage.output_tokens, 2);
    assert_eq!(so_far("/v2/chat", SSE, &[&piece(&long), END_V2]).usage.output_tokens, 49, "the provider's own word");
}

#[test]
fn searches_images_and_classifications_are_units() {
    let rerank = facts("/v2/rerank", r#"{"model":"rerank-v3.5","query":"q","documents":["a","b"]}"#);
    assert_eq!(rerank.units["search_units"], Quantity::whole(1));
    let got = read(
        "/v2/rerank",
        &rerank,
        JSON,
        r#"{"results":[],"meta":{"billed_units":{"search_units":3}}}"#,
        BodyEnd::Complete,
    );
    assert_eq!((got.quality, got.units["search_units"]), (Quality::Exact, Quantity::whole(3)));
    let unsaid = read("/v2/rerank", &rerank, JSON, r#"{"results":[]}"#, BodyEnd::Complete);
    assert_eq!((unsaid.quality, unsaid.units["search_units"]), (Quality::Estimated, Quantity::whole(1)));
    let embed = facts("/v1/embed", r#"{"model":"embed-v3","images":["data:image/png;base64,AAAA"]}"#);
    assert!(embed.no_output && embed.units["images"] == Quantity::whole(1));
    let got = read("/v1/embed", &embed, JSON, r#"{"meta":{"billed_units":{"images":1}}}"#, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.units["images"]), (0, Quantity::whole(1)));
    let both = r#"{"meta":{"billed_units":{"input_tokens":7,"image_tokens":5}}}"#;
    let got = read("/v1/embed", &embed, JSON, both, BodyEnd::Complete);
    assert_eq!((got.usage.input_tokens, got.usage.input_image, got.units.len()), (12, 5, 0));
}

#[test]
fn a_long_document_counts_as_several() {
    assert_eq!(search_units(0, 10), Quantity::whole(1));
    assert_eq!(search_units(100, 200), Quantity::whole(1));
    assert_eq!(search_units(100, 25_000), Quantity::whole(2));
}

#[test]
fn requests_state_ceilings_choices_and_what_the_provider_adds() {
    let got = facts("/v1/generate", r#"{"prompt":"x","max_tokens":5,"num_generations":3}"#);
    assert_eq!((got.ceiling, got.choices, got.can_clamp), (Some(5), 3, true));
    assert!(facts("/v1/chat", r#"{"message":"x","connectors":[{"id":"web-search"}]}"#).input_unbounded);
    let clamped =
        Cohere.rewrite(call("/v2/chat").endpoint, br#"{"a":1.0}"#, Rewrite { ceiling: Some(3), ..Rewrite::default() });
    assert_eq!(clamped.unwrap(), br#"{"a":1.0,"max_tokens":3}"#);
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (path, billing) in [
        ("/v1/chat", Billing::Metered),
        ("/v2/chat", Billing::Metered),
        ("/v2/embed", Billing::Metered),
        ("/v1/tokenize", Billing::Free),
        ("/v1/detokenize", Billing::Free),
        ("/v1/embed-jobs", Billing::Unknown),
        ("/v1/finetuning/finetuned-models", Billing::Unknown),
        ("/compatibility/v1/chat/completions", Billing::Metered),
    ] {
        assert_eq!(detect(Some(&Cohere), "POST", path).1.billing, billing, "{path}");
    }
    assert_eq!(detect(Some(&Cohere), "GET", "/v1/models").1.billing, Billing::Free);
}

#[test]
fn a_refusal_has_the_providers_shape() {
    let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
    let body: serde_json::Value = serde_json::from_slice(&Cohere.error_body(&problem)).unwrap();
    assert_eq!((&body["message"], &body["code"]), (&"spent".into(), &"budget_exceeded".into()));
}
