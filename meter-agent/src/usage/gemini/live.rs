//! Live: a WebSocket session of `BidiGenerateContent`.
//!
//! The first message names the model. Each turn of the model ends with `usageMetadata`, in which the whole context
//! is billed again and thoughts are beyond the total. A turn that the session ends in has no usage: it is absent.
//! Messages are text or binary; both are JSON.
//!
//! Source: ai.google.dev/api/live.

use serde::{Deserialize, de::IgnoredAny};

use super::{jobs::bare, usage::UsageMetadata};
use crate::usage::{
    Quality, Reading, RequestFacts, SocketReader,
    edit::RawObject,
    json::{Count, parse},
    session_models::may_name,
};

/// Searches of one turn. Not a proof: the API states no bound; what is billed beyond it is posted all the same.
use super::request::WEB_SEARCHES;

/// One session.
#[derive(Default)]
pub(super) struct Session {
    /// As the setup names it.
    model: Option<String>,
    ceiling: Option<u64>,
    searches: bool,
    /// Something was said since the last usage, and is not billed yet.
    open: bool,
    queries: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Setup {
    #[serde(default, alias = "generation_config")]
    generation_config: Option<Generation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generation {
    #[serde(default, alias = "max_output_tokens")]
    max_output_tokens: Count,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    #[serde(default, alias = "usage_metadata")]
    usage_metadata: Option<UsageMetadata>,
    #[serde(default, alias = "server_content")]
    server_content: Option<Content>,
    #[serde(default, alias = "tool_call")]
    tool_call: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Content {
    #[serde(default, alias = "model_turn")]
    model_turn: Option<IgnoredAny>,
    #[serde(default, alias = "output_transcription")]
    output_transcription: Option<IgnoredAny>,
    #[serde(default, alias = "grounding_metadata")]
    grounding_metadata: Option<Grounding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Grounding {
    #[serde(default, alias = "web_search_queries", deserialize_with = "crate::usage::json::or_default")]
    web_search_queries: Vec<IgnoredAny>,
}

impl SocketReader for Session {
    fn facts(&self) -> RequestFacts {
        let mut facts = RequestFacts {
            // The last part of the name, as the catalogue knows it.
            model: self.model.as_deref().map(bare),
            stream: true,
            ceiling: self.ceiling,
            choices: 1,
            // The whole session so far is the input of a turn.
            input_unbounded: true,
            input_audio: true,
            hidden_output: true,
            server_tools: self.searches,
            ..RequestFacts::default()
        };
        if self.searches {
            facts.tools.insert("google_search".into(), WEB_SEARCHES);
        }
        facts
    }

    fn sent(&mut self, message: &[u8]) {
        let setup = may_name(message, &[b"\"setup\""]).then(|| RawObject::parse(message).ok()).flatten();
        let Some(setup) = setup.as_ref().and_then(|object| object.get("setup")) else {
            self.open |= orders_answer(message);
            return;
        };
        self.searches = ["googleSearch", "google_search"].iter().any(|key| setup.contains(key));
        let model = RawObject::parse(setup.as_bytes()).ok().and_then(|object| object.text("model"));
        self.model = model.map(|name| name.replacen("models/", "", 1));
        let generation = parse::<Setup>(setup.as_bytes()).and_then(|setup| setup.generation_config);
        self.ceiling = generation.and_then(|g| g.max_output_tokens.0);
    }

    fn received(&mut self, message: &[u8]) -> Option<Reading> {
        let received: Received = parse(message)?;
        if let Some(content) = received.server_content {
            self.open |= content.model_turn.is_some() || content.output_transcription.is_some();
            self.queries += content.grounding_metadata.map_or(0, |g| g.web_search_queries.len() as u64);
        }
        self.open |= received.tool_call.is_some();
        let metadata = received.usage_metadata.filter(UsageMetadata::counts)?;
        self.open = false;
        let mut reading = metadata.describe().reading(self.model.clone(), Quality::Exact);
        let queries = std::mem::take(&mut self.queries);
        if queries > 0 {
            reading.server_tools.insert("google_search".into(), queries);
        }
        Some(reading)
    }

    fn is_under_way(&self) -> bool {
        self.open
    }

    fn finish(&mut self) -> Option<Reading> {
        std::mem::take(&mut self.open).then(|| Reading { model: self.model.clone(), ..Reading::absent() })
    }
}

/// Whether a message makes the model answer. Sound streams in all the time, so it alone says nothing.
fn orders_answer(message: &[u8]) -> bool {
    let Ok(object) = RawObject::parse(message) else { return false };
    let content = object.get("clientContent").or_else(|| object.get("client_content"));
    let complete = content.is_some_and(|content| {
        RawObject::parse(content.as_bytes()).is_ok_and(|c| c.is_true("turnComplete") || c.is_true("turn_complete"))
    });
    complete || object.has("toolResponse") || object.has("tool_response")
}
