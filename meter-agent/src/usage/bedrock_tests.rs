//! Bedrock, by hand-written answers in the documented shapes.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::usage::{
    BodyEnd, Quality, Quantity, Standing, Usage, detect,
    event_stream::{event, framed as frame},
};

const JSON: AnswerHead<'_> = AnswerHead::new(200, "application/json");
const FRAMES: AnswerHead<'_> = AnswerHead::new(200, "application/vnd.amazon.eventstream");

fn call(path: &'static str) -> Call<'static> {
    Call::new(Bedrock.endpoint("POST", path).unwrap(), path)
}

fn facts(path: &'static str, body: &str) -> RequestFacts {
    Bedrock.request(&call(path), &body.to_owned().into()).unwrap()
}

fn read(path: &'static str, facts: &RequestFacts, head: AnswerHead<'_>, body: &[u8], end: BodyEnd) -> Reading {
    let call = call(path);
    let mut whole = Bedrock.reader(&call, facts, head);
    whole.feed(body);
    let whole = whole.finish(end);
    for size in [1, 7] {
        let mut parts = Bedrock.reader(&call, facts, head);
        body.chunks(size).for_each(|b| parts.feed(b));
        assert_eq!(parts.finish(end), whole, "any split reads the same");
    }
    whole
}

/// Input, cache read, cache writes of both kinds, output.
fn numbers(usage: Usage) -> [u64; 5] {
    assert_eq!(
        usage.input_tokens,
        usage.input_uncached + usage.cache_read + usage.cache_write_5m + usage.cache_write_1h
    );
    [usage.input_uncached, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output_tokens]
}

fn chunk(json: &str) -> Vec<u8> {
    event("chunk", &format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", STANDARD.encode(json)))
}

fn exception() -> Vec<u8> {
    frame(&[(":exception-type", "throttlingException"), (":message-type", "exception")], b"{\"message\":\"slow\"}")
}

/// What a stream has used of output when these frames have passed.
fn so_far(path: &'static str, facts: &RequestFacts, frames: &[Vec<u8>]) -> u64 {
    let mut reader = Bedrock.reader(&call(path), facts, FRAMES);
    for frame in frames {
        reader.feed(frame);
    }
    reader.so_far().unwrap().usage.output_tokens
}

const CONVERSE_PATH: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse";
const STREAM_PATH: &str = "/bedrock/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream";
const ASKED: &str = r#"{"messages":[{"role":"user","content":[{"text":"hi"}]}],"inferenceConfig":{"maxTokens":800}}"#;

#[test]
fn converse_excludes_the_cache_and_says_writes_by_their_life() {
    let asked = facts(CONVERSE_PATH, ASKED);
    let body = r#"{"output":{},"usage":{"inputTokens":3,"outputTokens":121,"cacheReadInputTokens":1712,
        "cacheReadInputTokenCount":1712,"cacheWriteInputTokens":236,"cacheWriteInputTokenCount":236,
        "cacheDetails":[{"inputTokens":36,"ttl":"1h"},{"inputTokens":100,"ttl":"5m"}],"totalTokens":2072},
        "serviceTier":{"type":"flex"}}"#;
    let got = read(CONVERSE_PATH, &asked, JSON, body.as_bytes(), BodyEnd::Complete);
    assert_eq!((got.quality, numbers(got.usage)), (Quality::Exact, [3, 1712, 200, 36, 121]));
    assert_eq!(got.model.as_deref(), Some("us.anthropic.claude-sonnet-4-5-20250929-v1:0"));
    assert_eq!(got.service_tier.as_deref(), Some("flex"));
    let unsaid = read(CONVERSE_PATH, &asked, JSON, b"{\"output\":{}}", BodyEnd::Complete);
    assert_eq!((unsaid.quality, unsaid.usage.input_tokens), (Quality::Estimated, asked.input_bound));
    let blocked = br#"{"stopReason":"guardrail_intervened","usage":{"inputTokens":0,"outputTokens":0}}"#;
    let blocked = read(CONVERSE_PATH, &asked, JSON, blocked, BodyEnd::Complete);
    assert_eq!((blocked.quality, blocked.usage), (Quality::Exact, Usage::default()));
}

