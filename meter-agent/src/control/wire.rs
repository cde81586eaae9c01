//! What is said over the control socket: one JSON object per line, a request and its answer.
//!
//! Owns the types and the bounds of a line. Every request carries [`VERSION`]; a daemon of another version says so
//! instead of guessing. Money is a decimal string.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    accounts::TaskStatus,
    cashier::Budget,
    clock::Timestamp,
    control::{
        in_force::{AccountInForce, ConfigDiff, ConfigState, Keys},
        report::AccountReport,
    },
    exchange::Row,
    ids::AccountPath,
    labels::Labels,
    ledger::{EventFilter, EventRecord, ReportLine, ReportQuery},
    money::Pico,
    pricing::Explanation,
};

/// Raised with every change of a meaning or a shape in this file.
pub const VERSION: u32 = 3;
/// The longest request: extra roots of [`crate::trust::bundle::BUNDLE_BYTES_MAX`], escaped as JSON.
pub const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// The longest answer: a status of every slot with some processes each.
pub const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// The longest reason that people give, in bytes: it stands in refusals and in every status.
pub const REASON_BYTES_MAX: usize = 200;
/// The longest time that an extension lasts.
pub const EXTEND_S_MAX: u64 = 366 * 24 * 3600;

/// Rows of one answer, at a few hundred bytes each.
pub const ROWS_MAX: usize = 20_000;

/// A request with the version that its sender speaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub version: u32,
    #[serde(flatten)]
    pub request: Request,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Is anyone there?
    Ping,
    /// Makes the task's account and cgroup, and moves the caller into it.
    OpenTask {
        /// The agent's name.
        agent: String,
        /// The task's name below it.
        task: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_usd: Option<Pico>,
        #[serde(default, skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
        /// The caller will close the task itself, from within it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        closes: bool,
        /// Certificates that the caller's environment already named.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        extra_roots_pem: String,
    },
    /// Makes a task's account and cgroup for whoever is moved into it, and moves nobody.
    MakeTask {
        account: AccountPath,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget_usd: Option<Pico>,
        #[serde(default, skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        extra_roots_pem: String,
    },
    /// Closes a task for good.
    CloseTask { account: AccountPath, status: TaskStatus },
    /// Shuts an account at once, or the whole host.
    Revoke { account: AccountPath, reason: String },
    /// Lifts a revocation.
    Restore { account: AccountPath },
    /// Raises an account's dollar limits for a time.
    Extend { account: AccountPath, by_usd: Pico, for_s: u64 },
    /// Every account.
    Status,
    /// One account.
    Balance { account: AccountPath },
    /// Raises an account's `total` limit.
    Fund { account: AccountPath, amount_usd: Pico },
    /// Answers once everything posted so far can be read in the ledger.
    Flush,
    /// The last rows of the ledger, for a caller who may not read its file; at most [`ROWS_MAX`].
    Rows {
        account: Option<AccountPath>,
        limit: usize,
        #[serde(default, skip_serializing_if = "Labels::is_empty")]
        labels: Labels,
    },
    /// The last events; at most [`ROWS_MAX`].
    Events(EventFilter),
    /// Sums of the ledger's rows.
    Report(ReportQuery),
    /// What an account came to, once its exchanges are settled.
    Summary { account: AccountPath },
    /// Takes the imported price files into use as they are now.
    ReloadPrices,
    /// Reads the config file again and puts it into force.
    ReloadConfig,
    /// What the text of a config file would change; `file` is for the messages about it.
    DiffConfig { file: PathBuf, text: String },
    /// Whether the config file is what is in force.
    ConfigState,
    /// What is in force, for every account.
    InForce,
    /// Where the price of a model comes from.
    Price {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        provider: Option<String>,
        model: String,
        at: Timestamp,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    Pong(Pong),
    Opened(Opened),
    Status {
        accounts: Vec<AccountReport>,
    },
    Balance {
        account: Box<AccountReport>,
    },
    Funded {
        account: AccountPath,
        remaining_usd: Pico,
    },
    /// `changed` is false where the account was so already.
    Shut {
        account: AccountPath,
        changed: bool,
        /// Its own state now.
        state: String,
        /// The nearest account above that is not open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shut_by: Option<AccountPath>,
    },
    Extended {
        account: AccountPath,
        until: Timestamp,
        remaining_usd: Option<Pico>,
    },
    Closed {
        account: AccountPath,
        /// How it ended; as it was closed before, where it was.
        status: String,
        changed: bool,
        spent_usd: Pico,
    },
    Flushed,
    /// The oldest first.
    Rows {
        rows: Vec<Row>,
    },
    /// The oldest first.
    Events {
        events: Vec<EventRecord>,
    },
    Report {
        lines: Vec<ReportLine>,
    },
    Summary(Summary),
    /// The new prices hold from now on.
    Reloaded,
    /// What was changed, or would be.
    ConfigDiff(ConfigDiff),
    ConfigState(ConfigState),
    InForce {
        state: ConfigState,
        /// The daemon's own keys.
        settings: Keys,
        accounts: Vec<AccountInForce>,
    },
    Price {
        explanation: Explanation,
    },
    Error(Fault),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pong {
    pub version: u32,
    pub pid: u32,
    /// The daemon has begun to end and opens nothing any more.
    pub ending: bool,
}

/// A task that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub account: AccountPath,
    /// The file of certificates for the command's environment.
    pub bundle: PathBuf,
    pub cgroup: PathBuf,
}

