//! What a request says before it is forwarded, and what may be changed in it.

use bytes::Bytes;

use super::{Tools, Units};

/// What a request says about its cost before it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a request states each of them by itself")]
pub struct RequestFacts {
    pub model: Option<String>,
    /// Other models that may answer in its place, or that it consults.
    pub fallbacks: Vec<String>,
    /// Every attempt is billed, and not only the one that answers.
    pub bills_attempts: bool,
    pub stream: bool,
    /// Upper bound of input tokens that the bytes of the request can become (text: one token per byte at
    /// most; images and files: the provider's published bound each).
    pub input_bound: u64,
    /// The request names state that its bytes do not contain (earlier responses, files, server tools):
    /// the model's context window is the bound.
    pub input_unbounded: bool,
    /// Output ceiling that the request states, per choice.
    pub ceiling: Option<u64>,
    /// Answers asked for (`n`, `candidateCount`): each can use the whole ceiling.
    pub choices: u64,
    /// Output tokens are not a thing here (embeddings).
    pub no_output: bool,
    /// Whether a 1 h cache write is asked for: the dearest input bucket.
    pub cache_1h: bool,
    /// Whether a 5 m cache write is asked for.
    pub cache_5m: bool,
    pub service_tier: Option<String>,
    /// The stream will carry no usage unless the meter asks for it.
    pub must_ask_usage: bool,
    /// The dialect has a field for an output ceiling, so one can be given.
    pub can_clamp: bool,
    /// Tools that run at the provider and feed their results back as input, or other models' work.
    pub server_tools: bool,
    /// Upper bound of the calls of tools that the provider may run and bill for.
    pub tools: Tools,
    /// What the request orders that is priced by something else than tokens.
    pub units: Units,
    /// What selects among prices per unit, such as an image's `hd/1024x1792`.
    pub variant: Option<String>,
    /// The result comes later, by another request.
    pub background: bool,
    /// The request's own text, kept where an answer without usage must be estimated from it: 256 KiB at most, and none
    /// where the body is longer.
    pub text: Option<Bytes>,
    /// Whether audio is among the input, which may have a dearer rate.
    pub input_audio: bool,
    /// Whether images are among the input, which may have a dearer rate.
    pub input_image: bool,
    /// Percent of the list price that the request's options make of it; 0 when they change nothing.
    pub surcharge_percent: u32,
    /// The output's tokens can be more than its visible text: hidden reasoning, audio, images.
    pub hidden_output: bool,
}

impl RequestFacts {
    /// Every model that is named, the request's own first.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.model.iter().chain(&self.fallbacks).map(String::as_str)
    }

    /// What it would say if that model alone answered.
    #[must_use]
    pub fn answered_by(&self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), fallbacks: Vec::new(), ..self.clone() }
    }
}

/// A request that the dialect can't read; the text tells the agent's author what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// What a change to a request body is for. A body is changed only for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Ask for usage in the stream.
    pub ask_usage: bool,
    /// Output ceiling to set.
    pub ceiling: Option<u64>,
}