#[test]
fn a_stream_is_exact_by_its_metadata_and_else_estimated() {
    let asked = facts(STREAM_PATH, ASKED);
    let start = [event("messageStart", "{}"), event("contentBlockDelta", "{\"delta\":{\"text\":\"hi\"}}")].concat();
    let metadata = event(
        "metadata",
        "{\"usage\":{\"inputTokens\":8,\"outputTokens\":10},\"performanceConfig\":{\"latency\":\"optimized\"}}",
    );
    let whole = [&start[..], &metadata].concat();
    let got = read(STREAM_PATH, &asked, FRAMES, &whole, BodyEnd::Complete);
    assert_eq!((got.quality, numbers(got.usage)), (Quality::Exact, [8, 0, 0, 0, 10]));
    assert_eq!(got.service_tier.as_deref(), Some("optimized"));
    for at in 0..whole.len() {
        let cut = read(STREAM_PATH, &asked, FRAMES, &whole[..at], BodyEnd::Cut);
        assert_eq!((cut.quality, cut.usage.output_tokens), (Quality::Estimated, 800), "cut at {at}");
    }
    let failed = read(STREAM_PATH, &asked, FRAMES, &[&start[..], &exception()].concat(), BodyEnd::Complete);
    assert_eq!((failed.quality, failed.usage.output_tokens), (Quality::Estimated, 800));
    let refused = read(STREAM_PATH, &asked, FRAMES, &exception(), BodyEnd::Complete);
    assert!(refused.is_empty() && refused.quality == Quality::Exact && refused.reason.is_some());
}

#[test]
fn a_damaged_metadata_frame_is_not_believed() {
    let asked = facts(STREAM_PATH, ASKED);
    let mut body = event("metadata", "{\"usage\":{\"inputTokens\":8,\"outputTokens\":10}}");
    let at = body.len() - 8;
    body[at] ^= 1;
    assert_eq!(read(STREAM_PATH, &asked, FRAMES, &body, BodyEnd::Complete).quality, Quality::Estimated);
}

