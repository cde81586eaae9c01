//! What can go wrong with the books, each a sentence with the fix.

use crate::{ids::AccountPath, ledger::LedgerError, money::Pico};

#[derive(Debug, thiserror::Error)]
pub enum CashierError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("there is no account `{path}`; known are: {known}")]
    UnknownAccount { path: AccountPath, known: String },
    #[error(
        "`{path}` has no limit to fund, which is its `budget_usd` of the config or the --budget of a task; set one"
    )]
    NoLimit { path: AccountPath },
    #[error("`{path}` has no limit in dollars to extend; set one in the config")]
    NoMoneyLimit { path: AccountPath },
    #[error("${amount} on top of ${limit} is above the largest limit, ${}", Pico::CAP)]
    TooMuch { amount: Pico, limit: Pico },
    #[error("the task `{path}` is closed and can't be opened again; use another name")]
    Closed { path: AccountPath },
    #[error("no account can be added: all {0} slots are bound; end some tasks first")]
    NoSlot(u32),
    #[error("not recorded, and so not done: {0}")]
    NotWritable(String),
    #[error("{0}")]
    Other(String),
}
