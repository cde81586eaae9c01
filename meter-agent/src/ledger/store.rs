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
    mark::{self, FLOOR, Mark, Standing},
    schema::{FILE_NAME, LOCK_NAME, STEPS, VERSION},
};
use crate::money::Pico;

/// How long one statement waits for another process's lock; the writer thread retries beyond it.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Prepared statements kept: more than there are kinds.
const STATEMENTS: usize = 32;
/// Pages of the write-ahead log (16 MB of it) that are copied into the file at once. Every batch changes the same few
/// pages, which are then copied, and synced, a quarter as often as by default.
const CHECKPOINT_PAGES: u32 = 4_000;
/// A ledger up to this size is checked whole at every start, which takes a fraction of a second. Of a larger one, the
/// tables that the accounts are rebuilt from are; after an unclean end the rest is checked beside the work.
const CHECK_WHOLE_BYTES: u64 = 128 << 20;
/// Set where a check beside the work found damage: the next start refuses at once.
pub(super) const DAMAGED: &str = "damaged";

/// The ledger, open for writing. One per file at a time.
pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) standing: Standing,
    /// Not all of its pages were checked, and its last end was not a clean one.
    pub(super) unchecked: bool,
    _lock: File,
}

/// Whether a ledger that is behind its mark is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accept {
    Newest,
    Any,
}

impl Store {
    /// Opens the ledger below `data_dir`, making the folder (0700) and the file (0640) where there are none.
    /// A ledger of an older version is brought up to this one, in one transaction. A file that is not a sound ledger
    /// of a known version is left untouched, and so is one that is behind its mark: an older copy that was put back.
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        Self::open_as(data_dir, Accept::Newest)
    }

    fn open_as(data_dir: &Path, accept: Accept) -> Result<Self, LedgerError> {
        let path = data_dir.join(FILE_NAME);
        let lock = lock(data_dir)?;
        make(&path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|e| LedgerError::reading(&path, &e))?;
        let reading = |e: rusqlite::Error| LedgerError::reading(&path, &e);
        connection.busy_timeout(BUSY_TIMEOUT).map_err(reading)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let (version, unchecked) = check(&connection, &path)?;
        if accept == Accept::Newest {
            mark::check(data_dir, &path, mark::of(&connection, version).map_err(reading)?)?;
        }
        prepare(&mut connection, version).map_err(reading)?;
        let standing = Standing::new(data_dir, mark::of(&connection, STEPS.len()).map_err(reading)?);
        // What an older one lacks is known by the mark alone, until it is accepted.
        if accept == Accept::Newest {
            standing.write();
        }
        Ok(Self { connection, path, standing, unchecked, _lock: lock })
    }

    /// Goes on with a ledger that is behind its mark, as the mark's. What the host had spent beyond it is charged at
    /// the next start, as far as the kernel's map does not know more. Returns that amount; `None` where the ledger is
    /// not behind.
    pub fn accept_older(data_dir: &Path) -> Result<Option<Pico>, LedgerError> {
        let Some(mark) = Mark::read(data_dir) else { return Ok(None) };
        let mut store = Self::open_as(data_dir, Accept::Any)?;
        let ledger = mark::of(&store.connection, STEPS.len()).map_err(|e| LedgerError::reading(&store.path, &e))?;
        if mark.beyond(ledger).is_none() {
            store.close()?;
            return Ok(None);
        }
        let mut run = || {
            let tx = store.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let floor = mark::meta(&tx, FLOOR)?.map_or(mark.spent, |floor| mark.spent.max(Pico::new(floor)));
            mark::set_meta(&tx, FLOOR, floor.get())?;
            mark::set_meta(&tx, mark::IDENTITY, mark.ledger)?;
            mark::set_meta(&tx, mark::COMMITS, mark.commits.max(ledger.commits))?;
            tx.commit()
        };
        run().map_err(|e: rusqlite::Error| LedgerError::writing(&store.path, &e))?;
        let accepted = Mark { commits: mark.commits.max(ledger.commits), ..mark };
        store.standing = Standing::new(data_dir, accepted);
        store.standing.write();
        store.close()?;
        Ok(Some(mark.spent.saturating_sub(ledger.spent).max(Pico::ZERO)))
    }

    /// What a newer copy had spent has been charged.
    pub fn forget_floor(&mut self) -> Result<(), LedgerError> {
        let forget = self.connection.execute("DELETE FROM meta WHERE key = ?1", [FLOOR]);
        forget.map(|_| ()).map_err(|e| LedgerError::writing(&self.path, &e))
    }

    pub(super) fn meta(&self, key: &str) -> rusqlite::Result<Option<i64>> {
        mark::meta(&self.connection, key)
    }

    /// Closes it after damage was found: the next start refuses.
    pub(super) fn close_damaged(self) -> Result<(), LedgerError> {
        mark::set_meta(&self.connection, DAMAGED, 1).map_err(|e| LedgerError::writing(&self.path, &e))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks a shutdown after which the file needs no check, and closes it.
    pub fn close(self) -> Result<(), LedgerError> {
        let Self { connection, path, standing, unchecked, _lock } = self;
        // One that was not checked to the end is looked at again.
        if !unchecked {
            set_clean(&connection, true).map_err(|e| LedgerError::writing(&path, &e))?;
        }
        // A mark that is not durable is behind at worst.
        let _ = standing.sync();
        connection.close().map_err(|(_, e)| LedgerError::writing(&path, &e))
    }

    /// Writes something that changes nothing, to learn whether the file can be written again.
    pub(super) fn probe(&mut self) -> Result<(), LedgerError> {
        set_clean(&self.connection, false).map_err(|e| LedgerError::writing(&self.path, &e))
    }
}

