//! Policies and limits as `meter config show` and `meter config diff` have them: by the names of the config's keys.
//!
//! Owns the shapes and the comparison. What stands here was read back from the accounts, not from a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    accounts::policy::{AtLimit, Clamp, Effective, Models, Reaction, Throttle, Wall},
    cashier::{InForce, LimitStatus},
    clock::Timestamp,
    duration,
    ids::AccountPath,
    measure::Measure,
};

/// Keys of the config and what they are.
pub type Keys = Map<String, Value>;

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountInForce {
    pub account: AccountPath,
    pub limits: Vec<LimitStatus>,
    pub policy: Keys,
}

/// The file and what is in force of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigState {
    /// Where the file is, or would be.
    pub file: PathBuf,
    /// Whether the file as it is now is what is in force.
    pub in_force: bool,
    /// Why the file is not: its mistakes, one per line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Keys of it that are in force from the next start on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<String>,
}

impl ConfigState {
    /// One sentence where the file is not what is in force.
    pub fn complaint(&self) -> Option<String> {
        let file = self.file.display();
        if let Some(fault) = &self.fault {
            let first = fault.lines().next().unwrap_or_default();
            return Some(format!(
                "{file} is not what is in force ({first}); correct it, and see `meter config check {file}` for all"
            ));
        }
        let keys = self.restart.join(", ");
        (!self.in_force).then(|| format!("{file} is in force but for {keys}; restart the daemon for the rest"))
    }
}

/// What another config changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ConfigDiff {
    /// Accounts that it names and the one before did not.
    pub added: Vec<AccountPath>,
    /// Accounts that it does not name any more; what they spent stays.
    pub removed: Vec<AccountPath>,
    pub renamed: Vec<Renamed>,
    pub limits: Vec<LimitChange>,
    /// Of accounts; what comes from above is told there.
    pub policies: Vec<KeyChange>,
    /// Of the daemon.
    pub settings: Vec<KeyChange>,
    /// Keys among the settings that are in force from the next start on.
    pub restart: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Renamed {
    pub from: AccountPath,
    pub to: AccountPath,
}

/// Amounts are in the unit; `null` where there is no such limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LimitChange {
    pub account: AccountPath,
    pub window: String,
    pub category: String,
    pub unit: String,
    pub before: Option<String>,
    pub after: Option<String>,
    pub spent: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyChange {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountPath>,
    pub key: String,
    pub before: Value,
    pub after: Value,
}

impl From<InForce> for AccountInForce {
    fn from(in_force: InForce) -> Self {
        Self { account: in_force.account, limits: in_force.limits, policy: keys(&in_force.policy) }
    }
}

