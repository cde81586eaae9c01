//! What a Messages request says about its cost.
//!
//! Source: platform.claude.com/docs/en/build-with-claude/vision (image sizes), .../agents-and-tools/tool-use/overview
//! (tool prompts), .../about-claude/pricing (data residency, fast mode).

use crate::usage::{
    RequestFacts, Unreadable,
    edit::RawObject,
    envelope::Envelope,
    fallbacks,
    media::{InputBound, Node, scan},
};

/// Most tokens of one image: (width x height) / 750 after the provider has shrunk it to 2,576 px on the long
/// side, the larger of the two documented sizes.
const IMAGE_TOKENS: u64 = 5_000;

/// The prompt that any tools add, above its documented sizes.
const TOOLS_PROMPT_TOKENS: u64 = 1_500;

/// The prompt of a tool that the provider defines and the agent runs (bash, editor, computer, memory).
const BUILT_IN_TOOL_TOKENS: u64 = 2_500;

/// Members that only steer are none of the input; blocks and messages are marked by a few tokens each.
const ENVELOPE: Envelope = Envelope {
    steering: &[
        "model",
        "max_tokens",
        "stream",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "metadata",
        "service_tier",
        "inference_geo",
        "speed",
        "thinking",
        "anthropic_version",
        "anthropic_beta",
    ],
    object: 6,
};

/// Framing of the conversation, and what asking to think adds to it.
const FRAMING_TOKENS: u64 = 48;

/// The instructions that a format of the answer adds.
const FORMAT_PROMPT_TOKENS: u64 = 512;

/// Members that state one.
const FORMATS: [&str; 2] = ["output_format", "output_config"];

/// Searches of a web search tool that states no `max_uses`. Not a proof: the API has no default bound; what is
/// billed beyond it is posted all the same.
const WEB_SEARCHES: u64 = 16;

/// Data kept in the United States costs 1.1 times the list price, fast mode up to 6 times.
const US_PERCENT: u32 = 110;
pub(super) const FAST_PERCENT: u32 = 600;

/// `model`: as the URL names it, where the body does not.
pub(super) fn facts(body: &[u8], model: Option<&str>) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let mut model = model.map(str::to_owned).or_else(|| object.text("model"));
    let fallbacks = fallbacks::read(&object, &mut model)?;
    let mut facts = RequestFacts {
        stream: object.is_true("stream"),
        ceiling: object.count("max_tokens"),
        choices: 1,
        service_tier: object.text("service_tier"),
        can_clamp: true,
        surcharge_percent: surcharge(object.text("inference_geo").as_deref(), object.text("speed").as_deref()),
        hidden_output: thinks(&object, model.as_deref()),
        model,
        // An attempt that made something is billed, also where another one answers; not by gateways.
        bills_attempts: !fallbacks.is_empty() && !object.has("models"),
        fallbacks,
        ..RequestFacts::default()
    };
    let mut bound = InputBound::default();
    bound.add(FRAMING_TOKENS + if object.has("tools") { TOOLS_PROMPT_TOKENS } else { 0 });
    bound.add(if FORMATS.iter().any(|name| object.has(name)) { FORMAT_PROMPT_TOKENS } else { 0 });
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut bound, &mut facts))?;
    facts.input_bound = bound.tokens(text);
    // Each of these runs models, or feeds results back, within the one request.
    let runs_more = ["mcp_servers", "context_management", "fallbacks", "container"].iter().any(|n| object.has(n));
    facts.server_tools |= runs_more;
    facts.input_unbounded |= facts.server_tools;
    Ok(facts)
}

/// Percent of the list price; 0 for the list price itself.
pub(super) fn surcharge(inference_geo: Option<&str>, speed: Option<&str>) -> u32 {
    let us = inference_geo == Some("us");
    match (us, speed == Some("fast")) {
        (false, false) => 0,
        (true, false) => US_PERCENT,
        (false, true) => FAST_PERCENT,
        (true, true) => FAST_PERCENT * US_PERCENT / 100,
    }
}

/// Whether output can be hidden: thinking is shown only as a summary. Families that never think unasked are
/// named; of others it is assumed.
fn thinks(object: &RawObject<'_>, model: Option<&str>) -> bool {
    const UNASKED: &[&str] = &["claude-3", "claude-opus-4", "claude-sonnet-4", "claude-haiku-4"];
    match object.get("thinking").and_then(|raw| RawObject::parse(raw.as_bytes()).ok()) {
        Some(thinking) => thinking.text("type").as_deref() != Some("disabled"),
        // Bedrock and gateways put a region or a vendor before the family.
        None => !UNASKED.iter().any(|family| model.is_some_and(|m| m.contains(family))),
    }
}

fn part(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    match node.parent {
        "source" => source(node, bound, facts),
        "cache_control" => {
            let hour = node.text("ttl").is_some_and(|ttl| ttl.head == "1h");
            facts.cache_1h |= hour;
            facts.cache_5m |= !hour;
        }
        "tools" => tool(node, bound, facts),
        _ if node.kind() == "container_upload" => facts.input_unbounded = true,
        _ => {}
    }
}

/// Where an image or a document comes from. Its media type tells them apart; a link or a file has none.
fn source(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    match (node.kind(), node.text("data")) {
        ("base64", Some(blob)) if node.mime().starts_with("image/") => {
            facts.input_image = true;
            bound.replace(blob, IMAGE_TOKENS);
        }
        ("text" | "content", _) => {}
        // Pages of documents cost text and an image each, whatever their bytes; a link may be either.
        _ => facts.input_unbounded = true,
    }
}

fn tool(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    let kind = node.kind();
    let run_by_agent = ["bash_", "text_editor_", "computer_", "memory_"];
    if matches!(kind, "" | "custom") {
        return;
    }
    if run_by_agent.iter().any(|t| kind.starts_with(t)) {
        bound.add(BUILT_IN_TOOL_TOKENS);
        return;
    }
    facts.server_tools = true;
    if kind.starts_with("web_search") {
        let uses = node.count("max_uses").unwrap_or(WEB_SEARCHES);
        let searches = facts.tools.entry("web_search".into()).or_default();
        *searches = searches.saturating_add(uses);
    }
}
