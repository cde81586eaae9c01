//! What the writer is asked to record, in the order in which the cashier decided it.

use std::sync::Arc;

use meter_common::AccountRef;

use crate::{
    accounts::{AccountId, Line, State},
    clock::Timestamp,
    exchange::{RequestLine, Row},
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
};

/// A hold as the ledger keeps it until it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub id: ExchangeId,
    pub account: AccountId,
    pub amount: Pico,
    pub clamp: Option<u64>,
    pub time: Timestamp,
    pub process: Process,
    pub request: RequestLine,
}

/// The hold that a row resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolves {
    pub hold: ExchangeId,
    /// What the hold had set aside, growth included.
    pub amount: Pico,
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
    /// The budget that the config gives an agent, `None` where it gives none any more.
    ConfigBudget {
        id: AccountId,
        configured: Option<Pico>,
        forget_smallest: bool,
    },
    State {
        id: AccountId,
        state: State,
    },
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
    /// Nothing: its reply tells that everything before it is durable.
    Barrier,
}
