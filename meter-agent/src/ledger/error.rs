//! What can be wrong with the ledger, each a sentence with the file and the fix.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::ids::ExchangeId;

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("there is no ledger at {path} yet; nothing has been metered with this data_dir")]
    Missing { path: PathBuf },
    #[error("the ledger {path} cannot be opened ({reason}); run as root, or check data_dir and its permissions")]
    Access { path: PathBuf, reason: String },
    #[error(
        "the ledger {path} is damaged or not a ledger ({reason}); restore it from a backup, or move it away to begin \
         a new one, which forgets what was spent"
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error("the ledger {path} has schema {found}, and this meter knows {known}; use the meter that wrote it")]
    Schema { path: PathBuf, found: i64, known: i64 },
    #[error("the ledger {path} is in use by another process; stop the other meter daemon first")]
    Locked { path: PathBuf },
    #[error("the ledger {path} cannot be written ({reason}); nothing is admitted until it can: free some disk space")]
    NotWritable { path: PathBuf, reason: String },
    #[error("hold {0} has been resolved already")]
    AlreadyResolved(ExchangeId),
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    /// What SQLite said while the file was opened or read.
    pub(super) fn reading(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure,
            ) => Self::Access { path, reason },
            // Anything else is a page, a table or a value that this meter has not written.
            _ => Self::Corrupt { path, reason },
        }
    }

    pub(super) fn writing(path: &Path, error: &rusqlite::Error) -> Self {
        Self::NotWritable { path: path.to_owned(), reason: error.to_string() }
    }
}
