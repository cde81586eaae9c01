//! What a generateContent request says about its cost, and its ceiling.

use super::paths;
use crate::usage::{
    RequestFacts, Rewrite, Unreadable,
    edit::RawObject,
    envelope::Envelope,
    media::{InputBound, Node, count_audio, scan},
};

/// Most tokens of one inline image: images are shrunk to 3,072 px and cut into at most 16 tiles of 258 tokens;
/// the ultra high resolution of Gemini 3 is 2,240.
pub(super) const IMAGE_TOKENS: u64 = 5_000;

/// Contents and their parts are counted with next to no marks around them.
pub(super) const ENVELOPE: Envelope = Envelope {
    steering: &[
        "model",
        "safetySettings",
        "safety_settings",
        "labels",
        "serviceTier",
        "service_tier",
        "stream",
        "store",
        "background",
        "response_modalities",
    ],
    object: 4,
};

/// Around the whole: contents are billed by next to nothing but their text.
pub(super) const FRAMING_TOKENS: u64 = 16;

/// Searches of one grounded request. Not a proof: the API states no bound; what is billed beyond it is posted
/// all the same.
pub(super) const WEB_SEARCHES: u64 = 16;

pub(super) fn facts(stream: bool, path_and_query: &str, body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let config = config_name(&object).and_then(|name| object.get(name)).unwrap_or("{}");
    let config = RawObject::parse(config.as_bytes())?;
    let model = paths::model(path_and_query.split('?').next().unwrap_or(""));
    let either = |a: &str, b: &str| config.count(a).max(config.count(b));
    let mut facts = RequestFacts {
        stream,
        ceiling: either("maxOutputTokens", "max_output_tokens"),
        choices: either("candidateCount", "candidate_count").unwrap_or(1).max(1),
        service_tier: object.text("serviceTier").or_else(|| object.text("service_tier")),
        can_clamp: true,
        hidden_output: !model.as_deref().is_some_and(|m| m.starts_with("gemini-1.") || m.starts_with("gemini-2.0")),
        model,
        ..RequestFacts::default()
    };
    let mut bound = InputBound::default();
    bound.add(FRAMING_TOKENS);
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut bound, &mut facts))?;
    facts.input_bound = bound.tokens(text);
    facts.input_unbounded |= facts.server_tools || object.has("cachedContent") || object.has("cached_content");
    Ok(facts)
}

fn config_name(object: &RawObject<'_>) -> Option<&'static str> {
    ["generationConfig", "generation_config"].into_iter().find(|name| object.has(name))
}

pub(super) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        let name = config_name(&object).unwrap_or("generationConfig");
        let old = object.get(name).filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
        let mut config = RawObject::parse(old.as_bytes())?;
        let snake = config.has("max_output_tokens");
        if snake {
            config.set("max_output_tokens", ceiling.to_string());
        }
        if !snake || config.has("maxOutputTokens") {
            config.set("maxOutputTokens", ceiling.to_string());
        }
        object.set(name, config.write());
    }
    Ok(object.write().into_bytes())
}

pub(super) fn part(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    match node.parent {
        "inlineData" | "inline_data" => match (node.text("data"), node.mime()) {
            (Some(blob), mime) if mime.starts_with("image/") => {
                facts.input_image = true;
                bound.replace(blob, IMAGE_TOKENS);
            }
            (Some(blob), mime) if mime.starts_with("audio/") => count_audio(bound, blob, facts),
            (_, mime) if mime.starts_with("text/") => {}
            // Video frames and document pages cost tokens that their bytes do not bound.
            _ => {
                facts.input_unbounded = true;
                facts.input_audio = true;
            }
        },
        "fileData" | "file_data" => {
            facts.input_unbounded = true;
            facts.input_audio = true;
        }
        "tools" => tool(node, facts),
        _ => {}
    }
}

fn tool(node: &Node, facts: &mut RequestFacts) {
    const SEARCHES: [&str; 5] =
        ["googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval", "enterpriseWebSearch"];
    const OTHERS: [&str; 10] = [
        "urlContext",
        "url_context",
        "codeExecution",
        "code_execution",
        "fileSearch",
        "file_search",
        "googleMaps",
        "google_maps",
        "computerUse",
        "computer_use",
    ];
    if SEARCHES.iter().any(|key| node.holds(key)) {
        facts.server_tools = true;
        facts.tools.insert("google_search".into(), WEB_SEARCHES);
    }
    facts.server_tools |= OTHERS.iter().any(|key| node.holds(key));
}
