//! Anthropic Messages (<https://docs.anthropic.com/en/api/messages>).
//!
//! Cached input is counted beside `input_tokens`, not in it; a stream tells input first and output last.

use serde_json::{Value, json};

use super::{Api, content_text, last_user_text, named_event};
use crate::simulator::turn::{Asked, Turn};

pub(super) struct Messages;

impl Api for Messages {
    fn serves(&self, path: &str) -> bool {
        path == "/v1/messages"
    }

    fn read(&self, _path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        let model = body["model"].as_str().ok_or("model: Field required")?;
        let ceiling = body["max_tokens"].as_u64().ok_or("max_tokens: Field required")?;
        let system = content_text(&body["system"]).len();
        Ok(Asked {
            model: model.to_owned(),
            last_text: last_user_text(&body["messages"]),
            characters: body["messages"].to_string().len() + system,
            stream: body["stream"] == true,
            background: false,
            include_usage: true,
            ceiling: Some(ceiling),
        })
    }

    fn whole(&self, turn: &Turn) -> Value {
        let content = json!([{"type": "text", "text": turn.text()}]);
        message(turn, &content, &json!(stop_reason(turn)), turn.billed.output_tokens)
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let mut events = messages(turn);
        events.insert(2, typed("ping", json!({})));
        let named = |event: &Value| named_event(event["type"].as_str().unwrap_or_default(), event);
        events.iter().map(named).collect()
    }

    fn error(&self, status: u16, message: &str) -> Value {
        let kind = match status {
            429 => "rate_limit_error",
            529 => "overloaded_error",
            400..500 => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": null})
    }

    fn request_id_header(&self) -> &'static str {
        "request-id"
    }
}

/// What the events of a stream hold.
pub(super) fn messages(turn: &Turn) -> Vec<Value> {
    // The provider opens with a count of one output token and tells the whole count at the end.
    let opening = turn.billed.output_tokens.min(1);
    let start = message(turn, &json!([]), &Value::Null, opening);
    let mut events = vec![typed("message_start", json!({"message": start}))];
    let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
    events.push(typed("content_block_start", block));
    for piece in &turn.pieces {
        let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": piece}});
        events.push(typed("content_block_delta", delta));
    }
    events.push(typed("content_block_stop", json!({"index": 0})));
    let delta = json!({"stop_reason": stop_reason(turn), "stop_sequence": null});
    let usage = json!({"output_tokens": turn.billed.output_tokens});
    events.push(typed("message_delta", json!({"delta": delta, "usage": usage})));
    events.push(typed("message_stop", json!({})));
    events
}

fn typed(kind: &str, mut data: Value) -> Value {
    data["type"] = json!(kind);
    data
}

fn message(turn: &Turn, content: &Value, stop_reason: &Value, output_tokens: u64) -> Value {
    json!({
        "id": format!("msg_sim{:08}", turn.id),
        "type": "message",
        "role": "assistant",
        "model": turn.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": turn.uncached(),
            "cache_creation_input_tokens": turn.billed.cache_write_5m,
            "cache_read_input_tokens": turn.billed.cache_read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": turn.billed.cache_write_5m,
                "ephemeral_1h_input_tokens": 0,
            },
            "output_tokens": output_tokens,
            "service_tier": "standard",
        },
    })
}

fn stop_reason(turn: &Turn) -> &'static str {
    if turn.truncated { "max_tokens" } else { "end_turn" }
}
