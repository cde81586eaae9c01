//! What the providers document and few recordings show: answers made by hand, read as any host's answer is.

use meter_agent::usage::{AnswerHead, Billing, BodyEnd, Call, Quality, Quantity, Reading, RequestFacts, Usage, detect};

use crate::case::table;

const JSON: &str = "application/json";
const SSE: &str = "text/event-stream; charset=utf-8";

/// One exchange, as the sidecar reads it.
struct Exchange<'a> {
    host: &'a str,
    path: &'a str,
    request: &'a str,
    content_type: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

const fn of<'a>(host: &'a str, path: &'a str) -> Exchange<'a> {
    Exchange { host, path, request: "{\"model\":\"asked\",\"max_tokens\":99}", content_type: JSON, headers: &[] }
}

const fn stream<'a>(host: &'a str, path: &'a str) -> Exchange<'a> {
    let request = "{\"model\":\"asked\",\"max_tokens\":99,\"stream\":true}";
    Exchange { request, content_type: SSE, ..of(host, path) }
}

impl Exchange<'_> {
    fn read(&self, body: &str) -> Reading {
        let found = table().find(self.host, 443).unwrap_or_else(|| panic!("{} is not metered", self.host));
        let (dialect, endpoint) = detect(Some(found.dialect), "POST", self.path.split('?').next().unwrap());
        assert!(matches!(endpoint.billing, Billing::Metered | Billing::Result), "{}: {endpoint:?}", self.path);
        let call = Call { endpoint, path_and_query: self.path, content_type: JSON, quirks: found.quirks };
        let facts = dialect.request(&call, &self.request.to_owned().into()).unwrap_or_else(|_| RequestFacts::default());
        let header = |name: &str| self.headers.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        let head = AnswerHead { status: 200, content_type: self.content_type, header: &header };
        let mut reader = dialect.reader(&call, &facts, head);
        body.as_bytes().chunks(11).for_each(|chunk| reader.feed(chunk));
        reader.finish(BodyEnd::Complete)
    }

    /// Reads `body` and expects these numbers, exactly: uncached, read, written (5 m, 1 h, other), output, reasoning.
    fn is(&self, body: &str, want: [u64; 7]) -> Reading {
        let got = self.read(body);
        let u = got.usage;
        let numbers = [
            u.input_uncached,
            u.cache_read,
            u.cache_write_5m,
            u.cache_write_1h,
            u.cache_write_other,
            u.output_tokens,
            u.reasoning_tokens,
        ];
        assert_eq!((got.quality, numbers), (Quality::Exact, want), "{} {body}", self.path);
        assert_eq!(u.input_tokens, numbers[..5].iter().sum::<u64>(), "{body}");
        got
    }

    /// Billable, and not known to the last token.
    fn is_not_known(&self, body: &str) {
        let got = self.read(body);
        assert_ne!(got.quality, Quality::Exact, "{} {body}", self.path);
    }

    fn is_free(&self, body: &str) {
        let got = self.read(body);
        assert_eq!((got.quality, got.usage), (Quality::Exact, Usage::default()), "{} {body}", self.path);
    }
}

/// Events, each of them a document.
fn events(all: &[&str]) -> String {
    all.iter().map(|data| ["data: ", data, "\n\n"].concat()).collect()
}

fn named(all: &[&str]) -> String {
    let kind = |data: &str| data.split('"').nth(3).unwrap_or_default().to_owned();
    all.iter().map(|data| ["event: ", &kind(data), "\ndata: ", data, "\n\n"].concat()).collect()
}

const OPENAI_CHAT: Exchange<'_> = of("api.openai.com", "/v1/chat/completions");
const CHAT_STREAM: Exchange<'_> = stream("api.openai.com", "/v1/chat/completions");
const RESPONSES: Exchange<'_> = of("api.openai.com", "/v1/responses");
const RESPONSES_STREAM: Exchange<'_> = stream("api.openai.com", "/v1/responses");
const MESSAGES: Exchange<'_> = of("api.anthropic.com", "/v1/messages");
const MESSAGES_STREAM: Exchange<'_> = stream("api.anthropic.com", "/v1/messages");
const GEMINI: Exchange<'_> = of("generativelanguage.googleapis.com", "/v1beta/models/gemini-x:generateContent");
const GEMINI_STREAM: Exchange<'_> =
    stream("generativelanguage.googleapis.com", "/v1beta/models/gemini-x:streamGenerateContent?alt=sse");
