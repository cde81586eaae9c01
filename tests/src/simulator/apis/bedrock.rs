//! AWS Bedrock's Converse and InvokeModel, whole and as event streams
//! (<https://docs.aws.amazon.com/bedrock/latest/APIReference>).
//!
//! Requests are signed, and checked. Cached input is counted beside the input; Converse tells the usage in its last
//! event, InvokeModel in the words of the model's family, in headers, and in the last chunk's metrics.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::request::Parts;
use serde_json::{Value, json};

use super::{Api, anthropic, content_text, last_user_text};
use crate::simulator::{
    event_stream::event,
    sigv4,
    turn::{Asked, Turn},
};

pub(super) struct Converse;
pub(super) struct InvokeModel;

const EVENTS: &str = "application/vnd.amazon.eventstream";

impl Api for Converse {
    fn serves(&self, path: &str) -> bool {
        call(path).is_some_and(|(_, call)| matches!(call, "converse" | "converse-stream"))
    }

    fn admits(&self, parts: &Parts, body: &[u8]) -> Result<(), String> {
        sigv4::check(parts, body)
    }

    fn read(&self, path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        asked(path, body, &body["inferenceConfig"]["maxTokens"], "converse-stream")
    }

    fn whole(&self, turn: &Turn) -> Value {
        json!({
            "metrics": {"latencyMs": 1_033},
            "output": message(turn),
            "stopReason": stop_reason(turn),
            "usage": usage(turn),
        })
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let padded = |(number, (kind, mut data)): (usize, (&str, Value))| {
            data["p"] = padding(turn, number).into();
            event(kind, &data.to_string())
        };
        events(turn).into_iter().enumerate().map(padded).collect()
    }

    fn stream_type(&self) -> &'static str {
        EVENTS
    }

    fn error(&self, _status: u16, message: &str) -> Value {
        json!({"message": message})
    }

    fn error_headers(&self, status: u16) -> Vec<(&'static str, String)> {
        error_type(status)
    }

    fn request_id_header(&self) -> &'static str {
        "x-amzn-requestid"
    }
}

impl Api for InvokeModel {
    fn serves(&self, path: &str) -> bool {
        call(path).is_some_and(|(_, call)| matches!(call, "invoke" | "invoke-with-response-stream"))
    }

    fn admits(&self, parts: &Parts, body: &[u8]) -> Result<(), String> {
        sigv4::check(parts, body)
    }

    fn read(&self, path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        let asked = asked(path, body, &body["max_tokens"], "invoke-with-response-stream")?;
        if speaks_messages(&asked.model) {
            if !body["anthropic_version"].is_string() || asked.ceiling.is_none() {
                return Err("Malformed input request: anthropic_version and max_tokens are required".to_owned());
            }
            return Ok(asked);
        }
        Ok(Asked { ceiling: body["inferenceConfig"]["maxTokens"].as_u64(), ..asked })
    }

    fn whole(&self, turn: &Turn) -> Value {
        if speaks_messages(&turn.model) {
            return anthropic::Messages.whole(turn);
        }
        json!({"output": message(turn), "stopReason": stop_reason(turn), "usage": usage(turn)})
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let mut chunks: Vec<Value> = if speaks_messages(&turn.model) {
            anthropic::messages(turn)
        } else {
            events(turn).into_iter().map(|(kind, data)| json!({kind: data})).collect()
        };
        if let Some(last) = chunks.last_mut() {
            last["amazon-bedrock-invocationMetrics"] = metrics(turn);
        }
        let framed = |(number, chunk): (usize, Value)| {
            let bytes = STANDARD.encode(chunk.to_string());
            event("chunk", &json!({"bytes": bytes, "p": padding(turn, number)}).to_string())
        };
        chunks.into_iter().enumerate().map(framed).collect()
    }

    fn stream_type(&self) -> &'static str {
        EVENTS
    }

    fn headers(&self, turn: &Turn, stream: bool) -> Vec<(&'static str, String)> {
        if stream {
            return vec![("x-amzn-bedrock-content-type", "application/json".to_owned())];
        }
        let mut headers = vec![
            ("x-amzn-bedrock-input-token-count", turn.uncached().to_string()),
            ("x-amzn-bedrock-output-token-count", turn.billed.output_tokens.to_string()),
            ("x-amzn-bedrock-invocation-latency", "1033".to_owned()),
        ];
        if turn.billed.cache_read + turn.billed.cache_write_5m > 0 {
            headers.push(("x-amzn-bedrock-cache-read-input-token-count", turn.billed.cache_read.to_string()));
            headers.push(("x-amzn-bedrock-cache-write-input-token-count", turn.billed.cache_write_5m.to_string()));
        }
        headers
    }

    fn error(&self, _status: u16, message: &str) -> Value {
        json!({"message": message})
    }

    fn error_headers(&self, status: u16) -> Vec<(&'static str, String)> {
        error_type(status)
    }

    fn request_id_header(&self) -> &'static str {
        "x-amzn-requestid"
    }
}

