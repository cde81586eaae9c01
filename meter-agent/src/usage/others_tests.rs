//! The odd services, by hand-written bodies in the documented shapes.

use super::*;
use crate::usage::{Quantity, ResultRef, Standing, detect};

fn read_with(content_type: &str, path: &str, request: &str, body: &str, end: BodyEnd) -> Reading {
    let plain = path.split('?').next().unwrap_or("");
    let method = if request.is_empty() { "GET" } else { "POST" };
    let call = Call::new(Others.endpoint(method, plain).unwrap(), path);
    let facts = Others.request(&call, &request.to_owned().into()).unwrap();
    let split = |chunks: Vec<&[u8]>| {
        let mut reader = Others.reader(&call, &facts, AnswerHead::new(200, content_type));
        for chunk in chunks {
            reader.feed(chunk);
        }
        reader.finish(end)
    };
    let reading = split(vec![body.as_bytes()]);
    for at in 0..body.len() {
        let (left, right) = body.as_bytes().split_at(at);
        assert_eq!(split(vec![left, right]), reading, "split at {at}");
    }
    reading
}

fn read(path: &str, request: &str, body: &str) -> Reading {
    read_with("application/json", path, request, body, BodyEnd::Complete)
}

/// What a stream has used of input and output when these events have passed.
fn so_far(path: &str, request: &'static str, events: &[&str]) -> (u64, u64) {
    let call = Call::new(Others.endpoint("POST", path).unwrap(), path);
    let facts = Others.request(&call, &request.into()).unwrap();
    let mut reader = Others.reader(&call, &facts, AnswerHead::new(200, "text/event-stream"));
    for event in events {
        reader.feed(event.as_bytes());
    }
    let usage = reader.so_far().unwrap().usage;
    (usage.input_tokens, usage.output_tokens)
}

fn tokens(reading: &Reading) -> (Quality, u64, u64) {
    (reading.quality, reading.usage.input_tokens, reading.usage.output_tokens)
}

