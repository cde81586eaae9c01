//! What is said over the control socket: one JSON object per line, a request and its answer.
//!
//! Owns the types and the bounds of a line. Every request carries [`VERSION`]; a daemon of another version says so
//! instead of guessing. Money is a decimal string.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    cashier::Budget, clock::Timestamp, control::report::AccountReport, exchange::Row, ids::AccountPath, money::Pico,
    pricing::Explanation,
};

/// Raised with every change of a meaning or a shape in this file.
pub const VERSION: u32 = 2;
/// The longest request: extra roots of [`crate::trust::bundle::BUNDLE_BYTES_MAX`], escaped as JSON.
pub const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// The longest answer: a status of every slot with some processes each.
pub const ANSWER_BYTES_MAX: u64 = 64 << 20;

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
        /// Certificates that the caller's environment already named.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        extra_roots_pem: String,
    },
    /// Every account.
    Status,
    /// One account.
    Balance { account: AccountPath },
    /// Raises an account's `total` limit.
    Fund { account: AccountPath, amount_usd: Pico },
    /// Answers once everything posted so far can be read in the ledger.
    Flush,
    /// The last rows of the ledger, for a caller who may not read its file; at most [`ROWS_MAX`].
    Rows { account: Option<AccountPath>, limit: usize },
    /// What an account came to, once its exchanges are settled.
    Summary { account: AccountPath },
    /// Takes the imported price files into use as they are now.
    ReloadPrices,
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
        account: AccountReport,
    },
    Funded {
        account: AccountPath,
        remaining_usd: Pico,
    },
    Flushed,
    /// The oldest first.
    Rows {
        rows: Vec<Row>,
    },
    Summary(Summary),
    /// The new prices hold from now on.
    Reloaded,
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

/// A task that is open, with the caller inside.
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
        let price = |provider| Request::Price { provider, model: "m".to_owned(), at: Timestamp::from_micros(1_000) };
        round_trip(price(None));
        round_trip(price(Some("openai".to_owned())));
        round_trip(Request::Fund { account, amount_usd: Pico::new(1) });
        round_trip(Request::OpenTask {
            agent: "research".to_owned(),
            task: "t".to_owned(),
            budget_usd: Some("0.02".parse().unwrap()),
            extra_roots_pem: "-----BEGIN\nline\n".to_owned(),
        });
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
        assert_eq!(text, "{\"version\":2,\"op\":\"fund\",\"account\":\"a\",\"amount_usd\":\"0.5\"}\n");
    }

    #[test]
    fn an_unknown_operation_is_an_error_and_not_a_guess() {
        assert!(serde_json::from_str::<Call>(r#"{"version":1,"op":"revoke"}"#).is_err());
        assert!(serde_json::from_str::<Call>(r#"{"op":"ping"}"#).is_err());
    }
}