#[test]
fn every_familys_body_is_read_and_headers_where_it_is_silent() {
    const PATH: &str = "/model/some.model/invoke";
    let header = |name: &str| match name {
        "x-amzn-bedrock-input-token-count" => Some("4".to_owned()),
        "x-amzn-bedrock-cache-read-input-token-count" => Some("100".to_owned()),
        "x-amzn-bedrock-output-token-count" => Some("6".to_owned()),
        _ => None,
    };
    let counted = AnswerHead { header: &header, ..JSON };
    let asked = facts(PATH, r#"{"prompt":"x","max_tokens":50}"#);
    for (head, body, want) in [
        (
            JSON,
            r#"{"type":"message","model":"claude-x","usage":{"input_tokens":4,"cache_creation_input_tokens":9,"output_tokens":5}}"#,
            [4, 0, 9, 0, 5],
        ),
        (
            JSON,
            r#"{"output":{},"usage":{"inputTokens":13,"outputTokens":7,"cacheReadInputTokenCount":2}}"#,
            [13, 2, 0, 0, 7],
        ),
        (JSON, r#"{"generation":"x","prompt_token_count":9,"generation_token_count":26}"#, [9, 0, 0, 0, 26]),
        (JSON, r#"{"inputTextTokenCount":8,"results":[{"tokenCount":15},{"tokenCount":2}]}"#, [8, 0, 0, 0, 17]),
        (JSON, r#"{"embedding":[0.1],"inputTextTokenCount":8}"#, [8, 0, 0, 0, 0]),
        (
            JSON,
            r#"{"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}}"#,
            [5, 4, 0, 0, 3],
        ),
        (counted, r#"{"generations":[{"text":"x"}]}"#, [4, 100, 0, 0, 6]),
        (counted, r#"{"outputs":[{"text":"x"}]}"#, [4, 100, 0, 0, 6]),
    ] {
        let got = read(PATH, &asked, head, body.as_bytes(), BodyEnd::Complete);
        assert_eq!((got.quality, numbers(got.usage)), (Quality::Exact, want), "{body}");
        assert_eq!(got.model.as_deref(), Some("some.model"));
    }
}

#[test]
fn what_says_no_tokens_is_priced_by_what_was_ordered() {
    const PATH: &str = "/model/cohere.rerank-v3-5%3A0/invoke";
    let asked = facts(PATH, r#"{"query":"q","documents":["a","b"],"api_version":2}"#);
    let got = read(PATH, &asked, JSON, br#"{"results":[]}"#, BodyEnd::Complete);
    assert_eq!((got.quality, got.units["search_units"]), (Quality::Estimated, Quantity::whole(1)));
    let images = facts(PATH, r#"{"taskType":"TEXT_IMAGE","imageGenerationConfig":{"numberOfImages":3}}"#);
    assert!(images.no_output && images.units["images"] == Quantity::whole(3));
}

const INVOKED: &str = "/model/us.anthropic.claude-sonnet-4-5/invoke-with-response-stream";

#[test]
fn messages_in_chunks_follow_their_own_rules_and_not_the_metrics() {
    let asked = facts(INVOKED, r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":90,"messages":[]}"#);
    assert!(asked.stream && asked.can_clamp && asked.ceiling == Some(90));
    let start = chunk(
        r#"{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":392,"output_tokens":8}}}"#,
    );
    let delta = chunk(r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":133}}"#);
    let metrics =
        r#"{"type":"message_stop","amazon-bedrock-invocationMetrics":{"inputTokenCount":392,"outputTokenCount":97}}"#;
    let got = read(INVOKED, &asked, FRAMES, &[&start[..], &delta, &chunk(metrics)].concat(), BodyEnd::Complete);
    assert_eq!((got.quality, numbers(got.usage)), (Quality::Exact, [392, 0, 0, 0, 133]));
    assert_eq!(got.model.as_deref(), Some("us.anthropic.claude-sonnet-4-5"));
    let cut = read(INVOKED, &asked, FRAMES, &start, BodyEnd::Cut);
    assert_eq!((cut.quality, cut.usage.input_tokens, cut.usage.output_tokens), (Quality::Estimated, 392, 90));
}

#[test]
fn other_families_streams_are_read_by_body_or_metrics() {
    const PATH: &str = "/model/meta.llama3-70b-instruct-v1%3A0/invoke-with-response-stream";
    const LAST: &str = r#""amazon-bedrock-invocationMetrics":{"inputTokenCount":10,"outputTokenCount":60}"#;
    let asked = facts(PATH, r#"{"prompt":"x","max_gen_len":60}"#);
    let text = chunk(r#"{"outputs":[{"text":" Paris"}]}"#);
    for (first, last, want) in [
        (r#"{"outputs":[{"text":" x"}]}"#, format!("{{{LAST}}}"), [10, 0, 0, 0, 60]),
        (
            r#"{"generation":"a","prompt_token_count":9,"generation_token_count":1}"#,
            format!(r#"{{"prompt_token_count":null,"generation_token_count":26,{LAST}}}"#),
            [9, 0, 0, 0, 26],
        ),
        ("{}", format!(r#"{{"metadata":{{"usage":{{"inputTokens":5,"outputTokens":7}}}},{LAST}}}"#), [5, 0, 0, 0, 7]),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":17,"completion_tokens":1}}"#,
            format!(r#"{{"usage":{{"prompt_tokens":17,"completion_tokens":8}},{LAST}}}"#),
            [17, 0, 0, 0, 8],
        ),
    ] {
        let whole = [&chunk(first)[..], &text, &chunk(&last)].concat();
        let got = read(PATH, &asked, FRAMES, &whole, BodyEnd::Complete);
        assert_eq!((got.quality, numbers(got.usage)), (Quality::Exact, want), "{last}");
        let cut = read(PATH, &asked, FRAMES, &whole[..whole.len() - 1], BodyEnd::Cut);
        assert_eq!((cut.quality, cut.usage.output_tokens), (Quality::Estimated, 60), "{last}");
    }
    let blocked = chunk(r#"{"outputText":"no","inputTextTokenCount":6.0,"totalOutputTextTokenCount":3.0}"#);
    assert_eq!(read(PATH, &asked, FRAMES, &blocked, BodyEnd::Complete).quality, Quality::Estimated);
}

#[test]
fn a_speech_session_is_its_last_total() {
    const PATH: &str = "/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream";
    let total = |input: u64| {
        chunk(&format!(
            r#"{{"event":{{"usageEvent":{{"totalInputTokens":{input},"totalOutputTokens":9,"details":{{"delta":{{}},
            "total":{{"input":{{"speechTokens":4,"textTokens":1}},"output":{{"speechTokens":7}}}}}}}}}}}}"#
        ))
    };
    let text = chunk(r#"{"event":{"textOutput":{"content":"usageEvent"}}}"#);
    let body = [total(5), text, total(50)].concat();
    let asked = RequestFacts::default();
    let got = read(PATH, &asked, FRAMES, &body, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.input_audio), (Quality::Exact, 50, 4));
    assert_eq!((got.usage.output_tokens, got.usage.output_audio), (9, 7));
    assert_eq!(read(PATH, &asked, FRAMES, &body, BodyEnd::Cut).quality, Quality::Absent);
}

const AGENT_PATH: &str = "/agents/A/agentAliases/B/sessions/C/text";

fn step(id: &str, model: &str, input: u64) -> Vec<u8> {
    let called = format!(
        r#"{{"trace":{{"orchestrationTrace":{{"modelInvocationInput":{{"traceId":"{id}","foundationModel":"{model}"}}}}}}}}"#
    );
    let answered = format!(
        r#"{{"trace":{{"orchestrationTrace":{{"modelInvocationOutput":{{"traceId":"{id}","metadata":{{"usage":{{"inputTokens":{input},"outputTokens":1}}}}}}}}}}}}"#
    );
    [event("trace", &called), event("trace", &answered)].concat()
}

#[test]
fn an_agents_models_are_summed_from_its_traces() {
    let asked = facts(AGENT_PATH, r#"{"inputText":"x","enableTrace":true}"#);
    assert!(asked.input_unbounded && asked.hidden_output);
    let end = event("chunk", "{\"bytes\":\"aGk=\"}");
    let whole = [step("1", "a", 10), step("2", "b", 5), step("3", "a", 1), end.clone()].concat();
    let got = read(AGENT_PATH, &asked, FRAMES, &whole, BodyEnd::Complete);
    assert_eq!((got.quality, got.usage.input_tokens, got.usage.output_tokens), (Quality::Exact, 16, 3));
    assert_eq!(got.lines.iter().map(|l| l.usage.input_tokens).collect::<Vec<_>>(), [11, 5]);
    let one = read(AGENT_PATH, &asked, FRAMES, &[step("1", "a", 10), end.clone()].concat(), BodyEnd::Complete);
    assert_eq!((one.model.as_deref(), one.lines.len()), (Some("a"), 0));
    assert_eq!(read(AGENT_PATH, &asked, FRAMES, &end, BodyEnd::Complete).quality, Quality::Absent);
    assert_eq!(read(AGENT_PATH, &asked, FRAMES, &whole, BodyEnd::Cut).quality, Quality::Absent);
    let first = event("trace", r#"{"trace":{"orchestrationTrace":{"modelInvocationInput":{"traceId":"9"}}}}"#);
    let silent = read(AGENT_PATH, &asked, FRAMES, &[step("1", "a", 10), first].concat(), BodyEnd::Complete);
    assert_eq!(silent.quality, Quality::Absent);
    let first = event("trace", r#"{"trace":{"orchestrationTrace":{"modelInvocationInput":{"traceId":"9"}}}}"#);
    let broken = event("trace", r#"{"trace":{"failureTrace":{"traceId":"9","failureReason":"x"}}}"#);
    let failed = read(AGENT_PATH, &asked, FRAMES, &[step("1", "a", 10), first, broken].concat(), BodyEnd::Complete);
    assert_eq!((failed.quality, failed.usage.input_tokens), (Quality::Exact, 10));
}

#[test]
fn an_ordered_job_is_pending_until_it_is_seen_to_end() {
    let call = call("/async-invoke");
    for (body, standing) in [
        (r#"{"invocationArn":"arn:1"}"#, Standing::Pending),
        (r#"{"invocationArn":"arn:1","status":"InProgress"}"#, Standing::Pending),
        (r#"{"invocationArn":"arn:1","status":"Completed"}"#, Standing::Final),
        (r#"{"invocationArn":"arn:1","status":"Failed"}"#, Standing::Final),
    ] {
        let mut reader = Bedrock.reader(&call, &RequestFacts::default(), JSON);
        reader.feed(body.as_bytes());
        let got = reader.finish(BodyEnd::Complete);
        assert_eq!(got.result.unwrap().standing, standing);
        assert_eq!(got.quality == Quality::Exact, body.contains("Failed"));
    }
}

#[test]
fn requests_state_ceilings_in_every_familys_words() {
    const PATH: &str = "/model/x/invoke";
    for body in [
        r#"{"prompt":"x","max_gen_len":7}"#,
        r#"{"prompt":"x","max_tokens_to_sample":7}"#,
        r#"{"prompt":"x","maxTokens":7}"#,
        r#"{"inputText":"x","textGenerationConfig":{"maxTokenCount":7}}"#,
        r#"{"messages":[],"inferenceConfig":{"max_new_tokens":7}}"#,
        r#"{"messages":[],"inferenceConfig":{"maxTokens":7}}"#,
        r#"{"messages":[],"max_completion_tokens":7}"#,
        r#"{"messages":[],"anthropic_version":"x","max_tokens":7}"#,
    ] {
        assert_eq!(facts(PATH, body).ceiling, Some(7), "{body}");
    }
    let embed = facts("/model/amazon.titan-embed-text-v2/invoke", r#"{"inputText":"x"}"#);
    assert!(embed.no_output && !embed.hidden_output);
    assert!(facts("/model/us.deepseek.r1-v1/invoke", r#"{"prompt":"x"}"#).hidden_output);
}

#[test]
fn a_converse_request_states_its_media_cache_and_tools() {
    let blob = "A".repeat(80_000);
    let image = format!(
        r#"{{"messages":[{{"content":[{{"image":{{"format":"png","source":{{"bytes":"{blob}"}}}}}},{{"cachePoint":{{"type":"default"}}}}]}}]}}"#
    );
    let got = facts(CONVERSE_PATH, &image);
    assert!(got.input_image && got.cache_5m && !got.input_unbounded && got.input_bound < 9_000, "{}", got.input_bound);
    assert!(facts(CONVERSE_PATH, &image.replace("image", "document")).input_unbounded);
    let schema = r#"{"messages":[],"toolConfig":{"tools":[{"toolSpec":{"inputSchema":{"json":{"document":{"type":"string"}}}}}]}}"#;
    assert!(!facts(CONVERSE_PATH, schema).input_unbounded);
    let grounded = r#"{"messages":[],"toolConfig":{"tools":[{"systemTool":{"name":"nova_grounding"}}]}}"#;
    assert!(facts(CONVERSE_PATH, grounded).server_tools);
    let thinking = r#"{"messages":[],"additionalModelRequestFields":{"thinking":{"type":"enabled"}}}"#;
    assert!(facts(CONVERSE_PATH, thinking).hidden_output && !facts(CONVERSE_PATH, ASKED).hidden_output);
}

#[test]
fn a_ceiling_is_set_in_its_own_field() {
    let rewrite = Rewrite { ceiling: Some(3), ..Rewrite::default() };
    let converse = |body: &[u8]| Bedrock.rewrite(call(CONVERSE_PATH).endpoint, body, rewrite).unwrap();
    assert_eq!(converse(br#"{"messages":[]}"#), br#"{"messages":[],"inferenceConfig":{"maxTokens":3}}"#);
    let kept = br#"{"inferenceConfig":{"topP":0.50,"maxTokens":9},"x":1.0}"#;
    assert_eq!(converse(kept), br#"{"inferenceConfig":{"topP":0.50,"maxTokens":3},"x":1.0}"#);
    let invoked = Bedrock.rewrite(call(INVOKED).endpoint, br#"{"max_tokens":9}"#, rewrite).unwrap();
    assert_eq!(invoked, br#"{"max_tokens":3}"#);
}

#[test]
fn the_model_is_the_paths() {
    for (path, want) in [
        ("/model/us.amazon.nova-pro-v1:0/converse", "us.amazon.nova-pro-v1:0"),
        (
            "/model/arn%3aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/invoke",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.x",
        ),
        (
            "/p/model/arn:aws:bedrock:eu:1:application-inference-profile/abc/converse",
            "arn:aws:bedrock:eu:1:application-inference-profile/abc",
        ),
        ("/model/100%/invoke", "100%"),
    ] {
        assert_eq!(model(path).as_deref(), Some(want));
    }
    assert_eq!(model("/agents/x"), None);
}

#[test]
fn calls_are_known_and_none_is_silently_free() {
    for (method, path, name, billing) in [
        ("POST", CONVERSE_PATH, CONVERSE, Billing::Metered),
        ("POST", "/model/x/invoke-with-bidirectional-stream", BIDIRECTIONAL, Billing::Unknown),
        ("POST", "/model/x%3A0/count-tokens", COUNT_TOKENS, Billing::Free),
        ("POST", "/guardrail/g/version/1/apply", "apply_guardrail", Billing::Unknown),
        ("POST", "/openai/v1/chat/completions", "chat_completions", Billing::Metered),
        ("POST", "/openai/v1/models", "models", Billing::Free),
        ("POST", AGENT_PATH, AGENT, Billing::Metered),
        ("POST", "/agents/session-1", AGENT, Billing::Metered),
        ("POST", "/retrieveAndGenerateStream", "retrieve_and_generate", Billing::Unknown),
        ("POST", "/flows/f/aliases/a", "invoke_flow", Billing::Unknown),
        ("GET", "/async-invoke/arn%3A1", ASYNC, Billing::Result),
    ] {
        let got = detect(Some(&Bedrock), method, path).1;
        assert_eq!((got.name, got.billing), (name, billing), "{method} {path}");
    }
    assert_eq!(detect(Some(&Bedrock), "GET", "/inference-profiles/x").1.billing, Billing::Free);
    assert_eq!(detect(Some(&Bedrock), "GET", "/async-invoke").1.billing, Billing::Free);
    assert_eq!(detect(Some(&Bedrock), "POST", "/v1/agents/unheard-of").1.billing, Billing::Unknown);
}

#[test]
fn a_refusal_is_what_boto3_shows() {
    let problem = Problem { status: 402, code: "budget_exceeded", message: "spent".to_owned(), budget: None };
    let body: serde_json::Value = serde_json::from_slice(&Bedrock.error_body(&problem)).unwrap();
    assert_eq!((&body["message"], &body["__type"]), (&"spent".into(), &"ServiceQuotaExceededException".into()));
    assert_eq!(body["meter_code"], "budget_exceeded");
}

#[test]
fn a_stream_of_converse_has_used_its_text_so_far_and_not_what_is_around_it() {
    let asked = facts(STREAM_PATH, ASKED);
    let delta = |delta: &str| {
        let padding = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ";
        event("contentBlockDelta", &format!(r#"{{"contentBlockIndex":0,"delta":{delta},"p":"{padding}"}}"#))
    };
    let text = |text: &str| delta(&format!(r#"{{"text":"{text}"}}"#));
    assert_eq!(so_far(STREAM_PATH, &asked, &[text("a"), text("b"), text(""), text("c")]), 1);
    let call = delta(r#"{"toolUse":{"input":"0123456789012345678901234567890123456789"}}"#);
    assert_eq!(so_far(STREAM_PATH, &asked, &[call.clone(), call]), 10);
    let signature = delta(&format!(r#"{{"reasoningContent":{{"signature":"{}"}}}}"#, "x".repeat(8_000)));
    let quote = delta(&format!(r#"{{"citation":{{"sourceContent":[{{"text":"{}"}}]}}}}"#, "x".repeat(8_000)));
    assert_eq!(so_far(STREAM_PATH, &asked, &[signature, quote]), 0, "nobody generated it");
    assert_eq!(so_far(STREAM_PATH, &asked, &[text(&"word ".repeat(1_600))]), 1_000, "whatever the ceiling of 800 is");
}

#[test]
fn a_stream_of_invoked_models_has_used_its_text_or_what_the_family_counts() {
    let path = "/model/amazon.nova-lite-v1%3A0/invoke-with-response-stream";
    let asked = facts(path, r#"{"messages":[],"inferenceConfig":{"maxTokens":10}}"#);
    let nova = |text: &str| {
        chunk(&format!(r#"{{"contentBlockDelta":{{"delta":{{"text":"{text}"}},"contentBlockIndex":0}}}}"#))
    };
    assert_eq!(so_far(path, &asked, &[nova(&"word ".repeat(1_600)), nova("a")]), 8_001 / 8);
    let llama =
        |count: u64| chunk(&format!(r#"{{"generation":"a","prompt_token_count":9,"generation_token_count":{count}}}"#));
    assert_eq!(so_far(path, &asked, &[llama(1), llama(70)]), 70);
    let repeated = format!(
        r#"{{"is_finished":true,"response":{{"text":"{}"}},"amazon-bedrock-invocationMetrics":{{"inputTokenCount":9,"outputTokenCount":2}}}}"#,
        "word ".repeat(1_600)
    );
    assert_eq!(so_far(path, &asked, &[chunk(r#"{"text":"a"}"#), chunk(&repeated)]), 2, "the end repeats the whole");
}
