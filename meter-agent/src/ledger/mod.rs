//! The ledger: SQLite, one writer thread, group commit; and a read-only view for the CLI.
//!
//! Owns the file `meter.db` below the data folder. It records decisions and takes none: what an account may
//! spend is `accounts/`, and what is charged for what was lost is the cashier's recovery.
//!
//! Invariants:
//! - Rows are only ever added, until they are so old that they are summed up by day; a row that resolves a hold names
//!   it, and a hold is resolved once.
//! - Totals of accounts and processes change in the transaction of the rows that they sum: rows, and the sums of those
//!   that were, make the totals.
//! - An older copy is recognised (`mark.rs`) and not opened.
//! - Fail-closed: a ledger that cannot be read, or is not ours, stops the start and is left as it is.

mod commit;
mod error;
mod load;
mod mark;
mod op;
mod reader;
mod recover;
mod report;
mod rollup;
mod salvage;
mod schema;
mod store;
mod sums;
mod text;
mod told;
mod verify;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod reader_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upkeep_tests;

/// How long rows stay as they are before they are summed up by day.
pub const KEEP: std::time::Duration = std::time::Duration::from_hours(400 * 24);

pub use self::{
    error::LedgerError,
    load::{Loaded, LoadedAccount, LoadedQuarter},
    op::{HoldRecord, Op, Resolves, ResultRecord, ResultState},
    reader::{AccountTotals, ProcessTotals, Reader, RowFilter},
    recover::{Recovered, recover},
    report::{By, ByError, REPORT_KEYS_MAX, REPORT_LINES_MAX, ReportLine, ReportQuery},
    schema::FILE_NAME,
    store::Store,
    told::{EventFilter, EventRecord},
    verify::{NOT_THE_LAST, Verified, verify},
    writer::{QUEUE_MAX, Reply, Wake, Writer},
};
