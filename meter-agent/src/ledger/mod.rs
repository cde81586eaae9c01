//! The ledger: SQLite, one writer thread, group commit; and a read-only view for the CLI.
//!
//! Owns the file `meter.db` below the data folder. It records decisions and takes none: what an account may
//! spend is `accounts/`, and what is charged for what was lost is the cashier's recovery.
//!
//! Invariants:
//! - Rows are only ever added; a row that resolves a hold names it, and a hold is resolved once.
//! - Totals of accounts and processes change in the transaction of the rows that they sum.
//! - Fail-closed: a ledger that cannot be read, or is not ours, stops the start and is left as it is.

mod commit;
mod error;
mod load;
mod op;
mod reader;
mod schema;
mod store;
mod text;
mod writer;

#[cfg(test)]
mod tests;

pub use self::{
    error::LedgerError,
    load::{Loaded, LoadedAccount},
    op::{HoldRecord, Op, Resolves, ResultRecord, ResultState},
    reader::{AccountTotals, ProcessTotals, Reader, RowFilter},
    schema::FILE_NAME,
    store::Store,
    writer::{QUEUE_MAX, Reply, Wake, Writer},
};
