//! What an account is told to do: its limits, and how it behaves on the way to them.
//!
//! A [`Policy`] says only what somebody wrote; what it leaves open comes from the account above. [`Effective`] is
//! what is in force, worked out once when a policy changes and not at each request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{LimitRule, Window};
use crate::{clock::Timestamp, money::Pico};

/// The smallest output ceiling that is set for a request, unless the config says otherwise: an answer cut below it is
/// of little use, and a refusal tells more.
pub const MIN_OUTPUT_TOKENS: u64 = 1_024;
/// How long a request waits for other holds, unless the config says otherwise: below the official SDKs' timeouts, and
/// long enough for an ordinary answer to end.
pub const WAIT: Duration = Duration::from_secs(30);
/// The status of a refusal that is about money (RFC 9110, section 15.5.3).
pub const REFUSAL_STATUS: u16 = 402;

/// What is written for one account, by the config or by who opened it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    pub limits: Vec<LimitRule>,
    pub labels: BTreeMap<String, String>,
    /// From here on nothing is admitted.
    pub until: Option<Timestamp>,
    /// `false`: nothing is refused, and what would have been is said.
    pub enforce: Option<bool>,
    /// Which requests may be given an output ceiling.
    pub clamp: Option<Clamp>,
    pub min_output_tokens: Option<u64>,
    /// How long a request waits for other holds; zero: not at all.
    pub wait: Option<Duration>,
    /// Largest output ceiling of one request.
    pub max_output_tokens: Option<u64>,
    /// Largest worst case of one request.
    pub max_cost: Option<Pico>,
    pub models: Models,
    pub wall: Option<Wall>,
    pub stages: Option<Stages>,
    pub throttle: Option<Throttle>,
    pub at_limit: Option<AtLimit>,
    pub refusal_status: Option<u16>,
    pub watch: Watch,
}

/// Which requests may be given an output ceiling that fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clamp {
    /// Those that state none.
    #[default]
    Unstated,
    /// Also those that state a larger one.
    Always,
    Never,
}

/// What stops at the end of the money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wall {
    /// Every connection.
    #[default]
    Network,
    /// Requests that are priced; the network and free models go on.
    Requests,
}

/// Which models an account may use; a `*` stands for any text. Both lists empty: every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    /// Where it is not empty, only these.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

impl Models {
    pub fn permit(&self, model: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, model));
        (self.allow.is_empty() || listed(&self.allow)) && !listed(&self.deny)
    }
}

/// How much of a limit is gone at which an account changes its stage, in percent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stages {
    pub warn: u8,
    pub throttle: u8,
    /// Further points that are told.
    pub alerts: Vec<u8>,
}

impl Default for Stages {
    fn default() -> Self {
        Self { warn: 80, throttle: 90, alerts: Vec::new() }
    }
}

/// How requests are paced in the stage `throttle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    Off,
    /// At most so many a minute.
    PerMinute(u32),
    /// Each waits, the longer the less is left, up to this.
    Proportional(Duration),
}

impl Default for Throttle {
    fn default() -> Self {
        Self::Proportional(Duration::from_secs(1))
    }
}

/// What happens when a limit is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    #[default]
    Stop,
    /// Requests go on with cheaper models until `allowance` on top of each limit is spent too.
    Degrade(Arc<Degrade>),
    /// Requests go on; what they spend is counted as overage.
    Continue,
}

/// Cheaper models to go on with, of the same dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degrade {
    /// From a pattern to the model that takes its place; the first that matches counts.
    pub models: Vec<(String, String)>,
    pub allowance: Pico,
}

impl Degrade {
    /// The model in place of another one; `None` where the table has none, or that one itself.
    pub fn replacement(&self, model: &str) -> Option<&str> {
        let (_, to) = self.models.iter().find(|(pattern, _)| matches(pattern, model))?;
        (to != model).then_some(to)
    }
}

/// What is unusual enough to be told, and what is done about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watch {
    /// In how much time a limit is meant to be spent: 80 % gone in a tenth of it is told.
    pub expect: Option<Duration>,
    pub on_pace: Option<Reaction>,
    /// So many same request bodies in a row are told; 0: none are.
    pub repeats: Option<u32>,
    pub on_repeat: Option<Reaction>,
    pub on_baseline: Option<Reaction>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reaction {
    /// An event.
    #[default]
    Tell,
    /// And requests are paced as in the stage `throttle`.
    Throttle,
    /// And the account is revoked, until somebody restores it.
    Stop,
}

/// What is in force for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub enforce: bool,
    pub clamp: Clamp,
    pub min_output_tokens: u64,
    pub wait: Duration,
    pub until: Option<Timestamp>,
    pub max_output_tokens: Option<u64>,
    pub max_cost: Option<Pico>,
    /// Of the account and of those above it that restrict models: each must permit.
    pub models: Vec<Models>,
    pub wall: Wall,
    pub stages: Stages,
    pub throttle: Throttle,
    pub at_limit: AtLimit,
    pub refusal_status: u16,
    pub expect: Option<Duration>,
    pub on_pace: Reaction,
    pub repeats: u32,
    pub on_repeat: Reaction,
    pub on_baseline: Reaction,
    /// Limits of kind `task` that accounts directly below are given.
    pub task_limits: Vec<LimitRule>,
    /// With those of the accounts above; the nearest word counts.
    pub labels: BTreeMap<String, String>,
}

