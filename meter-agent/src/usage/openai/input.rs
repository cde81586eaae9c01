//! Upper bounds of what the input parts of Chat Completions and Responses requests become in tokens.
//!
//! Source: the "Images and vision", "PDF files" and "Tools" guides at developers.openai.com/api/docs/guides.

use crate::usage::{
    RequestFacts, Unreadable,
    edit::RawObject,
    envelope::Envelope,
    media::{InputBound, Node, Text, count_audio, scan},
    tokens::Tokenizer,
};

/// Members that only steer: nothing of them becomes input. What is not named here counts.
const STEERING: &[&str] = &[
    "model",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "seed",
    "stop",
    "store",
    "user",
    "metadata",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "parallel_tool_calls",
    "service_tier",
    "reasoning_effort",
    "prompt_cache_key",
    "safety_identifier",
    "venice_parameters",
    "reasoning",
    "include",
    "truncation",
    "verbosity",
    "background",
    "prompt_cache_retention",
    "max_tool_calls",
    "best_of",
    "echo",
    "encoding_format",
    "dimensions",
];

pub(super) const ENVELOPE: Envelope = Envelope { steering: STEERING, object: 6 };

/// Members whose presence makes providers add instructions of their own.
const INSTRUCTED: [&str; 3] = ["tools", "functions", "response_format"];

/// Prompt of a tool that the provider defines and the agent runs (shell, patch, computer).
const BUILT_IN_TOOL_TOKENS: u64 = 2_048;

/// Web searches of one request that states no bound of its tool calls. Not a proof: the API has no default
/// bound; what is billed beyond it is posted all the same.
pub(crate) const WEB_SEARCHES: u64 = 16;

/// Fills `input_bound` and what goes with it; `object` is what `body` holds.
pub(super) fn bound(object: &RawObject<'_>, body: &[u8], facts: &mut RequestFacts) -> Result<(), Unreadable> {
    let model = facts.model.as_deref().unwrap_or("");
    let instructed = INSTRUCTED.iter().any(|name| object.has(name));
    let mut bound = InputBound::default();
    bound.add(preamble(model, instructed));
    let image_tokens = image_tokens(model);
    let text = scan(body, &ENVELOPE, &mut |node| part(node, image_tokens, &mut bound, facts))?;
    facts.input_bound = bound.tokens(text);
    Ok(())
}

/// Upper bound of what a request that holds nothing but text becomes, without what is put around it.
pub(super) fn text(body: &[u8]) -> Result<u64, Unreadable> {
    scan(body, &ENVELOPE, &mut |_| {})
}

/// Families whose templates put little before the messages: a date, a line or nothing.
const BARE: &[&str] =
    &["llama", "qwen", "glm", "gemini", "gemma", "claude", "sonar", "kimi", "mixtral", "mistral-large"];

/// Tokens that come before the request's own and are billed with it: a template's default system prompt, the
/// provider's, and its instructions for tools and structured answers (`instructed`).
///
/// Published by Anthropic ("Tool use", its system prompt per model); of the others the largest that was seen, doubled.
pub(super) fn preamble(model: &str, instructed: bool) -> u64 {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let has = |part: &str| name.contains(part);
    if Tokenizer::of(&name).is_some() && !has("gpt-oss") {
        return 32;
    }
    let own = if has("grok") || name == "auto" {
        1_024
    } else if has("mistral-small") || has("devstral") || has("magistral") {
        1_536
    } else if BARE.iter().any(|family| has(family)) {
        48
    } else {
        128
    };
    match instructed {
        true if has("claude") => own + 1_024,
        // Tools are a list behind a mark of their own.
        true if has("mistral") || has("pixtral") || has("codestral") => own + 192,
        true => own + 512,
        false => own,
    }
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
            if kind.contains("web_search") {
                facts.tools.insert("web_search".into(), WEB_SEARCHES);
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
    const OPEN: &[&str] = &[
        "gpt-3.5",
        "gpt-35",
        "gpt-4",
        "chatgpt-4o",
        "gpt-5-chat",
        "davinci-002",
        "babbage-002",
        "llama-2",
        "llama-3",
        "llama3",
        "meta-llama-3",
        "mixtral-",
        "open-mistral-",
        "mistral-tiny",
        "mistral-nemo",
        "gemma-2",
        "phi-3",
        "opt-",
    ];
    let name = model.unwrap_or("");
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let name = name.strip_prefix("ft:").unwrap_or(&name);
    !OPEN.iter().any(|open| name.starts_with(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(model: &str, body: &str) -> RequestFacts {
        let mut facts = RequestFacts { model: Some(model.to_owned()), ..RequestFacts::default() };
        let object = RawObject::parse(body.as_bytes()).unwrap();
        bound(&object, body.as_bytes(), &mut facts).unwrap();
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
    fn only_what_becomes_input_is_bounded() {
        let messages = r#"{"messages":[{"role":"user","content":"Hello!"}]"#;
        let plain = facts("gpt-4o", &format!("{messages}}}")).input_bound;
        let steered = format!(r#"{messages},"metadata":{{"x":"{}"}},"temperature":0.123456}}"#, "y".repeat(500));
        assert!(facts("gpt-4o", &steered).input_bound < plain + 40);
        let unknown = format!(r#"{messages},"something_new":"{}"}}"#, "y".repeat(500));
        assert!(facts("gpt-4o", &unknown).input_bound > plain + 500);
    }

    #[test]
    fn what_providers_put_before_the_request_is_bounded() {
        let (plain, tools) = (r#"{"messages":[]}"#, r#"{"messages":[],"tools":[]}"#);
        assert!(facts("gpt-4o", plain).input_bound < 64);
        assert!(facts("x-ai/grok-4", plain).input_bound > 700);
        assert!(facts("anthropic/claude-sonnet-4-6", tools).input_bound > 1_000);
        assert!(facts("some-model", tools).input_bound > facts("some-model", plain).input_bound + 500);
    }

    #[test]
    fn only_families_that_never_reason_hide_nothing() {
        for model in ["gpt-4o-mini", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "ft:gpt-3.5-turbo:a::b"] {
            assert!(!hides_output(Some(model)), "{model}");
        }
        for model in ["gpt-5", "o3", "deepseek-r1-distill-llama-70b", "openai.gpt-oss-20b-1:0", "my-deployment"] {
            assert!(hides_output(Some(model)), "{model}");
        }
        assert!(hides_output(None));
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
