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
        "the ledger {path} is damaged or not a ledger ({reason}); `meter ledger verify` says what is wrong with it, and \
         `meter ledger recover` rebuilds it from what can be read; or restore it from a backup"
    )]
    Corrupt { path: PathBuf, reason: String },
    #[error("the ledger {path} has schema {found}, and this meter knows {known}; use the meter that wrote it")]
    Schema { path: PathBuf, found: i64, known: i64 },
    #[error("the ledger {path} is in use by another process; stop the other meter daemon first")]
    Locked { path: PathBuf },
    #[error("the ledger {path} cannot be written ({reason}); nothing is admitted until it can: {fix}")]
    NotWritable { path: PathBuf, reason: String, fix: &'static str },
    #[error(
        "the ledger {path} is not the one that was in use last: {why}; put that one back, or go on with this one by \
         `meter ledger recover --accept-older`, which charges the host what is missing"
    )]
    Older { path: PathBuf, why: String },
    #[error(
        "nothing of the ledger {path} can be read; restore it from a backup, or remove it and meter.mark to begin anew"
    )]
    Lost { path: PathBuf },
    #[error("the ledger {path} needs no recovery: nothing in it is damaged")]
    Sound { path: PathBuf },
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

    /// What SQLite said while something was written.
    pub(super) fn writing(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        let fix = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => return Self::Corrupt { path, reason },
            Some(ErrorCode::DiskFull) => "free some disk space",
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "end the process that keeps it locked",
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                "make the file and its file system writable"
            }
            _ => "make sure that its file system is sound, writable and not full",
        };
        Self::NotWritable { path, reason, fix }
    }
}
