//! Which traffic a subscription pays for: coding agents on a plan, by host and kind of credential.
//!
//! Pure. The credential is looked at and never kept: only its kind decides.

use super::hosts::HostMatch;

/// Whether a request is subscription traffic. `path` has no query; `header` gives every value of a header by its name
/// in lower case, as its bytes.
///
/// Fail-closed: a request that carries another credential too is not, since the provider may bill that one; nor is one
/// to a host that the config adds, where nobody knows who looks at the token.
///
/// Sources: the `Authorization` that Claude Code sends after `claude login` (`Bearer sk-ant-oat01-...`; the beta
/// `oauth-2025-04-20` beside it also comes with tokens that are billed, and proves nothing); Codex signed in with
/// ChatGPT, which asks `chatgpt.com/backend-api/codex` and not the API; GitHub Copilot, which has no other way to be
/// paid than its seats.
pub fn is_on_plan<'h>(host: &HostMatch, path: &str, header: impl Fn(&str) -> Vec<&'h [u8]>) -> bool {
    match host.provider_id {
        "anthropic" => {
            let of_plan = |value: &&[u8]| bearer(value).is_some_and(|token| token.starts_with("sk-ant-oat"));
            host.added.is_none()
                && header("x-api-key").is_empty()
                && matches!(&header("authorization")[..], [only] if of_plan(only))
        }
        "chatgpt-codex" => path.split('/').any(|segment| segment == "backend-api"),
        "github-copilot" => true,
        _ => false,
    }
}

/// Whether an answer says that its request was billed, whatever its credential looked like: tokens of a workload
/// identity look like those of a plan and are billed to their organization. The API states its own rate limits to
/// whom it bills, and `anthropic-ratelimit-unified-*` to a plan.
///
/// Source: platform.claude.com/docs/en/manage-claude/wif-reference and .../api/rate-limits.
pub fn was_billed<'n>(host: &HostMatch, names: impl Iterator<Item = &'n str>) -> bool {
    let of_limits = names.filter_map(|name| name.strip_prefix("anthropic-ratelimit-"));
    let (mut any, mut unified) = (false, false);
    of_limits.for_each(|rest| (any, unified) = (true, unified || rest.starts_with("unified-")));
    host.provider_id == "anthropic" && any && !unified
}

/// The token of an `Authorization: Bearer`, where that is all it says.
fn bearer(value: &[u8]) -> Option<&str> {
    let (scheme, token) = std::str::from_utf8(value).ok()?.trim().split_once(' ')?;
    let is_one = |token: &&str| token.bytes().all(|b| b.is_ascii_graphic() && b != b',');
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && is_one(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::hosts::{HostEntry, HostTable};

    fn on_plan(host: &str, path: &str, headers: &[(&str, &'static str)]) -> bool {
        let table = HostTable::new(&[HostEntry::new("gateway.example.com", "anthropic")]).unwrap();
        let found = table.find(host, 443).unwrap();
        is_on_plan(&found, path, |name| headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_bytes()).collect())
    }

    #[test]
    fn a_plans_token_is_told_from_an_api_key() {
        let anthropic = |headers: &[(&str, &'static str)]| on_plan("api.anthropic.com", "/v1/messages", headers);
        let beta = ("anthropic-beta", "claude-code-20250219,oauth-2025-04-20");
        let token = ("authorization", "Bearer sk-ant-oat01-x");
        assert!(anthropic(&[token]) && anthropic(&[("authorization", "bearer sk-ant-oat01-x"), beta]));
        assert!(!anthropic(&[("authorization", "bearer opaque"), beta]));
        assert!(!anthropic(&[("x-api-key", "sk-ant-api03-x"), beta]));
        assert!(!anthropic(&[("authorization", "Bearer sk-ant-api03-x"), beta]));
        assert!(!anthropic(&[]));
    }

    #[test]
    fn a_plans_token_beside_what_can_be_billed_pays_for_nothing() {
        let anthropic = |headers: &[(&str, &'static str)]| on_plan("api.anthropic.com", "/v1/messages", headers);
        let token = ("authorization", "Bearer sk-ant-oat01-x");
        assert!(!anthropic(&[token, ("x-api-key", "sk-ant-api03-x")]));
        assert!(!anthropic(&[token, ("x-api-key", "")]));
        assert!(!anthropic(&[token, ("x-api-key", "sk-ant-api03-\u{e9}")]));
        assert!(!anthropic(&[token, ("authorization", "Bearer sk-ant-api03-x")]));
        assert!(!anthropic(&[("authorization", "Bearer sk-ant-oat01-x, Bearer sk-ant-api03-x")]));
        assert!(!on_plan("gateway.example.com", "/v1/messages", &[token]));
    }

    #[test]
    fn an_answer_with_the_limits_of_the_api_was_billed() {
        let table = HostTable::new(&[]).unwrap();
        let billed = |host: &str, names: &[&str]| was_billed(&table.find(host, 443).unwrap(), names.iter().copied());
        let (api, plan) = ("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-unified-status");
        assert!(billed("api.anthropic.com", &["request-id", api]));
        assert!(!billed("api.anthropic.com", &[plan]) && !billed("api.anthropic.com", &[api, plan]));
        assert!(!billed("api.anthropic.com", &["request-id"]) && !billed("chatgpt.com", &[api]));
    }

    #[test]
    fn codex_and_copilot_are_told_by_where_they_ask() {
        assert!(on_plan("chatgpt.com", "/backend-api/codex/responses", &[]));
        assert!(on_plan("api.githubcopilot.com", "/chat/completions", &[]));
        assert!(!on_plan("api.openai.com", "/v1/responses", &[("authorization", "Bearer sk-x")]));
    }
}
