//! OpenAI Embeddings (<https://platform.openai.com/docs/api-reference/embeddings>): input tokens only, never a stream.

use serde_json::{Value, json};

use super::{Api, openai_error};
use crate::simulator::turn::{Asked, Turn};

pub(super) struct Embeddings;

/// Small enough to read in a failing test.
const DIMENSIONS: usize = 8;

impl Api for Embeddings {
    fn serves(&self, path: &str) -> bool {
        path == "/v1/embeddings"
    }

    fn read(&self, _path: &str, _query: &str, body: &Value) -> Result<Asked, String> {
        let model = body["model"].as_str().ok_or("you must provide a model parameter")?;
        let text = match &body["input"] {
            Value::String(text) => text.clone(),
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
            _ => return Err("'$.input' is invalid".to_owned()),
        };
        // No output: the ceiling keeps a default output count from being billed.
        Ok(Asked {
            model: model.to_owned(),
            characters: text.len(),
            last_text: text,
            ceiling: Some(0),
            ..Asked::default()
        })
    }

    fn whole(&self, turn: &Turn) -> Value {
        json!({
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": vec![0.125; DIMENSIONS]}],
            "model": turn.model,
            "usage": {"prompt_tokens": turn.billed.input_tokens, "total_tokens": turn.billed.input_tokens},
        })
    }

    fn events(&self, _turn: &Turn) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn error(&self, status: u16, message: &str) -> Value {
        openai_error(status, message)
    }

    fn request_id_header(&self) -> &'static str {
        "x-request-id"
    }
}
