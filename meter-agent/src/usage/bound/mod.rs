//! Bounds: how much input a request can become, and what an answer without usage is taken to have used.

pub(crate) mod delivered;
pub(crate) mod envelope;
pub(crate) mod estimate;
pub(crate) mod media;
pub(crate) mod tokens;
