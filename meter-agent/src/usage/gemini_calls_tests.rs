//! Gemini's other calls, by hand-written bodies in the documented shapes.

use super::*;
use crate::{
    money::Pico,
    usage::{BodyEnd, Quality, Quantity, Reading, ResultRef, Standing, Usage},
};

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json; charset=UTF-8";

/// Reads the answer of a call at every split; a call without a request is a GET.
fn read_with(kind: &str, path: &str, request: &str, body: &str, end: BodyEnd) -> Reading {
    let method = if request.is_empty() { "GET" } else { "POST" };
    let call = Call::new(Gemini.endpoint(method, path).unwrap(), path);
    let facts = Gemini.request(&call, &request.to_owned().into()).unwrap();
    let split = |chunks: Vec<&[u8]>| {
        let mut reader = Gemini.reader(&call, &facts, AnswerHead::new(200, kind));
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
    read_with(JSON, path, request, body, BodyEnd::Complete)
}

fn tokens(reading: &Reading) -> (Quality, u64, u64) {
    (reading.quality, reading.usage.input_tokens, reading.usage.output_tokens)
}

fn at(standing: Standing, id: &str) -> ResultRef {
    ResultRef { id: id.to_owned(), standing }
}

#[test]
fn embeddings_are_input_alone_and_estimated_where_nothing_is_said() {
    let path = "/v1beta/models/gemini-embedding-2:batchEmbedContents";
    let request = r#"{"requests":[{"content":{"parts":[{"text":"hello"}]}}]}"#;
    let body = r#"{"embeddings":[{"values":[0.1]}],"usageMetadata":{"promptTokenCount":261,
        "promptTokenDetails":[{"modality":"IMAGE","tokenCount":258},{"modality":"TEXT","tokenCount":3}]}}"#;
    let got = read(path, request, body);
    assert_eq!((tokens(&got), got.usage.input_image), ((Quality::Exact, 261, 0), 258));
    assert_eq!(got.model.as_deref(), Some("gemini-embedding-2"));
    let silent = read(path, request, r#"{"embeddings":[{"values":[0.1]}]}"#);
    assert_eq!((silent.quality, silent.usage.output_tokens), (Quality::Estimated, 0));
    assert!(silent.usage.input_tokens >= 5);
}

