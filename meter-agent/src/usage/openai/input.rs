//! Upper bounds of what the input parts of Chat Completions and Responses requests become in tokens.
//!
//! Source: the "Images and vision", "PDF files" and "Tools" guides at developers.openai.com/api/docs/guides.

use crate::usage::{
    RequestFacts, Unreadable,
    media::{InputBound, Node, Text, count_audio, scan},
};

/// Tokens that the provider adds around the request's own: chat framing and a reasoning preamble.
const FRAMING_TOKENS: u64 = 128;

/// Prompt of a tool that the provider defines and the agent runs (shell, patch, computer).
const BUILT_IN_TOOL_TOKENS: u64 = 2_048;

/// Web searches of one request that states no bound of its tool calls. Not a proof: the API has no default
/// bound; what is billed beyond it is posted all the same.
pub(crate) const WEB_SEARCHES: u64 = 16;

/// Fills `input_bound` and what goes with it.
pub(crate) fn bound(body: &[u8], facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let mut bound = InputBound::new(body);
    bound.add(FRAMING_TOKENS);
    let image_tokens = image_tokens(facts.model.as_deref().unwrap_or(""));
    scan(body, &mut |node| part(node, image_tokens, &mut bound, facts))?;
    facts.input_bound = bound.tokens();
    Ok(())
}

fn part(node: &Node, image_tokens: u64, bound: &mut InputBound, facts: &mut RequestFacts) {
    let mut image = |link: &Text| {
        facts.input_image = true;
        if link.head.starts_with("data:") {
            bound.replace(link, image_tokens);
        } else {
            bound.add(image_tokens);
        }
    };
    match node.parent {
        "image_url" => node.text("url").into_iter().for_each(image),
        "input_audio" => {
            if let Some(blob) = node.text("data") {
                count_audio(bound, blob, facts);
            }
        }
        "file" => facts.input_unbounded = true,
        "tools" => tool(node, bound, facts),
        _ => match node.kind() {
            "input_image" | "computer_screenshot" | "image_url" => match node.text("image_url") {
                Some(link) => image(link),
                None if node.holds("image_url") => {}
                None => {
                    facts.input_image = true;
                    bound.add(image_tokens);
                }
            },
            "input_file" | "item_reference" => facts.input_unbounded = true,
            _ => {}
        },
    }
}

fn tool(node: &Node, bound: &mut InputBound, facts: &mut RequestFacts) {
    match node.kind() {
        "function" | "custom" | "" => {}
        "local_shell" | "shell" | "apply_patch" | "computer_use_preview" | "computer" => {
            bound.add(BUILT_IN_TOOL_TOKENS);
        }
        kind => {
            facts.server_tools = true;
            facts.input_unbounded = true;
            if kind.starts_with("web_search") {
                facts.web_searches = WEB_SEARCHES;
            }
        }
    }
}

/// Most tokens that one image can cost, at any size and detail.
///
/// Tile models shrink to 2,048 px and then to 768 px on the short side, 8 tiles at most. Patch models take up
/// to 10,000 patches times a factor of up to 2.46.
fn image_tokens(model: &str) -> u64 {
    const PATCHES: u64 = 24_600;
    let name = model.strip_prefix("ft:").unwrap_or(model);
    if name.starts_with("gpt-4o-mini") {
        return 2_833 + 8 * 5_667;
    }
    let tiles = ["gpt-4o", "chatgpt-4o", "gpt-4-", "gpt-4.5", "o1", "o3"];
    let is_gpt_4_1 = name.starts_with("gpt-4.1") && !name.contains("mini") && !name.contains("nano");
    let is_o3 = !name.starts_with("o3-");
    if is_gpt_4_1 || (is_o3 && tiles.iter().any(|t| name.starts_with(t))) { 85 + 8 * 170 } else { PATCHES }
}

/// Whether the model can generate output that its text does not show. Only families that never reason are
/// known not to.
pub(crate) fn hides_output(model: Option<&str>) -> bool {
    const OPEN: &[&str] = &["gpt-3.5", "gpt-4", "chatgpt-4o", "gpt-5-chat"];
    let name = model.unwrap_or("");
    let name = name.strip_prefix("ft:").unwrap_or(name);
    !OPEN.iter().any(|open| name.starts_with(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(model: &str, body: &str) -> RequestFacts {
        let mut facts = RequestFacts { model: Some(model.to_owned()), ..RequestFacts::default() };
        bound(body.as_bytes(), &mut facts).unwrap();
        facts
    }

    #[test]
    fn an_inline_image_costs_its_published_bound_and_not_its_bytes() {
        let blob = "A".repeat(100_000);
        let body = format!(
            r#"{{"messages":[{{"content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{blob}"}}}}]}}]}}"#
        );
        let got = facts("gpt-4o", &body);
        assert!(got.input_image && !got.input_unbounded);
        assert!(got.input_bound < 2_000, "{}", got.input_bound);
        let linked = body.replace(&blob, "").replace("data:", "https:");
        assert!(facts("gpt-4o", &linked).input_bound > 1_445);
        let responses = format!(r#"{{"input":[{{"type":"input_image","image_url":"data:image/png;base64,{blob}"}}]}}"#);
        assert!(facts("gpt-4o", &responses).input_bound < 2_000);
    }

    #[test]
    fn what_the_request_only_names_is_unbounded() {
        for body in [
            r#"{"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"file-1"}}]}]}"#,
            r#"{"tools":[{"type":"file_search"}]}"#,
            r#"{"tools":[{"type":"web_search"}]}"#,
        ] {
            assert!(facts("gpt-5", body).input_unbounded, "{body}");
        }
        assert!(!facts("gpt-5", r#"{"tools":[{"type":"function","function":{"name":"file_id"}}]}"#).input_unbounded);
    }
}
