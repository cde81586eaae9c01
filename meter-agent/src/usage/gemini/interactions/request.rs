//! What an interaction's request says about its cost, and its ceiling.

use crate::usage::{
    RequestFacts, Rewrite, Unreadable,
    edit::RawObject,
    gemini::request::{ENVELOPE, FRAMING_TOKENS, IMAGE_TOKENS, WEB_SEARCHES},
    media::{InputBound, Node, count_audio, scan},
};

pub(in crate::usage::gemini) fn facts(body: &[u8]) -> Result<RequestFacts, Unreadable> {
    let object = RawObject::parse(body)?;
    let config = RawObject::parse(object.get("generation_config").filter(|c| *c != "null").unwrap_or("{}").as_bytes())?;
    let is_agent = object.has("agent");
    let mut facts = RequestFacts {
        model: object.text("model").or_else(|| object.text("agent")),
        stream: object.is_true("stream"),
        ceiling: config.count("max_output_tokens"),
        choices: 1,
        service_tier: object.text("service_tier"),
        background: object.is_true("background"),
        can_clamp: !is_agent,
        // An agent searches and calls models as long as it likes.
        server_tools: is_agent,
        hidden_output: true,
        ..RequestFacts::default()
    };
    let mut bound = InputBound::default();
    bound.add(FRAMING_TOKENS);
    let text = scan(body, &ENVELOPE, &mut |node| part(node, &mut bound, &mut facts))?;
    facts.input_bound = bound.tokens(text);
    facts.input_unbounded |= facts.server_tools || object.has("previous_interaction_id");
    Ok(facts)
}

fn part(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    if node.parent == "tools" {
        match node.kind() {
            "function" | "" => {}
            "google_search" => {
                facts.server_tools = true;
                facts.tools.insert("google_search".into(), WEB_SEARCHES);
            }
            _ => facts.server_tools = true,
        }
        return;
    }
    match (node.kind(), node.text("data")) {
        ("image", blob) => {
            facts.input_image = true;
            match blob {
                Some(blob) => bound.replace(blob, IMAGE_TOKENS),
                None => bound.add(IMAGE_TOKENS),
            }
        }
        ("audio", Some(blob)) => count_audio(bound, blob, facts),
        // Their length is not in the request.
        ("audio" | "video" | "document", _) => {
            facts.input_unbounded = true;
            facts.input_audio = true;
        }
        _ => {}
    }
}

pub(in crate::usage::gemini) fn rewrite(body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if let Some(ceiling) = rewrite.ceiling {
        let old = object.get("generation_config").filter(|raw| *raw != "null").unwrap_or("{}").to_owned();
        let mut config = RawObject::parse(old.as_bytes())?;
        config.set("max_output_tokens", ceiling.to_string());
        object.set("generation_config", config.write());
    }
    Ok(object.write().into_bytes())
}
