//! Gemini generateContent and streamGenerateContent (<https://ai.google.dev/api/generate-content>).
//!
//! Thoughts are counted beside the candidates' tokens, not in them; every event of a stream repeats the usage so far.

use serde_json::{Value, json};

use super::{Api, content_text};
use crate::simulator::turn::{Asked, Turn};

pub(super) struct GenerateContent;

const WHOLE: &str = ":generateContent";
const STREAM: &str = ":streamGenerateContent";

impl Api for GenerateContent {
    fn serves(&self, path: &str) -> bool {
        path.contains("/models/") && (path.ends_with(WHOLE) || path.ends_with(STREAM))
    }

    fn read(&self, path: &str, query: &str, body: &Value) -> Result<Asked, String> {
        let stream = path.ends_with(STREAM);
        if stream && !query.split('&').any(|pair| pair == "alt=sse") {
            return Err("the simulator streams with alt=sse only".to_owned());
        }
        let (_, model) = path.rsplit_once("/models/").ok_or("no model in the path")?;
        let contents = body["contents"].as_array().ok_or("contents is not specified")?;
        let last = contents.iter().rev().find(|c| c["role"].is_null() || c["role"] == "user");
        Ok(Asked {
            model: model.split(':').next().unwrap_or(model).to_owned(),
            last_text: last.map(|content| content_text(&content["parts"])).unwrap_or_default(),
            characters: body["contents"].to_string().len(),
            stream,
            background: false,
            include_usage: true,
            ceiling: body["generationConfig"]["maxOutputTokens"].as_u64(),
        })
    }

    fn whole(&self, turn: &Turn) -> Value {
        answer(turn, &turn.text(), true)
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let mut pieces: Vec<&str> = turn.pieces.iter().map(String::as_str).collect();
        let last = pieces.pop().unwrap_or_default();
        let mut events: Vec<Vec<u8>> = pieces.iter().map(|piece| event(&answer(turn, piece, false))).collect();
        events.push(event(&answer(turn, last, true)));
        events
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let name = match status {
            429 => "RESOURCE_EXHAUSTED",
            400..500 => "INVALID_ARGUMENT",
            _ => "INTERNAL",
        };
        json!({"error": {"code": status, "message": message, "status": name}})
    }

    fn request_id_header(&self) -> &'static str {
        "x-simulator-request-id"
    }
}

/// This provider frames its events with CRLF.
fn event(data: &Value) -> Vec<u8> {
    format!("data: {data}\r\n\r\n").into_bytes()
}

fn answer(turn: &Turn, text: &str, last: bool) -> Value {
    let mut candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if last {
        candidate["finishReason"] = json!(if turn.truncated { "MAX_TOKENS" } else { "STOP" });
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage(turn, last),
        "modelVersion": turn.model,
        "responseId": format!("sim{:08}", turn.id),
    })
}

fn usage(turn: &Turn, last: bool) -> Value {
    let billed = &turn.billed;
    let mut usage = json!({
        "promptTokenCount": billed.input_tokens,
        "totalTokenCount": billed.input_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": billed.input_tokens}],
    });
    if billed.cache_read > 0 {
        usage["cachedContentTokenCount"] = json!(billed.cache_read);
    }
    if last {
        usage["candidatesTokenCount"] = json!(billed.output_tokens - billed.reasoning_tokens);
        usage["totalTokenCount"] = json!(billed.input_tokens + billed.output_tokens);
        if billed.reasoning_tokens > 0 {
            usage["thoughtsTokenCount"] = json!(billed.reasoning_tokens);
        }
    }
    usage
}