impl ConfigDiff {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// `2 limits and 1 other key changed, 1 account added`.
    pub fn summary(&self) -> String {
        let parts: Vec<String> = [
            (self.limits.len(), "limit changed", "limits changed"),
            (self.policies.len() + self.settings.len(), "other key changed", "other keys changed"),
            (self.added.len(), "account added", "accounts added"),
            (self.removed.len(), "account removed", "accounts removed"),
            (self.renamed.len(), "account renamed", "accounts renamed"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
        let mut text = if parts.is_empty() { "nothing changed".to_owned() } else { parts.join(", ") };
        if !self.restart.is_empty() {
            text = format!("{text}; {} from the next start on", self.restart.join(", "));
        }
        text
    }

    /// What changes for accounts that are there before or after.
    pub(crate) fn compare(&mut self, before: &[InForce], after: &[InForce]) {
        let mut changed: Vec<Vec<(String, Value, Value)>> = Vec::with_capacity(after.len());
        for (index, account) in after.iter().enumerate() {
            let parent = account.parent.get() as usize;
            let own = match before.get(index) {
                Some(old) if old.policy == account.policy => Vec::new(),
                Some(old) => changes(&keys(&old.policy), &keys(&account.policy)),
                // One that is new would have been as the account above it.
                None => changes(&inherited(&after[parent].policy), &keys(&account.policy)),
            };
            let above = changed.get(parent).filter(|_| index > 0);
            let news = own.iter().filter(|change| above.is_none_or(|above| !above.contains(change)));
            self.policies.extend(news.cloned().map(|(key, before, after)| KeyChange {
                account: Some(account.account.clone()),
                key,
                before,
                after,
            }));
            changed.push(own);
            let limits = before.get(index).map_or(&[][..], |a| &*a.limits);
            self.compare_limits(&account.account, limits, &account.limits);
        }
    }

    fn compare_limits(&mut self, account: &AccountPath, before: &[LimitStatus], after: &[LimitStatus]) {
        let key = |l: &LimitStatus| (l.window.clone(), l.category.clone(), l.unit.clone());
        let gone = before.iter().filter(|old| !after.iter().any(|new| key(new) == key(old)));
        for limit in after.iter().chain(gone) {
            // Told once, as a key of the account above.
            if limit.window == "task" {
                continue;
            }
            let amount = |all: &[LimitStatus]| all.iter().find(|l| key(l) == key(limit)).map(|l| l.limit.clone());
            let (before, after) = (amount(before), amount(after));
            if before != after {
                let (window, category, unit) = key(limit);
                let spent = limit.spent.clone();
                self.limits.push(LimitChange {
                    account: account.clone(),
                    window,
                    category,
                    unit,
                    before,
                    after,
                    spent,
                });
            }
        }
    }

    pub(super) fn compare_settings(&mut self, before: &Keys, after: &Keys) {
        let change = |(key, before, after)| KeyChange { account: None, key, before, after };
        self.settings = changes(before, after).into_iter().map(change).collect();
    }
}

/// Keys whose values differ; one that is missing is `null`.
fn changes(before: &Keys, after: &Keys) -> Vec<(String, Value, Value)> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let of = |keys: &Keys, key: &String| keys.get(key).cloned().unwrap_or(Value::Null);
    let all = after.keys().chain(gone).map(|key| (key.clone(), of(before, key), of(after, key)));
    all.filter(|(_, before, after)| before != after).collect()
}

/// What an account below has by itself.
fn inherited(above: &Effective) -> Keys {
    keys(&Effective { until: None, task_limits: Vec::new(), ..above.clone() })
}

/// What is in force for an account and not by itself: by the account above it, or where nothing is said.
pub fn own(in_force: &Keys, above: Option<&Keys>) -> Vec<(String, Value)> {
    let mut usual = above.cloned().unwrap_or_else(|| keys(&Effective::default()));
    usual.insert("until".to_owned(), Value::Null);
    usual.insert("each_task".to_owned(), json!([]));
    changes(&usual, in_force).into_iter().map(|(key, _, value)| (key, value)).collect()
}

/// What is in force by the keys of the config; `null` where there is nothing.
pub fn keys(policy: &Effective) -> Keys {
    let Effective {
        enforce,
        clamp,
        min_output_tokens,
        wait,
        until,
        max_output_tokens,
        max_cost,
        models,
        wall,
        stages,
        throttle,
        at_limit,
        refusal_status,
        expect,
        on_pace,
        repeats,
        on_repeat,
        on_baseline,
        task_limits,
        labels,
    } = policy;
    let per_task = |rule: &crate::accounts::LimitRule| {
        let amount = Measure { unit: rule.key.unit, amount: rule.amount }.bare();
        json!({ rule.key.unit.as_str(): amount, "category": rule.key.category.as_str() })
    };
    let (at_limit, degrade) = match at_limit {
        AtLimit::Stop => ("stop", Value::Null),
        AtLimit::Continue => ("continue", Value::Null),
        AtLimit::Degrade(degrade) => {
            let models: Keys = degrade.models.iter().map(|(from, to)| (from.clone(), json!(to))).collect();
            ("degrade", json!({ "allowance_usd": degrade.allowance, "models": models }))
        }
    };
    let all = [
        ("enforce", json!(enforce)),
        ("until", json!(until.map(Timestamp::rfc3339))),
        ("each_task", json!(task_limits.iter().map(per_task).collect::<Vec<_>>())),
        ("max_output_tokens", json!(max_output_tokens)),
        ("max_cost_usd", json!(max_cost)),
        ("models", json!(models.iter().map(of_models).collect::<Vec<_>>())),
        ("clamp", json!(of_clamp(*clamp))),
        ("min_output_tokens", json!(min_output_tokens)),
        ("wait", json!(duration::text(*wait))),
        ("wall", json!(of_wall(*wall))),
        ("refusal_status", json!(refusal_status)),
        ("stages", json!({ "warn": stages.warn, "throttle": stages.throttle, "alerts": stages.alerts })),
        ("throttle", json!(of_throttle(*throttle))),
        ("at_limit", json!(at_limit)),
        ("degrade", degrade),
        ("expect", json!(expect.map(duration::text))),
        ("on_pace", json!(of_reaction(*on_pace))),
        ("repeats", json!(repeats)),
        ("on_repeat", json!(of_reaction(*on_repeat))),
        ("on_baseline", json!(of_reaction(*on_baseline))),
        ("labels", json!(labels)),
    ];
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn of_models(models: &Models) -> Value {
    json!({ "allow": models.allow, "deny": models.deny })
}

const fn of_clamp(clamp: Clamp) -> &'static str {
    match clamp {
        Clamp::Unstated => "unstated",
        Clamp::Always => "always",
        Clamp::Never => "never",
    }
}

const fn of_wall(wall: Wall) -> &'static str {
    match wall {
        Wall::Network => "network",
        Wall::Requests => "requests",
    }
}

fn of_throttle(throttle: Throttle) -> String {
    match throttle {
        Throttle::Off => "off".to_owned(),
        Throttle::PerMinute(count) => format!("{count}/min"),
        Throttle::Proportional(most) => duration::text(most),
    }
}

const fn of_reaction(reaction: Reaction) -> &'static str {
    match reaction {
        Reaction::Tell => "tell",
        Reaction::Throttle => "throttle",
        Reaction::Stop => "stop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_in_force_is_not_complained_of() {
        let fine = ConfigState { file: PathBuf::from("/m.toml"), in_force: true, ..ConfigState::default() };
        assert_eq!(fine.complaint(), None);
        let broken =
            ConfigState { in_force: false, fault: Some("/m.toml:1:1: no\n/m.toml:2:1: no".to_owned()), ..fine.clone() };
        assert!(broken.complaint().unwrap().contains("(/m.toml:1:1: no)"));
        let later = ConfigState { in_force: false, restart: vec!["data_dir".to_owned()], ..fine };
        assert!(later.complaint().unwrap().contains("but for data_dir; restart"));
    }

    #[test]
    fn a_summary_counts_what_changed() {
        assert_eq!(ConfigDiff::default().summary(), "nothing changed");
        let path: AccountPath = "a".parse().unwrap();
        let key = |key: &str| KeyChange { account: None, key: key.to_owned(), before: Value::Null, after: json!(1) };
        let diff = ConfigDiff {
            added: vec![path.clone(), path],
            settings: vec![key("durability")],
            restart: vec!["durability".to_owned()],
            ..ConfigDiff::default()
        };
        assert_eq!(diff.summary(), "1 other key changed, 2 accounts added; durability from the next start on");
    }
}
