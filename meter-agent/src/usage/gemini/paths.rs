//! Which path is which call of the Gemini API or of Vertex AI.
//!
//! Calls are named by the verb after the last colon (`models/NAME:generateContent`) or by the collection they are
//! made on (`interactions`, `cachedContents`). What is known to be free is named; another POST is nobody's here.

use crate::usage::{Billing, Endpoint, percent::decoded};

pub(super) const GENERATE: &str = "generate_content";
pub(super) const STREAM: &str = "stream_generate_content";
pub(super) const EMBED: &str = "embed_content";
pub(super) const BATCH_EMBED: &str = "batch_embed_contents";
pub(super) const ASYNC_EMBED: &str = "async_batch_embed_content";
pub(super) const PREDICT: &str = "predict";
pub(super) const LONG_RUNNING: &str = "predict_long_running";
pub(super) const BATCH_GENERATE: &str = "batch_generate_content";
pub(super) const BATCHES: &str = "batches";
pub(super) const INTERACTIONS: &str = "interactions";
pub(super) const CACHED_CONTENTS: &str = "cached_contents";
pub(super) const RAW_PREDICT: &str = "vertex_raw_predict";
pub(super) const STREAM_RAW_PREDICT: &str = "vertex_stream_raw_predict";
pub(super) const LIVE: &str = "realtime_ws";

/// Whether the path is an OpenAI-compatible one of this host.
pub(super) fn compatible(path: &str) -> bool {
    path.split('/').any(|s| s == "openai")
}

/// The call that a request makes, if it is one of this API.
pub(super) fn endpoint(method: &str, path: &str) -> Option<Endpoint> {
    if method.eq_ignore_ascii_case("POST") {
        return posted(path);
    }
    let of = |name, billing| Some(Endpoint { name, billing });
    let (collection, member) = member(path);
    if !method.eq_ignore_ascii_case("GET") {
        // Deleting, and changing how long a cache is kept.
        return (collection == "cachedContents").then_some(Endpoint { name: CACHED_CONTENTS, billing: Billing::Free });
    }
    match collection {
        _ if path.contains("BidiGenerateContent") => of(LIVE, Billing::Socket),
        // A session of a kind that this version can't read, such as music.
        _ if path.contains("BidiGenerate") => of(LIVE, Billing::Unknown),
        "interactions" if !member.is_empty() => of(INTERACTIONS, Billing::Result),
        "batches" if !member.is_empty() => of(BATCHES, Billing::Result),
        "operations" => of("operations", Billing::Free),
        "cachedContents" => of(CACHED_CONTENTS, Billing::Free),
        _ => None,
    }
}

fn posted(path: &str) -> Option<Endpoint> {
    let of = |name, billing| Some(Endpoint { name, billing });
    match action(path) {
        "generateContent" => of(GENERATE, Billing::Metered),
        "streamGenerateContent" => of(STREAM, Billing::Metered),
        "embedContent" => of(EMBED, Billing::Metered),
        "batchEmbedContents" => of(BATCH_EMBED, Billing::Metered),
        "asyncBatchEmbedContent" => of(ASYNC_EMBED, Billing::Metered),
        "predict" => of(PREDICT, Billing::Metered),
        "predictLongRunning" => of(LONG_RUNNING, Billing::Metered),
        "batchGenerateContent" => of(BATCH_GENERATE, Billing::Metered),
        // Anthropic's counting of tokens is a model of its own.
        "rawPredict" if model(path).as_deref() == Some("count-tokens") => of("count_tokens", Billing::Free),
        "rawPredict" => of(RAW_PREDICT, Billing::Metered),
        "streamRawPredict" => of(STREAM_RAW_PREDICT, Billing::Metered),
        "countTokens" => of("count_tokens", Billing::Free),
        "computeTokens" => of("compute_tokens", Billing::Free),
        "fetchPredictOperation" => of("operations", Billing::Free),
        "cancel" => of("cancel", Billing::Free),
        "" => collection(path),
        _ => None,
    }
}

/// A POST that has no verb.
fn collection(path: &str) -> Option<Endpoint> {
    let of = |name, billing| Some(Endpoint { name, billing });
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let (last, before) = (segments.next().unwrap_or(""), segments.nth(1).unwrap_or(""));
    match last {
        "interactions" => of(INTERACTIONS, Billing::Metered),
        "cancel" if before == "interactions" => of(INTERACTIONS, Billing::Free),
        "cachedContents" => of(CACHED_CONTENTS, Billing::Metered),
        "files" => of("files", Billing::Free),
        "auth_tokens" => of("auth_tokens", Billing::Free),
        _ => None,
    }
}

/// The last two segments: a collection and its member, or the collection alone.
fn member(path: &str) -> (&str, &str) {
    let mut segments = path.rsplit('/').filter(|s| !s.is_empty());
    let (last, before) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
    match before {
        "interactions" | "batches" | "operations" | "cachedContents" => (before, last),
        _ => (last, ""),
    }
}

/// The verb after the last colon, which some clients percent-encode.
fn action(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or("");
    last.rsplit_once(':').or_else(|| last.rsplit_once("%3A")).or_else(|| last.rsplit_once("%3a")).map_or("", |(_, a)| a)
}

/// The model of `.../models/NAME:verb` and `.../tunedModels/NAME:verb`.
pub(super) fn model(path: &str) -> Option<String> {
    model_place(path).map(decoded)
}

/// Where the path names the model, as it stands there.
pub(super) fn model_place(path: &str) -> Option<&str> {
    let last = path.rsplit('/').next().unwrap_or("");
    let verb = action(path);
    let name = last.strip_suffix(verb)?;
    let name = name.strip_suffix(':').or_else(|| name.strip_suffix("%3A")).or_else(|| name.strip_suffix("%3a"))?;
    (!name.is_empty()).then_some(name)
}
