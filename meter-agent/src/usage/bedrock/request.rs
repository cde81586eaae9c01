//! What Converse and InvokeModel requests say about their cost.
//!
//! Source: docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html (each family's ceiling).

use serde_json::value::RawValue;

use crate::usage::{
    Quantity, RequestFacts, Rewrite, Units, Unreadable, anthropic, cohere,
    edit::RawObject,
    envelope::Envelope,
    media::{InputBound, Node, Text, scan},
};

/// Most tokens of one image of any family here, above the published sizes (Anthropic 5,000, Pixtral 4,096 and less).
const IMAGE_TOKENS: u64 = 8_000;

const ENVELOPE: Envelope = Envelope {
    steering: &[
        "inferenceConfig",
        "textGenerationConfig",
        "inferenceParams",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "performanceConfig",
        "requestMetadata",
        "serviceTier",
        "anthropic_version",
        "max_tokens",
        "max_completion_tokens",
        "max_gen_len",
        "max_tokens_to_sample",
        "max_new_tokens",
        "maxTokens",
        "temperature",
        "top_p",
        "top_k",
        "topP",
        "topK",
        "stop",
        "stop_sequences",
        "stopSequences",
        "schemaVersion",
    ],
    object: 8,
};

/// What families add around a request: chat templates and system prompts of their own.
const FRAMING_TOKENS: u64 = 256;

/// Families that add less: the largest that was seen, more than doubled.
const FAMILY_FRAMING_TOKENS: &[(&str, u64)] = &[
    ("anthropic.claude-v2", 48),
    ("anthropic.claude-3", 48),
    ("claude-opus-4", 64),
    ("claude-sonnet-4", 64),
    ("claude-haiku-4", 64),
    ("amazon.titan", 48),
    ("amazon.nova-micro-v1", 64),
    ("amazon.nova-lite-v1", 64),
    ("amazon.nova-pro-v1", 64),
    ("amazon.nova-2", 128),
    ("meta.llama", 96),
    ("mistral.mistral-7b", 48),
    ("mistral.mistral-large", 48),
    ("mistral.mixtral", 48),
    ("cohere.command", 64),
];

/// The prompt that any tools add.
const TOOLS_PROMPT_TOKENS: u64 = 2_000;

/// Each family's name of the ceiling, at the top of the body.
const CEILINGS: &[&str] = &[
    "max_tokens",
    "max_completion_tokens",
    "max_gen_len",
    "max_tokens_to_sample",
    "max_new_tokens",
    "maxTokens",
    "maxTokenCount",
];

/// Objects that hold the ceiling instead, and its names in them.
const CONFIGS: &[&str] = &["inferenceConfig", "textGenerationConfig", "inferenceParams"];
const CONFIG_CEILINGS: &[&str] = &["maxTokens", "max_new_tokens", "maxNewTokens", "maxTokenCount", "max_tokens"];

/// A Converse request.
pub(super) fn converse(body: &[u8], model: Option<String>, stream: bool) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut facts = RequestFacts {
        stream,
        ceiling: ceiling(&object),
        choices: 1,
        service_tier: tier(&object),
        can_clamp: true,
        hidden_output: hides(&object, model.as_deref()),
        // A prompt of the prompt management, named by the URL, is not in the body.
        input_unbounded: !object.has("messages") || model.as_deref().is_some_and(|m| m.contains(":prompt/")),
        model,
        ..RequestFacts::default()
    };
    bound(body, object.has("toolConfig"), &mut facts)?;
    Ok(facts)
}

/// The Converse request with another ceiling and nothing else changed.
pub(super) fn rewrite_converse(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        let mut config = match object.get("inferenceConfig").filter(|raw| *raw != "null") {
            Some(raw) => RawObject::parse(raw.as_bytes())?,
            None => RawObject::default(),
        };
        config.set("maxTokens", ceiling.to_string());
        let config = config.write();
        object.set("inferenceConfig", config);
    }
    Ok(object.write().into_bytes())
}

/// An InvokeModel request, in whichever family's shape.
pub(super) fn invoke(body: &[u8], model: Option<String>, stream: bool) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let name = model.as_deref().unwrap_or("");
    if object.has("anthropic_version") && object.has("messages") {
        return anthropic::facts_for(body, name).map(|facts| RequestFacts { stream, ..facts });
    }
    let units = units(&object, body);
    let no_output = !units.is_empty() || name.contains("embed") || object.has("texts");
    let mut facts = RequestFacts {
        stream,
        ceiling: ceiling(&object).filter(|_| !no_output),
        choices: ["num_generations", "n", "numResults"].iter().find_map(|n| object.count(n)).unwrap_or(1).max(1),
        service_tier: tier(&object),
        hidden_output: !no_output && hides(&object, model.as_deref()),
        no_output,
        units,
        model,
        ..RequestFacts::default()
    };
    bound(body, object.has("tools") || object.has("toolConfig"), &mut facts)?;
    Ok(facts)
}