#[test]
fn predictions_count_tokens_characters_and_images() {
    let path = "/v1/projects/p/locations/l/publishers/google/models/text-embedding-004:predict";
    let embedding = |n: u64| format!(r#"{{"embeddings":{{"statistics":{{"token_count":{n}}},"values":[0.1]}}}}"#);
    let body =
        format!(r#"{{"predictions":[{},{}],"metadata":{{"billableCharacterCount":20}}}}"#, embedding(1), embedding(2));
    let got = read(path, r#"{"instances":[{"content":"a"},{"content":"b"}]}"#, &body);
    assert_eq!((tokens(&got), got.units["billable_characters"]), ((Quality::Exact, 3, 0), Quantity::whole(20)));
    let image = r#"{"bytesBase64Encoded":"AAAA","mimeType":"image/png"}"#;
    let request = r#"{"instances":[{"prompt":"a cat"}],"parameters":{"sampleCount":2}}"#;
    let imagen = "/v1beta/models/imagen-4.0-generate-001:predict";
    let got = read(imagen, request, &format!(r#"{{"predictions":[{image},{image}]}}"#));
    assert_eq!((got.quality, got.units["images"]), (Quality::Estimated, Quantity::whole(2)));
    assert_eq!(read(imagen, request, r#"{"predictions":[7]}"#).quality, Quality::Absent);
}

const USAGE: &str = r#""usage":{"total_input_tokens":53,"input_tokens_by_modality":[{"modality":"audio","tokens":20}],
    "total_cached_tokens":10,"total_output_tokens":9,"total_thought_tokens":30,"total_tool_use_tokens":7,
    "raw_prompt_token":4779,"grounding_tool_count":[{"type":"google_search","count":2}]}"#;

fn interaction(status: &str, usage: &str) -> String {
    let usage = if usage.is_empty() { String::new() } else { format!(",{}", usage.replace('\n', " ")) };
    format!(r#"{{"id":"v1_x","model":"gemini-3-flash","status":"{status}","service_tier":"standard"{usage}}}"#)
}

const INTERACTIONS: &str = "/v1beta/interactions";
const ASKED: &str = r#"{"model":"gemini-3-flash","input":"hi","generation_config":{"max_output_tokens":9000}}"#;

#[test]
fn thoughts_and_tool_use_of_an_interaction_are_extra() {
    let got = read(INTERACTIONS, ASKED, &interaction("completed", USAGE));
    let want = Usage {
        input_tokens: 60,
        input_uncached: 50,
        cache_read: 10,
        input_audio: 20,
        output_tokens: 39,
        reasoning_tokens: 30,
        ..Usage::default()
    };
    assert_eq!((got.usage, got.quality, &got.result), (want, Quality::Exact, &Some(at(Standing::Final, "v1_x"))));
    assert_eq!(got.server_tools.get("google_search"), Some(&2));
    let again = read("/v1beta/interactions/v1_x", "", &interaction("completed", USAGE));
    assert_eq!((again.usage, again.result), (want, Some(at(Standing::Repeat, "v1_x"))));
}

#[test]
fn a_stream_of_an_interaction_has_used_what_it_says_and_its_text_so_far() {
    let so_far = |request: &'static str, events: &[&str]| {
        let call = Call::new(Gemini.endpoint("POST", INTERACTIONS).unwrap(), INTERACTIONS);
        let facts = Gemini.request(&call, &request.into()).unwrap();
        let mut reader = Gemini.reader(&call, &facts, AnswerHead::new(200, SSE));
        for event in events {
            reader.feed(format!("data: {event}\n\n").as_bytes());
        }
        reader.so_far().map(|reading| reading.usage.output_tokens)
    };
    let delta = |delta: &str| format!(r#"{{"index":0,"delta":{delta},"event_type":"step.delta"}}"#);
    let long = "word ".repeat(1_600);
    let text = delta(&format!(r#"{{"text":"{long}","type":"text"}}"#));
    let request =
        r#"{"model":"gemini-2.5-flash","input":"hi","stream":true,"generation_config":{"max_output_tokens":5}}"#;
    assert_eq!(so_far(request, &[&text]), Some(1_000), "whatever the ceiling of 5 is");
    let beside = [
        delta(&format!(r#"{{"content":{{"text":"{long}","type":"text"}},"type":"thought_summary"}}"#)),
        delta(&format!(r#"{{"signature":"{long}","type":"thought_signature"}}"#)),
        delta(&format!(r#"{{"data":"{long}","mime_type":"audio/wav","type":"audio"}}"#)),
        delta(&format!(r#"{{"result":[{{"text":"{long}"}}],"type":"google_search_result"}}"#)),
    ];
    assert_eq!(so_far(request, &beside.each_ref().map(String::as_str)), Some(0), "none of it is billed text");
    let stated = text.replace(
        "\"event_type\"",
        r#""metadata":{"usage":{"total_input_tokens":11,"total_output_tokens":1300,"total_thought_tokens":700}},"event_type""#,
    );
    assert_eq!(so_far(request, &[&stated]), Some(2_000), "the provider's own word");
    let later = r#"{"model":"gemini-2.5-flash","input":"hi","stream":true,"background":true}"#;
    assert_eq!(so_far(later, &[&text]), None, "it goes on without its stream");
}

#[test]
fn an_interaction_in_the_background_is_pending_until_it_is_seen_done() {
    let order = r#"{"agent":"deep-research","input":"hi","background":true}"#;
    let got = read(INTERACTIONS, order, &interaction("in_progress", ""));
    assert_eq!((&got.result, got.is_empty()), (&Some(at(Standing::Pending, "v1_x")), true));
    let failed = read("/v1beta/interactions/v1_x", "", &interaction("failed", ""));
    assert_eq!((tokens(&failed), failed.result), ((Quality::Exact, 0, 0), Some(at(Standing::Repeat, "v1_x"))));
    let silent = read(INTERACTIONS, ASKED, &interaction("completed", ""));
    assert_eq!(silent.quality, Quality::Estimated);
}

#[test]
fn a_stream_of_an_interaction_is_final_at_its_end_alone() {
    let event = |name: &str, data: &str| format!("event: {name}\ndata: {data}\n\n");
    let start = format!(r#"{{"event_type":"interaction.created","interaction":{}}}"#, interaction("in_progress", ""));
    let delta = r#"{"event_type":"step.delta","delta":{"text":"hi"}}"#;
    let running =
        r#"{"event_type":"step.stop","metadata":{"usage":{"total_input_tokens":53,"total_output_tokens":4}}}"#;
    let end = format!(r#"{{"interaction":{},"event_type":"interaction.completed"}}"#, interaction("completed", USAGE));
    let asked = ASKED.replace("\"input\"", "\"stream\":true,\"input\"");
    let begun = event("interaction.created", &start) + &event("step.delta", delta);
    let whole = format!("{begun}{}event: done\ndata: [DONE]\n\n", event("interaction.completed", &end));
    let got = read_with(SSE, INTERACTIONS, &asked, &whole, BodyEnd::Complete);
    assert_eq!((tokens(&got), got.result), ((Quality::Exact, 60, 39), Some(at(Standing::Final, "v1_x"))));
    let cut = read_with(SSE, INTERACTIONS, &asked, &begun, BodyEnd::Cut);
    assert_eq!((cut.quality, cut.usage.output_tokens), (Quality::Estimated, 9_000), "thoughts do not show");
    let cut = read_with(SSE, INTERACTIONS, &asked, &(begun.clone() + &event("step.stop", running)), BodyEnd::Cut);
    assert_eq!(tokens(&cut), (Quality::Estimated, 53, 4_100));
    let background = asked.replace("\"input\"", "\"background\":true,\"input\"");
    let cut = read_with(SSE, INTERACTIONS, &background, &begun, BodyEnd::Cut);
    assert_eq!(cut.result, Some(at(Standing::Pending, "v1_x")));
    let error = event("error", r#"{"event_type":"error","error":{"code":"x"}}"#);
    let failed = read_with(SSE, INTERACTIONS, &asked, &error, BodyEnd::Complete);
    assert_eq!(tokens(&failed), (Quality::Exact, 0, 0));
}

#[test]
fn a_cache_costs_by_the_tokens_that_it_keeps() {
    let body =
        r#"{"name":"cachedContents/x","model":"models/gemini-2.5-flash","usageMetadata":{"totalTokenCount":9609}}"#;
    let got = read("/v1beta/cachedContents", r#"{"model":"models/gemini-2.5-flash","ttl":"600s"}"#, body);
    assert_eq!((tokens(&got), got.units["cache_storage_tokens"]), ((Quality::Exact, 0, 0), Quantity::whole(9609)));
    assert_eq!((got.model.as_deref(), got.variant.as_deref()), (Some("gemini-2.5-flash"), Some("600s")));
}

#[test]
fn a_batch_is_billed_by_the_get_that_shows_its_answers() {
    let order = r#"{"batch":{"inputConfig":{"requests":{"requests":[{"request":{}},{"request":{}}]}}}}"#;
    let path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent";
    let pending = r#"{"name":"batches/b","metadata":{"state":"BATCH_STATE_PENDING"}}"#;
    let got = read(path, order, pending);
    assert_eq!((tokens(&got), got.result), ((Quality::Exact, 0, 0), Some(at(Standing::Pending, "batches/b"))));
    let answer = r#"{"response":{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"thoughtsTokenCount":3},
        "modelVersion":"gemini-2.5-flash"}}"#;
    let done = |state: &str, output: &str| {
        format!(
            r#"{{"name":"batches/b","metadata":{{"model":"models/m","state":"BATCH_STATE_{state}","output":{output}}}}}"#
        )
    };
    let inline = format!(r#"{{"inlinedResponses":{{"inlinedResponses":[{answer},{answer},{{"error":{{}}}}]}}}}"#);
    let got = read("/v1beta/batches/b", "", &done("SUCCEEDED", &inline));
    assert_eq!((tokens(&got), got.batch), ((Quality::Exact, 10, 10), true));
    assert_eq!((got.model.as_deref(), got.result), (Some("gemini-2.5-flash"), Some(at(Standing::Repeat, "batches/b"))));
    let file = read("/v1beta/batches/b", "", &done("SUCCEEDED", r#"{"responsesFile":"files/x"}"#));
    assert_eq!(file.quality, Quality::Absent, "its answers are elsewhere");
    let failed = read("/v1beta/batches/b", "", &done("FAILED", "{}"));
    assert_eq!((tokens(&failed), failed.result), ((Quality::Exact, 0, 0), Some(at(Standing::Repeat, "batches/b"))));
}

#[test]
fn a_video_is_billed_by_its_order() {
    let path = "/v1beta/models/veo-3.1-generate:predictLongRunning";
    let order = r#"{"instances":[{}],"parameters":{"durationSeconds":4,"sampleCount":2,"resolution":"1080p"}}"#;
    let got = read(path, order, r#"{"name":"models/veo/operations/x"}"#);
    assert_eq!((got.quality, got.units["video_seconds"]), (Quality::Estimated, Quantity::whole(8)));
    assert_eq!((got.variant.as_deref(), got.result), (Some("1080p"), None));
}

#[test]
fn other_publishers_models_speak_their_own_dialects() {
    let claude = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-4@1:rawPredict";
    let request = r#"{"anthropic_version":"vertex-2023-10-16","max_tokens":100,"messages":[]}"#;
    let body = r#"{"model":"claude-4-1","usage":{"input_tokens":16,"cache_read_input_tokens":4,"output_tokens":9}}"#;
    let got = read(claude, request, body);
    assert_eq!((tokens(&got), got.usage.cache_read), ((Quality::Exact, 20, 9), 4));
    let start =
        r#"{"type":"message_start","message":{"model":"claude-4-1","usage":{"input_tokens":16,"output_tokens":1}}}"#;
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":65}}"#;
    let stream = format!("event: message_start\ndata: {start}\n\nevent: message_delta\ndata: {delta}\n\n");
    let path = claude.replace(":rawPredict", ":streamRawPredict");
    assert_eq!(tokens(&read_with(SSE, &path, request, &stream, BodyEnd::Complete)), (Quality::Exact, 16, 65));
    let mistral = "/v1/projects/p/publishers/mistralai/models/mistral-large:rawPredict";
    let body = r#"{"model":"mistral-large","usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}"#;
    assert_eq!(tokens(&read(mistral, r#"{"messages":[]}"#, body)), (Quality::Exact, 5, 3));
}

#[test]
fn provisioned_throughput_costs_nothing_and_keeps_its_tokens() {
    let path = "/v1/projects/p/publishers/google/models/gemini-2.5-pro:generateContent";
    let body = |traffic: &str| {
        format!(
            r#"{{"candidates":[{{}}],"usageMetadata":{{"promptTokenCount":5,"candidatesTokenCount":2,"trafficType":{traffic}}}}}"#
        )
    };
    for traffic in ["\"PROVISIONED_THROUGHPUT\"", "2"] {
        let got = read(path, "{}", &body(traffic));
        assert_eq!((tokens(&got), got.reported), ((Quality::Exact, 5, 2), Some(Pico::ZERO)));
        assert!(got.reason.is_some());
    }
    for (traffic, tier) in [("\"ON_DEMAND\"", None), ("\"ON_DEMAND_FLEX\"", Some("flex")), ("3", Some("priority"))] {
        let got = read(path, "{}", &body(traffic));
        assert_eq!((got.service_tier.as_deref(), got.reported), (tier, None));
    }
    let blocked = read(path, r#"{"generationConfig":{"maxOutputTokens":9}}"#, r#"{"usageMetadata":{"trafficType":1}}"#);
    assert_eq!(blocked.quality, Quality::Estimated, "it says nothing of tokens");
}

const LIVE_PATH: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

fn session() -> Box<dyn SocketReader> {
    let call = Call::new(Gemini.endpoint("GET", LIVE_PATH).unwrap(), LIVE_PATH);
    let mut session = Gemini.socket(&call).unwrap();
    session.sent(br#"{"setup":{"model":"publishers/google/models/gemini-live","generationConfig":{"maxOutputTokens":50},"tools":[{"googleSearch":{}}]}}"#);
    session
}

#[test]
fn each_turn_of_a_live_session_is_billed_by_its_own_usage() {
    let mut session = session();
    let facts = session.facts();
    assert_eq!((facts.model.as_deref(), facts.ceiling), (Some("gemini-live"), Some(50)));
    assert!(facts.input_unbounded && facts.tools.contains_key("google_search"));
    session.sent(br#"{"client_content":{"turns":[],"turnComplete":true}}"#);
    assert_eq!(session.received(br#"{"setupComplete":{}}"#), None);
    assert_eq!(
        session.received(
            br#"{"serverContent":{"modelTurn":{"parts":[]},"groundingMetadata":{"webSearchQueries":["a"]}}}"#
        ),
        None
    );
    let end = br#"{"serverContent":{"turnComplete":true},"usageMetadata":{"promptTokenCount":541,"responseTokenCount":61,
        "totalTokenCount":602,"responseTokensDetails":[{"modality":"AUDIO","tokenCount":60}],"thoughtsTokenCount":46}}"#;
    let got = session.received(end).unwrap();
    assert_eq!((tokens(&got), got.usage.output_audio), ((Quality::Exact, 541, 107), 60));
    assert_eq!(got.model.as_deref(), Some("publishers/google/gemini-live"));
    assert_eq!(got.server_tools.get("google_search"), Some(&1));
    assert_eq!(session.received(br#"{"sessionResumptionUpdate":{"resumable":true}}"#), None);
    assert_eq!(session.finish(), None);
}

#[test]
fn a_turn_that_the_session_ends_in_is_absent() {
    for sent in [&br#"{"clientContent":{"turnComplete":true}}"#[..], br#"{"toolResponse":{"functionResponses":[]}}"#] {
        let mut session = session();
        session.sent(sent);
        assert_eq!(session.finish().unwrap().quality, Quality::Absent);
        assert_eq!(session.finish(), None);
    }
    let mut session = session();
    session.received(br#"{"serverContent":{"modelTurn":{"parts":[]}}}"#);
    assert_eq!(session.finish().unwrap().quality, Quality::Absent);
}

#[test]
fn an_interactions_ceiling_is_in_its_own_spelling() {
    let endpoint = Gemini.endpoint("POST", INTERACTIONS).unwrap();
    let rewrite = Rewrite { ask_usage: false, ceiling: Some(7) };
    let body = Gemini.rewrite(endpoint, br#"{"input":"hi"}"#, rewrite).unwrap();
    assert_eq!(body, br#"{"input":"hi","generation_config":{"max_output_tokens":7}}"#);
}

#[test]
fn the_model_of_a_live_session_is_that_of_its_setup_however_it_is_written() {
    let call = Call::new(Gemini.endpoint("GET", LIVE_PATH).unwrap(), LIVE_PATH);
    for setup in [
        r#"{"setup":{"model":"models/gemini-live"}}"#,
        r#"{"\u0073etup":{"model":"models/gemini-live"}}"#,
        r#"{"setup":{"model":"models/x"},"setup":{"model":"models/y","model":"models/gemini-live"}}"#,
    ] {
        let mut session = Gemini.socket(&call).unwrap();
        session.sent(br#"{"clientContent":{"turns":[{"parts":[{"text":"\"setup\""}]}]}}"#);
        assert_eq!((session.facts().model, session.is_under_way()), (None, false));
        session.sent(setup.as_bytes());
        assert_eq!(session.facts().model.as_deref(), Some("gemini-live"), "{setup}");
        session.sent(br#"{"clientContent":{"turns":[],"turnComplete":true}}"#);
        assert!(session.is_under_way());
    }
}