/// The folder, and the lock in it that says who writes.
pub(super) fn lock(data_dir: &Path) -> Result<File, LedgerError> {
    let path = data_dir.join(FILE_NAME);
    let access = |e: io::Error| LedgerError::Access { path: path.clone(), reason: e.to_string() };
    if !data_dir.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(access)?;
    }
    let lock = make(&data_dir.join(LOCK_NAME))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LedgerError::Locked { path }),
        Err(e) => Err(access(e.into())),
    }
}

/// A file for its owner, new if it is not there.
fn make(path: &Path) -> Result<File, LedgerError> {
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    opened.map_err(|e| LedgerError::Access { path: path.to_owned(), reason: e.to_string() })
}

/// Sets the connection up, and brings an older version to this one.
fn prepare(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    if version < STEPS.len() {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        STEPS[version..].iter().copied().flatten().try_for_each(|step| tx.execute_batch(step))?;
        tx.pragma_update(None, "user_version", VERSION)?;
        tx.commit()?;
    }
    set_clean(connection, false)
}

/// The version of the file, 0 for a new one, and whether pages of it are still to be checked.
fn check(connection: &Connection, path: &Path) -> Result<(usize, bool), LedgerError> {
    let reading = |e: rusqlite::Error| LedgerError::reading(path, &e);
    let corrupt = |reason: String| Err(LedgerError::Corrupt { path: path.to_owned(), reason });
    let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(reading)?;
    if version == 0 {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(reading)?;
        if tables == 0 {
            return Ok((0, false));
        }
    }
    let known = usize::try_from(version).ok().filter(|version| (1..=STEPS.len()).contains(version));
    let schema = || LedgerError::Schema { path: path.to_owned(), found: version, known: VERSION };
    let known = known.ok_or_else(schema)?;
    let clean = mark::meta(connection, "clean").map_err(reading)? == Some(1);
    if mark::meta(connection, DAMAGED).map_err(reading)?.is_some() {
        return corrupt("the last daemon found damaged pages in it".to_owned());
    }
    let small = path.metadata().is_ok_and(|file| file.len() <= CHECK_WHOLE_BYTES);
    let what = if small { vec!["1"] } else { small_tables(connection).map_err(reading)? };
    for what in what {
        let sql = format!("PRAGMA quick_check({what})");
        let verdict: String = connection.query_row(&sql, [], |r| r.get(0)).map_err(reading)?;
        if verdict != "ok" {
            return corrupt(verdict);
        }
    }
    Ok((known, !small && !clean))
}

/// What the accounts are rebuilt from.
const SMALL_TABLES: [&str; 5] = ["meta", "accounts", "holds", "fundings", "results"];

/// Those of them that this version of a ledger has.
fn small_tables(connection: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    let mut known = connection.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?;
    let mut there = Vec::new();
    for table in SMALL_TABLES {
        if known.exists([table])? {
            there.push(table);
        }
    }
    Ok(there)
}

fn set_clean(connection: &Connection, clean: bool) -> rusqlite::Result<()> {
    connection.execute("UPDATE meta SET value = ?1 WHERE key = 'clean'", [clean]).map(|_| ())
}
