//! OpenAI Chat Completions (<https://platform.openai.com/docs/api-reference/chat>).
//!
//! A stream tells its usage only when `stream_options.include_usage` asks for it: then in a last chunk without
//! choices, and every other chunk says `"usage":null`.

use serde_json::{Value, json};

use super::{Api, last_user_text, openai_error};
use crate::simulator::turn::{Asked, Turn};

pub(super) struct Chat;

impl Api for Chat {
    fn serves(&self, path: &str) -> bool {
        path == "/v1/chat/completions"
    }

    fn read(&self, _path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        let model = body["model"].as_str().ok_or("you must provide a model parameter")?;
        Ok(Asked {
            model: model.to_owned(),
            last_text: last_user_text(&body["messages"]),
            characters: body["messages"].to_string().len(),
            stream: body["stream"] == true,
            background: false,
            include_usage: body["stream_options"]["include_usage"] == true,
            ceiling: body["max_completion_tokens"].as_u64().or_else(|| body["max_tokens"].as_u64()),
        })
    }

    fn whole(&self, turn: &Turn) -> Value {
        json!({
            "id": format!("chatcmpl-sim{:08}", turn.id),
            "object": "chat.completion",
            "created": turn.created,
            "model": turn.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": turn.text(), "refusal": null, "annotations": []},
                "logprobs": null,
                "finish_reason": finish_reason(turn),
            }],
            "usage": usage(turn),
            "service_tier": "default",
            "system_fingerprint": "fp_simulator",
        })
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let first = json!({"role": "assistant", "content": "", "refusal": null});
        let mut events = vec![chunk(turn, &choices(&first, &Value::Null), Value::Null)];
        for piece in &turn.pieces {
            events.push(chunk(turn, &choices(&json!({"content": piece}), &Value::Null), Value::Null));
        }
        events.push(chunk(turn, &choices(&json!({}), &json!(finish_reason(turn))), Value::Null));
        if turn.include_usage {
            events.push(chunk(turn, &json!([]), usage(turn)));
        }
        events.push(b"data: [DONE]\n\n".to_vec());
        events
    }

    fn stream_tells_usage(&self, turn: &Turn) -> bool {
        turn.include_usage
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai_error(status, message)
    }

    fn request_id_header(&self) -> &'static str {
        "x-request-id"
    }
}

fn choices(delta: &Value, finish_reason: &Value) -> Value {
    json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}])
}

fn chunk(turn: &Turn, choices: &Value, usage: Value) -> Vec<u8> {
    let mut chunk = json!({
        "id": format!("chatcmpl-sim{:08}", turn.id),
        "object": "chat.completion.chunk",
        "created": turn.created,
        "model": turn.model,
        "service_tier": "default",
        "system_fingerprint": "fp_simulator",
        "choices": choices,
    });
    if turn.include_usage {
        chunk["usage"] = usage;
    }
    format!("data: {chunk}\n\n").into_bytes()
}

fn finish_reason(turn: &Turn) -> &'static str {
    if turn.truncated { "length" } else { "stop" }
}

fn usage(turn: &Turn) -> Value {
    let billed = &turn.billed;
    json!({
        "prompt_tokens": billed.input_tokens,
        "completion_tokens": billed.output_tokens,
        "total_tokens": billed.input_tokens + billed.output_tokens,
        "prompt_tokens_details": {"cached_tokens": billed.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": billed.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