fn ceiling(object: &RawObject<'_>) -> Option<u64> {
    let in_config = |config: &&str| {
        let config = RawObject::parse(object.get(config)?.as_bytes()).ok()?;
        CONFIG_CEILINGS.iter().filter_map(|name| config.count(name)).max()
    };
    // Of several the largest: which of them the model knows is not known here.
    let stated =
        CONFIGS.iter().filter_map(in_config).chain(CEILINGS.iter().filter_map(|name| object.count(name))).max();
    // Handed to the model as it is: it may raise a ceiling, and is none by itself.
    let handed = in_config(&"additionalModelRequestFields").unwrap_or(0);
    stated.map(|ceiling| ceiling.max(handed))
}

fn tier(object: &RawObject<'_>) -> Option<String> {
    let inner = |outer: &str, name: &str| RawObject::parse(object.get(outer)?.as_bytes()).ok()?.text(name);
    inner("serviceTier", "type").or_else(|| inner("performanceConfig", "latency").filter(|l| l == "optimized"))
}

/// What is priced by something else than tokens: images, and searches of a rerank.
fn units(object: &RawObject<'_>, body: &[u8]) -> Units {
    if object.has("query")
        && let Some(documents) = object.get("documents")
    {
        let documents = serde_json::from_str::<Vec<&RawValue>>(documents).map_or(0, |d| d.len() as u64);
        return Units::from([("search_units".into(), cohere::search_units(documents, body.len() as u64))]);
    }
    if !["taskType", "text_prompts", "aspect_ratio"].iter().any(|name| object.has(name)) {
        return Units::new();
    }
    let config = object.get("imageGenerationConfig").and_then(|raw| RawObject::parse(raw.as_bytes()).ok());
    let images = config.and_then(|c| c.count("numberOfImages")).or_else(|| object.count("samples")).unwrap_or(1);
    Units::from([("images".into(), Quantity::whole(images))])
}

/// Whether output can be hidden. Families that show all they generate are named; of others, and of those that were
/// asked to think, it is assumed.
fn hides(object: &RawObject<'_>, model: Option<&str>) -> bool {
    const OPEN: &[&str] = &[
        "claude-3",
        "claude-v2",
        "claude-instant",
        "claude-opus-4",
        "claude-sonnet-4",
        "claude-haiku-4",
        "nova-micro-v1",
        "nova-lite-v1",
        "nova-pro-v1",
        "nova-premier-v1",
        "titan",
        "meta.llama",
        "mistral.",
        "cohere.command",
        "ai21.",
    ];
    let asked =
        |name: &str| object.get(name).is_some_and(|raw| ["thinking", "reason"].iter().any(|word| raw.contains(word)));
    asked("additionalModelRequestFields") || !OPEN.iter().any(|open| model.is_some_and(|m| m.contains(open)))
}

fn bound(body: &[u8], tools: bool, facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut bound = InputBound::default();
    let model = facts.model.as_deref().unwrap_or("");
    let family = FAMILY_FRAMING_TOKENS.iter().find(|(family, _)| model.contains(family));
    let framing = family.map_or(FRAMING_TOKENS, |(_, tokens)| *tokens);
    bound.add(framing + if tools { TOOLS_PROMPT_TOKENS } else { 0 });
    let mut blob = None;
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut blob, &mut bound, facts))?;
    facts.input_bound = bound.tokens(text);
    facts.input_unbounded |= facts.server_tools;
    Ok(())
}

/// `blob`: the source that was seen last; the object around it, which comes after, says what it is.
fn part(node: &Node, blob: &mut Option<Text>, bound: &mut InputBound, facts: &mut RequestFacts) {
    match node.parent {
        "source" => *blob = node.text("bytes").or_else(|| node.text("data")).cloned(),
        // A tool's schema may use these words too; content has a source.
        "image" if node.holds("source") => {
            facts.input_image = true;
            match blob.take() {
                Some(blob) => bound.replace(&blob, IMAGE_TOKENS),
                None => bound.add(IMAGE_TOKENS),
            }
        }
        "image_url" => {
            facts.input_image = true;
            match node.text("url") {
                Some(link) if link.head.starts_with("data:") => bound.replace(link, IMAGE_TOKENS),
                Some(_) | None => bound.add(IMAGE_TOKENS),
            }
        }
        // Pages, seconds, and what only a link names.
        "document" | "video" | "audio" if node.holds("source") => facts.input_unbounded = true,
        "cachePoint" | "cache_control" => {
            let hour = node.text("ttl").is_some_and(|ttl| ttl.head == "1h");
            facts.cache_1h |= hour;
            facts.cache_5m |= !hour;
        }
        // Tools that the service runs, such as grounding by web search.
        "systemTool" => facts.server_tools = true,
        _ => {}
    }
}
