//! What the providers' APIs say about usage: bytes in, facts out.
//!
//! Pure: no I/O, no clock, no tokio. Each wire dialect is one file and one line in [`DIALECTS`]; each
//! provider is one row in [`providers`]. If a new provider needs a change anywhere else, [`Dialect`] is wrong.
//!
//! Missing is not zero: a [`Reading`] says how far its numbers are to be trusted.

pub mod anthropic;
pub mod bedrock;
mod bound;
#[cfg(test)]
mod ceiling_tests;
pub mod cohere;
mod dialect;
mod facts;
mod fallbacks;
pub mod gemini;
pub mod hosts;
mod like;
pub mod ollama;
pub mod openai;
pub mod others;
pub mod paid;
pub mod plan;
mod problem;
pub mod providers;
mod reading;
mod renamed;
pub(crate) mod reported;
mod session_models;
mod wire;
pub mod x402;
pub mod xai;

pub(crate) use self::like::is_like;
pub use self::{
    bound::tokens::{CountBy, count_by},
    dialect::{AnswerHead, Billing, BodyEnd, Call, Dialect, Endpoint, Reader, SocketReader, detect, dialect},
    facts::{RequestFacts, Rewrite, Unreadable},
    problem::{BudgetFacts, Problem, Remedy},
    reading::{Line, Quality, Quantity, Reading, ResultRef, Standing, Tools, Units, Usage},
    renamed::Renamed,
    wire::{event_stream::FrameEnds, sse::EventEnds, strip, websocket},
};
use self::{
    bound::{delivered, envelope, estimate, media, tokens},
    wire::{edit, event_stream, grpc, json, kept, ndjson, percent, protobuf, read, sse, strings},
};

/// Every wire dialect, by the name that a `[[host]]` entry of the config gives it. ARCHITECTURE.md has the checklist of
/// adding one.
pub static DIALECTS: &[&dyn Dialect] = &[
    &openai::OpenAi,
    &anthropic::Anthropic,
    &gemini::Gemini,
    &bedrock::Bedrock,
    &cohere::Cohere,
    &ollama::Ollama,
    &xai::Xai,
    &others::Others,
];
