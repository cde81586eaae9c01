//! The other models that a request names: those that answer it where its own does not, and those that it consults.
//!
//! Each of them must be the account's to use, and the hold is enough for the dearest. Where a gateway is set up to fall
//! back by itself, no request says so.
//!
//! Sources: "Model fallbacks" at openrouter.ai/docs, "Model Fallbacks" at vercel.com/docs/ai-gateway, "Fallback" at
//! docs.edenai.co and assemblyai.com/docs/llm-gateway, the Messages reference at docs.claude.com.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::{Unreadable, edit::RawObject};

/// Members that list models, by name or as objects that name one.
pub(super) const LISTS: [&str; 2] = ["models", "fallbacks"];

/// Models that one request may name: gateways take three to ten. Each is looked up and priced.
const NAMED_MAX: usize = 32;

/// The models that the body names beside `model`, each once. The first stands in for a model that is not named.
pub(super) fn read(object: &RawObject<'_>, model: &mut Option<String>) -> Result<Vec<String>, Unreadable> {
    let mut named = Vec::new();
    for list in LISTS.into_iter().filter_map(|list| object.get(list)) {
        add(list, &mut named);
    }
    if let Some(options) = object.get("providerOptions")
        && let Some(list) = inner(options, "gateway").and_then(|gateway| inner(&gateway, "models"))
    {
        add(&list, &mut named);
    }
    if let Some(tools) = object.get("tools").filter(|tools| tools.contains("\"advisor")) {
        add(tools, &mut named);
    }
    let mut seen = HashSet::new();
    named.retain(|name| seen.insert(name.clone()));
    if model.as_deref().is_none_or(str::is_empty) && !named.is_empty() {
        *model = Some(named.remove(0));
    }
    named.retain(|name| Some(name) != model.as_ref());
    if named.len() > NAMED_MAX {
        return Err(Unreadable(format!("the request names {} models; name {NAMED_MAX} at most", named.len())));
    }
    Ok(named)
}

/// Adds the names of a list; what is neither a name nor an object with a `model` is the provider's to refuse.
fn add(list: &str, named: &mut Vec<String>) {
    let items: Vec<&RawValue> = serde_json::from_str(list).unwrap_or_default();
    for item in items {
        let name = serde_json::from_str::<String>(item.get()).ok();
        let name = name.or_else(|| RawObject::parse(item.get().as_bytes()).ok()?.text("model"));
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            named.push(name);
        }
    }
}

fn inner(object: &str, member: &str) -> Option<String> {
    RawObject::parse(object.as_bytes()).ok()?.get(member).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(body: &str) -> (Option<String>, Vec<String>) {
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let mut model = object.text("model");
        let others = read(&object, &mut model).unwrap();
        (model, others)
    }

    #[test]
    fn every_place_of_another_model_is_known() {
        for body in [
            r#"{"model":"a","models":["a","b","c","b"]}"#,
            r#"{"models":["a","b","c"]}"#,
            r#"{"model":"a","fallbacks":[{"model":"b"},{"model":"c","max_tokens":5}]}"#,
            r#"{"model":"a","fallbacks":["b","c"]}"#,
            r#"{"model":"a","providerOptions":{"openai":{"models":["x"]},"gateway":{"models":["b","c"]}}}"#,
            r#"{"model":"a","tools":[{"type":"advisor_20260301","model":"b"},{"name":"t"}],"models":["c"]}"#,
        ] {
            let (model, mut others) = named(body);
            others.sort();
            assert_eq!((model.as_deref(), others.join(",").as_str()), (Some("a"), "b,c"), "{body}");
        }
        for body in [r#"{"model":"a"}"#, r#"{"model":"a","models":"b","fallbacks":null,"tools":[{"model":"x"}]}"#] {
            assert_eq!(named(body), (Some("a".to_owned()), vec![]), "{body}");
        }
    }

    #[test]
    fn a_list_without_an_end_is_refused_with_the_number_that_may_be() {
        let names: Vec<String> = (0..=NAMED_MAX).map(|n| format!("m{n}")).collect();
        let body = serde_json::json!({"model": "a", "models": names}).to_string();
        let object = RawObject::parse(body.as_bytes()).unwrap();
        let refused = read(&object, &mut Some("a".to_owned())).unwrap_err();
        assert_eq!(refused.0, "the request names 33 models; name 32 at most");
    }
}
