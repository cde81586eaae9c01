//! How far the ledger had come, kept beside it: an older copy that is put back is recognised.
//!
//! The kernel's map does the same while it lives; the mark does it over a restart of the machine too. It is a small
//! file, `meter.mark`, that names the ledger, counts its commits and says what the host had spent. It is written after
//! each commit, in place and without a sync, so that it is never ahead of the ledger and costs microseconds; after a
//! power failure it may be behind, and one that is missing or garbled says nothing. A copy of the whole folder put
//! back, mark included, is not recognised by it: then the kernel's map knows what the host and the accounts that were
//! bound in the copy have spent, and of other accounts nothing does.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension};

use super::LedgerError;
use crate::money::Pico;

pub(super) const FILE_NAME: &str = "meter.mark";
/// Keys of the table `meta`.
pub(super) const IDENTITY: &str = "ledger";
pub(super) const COMMITS: &str = "commits";
/// What the host must at least have spent; there only from the moment an older copy was accepted until it was charged.
pub(super) const FLOOR: &str = "floor";
/// First word of the line, with the version of its form.
const MAGIC: &str = "meter-mark-1";
/// Every line is as long, so that writing it again replaces all of the last one; shorter than a disk's sector.
const LINE_BYTES: usize = 128;

/// One state of a ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which ledger: a random number that was given to it when it was made. 0 where it has none yet.
    pub(super) ledger: i64,
    pub(super) commits: i64,
    /// What the host had spent.
    pub(super) spent: Pico,
}

impl Mark {
    /// The mark in a folder, if there is one that makes sense.
    pub(super) fn read(data_dir: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = File::open(data_dir.join(FILE_NAME)).ok()?;
        file.take(LINE_BYTES as u64).read_to_string(&mut text).ok()?;
        let mark = Self::parse(&text);
        if mark.is_none() {
            tracing::warn!(
                file = FILE_NAME,
                "the mark of the ledger can't be read; an older ledger would not be noticed"
            );
        }
        mark
    }

    fn parse(text: &str) -> Option<Self> {
        let (said, sum) = text.trim_end().rsplit_once(' ')?;
        if sum != checksum(said) {
            return None;
        }
        let mut words = said.split(' ');
        let mut number = |expected: Option<&str>| {
            let word = words.next()?;
            expected.map_or_else(|| word.parse::<i64>().ok(), |expected| (word == expected).then_some(0))
        };
        number(Some(MAGIC))?;
        Some(Self { ledger: number(None)?, commits: number(None)?, spent: Pico::new(number(None)?) })
    }

    fn line(self) -> String {
        let Self { ledger, commits, spent } = self;
        let said = format!("{MAGIC} {ledger} {commits} {}", spent.get());
        let sum = checksum(&said);
        format!("{:<width$}\n", format!("{said} {sum}"), width = LINE_BYTES - 1)
    }

    /// What this mark knows beyond a ledger, in words; `None` where the ledger is the one in use, or came after it.
    pub(super) fn beyond(self, ledger: Self) -> Option<String> {
        let missing = self.spent.saturating_sub(ledger.spent).max(Pico::ZERO);
        if self.ledger != ledger.ledger {
            return Some(format!(
                "it is another one, and the host had spent ${}, which is ${missing} more",
                self.spent
            ));
        }
        let commits = self.commits.saturating_sub(ledger.commits);
        (commits > 0)
            .then(|| format!("it is an older copy, which lacks the last {commits} writes and ${missing} of spend"))
    }
}

fn checksum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

/// Where the open ledger stands, and the file that says so.
pub(super) struct Standing {
    mark: Mark,
    /// `None` where the file can't be made: the ledger is what counts, so it is used all the same.
    file: Option<File>,
}

impl Standing {
    /// The file says it from the first [`Self::write`] or commit on.
    pub(super) fn new(data_dir: &Path, mark: Mark) -> Self {
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(data_dir.join(FILE_NAME));
        let file = file.inspect_err(|error| tracing::warn!(%error, "meter.mark can't be made beside the ledger")).ok();
        Self { mark, file }
    }

    /// Part of every transaction: the next commit's number.
    pub(super) fn count(&self, connection: &Connection) -> rusqlite::Result<()> {
        let next = self.mark.commits.saturating_add(1);
        connection.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'commits'")?.execute([next]).map(|_| ())
    }

    /// The transaction is durable.
    pub(super) fn committed(&mut self, more_spent: Pico) {
        self.mark.commits = self.mark.commits.saturating_add(1);
        self.mark.spent = self.mark.spent.saturating_add(more_spent);
        self.write();
    }

    /// Makes the mark durable, for the end.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }

    pub(super) fn write(&self) {
        if let Some(file) = &self.file {
            // A mark that is behind is no failure of what it marks.
            let _ = file.write_all_at(self.mark.line().as_bytes(), 0);
        }
    }
}

/// A value of the table `meta`.
pub(super) fn meta(connection: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |r| r.get(0)).optional()
}

pub(super) fn set_meta(connection: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    connection.prepare_cached(sql)?.execute(rusqlite::params![key, value]).map(|_| ())
}

/// The state of an open ledger. One from before there were marks has neither an identity nor commits.
pub(super) fn of(connection: &Connection, version: usize) -> rusqlite::Result<Mark> {
    if version == 0 {
        return Ok(Mark::default());
    }
    let spent = connection.query_row("SELECT spent FROM accounts WHERE id = 0", [], |r| r.get(0)).optional()?;
    Ok(Mark {
        ledger: meta(connection, IDENTITY)?.unwrap_or(0),
        commits: meta(connection, COMMITS)?.unwrap_or(0),
        spent: Pico::new(spent.unwrap_or(0)),
    })
}

/// Fails where the folder's mark is beyond this ledger.
pub(super) fn check(data_dir: &Path, path: &Path, ledger: Mark) -> Result<(), LedgerError> {
    match Mark::read(data_dir).and_then(|mark| mark.beyond(ledger)) {
        Some(why) => Err(LedgerError::Older { path: path.to_owned(), why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { ledger: i64::MIN, commits: i64::MAX, spent: Pico::new(i64::MIN) };

    #[test]
    fn a_mark_reads_back_and_a_torn_one_says_nothing() {
        let line = MARK.line();
        assert_eq!(line.len(), LINE_BYTES);
        assert_eq!(Mark::parse(&line), Some(MARK));
        let other = Mark { commits: 1, ..MARK }.line();
        for cut in 1..LINE_BYTES - 2 {
            let torn = format!("{}{}", &line[..cut], &other[cut..]);
            let read = Mark::parse(&torn);
            assert!(read.is_none() || torn == line || torn == other, "{torn}");
        }
    }

    #[test]
    fn only_what_is_older_or_another_is_refused() {
        let (same, newer) = (MARK, Mark { commits: 5, ..MARK });
        assert_eq!(same.beyond(same), None);
        assert_eq!(Mark { commits: 4, ..MARK }.beyond(newer), None);
        assert!(Mark { commits: 6, ..MARK }.beyond(newer).unwrap().contains("lacks the last 1 writes"));
        assert!(Mark { ledger: 3, ..MARK }.beyond(newer).unwrap().contains("another"));
    }
}
