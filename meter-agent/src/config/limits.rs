//! Limits: `budget_usd`, `max_requests` and `[[limit]]`.

use std::ops::Range;

use toml::de::DeTable;

use super::{mistake::suggestion, policy::Place, read::Reader, values::Value};
use crate::{
    accounts::{Category, LimitKey, LimitRule, Window},
    measure::Unit,
    money::Pico,
};

const LIMIT_KEYS: [&str; 5] = ["usd", "tokens", "requests", "window", "category"];
/// All requests, ever.
const REQUESTS: LimitKey = LimitKey { window: Window::Total, category: Category::ANY, unit: Unit::Requests };

/// A limit with the place in the file where it stands.
type Found = (LimitRule, Range<usize>);

impl<'i> Reader<'i> {
    /// The limits of a place, none of them twice.
    pub(super) fn limits(&mut self, table: &DeTable<'i>, place: &Place<'_>) -> Vec<LimitRule> {
        let mut found: Vec<Found> = Vec::new();
        if let Some(value) = table.get("budget_usd")
            && let Some(amount) = self.amount("budget_usd", value)
        {
            found.push((LimitRule::budget(amount), value.span()));
        }
        if let Some(value) = table.get("max_requests")
            && let Some(amount) = self.limit_count("max_requests", value)
        {
            found.push((LimitRule { key: REQUESTS, amount }, value.span()));
        }
        if let Some(value) = table.get("limit") {
            found.extend(
                self.list(&place.key("limit"), value, |reader, entry, table| reader.limit(entry, table, place)),
            );
        }
        let mut rules: Vec<LimitRule> = Vec::with_capacity(found.len());
        for (rule, at) in found {
            if rules.iter().any(|other| other.key == rule.key) {
                let key = rule.key;
                let (unit, window, category) = (key.unit.as_str(), key.window.as_str(), key.category);
                let text = format!(
                    "there is a limit in {unit} for the window `{window}` and the category `{category}` already; keep one of the two"
                );
                self.mistake(&at, text);
            } else {
                rules.push(rule);
            }
        }
        rules
    }

    fn limit(&mut self, entry: &Value<'i>, table: &DeTable<'i>, place: &Place<'_>) -> Option<Found> {
        self.known_keys(table, &LIMIT_KEYS, &format!(" in `[[{}]]`", place.key("limit")));
        let window = match table.get("window") {
            Some(value) => self.window(value, place),
            None => Some(Window::Total),
        };
        let category = match table.get("category") {
            Some(value) => self.limit_category(value, place),
            None => Some(Category::ANY),
        };
        let (unit, amount) = self.measured(entry, table)?;
        Some((LimitRule { key: LimitKey { window: window?, category: category?, unit }, amount }, entry.span()))
    }

    /// Exactly one amount, in its unit.
    fn measured(&mut self, entry: &Value<'i>, table: &DeTable<'i>) -> Option<(Unit, i64)> {
        let stated: Vec<(Unit, &Value<'i>)> =
            Unit::ALL.into_iter().filter_map(|unit| Some((unit, table.get(unit.as_str())?))).collect();
        match *stated {
            [(unit, value)] => {
                let amount = match unit {
                    Unit::Usd => self.amount("usd", value).map(Pico::get),
                    Unit::Tokens | Unit::Requests => self.limit_count(unit.as_str(), value),
                };
                Some((unit, amount?))
            }
            [] => {
                let text = "this limit has no amount; add `usd`, `tokens` or `requests`";
                self.mistake(&entry.span(), text.to_owned());
                None
            }
            [_, (_, second), ..] => {
                let text =
                    "a limit counts one of `usd`, `tokens` and `requests`; write the other as a limit of its own";
                self.mistake(&second.span(), text.to_owned());
                None
            }
        }
    }

    fn limit_count(&mut self, key: &str, value: &Value<'i>) -> Option<i64> {
        let count = self.whole(key, value)?;
        let count = i64::try_from(count).ok();
        if count.is_none() {
            self.mistake(&value.span(), format!("`{key}` is larger than any count can be; leave the limit out"));
        }
        count
    }

    fn window(&mut self, value: &Value<'i>, place: &Place<'_>) -> Option<Window> {
        let window = self.word("window", value, &Window::ALL.map(|window| (window.as_str(), window)))?;
        if window == Window::Task && place.agent.is_none() {
            let text = "the host has no tasks of its own; write a limit of each task below `[[agent.NAME.limit]]`";
            self.mistake(&value.span(), text.to_owned());
            return None;
        }
        Some(window)
    }

    /// A name that nothing falls under would be a limit that never counts.
    fn limit_category(&mut self, value: &Value<'i>, place: &Place<'_>) -> Option<Category> {
        let word = self.category(value)?;
        if place.categories.contains(&word) {
            return Some(Category::named(&word));
        }
        let known: Vec<&str> = place.categories.iter().map(String::as_str).collect();
        let text = format!("nothing falls under the category `{word}`; {}", suggestion(&word, &known));
        self.mistake(&value.span(), text);
        None
    }
}
