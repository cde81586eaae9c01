//! OpenAI Responses (<https://platform.openai.com/docs/api-reference/responses>): its streams always end with usage.

use serde_json::{Value, json};

use super::{Api, content_text, last_user_text, named_event, openai_error};
use crate::simulator::turn::{Asked, Turn};

pub(super) struct Responses;

impl Api for Responses {
    fn serves(&self, path: &str) -> bool {
        path == "/v1/responses"
    }

    fn read(&self, _path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        let model = body["model"].as_str().ok_or("you must provide a model parameter")?;
        let last_text = match &body["input"] {
            Value::String(text) => text.clone(),
            messages => last_user_text(messages),
        };
        let instructions = content_text(&body["instructions"]).len();
        Ok(Asked {
            model: model.to_owned(),
            last_text,
            characters: body["input"].to_string().len() + instructions,
            stream: body["stream"] == true,
            background: body["background"] == true,
            include_usage: true,
            ceiling: body["max_output_tokens"].as_u64(),
        })
    }

    fn whole(&self, turn: &Turn) -> Value {
        let status = if turn.truncated { "incomplete" } else { "completed" };
        response(turn, status, &json!([message(turn, status, &turn.text())]), &usage(turn))
    }

    fn events(&self, turn: &Turn) -> Vec<Vec<u8>> {
        let mut sequence = Sequence(Vec::new());
        let started = response(turn, "in_progress", &json!([]), &Value::Null);
        sequence.push("response.created", json!({"response": started}));
        sequence.push("response.in_progress", json!({"response": started}));
        let mut item = message(turn, "in_progress", "");
        item["content"] = json!([]);
        sequence.push("response.output_item.added", json!({"output_index": 0, "item": item}));
        let place = |mut value: Value| {
            value["item_id"] = json!(format!("msg_sim{:08}", turn.id));
            value["output_index"] = json!(0);
            value["content_index"] = json!(0);
            value
        };
        sequence.push("response.content_part.added", place(json!({"part": part("")})));
        for piece in &turn.pieces {
            sequence.push("response.output_text.delta", place(json!({"delta": piece, "logprobs": []})));
        }
        sequence.push("response.output_text.done", place(json!({"text": turn.text(), "logprobs": []})));
        sequence.push("response.content_part.done", place(json!({"part": part(&turn.text())})));
        let done = message(turn, "completed", &turn.text());
        sequence.push("response.output_item.done", json!({"output_index": 0, "item": done}));
        let last = if turn.truncated { "response.incomplete" } else { "response.completed" };
        sequence.push(last, json!({"response": self.whole(turn)}));
        sequence.0
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai_error(status, message)
    }

    fn request_id_header(&self) -> &'static str {
        "x-request-id"
    }
}

/// Events so far; each is numbered by its place.
struct Sequence(Vec<Vec<u8>>);

impl Sequence {
    fn push(&mut self, kind: &str, mut data: Value) {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.0.len());
        self.0.push(named_event(kind, &data));
    }
}

fn response(turn: &Turn, status: &str, output: &Value, usage: &Value) -> Value {
    let incomplete = if status == "incomplete" { json!({"reason": "max_output_tokens"}) } else { Value::Null };
    json!({
        "id": format!("resp_sim{:08}", turn.id),
        "object": "response",
        "created_at": turn.created,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": incomplete,
        "instructions": null,
        "max_output_tokens": null,
        "model": turn.model,
        "output": output,
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": true,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": null,
        "metadata": {},
    })
}

fn message(turn: &Turn, status: &str, text: &str) -> Value {
    json!({
        "id": format!("msg_sim{:08}", turn.id),
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part(text)],
    })
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn usage(turn: &Turn) -> Value {
    let billed = &turn.billed;
    json!({
        "input_tokens": billed.input_tokens,
        "input_tokens_details": {"cached_tokens": billed.cache_read},
        "output_tokens": billed.output_tokens,
        "output_tokens_details": {"reasoning_tokens": billed.reasoning_tokens},
        "total_tokens": billed.input_tokens + billed.output_tokens,
    })
}