impl Default for Effective {
    fn default() -> Self {
        Self {
            enforce: true,
            clamp: Clamp::default(),
            min_output_tokens: MIN_OUTPUT_TOKENS,
            wait: WAIT,
            until: None,
            max_output_tokens: None,
            max_cost: None,
            models: Vec::new(),
            wall: Wall::default(),
            stages: Stages::default(),
            throttle: Throttle::default(),
            at_limit: AtLimit::default(),
            refusal_status: REFUSAL_STATUS,
            expect: None,
            on_pace: Reaction::default(),
            repeats: 0,
            on_repeat: Reaction::default(),
            on_baseline: Reaction::default(),
            task_limits: Vec::new(),
            labels: BTreeMap::new(),
        }
    }
}

impl Policy {
    /// What is in force where this is written below an account for which `above` is.
    pub fn under(&self, above: &Effective) -> Effective {
        let least = |own: Option<u64>, above: Option<u64>| own.into_iter().chain(above).min();
        let mut models = above.models.clone();
        models.extend((self.models != Models::default()).then(|| self.models.clone()));
        let mut labels = above.labels.clone();
        labels.extend(self.labels.clone());
        Effective {
            enforce: self.enforce.unwrap_or(above.enforce),
            clamp: self.clamp.unwrap_or(above.clamp),
            min_output_tokens: self.min_output_tokens.unwrap_or(above.min_output_tokens),
            wait: self.wait.unwrap_or(above.wait),
            until: self.until,
            max_output_tokens: least(self.max_output_tokens, above.max_output_tokens),
            max_cost: self.max_cost.into_iter().chain(above.max_cost).min(),
            models,
            wall: self.wall.unwrap_or(above.wall),
            stages: self.stages.clone().unwrap_or_else(|| above.stages.clone()),
            throttle: self.throttle.unwrap_or(above.throttle),
            at_limit: self.at_limit.clone().unwrap_or_else(|| above.at_limit.clone()),
            refusal_status: self.refusal_status.unwrap_or(above.refusal_status),
            expect: self.watch.expect.or(above.expect),
            on_pace: self.watch.on_pace.unwrap_or(above.on_pace),
            repeats: self.watch.repeats.unwrap_or(above.repeats),
            on_repeat: self.watch.on_repeat.unwrap_or(above.on_repeat),
            on_baseline: self.watch.on_baseline.unwrap_or(above.on_baseline),
            task_limits: self.limits.iter().filter(|rule| rule.key.window == Window::Task).copied().collect(),
            labels,
        }
    }
}

/// Whether a text is what a pattern says, in which each `*` stands for any text. Letters' case does not count.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, matched) in [
            ("gpt-5", "gpt-5", true),
            ("gpt-5", "gpt-5-mini", false),
            ("gpt-5*", "gpt-5-mini", true),
            ("*-MINI", "gpt-5-mini", true),
            ("claude-*-4*", "claude-opus-4-1", true),
            ("claude-*-4*", "claude-opus-3", false),
            ("a*a", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), matched, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_left_open_comes_from_above_and_ceilings_only_tighten() {
        let above = Policy {
            enforce: Some(false),
            max_output_tokens: Some(1_000),
            labels: [("team".to_owned(), "a".to_owned())].into(),
            models: Models { allow: vec!["gpt-*".to_owned()], deny: vec![] },
            ..Policy::default()
        }
        .under(&Effective::default());
        let own =
            Policy { max_output_tokens: Some(5_000), clamp: Some(Clamp::Never), ..Policy::default() }.under(&above);
        assert!(!own.enforce);
        assert_eq!((own.max_output_tokens, own.clamp), (Some(1_000), Clamp::Never));
        assert_eq!(own.labels["team"], "a");
        let denies = Policy { models: Models { allow: vec![], deny: vec!["*-pro".to_owned()] }, ..Policy::default() };
        let both = denies.under(&above).models;
        let permits = |model: &str| both.iter().all(|m| m.permit(model));
        assert!(permits("gpt-5") && !permits("gpt-5-pro") && !permits("claude-1"));
    }

    #[test]
    fn a_model_is_replaced_by_the_first_that_matches() {
        let table = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let degrade =
            Degrade { models: vec![table("gpt-5", "gpt-5-mini"), table("*", "gpt-4o")], allowance: Pico::ZERO };
        assert_eq!(degrade.replacement("gpt-5"), Some("gpt-5-mini"));
        assert_eq!(degrade.replacement("o3"), Some("gpt-4o"));
        assert_eq!(degrade.replacement("gpt-4o"), None);
    }
}