/// The model and the call of a path. The SDKs encode the colons of a model's name.
fn call(path: &str) -> Option<(String, &str)> {
    let (model, call) = path.strip_prefix("/model/")?.rsplit_once('/')?;
    Some((model.replace("%3A", ":"), call))
}

fn asked(path: &str, body: &Value, ceiling: &Value, stream: &str) -> Result<Asked, String> {
    let (model, call) = call(path).ok_or("there is no model in the path")?;
    if !body["messages"].is_array() {
        return Err("Malformed input request: required key [messages] not found".to_owned());
    }
    Ok(Asked {
        model,
        last_text: last_user_text(&body["messages"]),
        characters: body["messages"].to_string().len() + content_text(&body["system"]).len(),
        stream: call == stream,
        background: false,
        include_usage: true,
        ceiling: ceiling.as_u64(),
    })
}

/// Whether InvokeModel takes and gives Anthropic's messages; Nova's own bodies are Converse's.
fn speaks_messages(model: &str) -> bool {
    model.contains("anthropic.")
}

fn message(turn: &Turn) -> Value {
    json!({"message": {"content": [{"text": turn.text()}], "role": "assistant"}})
}

/// The events of a stream, by name.
fn events(turn: &Turn) -> Vec<(&'static str, Value)> {
    let delta = |piece| ("contentBlockDelta", json!({"contentBlockIndex": 0, "delta": {"text": piece}}));
    let mut events = vec![("messageStart", json!({"role": "assistant"}))];
    events.extend(turn.pieces.iter().map(delta));
    events.push(("contentBlockStop", json!({"contentBlockIndex": 0})));
    events.push(("messageStop", json!({"stopReason": stop_reason(turn)})));
    events.push(("metadata", json!({"metrics": {"latencyMs": 1_033}, "usage": usage(turn)})));
    events
}

fn stop_reason(turn: &Turn) -> &'static str {
    if turn.truncated { "max_tokens" } else { "end_turn" }
}

fn usage(turn: &Turn) -> Value {
    let billed = &turn.billed;
    let mut usage = json!({
        "inputTokens": turn.uncached(),
        "outputTokens": billed.output_tokens,
        "serverToolUsage": {},
        "totalTokens": billed.input_tokens + billed.output_tokens,
    });
    if billed.cache_read + billed.cache_write_5m > 0 {
        // Under both of its names, as the service has it.
        for (name, tokens) in
            [("cacheReadInputToken", billed.cache_read), ("cacheWriteInputToken", billed.cache_write_5m)]
        {
            usage[format!("{name}Count")] = tokens.into();
            usage[format!("{name}s")] = tokens.into();
        }
    }
    if billed.cache_write_5m > 0 {
        usage["cacheDetails"] = json!([{"inputTokens": billed.cache_write_5m, "ttl": "5m"}]);
    }
    usage
}

fn metrics(turn: &Turn) -> Value {
    let mut metrics = json!({
        "inputTokenCount": turn.uncached(),
        "outputTokenCount": turn.billed.output_tokens,
        "invocationLatency": 2_033,
        "firstByteLatency": 429,
    });
    if turn.billed.cache_read + turn.billed.cache_write_5m > 0 {
        metrics["cacheReadInputTokenCount"] = turn.billed.cache_read.into();
        metrics["cacheWriteInputTokenCount"] = turn.billed.cache_write_5m.into();
    }
    metrics
}

/// What hides an event's length on the wire: some letters more, of a number that nobody can guess. Here it follows from
/// the event.
fn padding(turn: &Turn, number: usize) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let id = usize::try_from(turn.id).unwrap_or(0);
    &LETTERS[..4 + (id + number) * 23 % (LETTERS.len() - 4)]
}

fn error_type(status: u16) -> Vec<(&'static str, String)> {
    let kind = match status {
        403 => "InvalidSignatureException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        400..500 => "ValidationException",
        _ => "InternalServerException",
    };
    vec![("x-amzn-errortype", format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/"))]
}