#[test]
fn watsonx_says_its_input_first_and_its_output_last() {
    let request = r#"{"model_id":"google/flan","input":"hi","parameters":{"max_new_tokens":50}}"#;
    let whole = r#"{"model_id":"google/flan","results":[{"generated_token_count":2,"input_token_count":7,"stop_reason":"eos_token"}]}"#;
    let got = read("/ml/v1/text/generation", request, whole);
    assert_eq!((tokens(&got), got.model.as_deref()), ((Quality::Exact, 7, 2), Some("google/flan")));
    let event = |output: u64, input: u64, stop: &str| {
        format!(
            "event: message\ndata: {{\"results\":[{{\"generated_token_count\":{output},\"input_token_count\":{input},\"stop_reason\":\"{stop}\"}}]}}\n\n"
        )
    };
    let body = [event(0, 8, "not_finished"), event(6, 0, "not_finished"), event(11, 0, "eos_token")].concat();
    let path = "/ml/v1/text/generation_stream";
    let sse = "text/event-stream";
    let got = read_with(sse, path, request, &body, BodyEnd::Complete);
    assert_eq!(tokens(&got), (Quality::Exact, 8, 11));
    let cut = &body[..body.len() - 80];
    assert_eq!(tokens(&read_with(sse, path, request, cut, BodyEnd::Cut)), (Quality::Estimated, 8, 50));
    let past = [event(0, 8, "not_finished"), event(70, 0, "not_finished")];
    assert_eq!(so_far(path, request, &past.each_ref().map(String::as_str)), (8, 70), "whatever the ceiling of 50 is");
    let embedded = read(
        "/ml/v1/text/embeddings",
        r#"{"model_id":"e"}"#,
        r#"{"results":[{"embedding":[1]}],"input_token_count":9}"#,
    );
    assert_eq!(tokens(&embedded), (Quality::Exact, 9, 0));
    let chat = r#"{"model_id":"m","usage":{"prompt_tokens":5,"completion_tokens":3}}"#;
    assert_eq!(tokens(&read("/ml/v1/text/chat", r#"{"model_id":"m","messages":[]}"#, chat)), (Quality::Exact, 5, 3));
}

#[test]
fn text_without_usage_is_an_estimate_that_its_details_make_closer() {
    let request = r#"{"inputs":"hello","parameters":{"max_new_tokens":512}}"#;
    let plain = read("/models/org/name", request, r#"[{"generated_text":"hi there"}]"#);
    assert_eq!((plain.quality, plain.model.as_deref()), (Quality::Estimated, Some("org/name")));
    assert!(plain.usage.output_tokens > 8 && plain.usage.input_tokens >= 5);
    let detailed = r#"[{"generated_text":"hi","details":{"generated_tokens": 75}},{"details":{"generated_tokens":5}}]"#;
    assert_eq!(read("/generate", request, detailed).usage.output_tokens, 80);
    let cut = read_with("application/json", "/generate", request, &detailed[..40], BodyEnd::Cut);
    assert_eq!((cut.quality, cut.usage.output_tokens), (Quality::Estimated, 512));
}

#[test]
fn sagemaker_is_exact_where_the_model_says_the_usage_of_a_chat() {
    let path = "/endpoints/my-llama/invocations";
    let chat = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}"#;
    let got = read(path, r#"{"messages":[]}"#, chat);
    assert_eq!((tokens(&got), got.model.as_deref()), ((Quality::Exact, 5, 3), Some("my-llama")));
    let got = read(path, r#"{"inputs":"hi"}"#, r#"[{"generated_text":"hello"}]"#);
    assert_eq!(got.quality, Quality::Estimated);
}

#[test]
fn a_prediction_is_billed_once_by_what_shows_it_done() {
    let id = |standing| Some(ResultRef { id: "p1".to_owned(), standing });
    let request = r#"{"version":"v","input":{"prompt":"hi"}}"#;
    let started = read("/v1/predictions", request, r#"{"id":"p1","model":"o/m","status":"starting"}"#);
    assert_eq!((&started.result, started.quality, started.is_empty()), (&id(Standing::Pending), Quality::Exact, true));
    let done = r#"{"id":"p1","model":"o/m","status":"succeeded","metrics":{"predict_time":1.5,"input_token_count":4,"output_token_count":9}}"#;
    let waited = read("/v1/models/o/m/predictions", request, done);
    assert_eq!((tokens(&waited), &waited.result), ((Quality::Exact, 4, 9), &id(Standing::Final)));
    let again = read("/v1/predictions/p1", "", done);
    assert_eq!((tokens(&again), &again.result), ((Quality::Exact, 4, 9), &id(Standing::Repeat)));
    let image = read("/v1/predictions/p1", "", r#"{"id":"p1","status":"succeeded","metrics":{"predict_time":1.5}}"#);
    assert_eq!((image.quality, image.units["predict_seconds"]), (Quality::Absent, Quantity::from_micros(1_500_000)));
}

#[test]
fn the_tokens_of_aleph_alpha_are_an_estimate() {
    let body = r#"{"completions":[],"model_version":"1","num_tokens_prompt_total":9,"num_tokens_generated":1000}"#;
    let got = read("/complete", r#"{"model":"luminous-base","maximum_tokens":1000}"#, body);
    assert_eq!((tokens(&got), got.model.as_deref()), ((Quality::Estimated, 9, 1000), Some("luminous-base")));
}

#[test]
fn speech_is_its_characters_and_a_transcript_its_seconds() {
    let spoken = read("/v1/speak?model=aura-2-zeus-en", r#"{"text":"Hällo"}"#, "RIFF");
    assert_eq!((spoken.quality, spoken.units["billable_characters"]), (Quality::Estimated, Quantity::whole(5)));
    assert_eq!(spoken.model.as_deref(), Some("aura-2-zeus-en"));
    let body = r#"{"metadata":{"duration":25.5,"channels":2}}"#;
    let heard = read("/v1/listen?model=nova-3", r#"{"url":"https://x"}"#, body);
    assert_eq!((heard.quality, heard.units["audio_seconds"]), (Quality::Estimated, Quantity::from_micros(25_500_000)));
    let both = read("/v1/listen?model=nova-3&multichannel=true", r#"{"url":"https://x"}"#, body);
    assert_eq!(both.units["audio_seconds"], Quantity::whole(51));
}

#[test]
fn llama_cpp_counts_in_its_last_event() {
    let request = r#"{"prompt":"hi","n_predict":90,"stream":true}"#;
    let body = "data: {\"content\":\"a\",\"stop\":false}\n\n\
        data: {\"content\":\"\",\"stop\":true,\"model\":\"m\",\"tokens_predicted\":6,\"tokens_evaluated\":4}\n\n";
    let sse = "text/event-stream";
    assert_eq!(tokens(&read_with(sse, "/completion", request, body, BodyEnd::Complete)), (Quality::Exact, 4, 6));
    let cut = read_with(sse, "/completion", request, &body[..60], BodyEnd::Cut);
    assert_eq!((cut.quality, cut.usage.output_tokens), (Quality::Estimated, 90));
    let piece = "data: {\"content\":\"a\",\"stop\":false}\n\n";
    assert_eq!(so_far("/completion", request, &[piece, piece, piece]), (request.len() as u64, 3));
    let counted = "data: {\"content\":\"a\",\"stop\":false,\"tokens_predicted\":70,\"tokens_evaluated\":4}\n\n";
    assert_eq!(so_far("/completion", request, &[piece, counted]).1, 70);
    let whole = r#"{"content":"a","stop":true,"tokens_predicted":6,"tokens_evaluated":4}"#;
    assert_eq!(tokens(&read("/completion", r#"{"prompt":"hi"}"#, whole)), (Quality::Exact, 4, 6));
}

#[test]
fn writers_chat_is_chat_under_another_path() {
    let request = r#"{"model":"palmyra-x4","messages":[]}"#;
    let body = r#"{"model":"palmyra-x4","usage":{"prompt_tokens":40,"completion_tokens":300,"total_tokens":340}}"#;
    assert_eq!(tokens(&read("/v1/chat", request, body)), (Quality::Exact, 40, 300));
}

#[test]
fn ceilings_go_where_each_service_reads_them() {
    let set = |path: &str, body: &str| {
        let rewrite = Rewrite { ask_usage: false, ceiling: Some(7) };
        let endpoint = Others.endpoint("POST", path).unwrap();
        String::from_utf8(Others.rewrite(endpoint, body.as_bytes(), rewrite).unwrap()).unwrap()
    };
    assert_eq!(set("/ml/v1/text/generation", "{}"), r#"{"parameters":{"max_new_tokens":7}}"#);
    assert_eq!(set("/complete", r#"{"maximum_tokens":9}"#), r#"{"maximum_tokens":7}"#);
    assert_eq!(set("/completion", "{}"), r#"{"n_predict":7}"#);
    assert_eq!(set("/v1/chat", "{}"), r#"{"max_tokens":7}"#);
    assert_eq!(set("/endpoints/e/invocations", r#"{"a":1}"#), r#"{"a":1}"#, "signed");
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, billing) in [
        ("POST", "/ml/v1/models", Billing::Free),
        ("POST", "/ml/v1/text/tokenization", Billing::Free),
        ("POST", "/ml/v1/text/rerank", Billing::Metered),
        ("POST", "/", Billing::Unknown),
        ("POST", "/v1/predictions/p1/cancel", Billing::Free),
        ("POST", "/v1/trainings", Billing::Unknown),
        ("GET", "/v1/predictions", Billing::Free),
        ("GET", "/v1/models", Billing::Free),
        ("GET", "/v1/listen", Billing::Unknown),
        ("POST", "/props", Billing::Free),
        ("GET", "/props", Billing::Free),
        ("POST", "/v1/chat/completions", Billing::Metered),
    ] {
        assert_eq!(detect(Some(&Others), method, path).1.billing, billing, "{method} {path}");
    }
}
