//! The file itself: opened, checked, locked, closed. The one connection that writes.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{FlockOperation, flock};

use super::{
    LedgerError,
    schema::{FILE_NAME, LOCK_NAME, STEPS, VERSION},
};

/// How long one statement waits for another process's lock; the writer thread retries beyond it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Prepared statements kept: more than there are kinds.
const STATEMENTS: usize = 32;
/// Pages of the write-ahead log (16 MB of it) that are copied into the file at once. Every batch changes the same few
/// pages, which are then copied, and synced, a quarter as often as by default.
const CHECKPOINT_PAGES: u32 = 4_000;

/// The ledger, open for writing. One per file at a time.
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the ledger below `data_dir`, making the folder (0700) and the file (0640) where there are none.
    /// A ledger of an older version is brought up to this one, in one transaction. A file that is not a sound ledger
    /// of a known version is left untouched.
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        let path = data_dir.join(FILE_NAME);
        let lock = make_files(data_dir, &path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|e| LedgerError::reading(&path, &e))?;
        prepare(&mut connection, &path)?;
        Ok(Self { connection, path, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks a shutdown after which the file needs no check, and closes it.
    pub fn close(self) -> Result<(), LedgerError> {
        let Self { connection, path, _lock } = self;
        set_clean(&connection, true).map_err(|e| LedgerError::writing(&path, &e))?;
        connection.close().map_err(|(_, e)| LedgerError::writing(&path, &e))
    }

    /// Writes something that changes nothing, to learn whether the file can be written again.
    pub(super) fn probe(&mut self) -> Result<(), LedgerError> {
        set_clean(&self.connection, false).map_err(|e| LedgerError::writing(&self.path, &e))
    }
}

fn make_files(data_dir: &Path, path: &Path) -> Result<File, LedgerError> {
    let access = |e: io::Error| LedgerError::Access { path: path.to_owned(), reason: e.to_string() };
    if !data_dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(access)?;
    }
    let open = |path: &Path| OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    let lock = open(&data_dir.join(LOCK_NAME)).map_err(access)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(LedgerError::Locked { path: path.to_owned() }),
        Err(e) => return Err(access(e.into())),
    }
    open(path).map_err(access)?;
    Ok(lock)
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let reading = |e: rusqlite::Error| LedgerError::reading(path, &e);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(reading)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let version = check(connection, path)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(reading)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(reading)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(reading)?;
    if version < STEPS.len() {
        let mut make = || {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            STEPS[version..].iter().try_for_each(|step| tx.execute_batch(step))?;
            tx.pragma_update(None, "user_version", VERSION)?;
            tx.commit()
        };
        make().map_err(reading)?;
    }
    set_clean(connection, false).map_err(reading)
}

/// The version of the file, 0 for a new one. Checks its pages when the last daemon did not close it.
fn check(connection: &Connection, path: &Path) -> Result<usize, LedgerError> {
    let reading = |e: rusqlite::Error| LedgerError::reading(path, &e);
    let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(reading)?;
    if version == 0 {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(reading)?;
        if tables == 0 {
            return Ok(0);
        }
    }
    let known = usize::try_from(version).ok().filter(|version| (1..=STEPS.len()).contains(version));
    let schema = || LedgerError::Schema { path: path.to_owned(), found: version, known: VERSION };
    let known = known.ok_or_else(schema)?;
    let clean: i64 =
        connection.query_row("SELECT value FROM meta WHERE key = 'clean'", [], |r| r.get(0)).map_err(reading)?;
    if clean == 0 {
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).map_err(reading)?;
        if verdict != "ok" {
            return Err(LedgerError::Corrupt { path: path.to_owned(), reason: verdict });
        }
    }
    Ok(known)
}

fn set_clean(connection: &Connection, clean: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE meta SET value = ?1 WHERE key = 'clean'", [clean]).map(|_| ())
}
