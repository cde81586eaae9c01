//! What the writer is asked to record, in the order in which the cashier decided it.

use std::{collections::BTreeMap, sync::Arc};

use meter_common::AccountRef;

use crate::{
    accounts::{AccountId, Category, Extension, Held, LimitRule, Line, State, TaskStatus},
    clock::Timestamp,
    events::Event,
    exchange::{Detail, Outcome, RequestLine, Row},
    ids::{AccountPath, ExchangeId, Process},
    measure::Amounts,
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

/// A hold as the ledger keeps it until it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub id: ExchangeId,
    pub account: AccountId,
    pub amount: Pico,
    /// The most tokens that the exchange can use.
    pub tokens: i64,
    pub clamp: Option<u64>,
    pub time: Timestamp,
    pub process: Arc<Process>,
    pub request: Arc<RequestLine>,
}

impl HoldRecord {
    /// What its cost falls under.
    pub fn category(&self) -> Category {
        Category::named(&self.request.category)
    }

    /// What is set aside, where the money is `amount` by now.
    pub fn held(&self, amount: Pico) -> Held {
        let amounts = Amounts { usd: amount, tokens: self.tokens, requests: 1 };
        Held { category: self.category(), amounts }
    }

    /// Money of which nothing is known but whose it was.
    pub fn unknown(account: AccountId, amount: Pico, time: Timestamp) -> Self {
        let (process, request) = (Arc::default(), Arc::default());
        Self { id: ExchangeId::new(), account, amount, tokens: 0, clamp: None, time, process, request }
    }

    /// The row of a hold that nobody settled: charged in full.
    pub fn unresolved(&self, account: AccountPath, amount: Pico, now: Timestamp, reason: &str) -> Row {
        let request = RequestLine::clone(&self.request);
        Row {
            id: self.id,
            time: self.time,
            account,
            process: Process::clone(&self.process),
            provider: request.provider,
            endpoint: request.endpoint,
            host: request.host,
            method: request.method,
            path: request.path,
            model: None,
            requested_model: request.requested_model,
            status: None,
            stream: request.stream,
            usage: Usage::default(),
            usage_quality: Quality::Absent,
            held_usd: amount,
            cost_usd: amount,
            price: PriceKind::Priced,
            clamped: self.clamp,
            outcome: Outcome::Unresolved,
            ttfb_ms: None,
            duration_ms: u64::try_from((now.micros() - self.time.micros()) / 1_000).unwrap_or(0),
            request_id: None,
            reason: Some(reason.to_owned()),
            count: 1,
            category: request.category,
            notional_usd: None,
            detail: Detail::default(),
            corrects: None,
        }
    }
}

/// The hold that a row resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolves {
    pub hold: ExchangeId,
    /// What the hold had set aside, growth included.
    pub amount: Pico,
    pub tokens: i64,
}

/// A result that can be read again, as the ledger remembers it: by the provider and its id there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRecord {
    pub provider: String,
    pub result: String,
    pub state: ResultState,
    /// When it came to this state; a pending one's is the time of its order.
    pub time: Timestamp,
}

/// What became of a result's price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultState {
    /// It was ordered, and `hold` is set aside until it is seen.
    Pending { hold: ExchangeId },
    /// It was charged, and is free from then on.
    Billed,
    /// It was not seen in time: `row` charged all that was held, until it is.
    Lapsed { row: ExchangeId, account: AccountId, charged: Pico },
}

/// One thing to record. `line` is the path from the account to the host: the accounts whose totals change.
#[derive(Clone, Debug)]
pub enum Op {
    Account {
        id: AccountId,
        parent: AccountId,
        path: AccountPath,
    },
    /// The account's own budget was set; the smallest hold is that of a limit as it stands.
    Budget {
        id: AccountId,
        given: Option<Pico>,
        forget_smallest: bool,
    },
    /// The limits that are in force, fundings and extensions aside.
    InForce {
        id: AccountId,
        limits: Vec<LimitRule>,
        forget_smallest: bool,
    },
    /// What the account was opened with beside its budget.
    Labels {
        id: AccountId,
        labels: BTreeMap<String, String>,
    },
    State {
        id: AccountId,
        state: State,
        since: Timestamp,
        reason: Option<String>,
    },
    /// How a closed task ended.
    Closed {
        id: AccountId,
        status: TaskStatus,
    },
    Rename {
        id: AccountId,
        path: AccountPath,
    },
    Extend {
        id: AccountId,
        extension: Extension,
        actor_uid: u32,
    },
    Event(Box<Event>),
    Bind {
        id: AccountId,
        account: AccountRef,
    },
    Unbind {
        id: AccountId,
    },
    Fund {
        id: AccountId,
        time: Timestamp,
        amount: Pico,
        actor_uid: u32,
    },
    Hold {
        line: Line,
        hold: Arc<HoldRecord>,
    },
    Grow {
        line: Line,
        hold: ExchangeId,
        more: Pico,
    },
    Row {
        line: Line,
        row: Box<Row>,
        resolves: Option<Resolves>,
    },
    /// A hold that nothing was used of ends without a row.
    Release {
        line: Line,
        resolves: Resolves,
    },
    Result(Box<ResultRecord>),
    /// Forgets results that nobody waits for: from before `before`, and all but the last `keep`.
    PruneResults {
        before: Timestamp,
        keep: usize,
    },
    /// Sums up what was used in the quarters of an hour before this one: no window reaches them any more.
    FoldQuarters {
        before: i64,
    },
    /// Nothing: its reply tells that everything before it is durable.
    Barrier,
}
