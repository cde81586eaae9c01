//! Bytes: the framings that answers come in, JSON as providers write it, and what is kept of them.
//!
//! Owns how bytes are cut and bounded, at any split; what they mean is the dialects'.

pub(crate) mod edit;
pub(crate) mod event_stream;
pub(crate) mod grpc;
pub(crate) mod json;
pub(crate) mod kept;
pub(crate) mod ndjson;
pub(crate) mod percent;
pub(crate) mod protobuf;
pub(crate) mod read;
pub(crate) mod sse;
pub(crate) mod strings;
pub mod strip;
pub mod websocket;
