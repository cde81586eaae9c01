//! What Cohere's requests say about their cost.
//!
//! Source: docs.cohere.com/reference/chat and docs.cohere.com/docs/rerank-overview (how documents become searches).

use serde_json::value::RawValue;

use crate::usage::{
    Quantity, RequestFacts, Unreadable,
    edit::RawObject,
    envelope::Envelope,
    media::{InputBound, Node, scan},
};

/// Most tokens of one image, above the published size of the vision models.
const IMAGE_TOKENS: u64 = 4_096;

const ENVELOPE: Envelope = Envelope {
    steering: &[
        "model",
        "stream",
        "max_tokens",
        "temperature",
        "p",
        "k",
        "seed",
        "stop_sequences",
        "frequency_penalty",
        "presence_penalty",
        "logprobs",
        "safety_mode",
        "truncate",
        "embedding_types",
        "input_type",
        "return_likelihoods",
        "num_generations",
    ],
    object: 6,
};

/// Around the whole: what is billed leaves templates out.
const FRAMING_TOKENS: u64 = 24;

/// As above for the first version of the API, where some answers bill the template of the model.
const FIRST_VERSION_TOKENS: u64 = 64;

/// Documents of one search unit.
const DOCUMENTS_PER_SEARCH: u64 = 100;

/// A longer document counts as several: of 500 tokens each, of which the query may take up to half. A token is a
/// byte at least.
const BYTES_PER_PART: u64 = 250;

/// Chat, generate and summarize.
pub(super) fn text(body: &[u8], generate: bool) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    // State that is kept at the provider, and searches that it runs.
    let more = ["conversation_id", "connectors", "file_ids"].iter().any(|name| object.has(name));
    let choices = if generate { object.count("num_generations").unwrap_or(1) } else { 1 };
    let mut facts = RequestFacts {
        model: object.text("model"),
        stream: object.is_true("stream"),
        ceiling: object.count("max_tokens"),
        choices: choices.max(1),
        can_clamp: true,
        server_tools: object.has("connectors"),
        input_unbounded: more,
        ..RequestFacts::default()
    };
    let framing = if object.has("message") { FIRST_VERSION_TOKENS } else { FRAMING_TOKENS };
    bound(body, framing, &mut facts)?;
    Ok(facts)
}

/// Embed and classify: no output.
pub(super) fn embed(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut facts =
        RequestFacts { model: object.text("model"), choices: 1, no_output: true, ..RequestFacts::default() };
    bound(body, FRAMING_TOKENS, &mut facts)?;
    if let Some(images) = elements(&object, "images") {
        facts.input_image = true;
        facts.input_bound = facts.input_bound.max(images.saturating_mul(IMAGE_TOKENS));
        facts.units.insert("images".into(), Quantity::whole(images));
    }
    Ok(facts)
}

/// Rerank, in Cohere's shape and in that of the AWS agents' runtime.
pub(super) fn rerank(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let documents = elements(&object, "documents").or_else(|| elements(&object, "sources")).unwrap_or(0);
    let units = [("search_units".into(), search_units(documents, body.len() as u64))];
    Ok(RequestFacts {
        model: object.text("model"),
        input_bound: body.len() as u64,
        choices: 1,
        no_output: true,
        units: units.into(),
        ..RequestFacts::default()
    })
}

/// Most search units that a rerank of that many documents, with that many bytes in all, can be billed as.
pub(crate) fn search_units(documents: u64, bytes: u64) -> Quantity {
    let parts = documents.saturating_add(bytes / BYTES_PER_PART);
    Quantity::whole(parts.div_ceil(DOCUMENTS_PER_SEARCH).max(1))
}

fn elements(object: &RawObject<'_>, name: &str) -> Option<u64> {
    serde_json::from_str::<Vec<&RawValue>>(object.get(name)?).ok().map(|list| list.len() as u64)
}

fn bound(body: &[u8], framing: u64, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut bound = InputBound::default();
    bound.add(framing);
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut bound, facts))?;
    facts.input_bound = bound.tokens(text);
    Ok(())
}

fn part(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    if node.parent != "image_url" {
        return;
    }
    facts.input_image = true;
    match node.text("url") {
        Some(link) if link.head.starts_with("data:") => bound.replace(link, IMAGE_TOKENS),
        Some(_) | None => bound.add(IMAGE_TOKENS),
    }
}