const CONVERSE: Exchange<'_> =
    of("bedrock-runtime.us-east-1.amazonaws.com", "/model/us.amazon.nova-pro-v1%3A0/converse");
const INVOKE: Exchange<'_> = of("bedrock-runtime.us-east-1.amazonaws.com", "/model/some.model-v1%3A0/invoke");

#[test]
fn an_empty_usage_is_not_zero() {
    for usage in ["{}", "null", "[]", "\"\"", "0", "{\"prompt_tokens\":null}", "{\"odd\":1}"] {
        let choice = r#""choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]"#;
        OPENAI_CHAT.is_not_known(&format!(r#"{{"model":"m",{choice},"usage":{usage}}}"#));
        CHAT_STREAM.is_not_known(&events(&[
            &format!(r#"{{"model":"m","choices":[{{"delta":{{"content":"hi"}}}}],"usage":{usage}}}"#),
            &format!(r#"{{"model":"m","choices":[],"usage":{usage}}}"#),
            "[DONE]",
        ]));
        let response =
            format!(r#"{{"id":"r","object":"response","status":"completed","model":"m","output":[],"usage":{usage}}}"#);
        RESPONSES.is_not_known(&response);
        RESPONSES_STREAM.is_not_known(&named(&[&format!(r#"{{"type":"response.completed","response":{response}}}"#)]));
        let message =
            format!(r#"{{"type":"message","model":"m","content":[{{"type":"text","text":"hi"}}],"usage":{usage}}}"#);
        MESSAGES.is_not_known(&message);
        MESSAGES_STREAM.is_not_known(&named(&[
            &format!(r#"{{"type":"message_start","message":{message}}}"#),
            &format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{usage}}}"#),
            r#"{"type":"message_stop"}"#,
        ]));
        let candidates = r#""candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]"#;
        let chunk = format!(r#"{{{candidates},"usageMetadata":{usage},"modelVersion":"m"}}"#);
        GEMINI.is_not_known(&chunk);
        GEMINI_STREAM.is_not_known(&events(&[&chunk]));
        CONVERSE
            .is_not_known(&format!(r#"{{"output":{{"message":{{"content":[{{"text":"hi"}}]}}}},"usage":{usage}}}"#));
        INVOKE.is_not_known(&format!(r#"{{"output":{{"message":{{"content":[{{"text":"hi"}}]}}}},"usage":{usage}}}"#));
        of("generativelanguage.googleapis.com", "/v1beta/interactions")
            .is_not_known(&format!(r#"{{"id":"i","status":"completed","model":"m","usage":{usage}}}"#));
        of("api.cohere.com", "/v2/chat")
            .is_not_known(&format!(r#"{{"id":"i","message":{{}},"usage":{{"billed_units":{usage}}}}}"#));
        of("api.openai.com", "/v1/embeddings").is_not_known(&format!(r#"{{"data":[],"model":"m","usage":{usage}}}"#));
        of("api.openai.com", "/v1/audio/transcriptions").is_not_known(&format!(r#"{{"text":"hi","usage":{usage}}}"#));
        of("api.openai.com", "/v1/threads/thread_1/runs")
            .is_not_known(&format!(r#"{{"id":"run_1","object":"thread.run","status":"completed","usage":{usage}}}"#));
    }
    of("ollama.com", "/api/chat").is_not_known(r#"{"model":"m","message":{"content":"hi"},"done":true}"#);
    of("ollama.com", "/api/chat").is_free(r#"{"model":"m","message":{"content":""},"done":true,"done_reason":"load"}"#);
}

#[test]
fn a_stated_zero_is_zero() {
    RESPONSES.is(
        r#"{"id":"r","status":"incomplete","model":"m","output":[],"usage":{"input_tokens":0,"input_tokens_details":{"cached_tokens":0},"output_tokens":0,"total_tokens":0}}"#,
        [0; 7],
    );
    CONVERSE.is(
        r#"{"stopReason":"guardrail_intervened","usage":{"inputTokens":0,"outputTokens":0,"totalTokens":0}}"#,
        [0; 7],
    );
    of("api.voyageai.com", "/v1/embeddings")
        .is(r#"{"data":[],"model":"voyage-3.5","usage":{"total_tokens":0}}"#, [0; 7]);
}

#[test]
fn an_error_in_place_of_an_answer_is_free() {
    let error = r#"{"error":{"message":"no","type":"server_error","code":500}}"#;
    OPENAI_CHAT.is_free(error);
    OPENAI_CHAT.is_free(r#"{"object":"error","message":"no","code":40001}"#);
    CHAT_STREAM.is_free(&events(&[error, "[DONE]"]));
    CHAT_STREAM.is_free(&format!("event: error\n{}", events(&[error])));
    CHAT_STREAM.is_free(error);
    RESPONSES.is_free(error);
    RESPONSES_STREAM.is_free(&named(&[
        r#"{"type":"response.created","response":{"id":"r","status":"in_progress","model":"m","usage":null}}"#,
        r#"{"type":"response.failed","response":{"id":"r","status":"failed","error":{"code":"server_error"},"model":"m","usage":null}}"#,
    ]));
    RESPONSES_STREAM.is_free(&events(&[r#"{"type":"error","code":"rate_limit_exceeded","message":"no"}"#]));
    let refused = r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#;
    MESSAGES.is_free(refused);
    MESSAGES_STREAM.is_free(&named(&[refused]));
    MESSAGES_STREAM.is_free(&events(&[refused]));
    GEMINI.is_free(error);
    GEMINI_STREAM.is_free(&events(&[error]));
    GEMINI_STREAM.is_free(&format!("[{error}]"));
    let mut after = stream("api.groq.com", "/openai/v1/chat/completions");
    after.content_type = "";
    after.is_free(&events(&[
        r#"{"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"x_groq":{"id":"req"}}"#,
        r#"{"error":{"message":"Failed to call a function.","code":"tool_use_failed","status_code":400}}"#,
    ]));
}

#[test]
fn chat_usage_in_every_spelling() {
    let document = |usage: &str| format!(r#"{{"id":"c","model":"m","choices":[],"usage":{usage}}}"#);
    OPENAI_CHAT.is(
        &document(r#"{"prompt_tokens":1220,"completion_tokens":9,"total_tokens":1229,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":1217},"completion_tokens_details":{"reasoning_tokens":4}}"#),
        [3, 0, 0, 0, 1217, 9, 4],
    );
    OPENAI_CHAT.is(
        &document(r#"{"prompt_tokens":"12","completion_tokens":3.0,"total_tokens":"15.0"}"#),
        [12, 0, 0, 0, 0, 3, 0],
    );
    OPENAI_CHAT.is(
        &document(
            r#"{"prompt_tokens":12,"completion_tokens":3,"prompt_tokens_details":7,"completion_tokens_details":[]}"#,
        ),
        [12, 0, 0, 0, 0, 3, 0],
    );
    of("api.deepseek.com", "/chat/completions").is(
        &document(r#"{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}"#),
        [36, 64, 0, 0, 0, 20, 0],
    );
    of("api.mistral.ai", "/v1/chat/completions").is(
        &document(r#"{"prompt_tokens":64,"completion_tokens":6,"total_tokens":70,"num_cached_tokens":48}"#),
        [16, 48, 0, 0, 0, 6, 0],
    );
    let audio = of("api.mistral.ai", "/v1/chat/completions").is(
        &document(r#"{"prompt_tokens":10,"completion_tokens":6,"total_tokens":391,"prompt_audio_seconds":30}"#),
        [10, 0, 0, 0, 0, 6, 0],
    );
    assert_eq!(audio.units["audio_seconds"], Quantity::whole(30));
    let vercel = of("ai-gateway.vercel.sh", "/v1/chat/completions").is(
        &document(r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"cost":0.0012,"completion_tokens_details":{"reasoning_tokens":20}}"#),
        [9, 0, 0, 0, 0, 25, 20],
    );
    assert_eq!(vercel.reported.unwrap().to_string(), "0.0012");
    of("api.x.ai", "/v1/chat/completions").is(
        &document(r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":34,"completion_tokens_details":{"reasoning_tokens":20}}"#),
        [9, 0, 0, 0, 0, 25, 20],
    );
    let clamp = of("x.services.ai.azure.com", "/models/chat/completions?api-version=2024-05-01-preview");
    clamp.is(&document(r#"{"prompt_tokens":31,"completion_tokens":5,"total_tokens":36,"prompt_tokens_details":{"cached_tokens":161}}"#), [0, 31, 0, 0, 0, 5, 0]);
    of("api.doubleword.ai", "/v1/chat/completions").is(
        &document(r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"completion_tokens_details":{"reasoning_tokens":20}}"#),
        [9, 0, 0, 0, 0, 5, 20],
    );
    of("generativelanguage.googleapis.com", "/v1beta/openai/chat/completions")
        .is(&document(r#"{"prompt_tokens":35,"completion_tokens":12,"total_tokens":109}"#), [35, 0, 0, 0, 0, 74, 0]);
    of("api.openai.com", "/v1/completions")
        .is(&document(r#"{"prompt_tokens":7,"total_tokens":7}"#), [7, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn gateways_state_what_they_charge() {
    let document = |usage: &str| format!("\n\n  \n{{\"id\":\"c\",\"model\":\"m\",\"choices\":[],\"usage\":{usage}}}");
    let openrouter = of("openrouter.ai", "/api/v1/chat/completions");
    let own = openrouter.read(&document(r#"{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.00031}}"#));
    assert_eq!(own.reported.unwrap().to_string(), "0.00031");
    let searched = stream("openrouter.ai", "/api/v1/chat/completions").is(
        &format!(": OPENROUTER PROCESSING\n\n{}", events(&[
            r#"{"model":"m","choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]}"#,
            r#"{"model":"m","choices":[{"delta":{"content":""}}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"cost":0.0205,"is_byok":false,"server_tool_use_details":{"web_search_requests":2}}}"#,
            "[DONE]",
        ])),
        [9, 0, 0, 0, 0, 5, 0],
    );
    assert_eq!((searched.server_tools["web_search"], searched.reported.unwrap().to_string().as_str()), (2, "0.0205"));
    openrouter.is(
        &document(r#"{"prompt_tokens":2168,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":2161,"cache_write_tokens":2161},"cost":0.1}"#),
        [7, 2161, 0, 0, 0, 5, 0],
    );
    let skin = stream("openrouter.ai", "/api/v1/messages").is(
        &named(&[
            r#"{"type":"message_start","message":{"model":"anthropic/claude","usage":{"input_tokens":0,"output_tokens":0}}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":32,"output_tokens":8,"cost":0.00017}}"#,
        ]),
        [32, 0, 0, 0, 0, 8, 0],
    );
    assert_eq!(skin.reported.unwrap().to_string(), "0.00017");
    for path in ["/chat/completions", "/v1/chat/completions"] {
        let sonar = stream("api.perplexity.ai", path).is(
            &events(&[
                r#"{"model":"sonar","choices":[{"delta":{"content":"h"}}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#,
                r#"{"model":"sonar","choices":[{"delta":{"content":"i"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"search_context_size":"low","cost":{"request_cost":0.005,"total_cost":0.00501}}}"#,
            ]),
            [5, 0, 0, 0, 0, 4, 0],
        );
        assert_eq!(sonar.reported.unwrap().to_string(), "0.00501");
    }
}

#[test]
fn groq_says_it_twice_and_it_counts_once() {
    let groq = stream("api.groq.com", "/openai/v1/chat/completions");
    let usage = r#"{"queue_time":0.1,"prompt_tokens":40,"completion_tokens":7,"total_tokens":47}"#;
    let last = format!(
        r#"{{"model":"m","choices":[{{"delta":{{}},"finish_reason":"stop"}}],"x_groq":{{"id":"r","usage":{usage}}}}}"#
    );
    let again = format!(r#"{{"model":"m","choices":[],"usage":{usage}}}"#);
    let text = r#"{"model":"m","choices":[{"delta":{"content":"hi"}}]}"#;
    groq.is(&events(&[text, &last, &again, "[DONE]"]), [40, 0, 0, 0, 0, 7, 0]);
    groq.is(&events(&[text, &last]), [40, 0, 0, 0, 0, 7, 0]);
    // Usage that came earlier is not undone by a later null.
    groq.is(&events(&[text, &last, r#"{"model":"m","choices":[],"usage":null}"#]), [40, 0, 0, 0, 0, 7, 0]);
}

#[test]
fn messages_sum_their_caches() {
    let message = |usage: &str| format!(r#"{{"type":"message","model":"claude-x","usage":{usage}}}"#);
    MESSAGES.is(
        &message(r#"{"input_tokens":2,"cache_read_input_tokens":1650,"cache_creation_input_tokens":144,"cache_creation":{"ephemeral_5m_input_tokens":44,"ephemeral_1h_input_tokens":100},"output_tokens":7,"output_tokens_details":{"thinking_tokens":3}}"#),
        [2, 1650, 44, 100, 0, 7, 3],
    );
    let got = MESSAGES.is(
        &message(r#"{"input_tokens":5,"cache_creation_input_tokens":20718,"cache_creation":{"ephemeral_5m_input_tokens":12016,"ephemeral_1h_input_tokens":0},"output_tokens":7,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1},"service_tier":"priority"}"#),
        [5, 0, 20718, 0, 0, 7, 0],
    );
    assert_eq!((got.server_tools["web_search"], got.service_tier.as_deref()), (2, Some("priority")));
    MESSAGES_STREAM.is(
        &named(&[
            r#"{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":589,"cache_read_input_tokens":3,"output_tokens":1}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\"message_delta\""}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":4}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":1595,"output_tokens":9}}"#,
            r#"{"type":"message_stop"}"#,
        ]),
        [1595, 3, 0, 0, 0, 9, 0],
    );
}

#[test]
fn every_run_within_a_message_is_billed_at_its_model() {
    let run = |kind: &str, model: &str, input: u64, output: u64| {
        format!(r#"{{"type":"{kind}","model":"{model}","input_tokens":{input},"output_tokens":{output}}}"#)
    };
    let usage =
        |runs: &[String]| format!(r#"{{"input_tokens":20,"output_tokens":9,"iterations":[{}]}}"#, runs.join(","));
    let refused = usage(&[run("message", "fable", 19, 0), run("fallback_message", "opus", 20, 9)]);
    let got = MESSAGES_STREAM.is(
        &named(&[
            r#"{"type":"message_start","message":{"model":"fable","usage":{"input_tokens":19,"output_tokens":0}}}"#,
            &format!(r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{refused}}}"#),
        ]),
        [20, 0, 0, 0, 0, 9, 0],
    );
    assert_eq!(got.model.as_deref(), Some("opus"));
    let half = usage(&[run("message", "fable", 19, 5), run("fallback_message", "opus", 20, 9)]);
    let got = MESSAGES.is(&format!(r#"{{"type":"message","model":"opus","usage":{half}}}"#), [39, 0, 0, 0, 0, 14, 0]);
    let models: Vec<_> = got.lines.iter().map(|line| line.model.as_deref()).collect();
    assert_eq!(models, [Some("fable"), Some("opus")]);
    let advised = r#"{"input_tokens":50,"output_tokens":12,"iterations":[{"type":"message","input_tokens":20,"output_tokens":6},
        {"type":"advisor_message","model":"big","input_tokens":70,"output_tokens":8},{"type":"message","input_tokens":30,"output_tokens":6}]}"#;
    let got =
        MESSAGES.is(&format!(r#"{{"type":"message","model":"small","usage":{advised}}}"#), [120, 0, 0, 0, 0, 20, 0]);
    assert_eq!((got.lines.len(), got.model.as_deref()), (3, Some("small")));
}

#[test]
fn of_geminis_chunks_the_last_holds() {
    let usage = |prompt: u64, rest: &str| format!(r#""usageMetadata":{{"promptTokenCount":{prompt}{rest}}}"#);
    let chunk = |usage: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"parts":[{{"text":"TokenCount"}}]}}}}],{usage},"modelVersion":"gemini-x"}}"#
        )
    };
    let body = [
        chunk(&usage(145, r#","totalTokenCount":145"#)),
        chunk(&usage(85, r#","candidatesTokenCount":5,"thoughtsTokenCount":157,"toolUsePromptTokenCount":11,"cachedContentTokenCount":80"#)),
        r#"{"candidates":[{"content":{"parts":[{"text":"\"usageMetadata\": promptTokenCount"}]}}],"modelVersion":"gemini-x"}"#.to_owned(),
    ];
    let all: Vec<&str> = body.iter().map(String::as_str).collect();
    let want = [16, 80, 0, 0, 0, 162, 157];
    GEMINI_STREAM.is(&events(&all).replace('\n', "\r\n"), want);
    let array = Exchange { content_type: JSON, ..GEMINI_STREAM };
    array.is(&format!("[{}\n]", body.join("\n,\r\n")), want);
    let enums = r#"{"candidates":[{"finishReason":1}],"usageMetadata":{"promptTokenCount":5,"totalTokenCount":9,"trafficType":1,"promptTokensDetails":[{"modality":1,"tokenCount":5}],"thoughtsTokenCount":4}}"#;
    GEMINI.is(enums, [5, 0, 0, 0, 0, 4, 4]);
    let provisioned = GEMINI.read(r#"{"candidates":[],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"trafficType":"PROVISIONED_THROUGHPUT"}}"#);
    assert_eq!(provisioned.reported.map(|p| p.to_string()).as_deref(), Some("0"));
    let flex = GEMINI.is(r#"{"candidates":[],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"trafficType":"ON_DEMAND_FLEX"}}"#, [5, 0, 0, 0, 0, 2, 0]);
    assert_eq!(flex.service_tier.as_deref(), Some("flex"));
    let interaction = of("generativelanguage.googleapis.com", "/v1beta/interactions").is(
        r#"{"id":"i","status":"completed","model":"gemini-x","usage":{"raw_prompt_token":4779,"total_input_tokens":53,"total_cached_tokens":3,"total_tool_use_tokens":4,"total_output_tokens":9,"total_thought_tokens":7,"total_tokens":73,"grounding_tool_count":[{"type":"google_search","count":1}]}}"#,
        [54, 3, 0, 0, 0, 16, 7],
    );
    assert_eq!(interaction.server_tools["google_search"], 1);
    of("generativelanguage.googleapis.com", "/v1beta/models/gemini-embedding-2:batchEmbedContents").is(
        r#"{"embeddings":[],"usageMetadata":{"promptTokenCount":6,"promptTokenDetails":[{"modality":"TEXT","tokenCount":6}]}}"#,
        [6, 0, 0, 0, 0, 0, 0],
    );
    let assist = stream("generativelanguage.googleapis.com", "/v1internal:streamGenerateContent?alt=sse");
    assist.is(
        &events(&[&format!(r#"{{"response":{}}}"#, chunk(&usage(5, r#","candidatesTokenCount":2"#)))]),
        [5, 0, 0, 0, 0, 2, 0],
    );
    of("us-east5-aiplatform.googleapis.com", "/v1/projects/p/locations/us-east5/publishers/google/models/text-embedding-005:predict").is(
        r#"{"predictions":[{"embeddings":{"statistics":{"token_count":4.0,"truncated":false}}},{"embeddings":{"statistics":{"token_count":3}}}]}"#,
        [7, 0, 0, 0, 0, 0, 0],
    );
}

#[test]
fn bedrock_says_it_in_many_places() {
    CONVERSE.is(
        r#"{"usage":{"inputTokens":3,"cacheReadInputTokens":1712,"cacheReadInputTokenCount":1712,"cacheWriteInputTokens":236,"cacheWriteInputTokenCount":236,"cacheDetails":[{"ttl":"1h","inputTokens":200},{"ttl":"5m","inputTokens":36}],"outputTokens":9,"totalTokens":1960}}"#,
        [3, 1712, 36, 200, 0, 9, 0],
    );
    let headers: &[(&str, &str)] =
        &[("x-amzn-bedrock-input-token-count", "12"), ("x-amzn-bedrock-output-token-count", "34")];
    let counted = Exchange { headers, ..INVOKE };
    for body in [
        r#"{"outputs":[{"text":"hi"}]}"#,
        r#"{"completions":[{"data":{}}],"id":1}"#,
        r#"{"choices":[{"message":{}}],"usage":{}}"#,
        r#"{"embedding":[0.1]}"#,
    ] {
        let got = counted.is(body, [12, 0, 0, 0, 0, 34, 0]);
        assert_eq!(got.model.as_deref(), Some("some.model-v1:0"));
    }
    for (body, want) in [
        (r#"{"generation":"hi","prompt_token_count":5,"generation_token_count":2,"stop_reason":"stop"}"#, [5, 2]),
        (r#"{"inputTextTokenCount":5,"results":[{"tokenCount":2,"outputText":"hi"}]}"#, [5, 2]),
        (r#"{"embedding":[0.1],"inputTextTokenCount":5}"#, [5, 0]),
        (r#"{"usage":{"inputTokens":5,"outputTokens":2,"totalTokens":7}}"#, [5, 2]),
        (r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#, [5, 2]),
        (r#"{"type":"message","model":"claude","usage":{"input_tokens":5,"output_tokens":2}}"#, [5, 2]),
    ] {
        INVOKE.is(body, [want[0], 0, 0, 0, 0, want[1], 0]);
    }
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-x-v1%3A0";
    let by_arn = |path: &str| {
        of("bedrock-runtime.eu-west-1.amazonaws.com", path)
            .read(r#"{"usage":{"inputTokens":5,"outputTokens":2}}"#)
            .model
    };
    let want = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-x-v1:0";
    assert_eq!(by_arn(&format!("/model/{arn}/converse")).as_deref(), Some(want));
    assert_eq!(by_arn(&format!("/model/{want}/converse")).as_deref(), Some(want));
    assert_eq!(by_arn("/model/us.anthropic.claude-x-v1:0/converse").as_deref(), Some("us.anthropic.claude-x-v1:0"));
}

#[test]
fn cohere_bills_its_units() {
    let v2 = of("api.cohere.com", "/v2/chat");
    v2.is(r#"{"message":{},"usage":{"billed_units":{"input_tokens":8.0,"output_tokens":8},"tokens":{"input_tokens":503,"output_tokens":11}}}"#, [8, 0, 0, 0, 0, 8, 0]);
    stream("api.cohere.com", "/v2/chat").is(
        &named(&[
            r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":"billed_units"}}}}"#,
            r#"{"type":"message-end","delta":{"finish_reason":"COMPLETE","usage":{"billed_units":{"input_tokens":7,"output_tokens":3},"tokens":{"input_tokens":200,"output_tokens":3}}}}"#,
        ]),
        [7, 0, 0, 0, 0, 3, 0],
    );
    let lines = |last: &str| {
        format!("{{\"is_finished\":false,\"event_type\":\"text-generation\",\"text\":\"hi\"}}\n\n{last}\n")
    };
    let end = r#"{"is_finished":true,"event_type":"stream-end","response":{"text":"hi","meta":{"billed_units":{"input_tokens":7,"output_tokens":3},"tokens":{"input_tokens":69,"output_tokens":4}}}}"#;
    for content_type in ["application/stream+json", "", "text/plain", JSON] {
        let v1 = Exchange { content_type, ..stream("api.cohere.ai", "/v1/chat") };
        v1.is(&lines(end), [7, 0, 0, 0, 0, 3, 0]);
        v1.is_not_known(&lines(r#"{"is_finished":true,"event_type":"stream-end","response":{"text":"hi"}}"#));
    }
    let rerank =
        of("api.cohere.com", "/v2/rerank").is(r#"{"results":[],"meta":{"billed_units":{"search_units":2}}}"#, [0; 7]);
    assert_eq!(rerank.units["search_units"], Quantity::whole(2));
    let images =
        of("api.cohere.com", "/v2/embed").is(r#"{"embeddings":{},"meta":{"billed_units":{"images":3}}}"#, [0; 7]);
    assert_eq!(images.units["images"], Quantity::whole(3));
}

#[test]
fn responses_state_their_tools_and_tiers() {
    let body = r#"{"id":"r","status":"incomplete","model":"m","service_tier":"flex","output":[{"type":"web_search_call","action":{"type":"search"}},
        {"type":"web_search_call","action":{"type":"open_page"}},{"type":"code_interpreter_call"}],
        "usage":{"input_tokens":50,"input_tokens_details":{"cached_tokens":10,"cache_write_tokens":20},"output_tokens":9,"output_tokens_details":{"reasoning_tokens":5}}}"#;
    let got = RESPONSES.is(body, [20, 10, 0, 0, 20, 9, 5]);
    assert_eq!(
        (got.server_tools["web_search"], got.server_tools["code_interpreter"], got.service_tier.as_deref()),
        (1, 1, Some("flex"))
    );
    for (kind, host) in [
        ("response.completed", "api.openai.com"),
        ("response.incomplete", "api.x.ai"),
        ("response.failed", "openrouter.ai"),
    ] {
        let body = format!(
            r#"{{"type":"{kind}","response":{{"id":"r","model":"m","usage":{{"input_tokens":5,"output_tokens":9,"output_tokens_details":{{"reasoning_tokens":7}}}}}}}}"#
        );
        let spaced = body.replace("\":", "\": ");
        for events in [
            named(&[&body]),
            events(&[&body]),
            events(&[&spaced]),
            format!("event: message\ndata: {body}\n\n"),
            format!("event: data\ndata: {body}"),
        ] {
            stream(host, "/api/v1/responses").is(&events, [5, 0, 0, 0, 0, 9, 7]);
        }
    }
    let ticks = of("api.x.ai", "/v1/responses").read(r#"{"id":"r","status":"completed","model":"grok","output":[],"usage":{"input_tokens":5,"output_tokens":9,"cost_in_usd_ticks":50123000,"server_side_tool_usage_details":{"web_search_calls":1}}}"#);
    assert_eq!((ticks.reported.unwrap().to_string().as_str(), ticks.server_tools["web_search"]), ("0.0050123", 1));
}

#[test]
fn other_services_state_it_in_their_own_words() {
    let ollama = Exchange { content_type: "application/x-ndjson", ..stream("ollama.com", "/api/chat") };
    ollama.is("{\"model\":\"m\",\"done\": false,\"message\":{\"content\":\"hi\"}}\n\n{\"model\":\"m\",\"done\": true,\"eval_count\":38}\n", [0, 0, 0, 0, 0, 38, 0]);
    of("us-south.ml.cloud.ibm.com", "/ml/v1/text/generation?version=1").is(
        r#"{"model_id":"ibm/granite","results":[{"generated_text":"hi","generated_token_count":4,"input_token_count":9,"stop_reason":"eos_token"}]}"#,
        [9, 0, 0, 0, 0, 4, 0],
    );
    let jobs = of("api.openai.com", "/v1/threads/thread_1/runs/run_1/submit_tool_outputs");
    for status in ["completed", "incomplete", "expired", "failed"] {
        let body = format!(
            r#"{{"id":"run_1","object":"thread.run","status":"{status}","model":"gpt","usage":{{"prompt_tokens":20,"completion_tokens":4,"total_tokens":24,"prompt_token_details":{{"cached_tokens":5}}}}}}"#
        );
        jobs.is(&body, [15, 5, 0, 0, 0, 4, 0]);
    }
    let tokens = of("api.openai.com", "/v1/audio/transcriptions").is(
        r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":0,"audio_tokens":14},"output_tokens":5,"total_tokens":19}}"#,
        [14, 0, 0, 0, 0, 5, 0],
    );
    assert_eq!(tokens.usage.input_audio, 14);
    of("api.openai.com", "/v1/audio/transcriptions")
        .is_not_known(r#"{"task":"transcribe","language":"english","duration":8.47,"text":"hi","segments":[]}"#);
    let page = of("api.mistral.ai", "/v1/ocr")
        .is(r#"{"model":"mistral-ocr","pages":[{}],"usage_info":{"pages_processed":2,"doc_size_bytes":3}}"#, [0; 7]);
    assert_eq!(page.units["ocr_pages"], Quantity::whole(2));
    let image = stream("api.openai.com", "/v1/images/generations").is(
        &named(&[
            r#"{"type":"image_generation.partial_image","b64_json":"AA"}"#,
            r#"{"type":"image_generation.completed","b64_json":"AA","usage":{"input_tokens":9,"input_tokens_details":{"text_tokens":9,"image_tokens":0},"output_tokens":372,"total_tokens":381}}"#,
        ]),
        [9, 0, 0, 0, 0, 372, 0],
    );
    assert_eq!(image.usage.output_image, 372);
}

#[test]
fn a_provider_is_known_in_every_region_and_cloud() {
    for (host, provider) in [
        ("eu.api.openai.com", "openai"),
        ("jp.api.openai.com", "openai"),
        ("contoso.openai.azure.us", "azure"),
        ("contoso.eastus2.models.ai.azure.com", "azure"),
        ("eastus.api.cognitive.microsoft.com", "azure"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock"),
        ("vpce-0a.bedrock-runtime.us-east-1.vpce.amazonaws.com", "bedrock"),
        ("bedrock-agent-runtime.eu-central-1.amazonaws.com", "bedrock-agent"),
        ("bedrock-mantle.eu-west-1.api.aws", "bedrock-mantle"),
        ("europe-west4-aiplatform.googleapis.com", "vertex"),
        ("aiplatform.eu.rep.googleapis.com", "vertex"),
        ("x.eastus.azure.endpoints.huggingface.cloud", "huggingface-inference"),
        ("1234567890.7.gcp.databricks.com", "databricks"),
        ("dbc-1.cloud.databricks.com", "databricks"),
        ("org-acct.snowflakecomputing.com", "snowflake-cortex"),
        ("acct.us-east-1.privatelink.snowflakecomputing.com", "snowflake-cortex"),
        ("api.individual.githubcopilot.com", "github-copilot"),
        ("gateway.ai.cloudflare.com", "cloudflare-gateway"),
        ("eu-de.ml.cloud.ibm.com", "watsonx"),
        ("us-east-1.api.x.ai", "xai"),
        ("api.cohere.ai", "cohere"),
        ("api.fireworks.ai", "fireworks"),
    ] {
        let found = table().find(host, 443).unwrap_or_else(|| panic!("{host} is not metered"));
        assert_eq!(found.provider_id, provider, "{host}");
    }
}
