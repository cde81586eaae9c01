//! The providers built in: one row each.
//!
//! A row names hosts and the catalogue's id; everything about the wire is the dialect's.

use super::{Dialect, anthropic::Anthropic, gemini::Gemini, openai::OpenAi};

/// One provider.
pub struct Provider {
    /// As in the ledger.
    pub id: &'static str,
    /// Its id in the `genai-prices` catalogue.
    pub price_provider: &'static str,
    pub dialect: &'static dyn Dialect,
    /// Host names, lower case, each the API's own.
    pub hosts: &'static [&'static str],
    /// Takes `stream_options.include_usage` in Chat Completions.
    pub understands_stream_options: bool,
}

/// Every provider built in. Adding one that speaks a dialect we have is a row here and nothing else; the
/// first row of a dialect is the one that hosts added by the config are priced as.
pub static PROVIDERS: &[Provider] = &[
    Provider {
        id: "openai",
        price_provider: "openai",
        dialect: &OpenAi,
        hosts: &["api.openai.com", "eu.api.openai.com", "us.api.openai.com"],
        understands_stream_options: true,
    },
    Provider {
        id: "anthropic",
        price_provider: "anthropic",
        dialect: &Anthropic,
        hosts: &["api.anthropic.com"],
        understands_stream_options: true,
    },
    Provider {
        id: "gemini",
        price_provider: "google",
        dialect: &Gemini,
        hosts: &["generativelanguage.googleapis.com"],
        understands_stream_options: true,
    },
];
