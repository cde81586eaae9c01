//! Calls of tools that ran at the provider, counted from a response's output items and its usage object.
//!
//! An item per call, except that of a web search only the searches are billed: opening a page and finding in one are
//! not. xAI states its counts in the usage object as well; where the two differ, the larger one counts, since items
//! can be left out of an answer.
//!
//! Sources: the "Tools" guides at developers.openai.com/api/docs/guides, "Tool usage details" at docs.x.ai.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::usage::{
    Tools,
    json::{Count, text},
    openai::tokens::lenient,
};

/// An output item: what kind it is, and of a call its action.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(in crate::usage::openai) struct Item {
    #[serde(rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    /// An object for a search, but a word for an image.
    action: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Action {
    #[serde(rename = "type")]
    kind: String,
}

impl Item {
    /// The tool that is billed for the item; `None` for messages, reasoning and what the agent runs itself.
    pub(in crate::usage::openai) fn tool(&self) -> Option<&'static str> {
        match self.kind.as_deref()? {
            "web_search_call" => self.is_search().then_some("web_search"),
            "file_search_call" | "collections_search_call" => Some("file_search"),
            "code_interpreter_call" | "code_execution_call" => Some("code_interpreter"),
            "image_generation_call" => Some("image_generation"),
            "mcp_call" => Some("mcp"),
            "shell_call" => Some("shell"),
            "x_search_call" => Some("x_search"),
            "attachment_search_call" => Some("attachment_search"),
            "document_search_call" => Some("document_search"),
            _ => None,
        }
    }

    fn is_search(&self) -> bool {
        let action = self.action.as_ref().and_then(|raw| serde_json::from_str::<Action>(raw.get()).ok());
        action.is_none_or(|action| action.kind == "search")
    }
}

/// Adds the items' calls.
pub(in crate::usage::openai) fn count<'i>(items: impl IntoIterator<Item = &'i Item>, tools: &mut Tools) {
    for tool in items.into_iter().filter_map(Item::tool) {
        *tools.entry(Cow::Borrowed(tool)).or_default() += 1;
    }
}

/// The counts that stand in a usage object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the APIs'")]
pub(super) struct Stated {
    #[serde(deserialize_with = "lenient")]
    server_side_tool_usage_details: Option<BTreeMap<String, Count>>,
    #[serde(deserialize_with = "lenient")]
    server_side_tool_usage: Option<BTreeMap<String, Count>>,
    #[serde(deserialize_with = "lenient")]
    server_tool_use: Option<ServerToolUse>,
    #[serde(deserialize_with = "lenient")]
    server_tool_use_details: Option<ServerToolUse>,
}

/// As gateways state it that speak several dialects.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct ServerToolUse {
    web_search_requests: Count,
}

impl Stated {
    /// Raises `tools` to what is stated.
    pub(super) fn raise(&self, tools: &mut Tools) {
        let maps = [&self.server_side_tool_usage_details, &self.server_side_tool_usage];
        for (name, count) in maps.into_iter().flatten().flatten() {
            if let Some(tool) = named(name) {
                raise(tools, tool, count.get());
            }
        }
        for searches in [self.server_tool_use, self.server_tool_use_details].into_iter().flatten() {
            raise(tools, "web_search", searches.web_search_requests.get());
        }
    }
}

/// Raises one count.
pub(super) fn raise(tools: &mut Tools, tool: &'static str, calls: u64) {
    if calls > 0 {
        let known = tools.entry(Cow::Borrowed(tool)).or_default();
        *known = calls.max(*known);
    }
}

/// `web_search_calls` and `SERVER_SIDE_TOOL_WEB_SEARCH` are both the web search.
fn named(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("server_side_tool_").unwrap_or(&name);
    match name.strip_suffix("_calls").unwrap_or(name) {
        "web_search" => Some("web_search"),
        "x_search" => Some("x_search"),
        "code_interpreter" | "code_execution" => Some("code_interpreter"),
        "file_search" | "collections_search" => Some("file_search"),
        "mcp" => Some("mcp"),
        "image_generation" => Some("image_generation"),
        "attachment_search" => Some("attachment_search"),
        "document_search" => Some("document_search"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(items: &str, usage: &str) -> Vec<(String, u64)> {
        let items: Vec<Item> = serde_json::from_str(items).unwrap();
        let stated: Stated = serde_json::from_str(usage).unwrap();
        let mut tools = Tools::new();
        count(&items, &mut tools);
        stated.raise(&mut tools);
        tools.into_iter().map(|(name, n)| (name.into_owned(), n)).collect()
    }

    #[test]
    fn of_a_web_search_only_the_searches_are_billed() {
        let items = r#"[{"type":"web_search_call","action":{"type":"search","query":"x"}},
            {"type":"web_search_call","action":{"type":"open_page"}},
            {"type":"web_search_call","action":{"type":"find_in_page"}},{"type":"web_search_call"}]"#;
        assert_eq!(counted(items, "{}"), [("web_search".to_owned(), 2)]);
    }

    #[test]
    fn what_the_agent_runs_is_not_the_providers() {
        let items = r#"[{"type":"function_call"},{"type":"custom_tool_call"},{"type":"computer_call"},{"type":"message"},
            {"type":"local_shell_call"},{"type":"mcp_list_tools"},{"type":"tool_search_call"},
            {"type":"image_generation_call","action":"generate"},{"type":"mcp_call"},{"type":"shell_call","action":{"commands":[]}}]"#;
        let want = [("image_generation", 1), ("mcp", 1), ("shell", 1)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(counted(items, "{}"), want);
    }

    #[test]
    fn a_stated_count_fills_what_the_items_leave_out() {
        let items = r#"[{"type":"x_search_call"}]"#;
        let usage = r#"{"server_side_tool_usage_details":{"x_search_calls":3,"web_search_calls":0,"mcp_calls":1},
            "server_side_tool_usage":{"SERVER_SIDE_TOOL_WEB_SEARCH":2},"server_tool_use":null}"#;
        let want = [("mcp", 1), ("web_search", 2), ("x_search", 3)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(counted(items, usage), want);
    }
}
