//! One line of the ledger as it is shown: an exchange, or a refusal.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    accounts::{Category, Posting},
    clock::Timestamp,
    ids::{AccountPath, ExchangeId, Process},
    measure::Amounts,
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Tools, Units, Usage},
};

/// How an exchange ended. Exactly one, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The answer arrived whole.
    Complete,
    /// The provider ended the answer short of its framing.
    Cut,
    /// The agent left before the answer's end.
    ClientGone,
    /// The provider answered with an error status.
    UpstreamError,
    /// The provider could not be reached or its certificate not verified.
    UpstreamUnreachable,
    /// Refused by the sidecar: the hold did not fit a limit.
    RefusedBudget,
    /// Refused by the sidecar for another reason (malformed, too large, misdirected, ledger not writable).
    RefusedRequest,
    /// Connects refused by the kernel.
    RefusedKernel,
    /// Never resolved: the sidecar ended in between; charged in full.
    Unresolved,
}

impl Outcome {
    pub const ALL: [Self; 9] = [
        Self::Complete,
        Self::Cut,
        Self::ClientGone,
        Self::UpstreamError,
        Self::UpstreamUnreachable,
        Self::RefusedBudget,
        Self::RefusedRequest,
        Self::RefusedKernel,
        Self::Unresolved,
    ];

    /// Its name in the ledger's file and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Cut => "cut",
            Self::ClientGone => "client_gone",
            Self::UpstreamError => "upstream_error",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::RefusedBudget => "refused_budget",
            Self::RefusedRequest => "refused_request",
            Self::RefusedKernel => "refused_kernel",
            Self::Unresolved => "unresolved",
        }
    }

    /// Whether the row is an exchange; otherwise it is a refusal.
    pub const fn is_exchange(self) -> bool {
        match self {
            Self::Complete
            | Self::Cut
            | Self::ClientGone
            | Self::UpstreamError
            | Self::UpstreamUnreachable
            | Self::Unresolved => true,
            Self::RefusedBudget | Self::RefusedRequest | Self::RefusedKernel => false,
        }
    }
}

/// A text that names no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an outcome of an exchange")]
pub struct UnknownOutcome(String);

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(text: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|o| o.as_str() == text).ok_or_else(|| UnknownOutcome(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

/// What is known of a request when it is admitted: enough for the row of a hold that is never resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    pub provider: String,
    pub endpoint: String,
    pub host: String,
    pub method: String,
    /// Without its query.
    pub path: String,
    pub requested_model: Option<String>,
    pub stream: bool,
    /// The limit category that its cost falls under.
    pub category: String,
}

impl Default for RequestLine {
    /// Nothing known but the category.
    fn default() -> Self {
        Self {
            provider: String::new(),
            endpoint: String::new(),
            host: String::new(),
            method: String::new(),
            path: String::new(),
            requested_model: None,
            stream: false,
            category: LLM.to_owned(),
        }
    }
}

/// A ledger row. Serializes to the line of `meter ledger --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub id: ExchangeId,
    pub time: Timestamp,
    pub account: AccountPath,
    pub process: Process,
    pub provider: String,
    pub endpoint: String,
    pub host: String,
    pub method: String,
    /// Without its query.
    pub path: String,
    /// As the answer reported it.
    pub model: Option<String>,
    pub requested_model: Option<String>,
    /// HTTP status sent to the agent; `None` when none was.
    pub status: Option<u16>,
    pub stream: bool,
    pub usage: Usage,
    pub usage_quality: Quality,
    pub held_usd: Pico,
    pub cost_usd: Pico,
    pub price: PriceKind,
    /// The output ceiling that the meter set, if it set one.
    pub clamped: Option<u64>,
    pub outcome: Outcome,
    pub ttfb_ms: Option<u64>,
    pub duration_ms: u64,
    /// The provider's own id of the request.
    pub request_id: Option<String>,
    /// Why, in one sentence, where the outcome does not say it all.
    pub reason: Option<String>,
    /// How many events the row stands for: 1, or the refused connects of a burst.
    pub count: u64,
    /// The limit category that the cost falls under.
    #[serde(default = "llm")]
    pub category: String,
    /// What a subscription's traffic would have cost at list prices.
    #[serde(default)]
    pub notional_usd: Option<Pico>,
    #[serde(flatten)]
    pub detail: Detail,
    /// The earlier row that this one completes or corrects: a background job's, whose result came later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<ExchangeId>,
}

pub use crate::usage::hosts::LLM;

fn llm() -> String {
    LLM.to_owned()
}

/// What explains a charge beyond the tokens of one model. Mostly empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Detail {
    pub server_tools: Tools,
    pub units: Units,
    /// One per model where the exchange used several; empty otherwise.
    pub lines: Vec<RowLine>,
    /// Of the account, when the row was written.
    pub labels: BTreeMap<String, String>,
    /// How the limit stood that would have refused the request, had it been enforced.
    pub would_refuse: Option<String>,
    /// Beyond a limit at which its account goes on.
    pub overage: bool,
    /// The model that was asked for, where a cheaper one took its place.
    pub degraded_from: Option<String>,
    /// Of a correction that gives money back: when the charge was posted that it corrects. It counts in the windows
    /// that have that one, and makes no room in those that have not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts_at: Option<Timestamp>,
}

impl Detail {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One model's part of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowLine {
    pub model: Option<String>,
    pub usage: Usage,
    #[serde(default)]
    pub units: Units,
    pub cost_usd: Pico,
}

impl Row {
    /// What is posted to the accounts: the cost, with the tokens and the requests that limits count. `held_tokens` are
    /// those of the hold that the row resolves, which an answer that can't be read is taken to have used.
    pub fn posting(&self, held_tokens: Option<i64>) -> Posting {
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let tokens = match self.usage_quality {
            Quality::Absent => held_tokens.unwrap_or(0),
            Quality::Exact | Quality::Estimated => {
                count(self.usage.input_tokens.saturating_add(self.usage.output_tokens))
            }
        };
        let requests = match held_tokens {
            // Also where its exchange was counted before: the request was not.
            Some(_) if self.outcome.is_exchange() => count(self.count.max(1)),
            None if self.cost_usd.is_positive() => count(self.exchanges()),
            Some(_) | None => 0,
        };
        // The charge that it corrects stands for both.
        let (tokens, requests) = if self.is_correction(held_tokens) { (0, 0) } else { (tokens, requests) };
        let lasted = count(self.duration_ms).saturating_mul(1_000);
        Posting {
            category: Category::named(&self.category),
            used: Amounts { usd: self.cost_usd, tokens, requests },
            at: self.detail.counts_at.unwrap_or(Timestamp::from_micros(self.time.micros().saturating_add(lasted))),
        }
    }

    /// Whether it says the difference to what was charged before, and ends no hold.
    fn is_correction(&self, held_tokens: Option<i64>) -> bool {
        held_tokens.is_none() && self.corrects.is_some()
    }

    /// How many exchanges the row counts for.
    pub fn exchanges(&self) -> u64 {
        if self.outcome.is_exchange() { self.count } else { 0 }
    }

    /// How many refusals the row counts for.
    pub fn refusals(&self) -> u64 {
        if self.outcome.is_exchange() { 0 } else { self.count }
    }
}
