//! The keys of a policy: what is written for the host at the top, and for an account below `[agent.NAME]`.

use std::time::Duration;

use jiff::tz::TimeZone;
use toml::de::DeTable;

use super::{read::Reader, values::Value};
use crate::{
    accounts::policy::{Clamp, Effective, Models, Policy, Reaction, Throttle, Wall, Watch},
    duration,
    labels::{self, Labels},
};

/// What can be written for the host and for every account.
pub(super) const POLICY_KEYS: [&str; 23] = [
    "budget_usd",
    "limit",
    "max_requests",
    "max_output_tokens",
    "max_cost_usd",
    "models",
    "until",
    "enforce",
    "clamp",
    "min_output_tokens",
    "wait",
    "wall",
    "refusal_status",
    "stages",
    "throttle",
    "at_limit",
    "degrade",
    "expect",
    "repeats",
    "on_pace",
    "on_repeat",
    "on_baseline",
    "labels",
];
const MODELS_KEYS: [&str; 2] = ["allow", "deny"];
pub(super) const CLAMPS: [(&str, Clamp); 3] =
    [("unstated", Clamp::Unstated), ("always", Clamp::Always), ("never", Clamp::Never)];
pub(super) const WALLS: [(&str, Wall); 2] = [("network", Wall::Network), ("requests", Wall::Requests)];
pub(super) const REACTIONS: [(&str, Reaction); 3] =
    [("tell", Reaction::Tell), ("throttle", Reaction::Throttle), ("stop", Reaction::Stop)];
/// Clients give up before it; a longer wait would only hold their connections.
const WAIT_MAX: Duration = Duration::from_mins(10);
/// A request that is held back longer looks like one that hangs.
const THROTTLE_MAX: Duration = Duration::from_mins(1);

/// Where a policy stands, and what is known there.
pub(super) struct Place<'p> {
    /// `research` of `[agent.research]`; `None` at the top.
    pub(super) agent: Option<&'p str>,
    pub(super) zone: &'p TimeZone,
    /// Names that a limit's `category` can have.
    pub(super) categories: &'p [String],
    /// What is in force above.
    pub(super) above: &'p Effective,
}

impl Place<'_> {
    /// As it stands behind a key in a message: ` in `[agent.research]``, or nothing at the top.
    pub(super) fn within(&self) -> String {
        self.agent.map(|name| format!(" in `[agent.{name}]`")).unwrap_or_default()
    }

    /// A key below this place as it is written in a header: `agent.research.limit`, `limit`.
    pub(super) fn key(&self, key: &str) -> String {
        self.agent.map_or_else(|| key.to_owned(), |name| format!("agent.{name}.{key}"))
    }
}

impl<'i> Reader<'i> {
    pub(super) fn policy(&mut self, table: &DeTable<'i>, place: &Place<'_>) -> Policy {
        let policy = Policy {
            limits: self.limits(table, place),
            labels: table.get("labels").map(|v| self.labels(v)).unwrap_or_default(),
            until: table.get("until").and_then(|v| self.instant("until", v, place.zone)),
            enforce: table.get("enforce").and_then(|v| self.flag("enforce", v)),
            clamp: table.get("clamp").and_then(|v| self.word("clamp", v, &CLAMPS)),
            min_output_tokens: table.get("min_output_tokens").and_then(|v| self.whole("min_output_tokens", v)),
            wait: table.get("wait").and_then(|v| self.within("wait", v, WAIT_MAX)),
            max_output_tokens: table.get("max_output_tokens").and_then(|v| self.count("max_output_tokens", v)),
            max_cost: table.get("max_cost_usd").and_then(|v| self.amount("max_cost_usd", v)),
            models: table.get("models").map(|v| self.models(v)).unwrap_or_default(),
            wall: table.get("wall").and_then(|v| self.word("wall", v, &WALLS)),
            stages: table.get("stages").and_then(|v| self.stages(v, &place.above.stages)),
            throttle: table.get("throttle").and_then(|v| self.throttle(v)),
            at_limit: self.at_limit(table, place),
            refusal_status: table.get("refusal_status").and_then(|v| self.refusal_status(v)),
            watch: self.watch(table, place),
        };
        if let (Some(value), Some(least)) = (table.get("min_output_tokens"), policy.min_output_tokens)
            && policy.max_output_tokens.or(place.above.max_output_tokens).is_some_and(|most| least > most)
        {
            let text = "`min_output_tokens` is above `max_output_tokens`, so that no ceiling fits; lower it";
            self.mistake(&value.span(), text.to_owned());
        }
        policy
    }

