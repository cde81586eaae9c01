//! On the way to a limit and at it: `stages`, `at_limit` and `[degrade]`.

use std::sync::Arc;

use toml::de::DeTable;

use super::{policy::Place, read::Reader, values::Value};
use crate::accounts::policy::{AtLimit, Degrade, Stages};

const STAGES_KEYS: [&str; 3] = ["warn", "throttle", "alerts"];
const DEGRADE_KEYS: [&str; 2] = ["allowance_usd", "models"];
const PERCENT: &str = "write a whole number from 1 to 100";

/// A word of `at_limit`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Stop,
    Degrade,
    Continue,
}

const AT_LIMITS: [(&str, Word); 3] = [("stop", Word::Stop), ("degrade", Word::Degrade), ("continue", Word::Continue)];

impl<'i> Reader<'i> {
    /// What is left out is as above.
    pub(super) fn stages(&mut self, value: &Value<'i>, above: &Stages) -> Option<Stages> {
        let table = self.table("stages", value, "stages = { warn = 80, throttle = 90 }")?;
        self.known_keys(table, &STAGES_KEYS, " in `stages`");
        let mut stages = above.clone();
        if let Some(warn) = table.get("warn").and_then(|v| self.percent("warn", v)) {
            stages.warn = warn;
        }
        if let Some(throttle) = table.get("throttle").and_then(|v| self.percent("throttle", v)) {
            stages.throttle = throttle;
        }
        if let Some(alerts) = table.get("alerts") {
            stages.alerts = self.alerts(alerts);
        }
        if stages.throttle < stages.warn {
            let at = table.get("throttle").or_else(|| table.get("warn")).map_or_else(|| value.span(), Value::span);
            let (throttle, warn) = (stages.throttle, stages.warn);
            self.mistake(
                &at,
                format!("`throttle` at {throttle} comes before `warn` at {warn}; put it at {warn} or above"),
            );
        }
        Some(stages)
    }

    fn alerts(&mut self, value: &Value<'i>) -> Vec<u8> {
        let Some(entries) = value.get_ref().as_array() else {
            self.mistake(&value.span(), "`alerts` is not a list; write it like alerts = [50, 75]".to_owned());
            return Vec::new();
        };
        let mut alerts = Vec::with_capacity(entries.len());
        for entry in entries {
            match self.percent("alerts", entry) {
                Some(point) if alerts.contains(&point) => {
                    self.mistake(&entry.span(), format!("the point {point} is there twice; keep one of the two"));
                }
                Some(point) => alerts.push(point),
                None => {}
            }
        }
        alerts.sort_unstable();
        alerts
    }

    fn percent(&mut self, key: &str, value: &Value<'i>) -> Option<u8> {
        let number = value.get_ref().as_integer().and_then(|n| u8::from_str_radix(n.as_str(), n.radix()).ok());
        let number = number.filter(|n| (1..=100).contains(n));
        if number.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a part of a limit in percent; {PERCENT}"));
        }
        number
    }

    /// `at_limit`, and the table that `degrade` needs and nothing else has a use for.
    pub(super) fn at_limit(&mut self, table: &DeTable<'i>, place: &Place<'_>) -> Option<AtLimit> {
        let word = table.get("at_limit").and_then(|v| self.word("at_limit", v, &AT_LIMITS));
        let header = place.key("degrade");
        let degrade = table.get("degrade").map(|value| (value, self.degrade(value, &header)));
        match (word, degrade) {
            (Some(Word::Stop), None) => Some(AtLimit::Stop),
            (Some(Word::Continue), None) => Some(AtLimit::Continue),
            (Some(Word::Degrade), Some((_, degrade))) => degrade.map(|degrade| AtLimit::Degrade(Arc::new(degrade))),
            (Some(Word::Degrade), None) => {
                let at = table.get("at_limit").map(Value::span).unwrap_or_default();
                let text = format!("`at_limit` is `degrade` and there is no table of models; add `[{header}]`");
                self.mistake(&at, text);
                None
            }
            (None, None) => None,
            (Some(Word::Stop | Word::Continue) | None, Some((value, _))) => {
                // A word that is none has been told already.
                if word.is_some() || !table.contains_key("at_limit") {
                    let text = format!(
                        "`[{header}]` does nothing; add at_limit = \"degrade\"{}, or remove it",
                        place.within()
                    );
                    self.mistake(&value.span(), text);
                }
                None
            }
        }
    }

    fn degrade(&mut self, value: &Value<'i>, header: &str) -> Option<Degrade> {
        let example = format!("`allowance_usd` and `models` below `[{header}]`");
        let table = self.table("degrade", value, &example)?;
        self.known_keys(table, &DEGRADE_KEYS, &format!(" in `[{header}]`"));
        let mut lacking = |key: &str, add: &str| {
            if !table.contains_key(key) {
                self.mistake(&value.span(), format!("`[{header}]` has no `{key}`; add {add}"));
            }
        };
        lacking("allowance_usd", "what the cheaper models may spend beyond the limit");
        lacking("models", "them like models = { \"gpt-5*\" = \"gpt-5-mini\" }");
        let allowance = table.get("allowance_usd").and_then(|v| self.amount("allowance_usd", v));
        let models = table.get("models").and_then(|v| self.replacements(v));
        Some(Degrade { models: models?, allowance: allowance? })
    }

    /// In the order of the file, since the first that fits counts.
    fn replacements(&mut self, value: &Value<'i>) -> Option<Vec<(String, String)>> {
        let table = self.table("models", value, "models = { \"gpt-5*\" = \"gpt-5-mini\" }")?;
        if table.is_empty() {
            let text = "`models` is empty; name a cheaper one, like \"gpt-5*\" = \"gpt-5-mini\"";
            self.mistake(&value.span(), text.to_owned());
        }
        let mut placed = Vec::with_capacity(table.len());
        for (pattern, value) in table {
            let Some(to) = self.string(pattern.get_ref(), value) else { continue };
            if to.is_empty() || to.contains('*') {
                let text = format!("`{to}` is not a model's name; write the one that takes the place, without a `*`");
                self.mistake(&value.span(), text);
                continue;
            }
            placed.push((pattern.span().start, pattern.get_ref().to_string(), to.to_owned()));
        }
        placed.sort_unstable();
        Some(placed.into_iter().map(|(_, pattern, to)| (pattern, to)).collect())
    }
}