/// What one account came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub spent_usd: Pico,
    /// The nearest limit that the account is under; `None` where there is none.
    pub budget: Option<Budget>,
    pub exchanges: u64,
    pub refusals: u64,
}

/// Why not, in one sentence with what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub kind: FaultKind,
    pub message: String,
}

/// What the caller can do about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The daemon is about to end: start another and ask again.
    Ending,
    /// There is no such account.
    Unknown,
    /// Not for this caller.
    Forbidden,
    /// The request makes no sense to this daemon.
    Malformed,
    /// The daemon failed at it.
    Failed,
}

impl Call {
    pub fn new(request: Request) -> Self {
        Self { version: VERSION, request }
    }
}

impl Fault {
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// One value as a line of JSON.
pub fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).expect("wire types have string keys only");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::EventKind;

    fn round_trip(request: Request) {
        let call = Call::new(request);
        let bytes = line(&call);
        assert_eq!(bytes.iter().position(|b| *b == b'\n'), Some(bytes.len() - 1));
        assert_eq!(serde_json::from_slice::<Call>(&bytes).unwrap(), call);
    }

    #[test]
    fn every_request_survives_the_round_trip_on_one_line() {
        let account: AccountPath = "research/nightly-7".parse().unwrap();
        round_trip(Request::Ping);
        round_trip(Request::Status);
        round_trip(Request::Flush);
        round_trip(Request::Balance { account: account.clone() });
        round_trip(Request::Summary { account: account.clone() });
        round_trip(Request::ReloadPrices);
        round_trip(Request::ReloadConfig);
        round_trip(Request::ConfigState);
        round_trip(Request::InForce);
        round_trip(Request::DiffConfig { file: PathBuf::from("/m.toml"), text: "a = \"b\"\n".to_owned() });
        let price = |provider| Request::Price { provider, model: "m".to_owned(), at: Timestamp::from_micros(1_000) };
        round_trip(price(None));
        round_trip(price(Some("openai".to_owned())));
        round_trip(Request::Fund { account, amount_usd: Pico::new(1) });
        round_trip(Request::OpenTask {
            agent: "research".to_owned(),
            task: "t".to_owned(),
            budget_usd: Some("0.02".parse().unwrap()),
            labels: Labels::from([("team".to_owned(), "search".to_owned())]),
            closes: true,
            extra_roots_pem: "-----BEGIN\nline\n".to_owned(),
        });
        let task: AccountPath = "research/t".parse().unwrap();
        round_trip(Request::MakeTask {
            account: task.clone(),
            budget_usd: None,
            labels: Labels::new(),
            extra_roots_pem: String::new(),
        });
        round_trip(Request::CloseTask { account: task.clone(), status: TaskStatus::Failed });
        round_trip(Request::Revoke { account: task.clone(), reason: "a \"reason\"".to_owned() });
        round_trip(Request::Restore { account: AccountPath::host() });
        round_trip(Request::Extend { account: task.clone(), by_usd: Pico::new(5), for_s: 3_600 });
        round_trip(Request::Rows { account: Some(task.clone()), limit: 3, labels: Labels::new() });
        round_trip(Request::Events(EventFilter {
            account: Some(task.clone()),
            kind: Some(EventKind::Revoked),
            limit: 7,
        }));
        let by = ["agent", "label.team"].map(|by| by.parse().unwrap()).into();
        round_trip(Request::Report(ReportQuery { by, account: Some(task), ..ReportQuery::default() }));
    }

    #[test]
    fn answers_survive_the_round_trip() {
        let summary = Summary { spent_usd: Pico::new(5), budget: None, exchanges: 3, refusals: 1 };
        let fault = Fault::new(FaultKind::Forbidden, "no");
        for answer in [Answer::Flushed, Answer::Summary(summary), Answer::Error(fault)] {
            assert_eq!(serde_json::from_slice::<Answer>(&line(&answer)).unwrap(), answer);
        }
    }

    #[test]
    fn the_shape_on_the_wire_is_this() {
        let fund = Request::Fund { account: "a".parse().unwrap(), amount_usd: "0.5".parse().unwrap() };
        let text = String::from_utf8(line(&Call::new(fund))).unwrap();
        assert_eq!(text, "{\"version\":3,\"op\":\"fund\",\"account\":\"a\",\"amount_usd\":\"0.5\"}\n");
    }

    #[test]
    fn an_unknown_operation_is_an_error_and_not_a_guess() {
        assert!(serde_json::from_str::<Call>(r#"{"version":3,"op":"abolish"}"#).is_err());
        assert!(serde_json::from_str::<Call>(r#"{"op":"ping"}"#).is_err());
    }
}