    fn labels(&mut self, value: &Value<'i>) -> Labels {
        let Some(table) = self.table("labels", value, "labels = { team = \"search\" }") else { return Labels::new() };
        if let Err(error) = labels::check_count(table.len()) {
            self.mistake(&value.span(), error.to_string());
        }
        let mut labels = Labels::new();
        for (name, value) in table {
            let Some(text) = self.string(name.get_ref(), value) else { continue };
            match labels::check(name.get_ref(), text) {
                Ok(()) => drop(labels.insert(name.get_ref().to_string(), text.to_owned())),
                Err(error) => self.mistake(&name.span(), error.to_string()),
            }
        }
        labels
    }

    fn models(&mut self, value: &Value<'i>) -> Models {
        let example = "models = { allow = [\"gpt-5*\"], deny = [\"*-pro\"] }";
        let Some(table) = self.table("models", value, example) else { return Models::default() };
        self.known_keys(table, &MODELS_KEYS, " in `models`");
        let mut patterns = |key: &str| -> Vec<String> {
            let Some(value) = table.get(key) else { return Vec::new() };
            let patterns = self.strings(key, value).unwrap_or_default();
            if value.get_ref().as_array().is_some_and(|all| all.is_empty()) {
                let text = format!("`{key}` is empty, which says nothing; name models, or leave it out");
                self.mistake(&value.span(), text);
            }
            patterns
        };
        Models { allow: patterns("allow"), deny: patterns("deny") }
    }

    fn refusal_status(&mut self, value: &Value<'i>) -> Option<u16> {
        let status = self.count("refusal_status", value)?;
        let status = u16::try_from(status).ok().filter(|status| (400..500).contains(status));
        if status.is_none() {
            let text =
                "`refusal_status` is not a status of a client error; use 402, 403, 429 or another from 400 to 499";
            self.mistake(&value.span(), text.to_owned());
        }
        status
    }

    /// `"off"`, `"20/min"`, or the longest that a request is held back.
    fn throttle(&mut self, value: &Value<'i>) -> Option<Throttle> {
        let text = self.string("throttle", value)?;
        if text == "off" {
            return Some(Throttle::Off);
        }
        if let Some(rate) = text.strip_suffix("/min") {
            if let Some(rate) = rate.parse().ok().filter(|rate| *rate > 0) {
                return Some(Throttle::PerMinute(rate));
            }
        } else if duration::parse_above_zero(text).is_ok() {
            return self.within("throttle", value, THROTTLE_MAX).map(Throttle::Proportional);
        }
        let text = format!(
            "`throttle` can't be `{text}`; write \"off\", a rate like \"20/min\" or a longest wait like \"1s\""
        );
        self.mistake(&value.span(), text);
        None
    }

    fn watch(&mut self, table: &DeTable<'i>, place: &Place<'_>) -> Watch {
        let mut reaction = |key: &str| table.get(key).and_then(|v| self.word(key, v, &REACTIONS));
        let (on_pace, on_repeat, on_baseline) = (reaction("on_pace"), reaction("on_repeat"), reaction("on_baseline"));
        let watch = Watch {
            expect: table.get("expect").and_then(|v| self.duration_above_zero("expect", v)),
            on_pace,
            repeats: table.get("repeats").and_then(|v| self.repeats(v)),
            on_repeat,
            on_baseline,
        };
        if let Some(value) = table.get("on_pace")
            && !table.contains_key("expect")
            && place.above.expect.is_none()
        {
            self.mistake(
                &value.span(),
                "`on_pace` does nothing without `expect`; add it, like expect = \"10m\"".to_owned(),
            );
        }
        if let Some(value) = table.get("on_repeat")
            && !table.contains_key("repeats")
            && place.above.repeats == 0
        {
            self.mistake(
                &value.span(),
                "`on_repeat` does nothing without `repeats`; add it, like repeats = 5".to_owned(),
            );
        }
        watch
    }

    /// One request is no repetition; 0 switches it off where the account above has it on.
    fn repeats(&mut self, value: &Value<'i>) -> Option<u32> {
        let count = self.whole("repeats", value)?;
        let count = u32::try_from(count).ok().filter(|count| *count != 1);
        if count.is_none() {
            self.mistake(&value.span(), "`repeats` is 2 or more, or 0 for never; write it like 5".to_owned());
        }
        count
    }

    /// A length of time up to a longest one.
    fn within(&mut self, key: &str, value: &Value<'i>, most: Duration) -> Option<Duration> {
        let duration = self.duration(key, value)?;
        if duration <= most {
            return Some(duration);
        }
        let most = duration::text(most);
        self.mistake(&value.span(), format!("`{key}` is longer than {most}; write {most} or less"));
        None
    }
}
