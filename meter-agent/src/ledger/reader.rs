//! A read-only view of the ledger for the CLI, while a daemon writes and without one.

use std::{
    cmp::Reverse,
    collections::HashMap,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, OpenFlags, Row as SqlRow, params, params_from_iter,
    types::{Type, Value},
};
use serde::Serialize;
use uuid::Uuid;

use super::{
    LedgerError,
    load::{count, exchange_id, labels, maybe_count, named, parsed},
    report::label_sql,
    schema::{BEFORE_SECOND, FILE_NAME, ROW_COLUMNS, SECOND_COLUMNS, VERSION},
    text,
};
use crate::{
    accounts::State,
    clock::Timestamp,
    exchange::{Detail, Row},
    ids::{AccountPath, ExchangeId, Process},
    labels::Labels,
    money::Pico,
    usage::Usage,
};

/// Where an amount is parted to be summed: either part of some million accounts fits an integer.
pub(super) const SUM_PART: i64 = 1_000_000_000_000;

/// Which rows to read.
#[derive(Clone, Debug)]
pub struct RowFilter {
    /// This account and everything below it; `None` is everything.
    pub account: Option<AccountPath>,
    /// The last so many.
    pub limit: usize,
}

/// One account as the ledger knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountTotals {
    pub path: AccountPath,
    pub state: State,
    pub spent: Pico,
    pub held: Pico,
    /// The configured amount of its `total` limit.
    pub budget: Option<Pico>,
    pub funded: Pico,
    pub exchanges: u64,
    pub refusals: u64,
    /// When it came to its state; zero where the ledger is older than that is kept.
    pub since: Timestamp,
    /// Why people shut it.
    pub reason: Option<String>,
    /// How a closed task ended.
    pub status: Option<String>,
    /// What it was opened with, not what stands above it.
    pub labels: Labels,
}

impl AccountTotals {
    /// The `total` limit: configured and funded.
    pub fn limit(&self) -> Option<Pico> {
        self.budget.map(|b| b.saturating_add(self.funded))
    }

    pub fn remaining(&self) -> Option<Pico> {
        self.limit().map(|l| l.saturating_sub(self.spent))
    }
}

/// What one process spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessTotals {
    #[serde(flatten)]
    pub process: Process,
    #[serde(rename = "spent_usd")]
    pub spent: Pico,
    pub exchanges: u64,
}

pub struct Reader {
    connection: Connection,
    path: PathBuf,
    version: usize,
    /// The row's columns that came with the second version.
    late_columns: &'static str,
}

impl Reader {
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        let path = data_dir.join(FILE_NAME);
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(LedgerError::Missing { path }),
            Err(e) => return Err(LedgerError::Access { path, reason: e.to_string() }),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || {
            let connection = Connection::open_with_flags(&path, flags)?;
            let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0))?;
            Ok((connection, version))
        };
        match open().map_err(|e: rusqlite::Error| LedgerError::reading(&path, &e))? {
            (connection, version @ 2..=VERSION) => Ok(Self::new(connection, path, version, SECOND_COLUMNS)),
            // Nothing but its daemon changes it; what it holds is shown all the same.
            (connection, version @ 1) => Ok(Self::new(connection, path, version, BEFORE_SECOND)),
            (_, found) => Err(LedgerError::Schema { path, found, known: VERSION }),
        }
    }

    fn new(connection: Connection, path: PathBuf, version: i64, late_columns: &'static str) -> Self {
        Self { connection, path, version: usize::try_from(version).unwrap_or(0), late_columns }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The file's version, of those that are known.
    pub(super) fn version(&self) -> usize {
        self.version
    }

    /// Looks at every page. `false` where it was interrupted.
    pub(super) fn quick_check(&self) -> Result<bool, LedgerError> {
        let verdict = self.connection.query_row("PRAGMA quick_check(1)", [], |r| r.get::<_, String>(0));
        match verdict {
            Ok(verdict) if verdict == "ok" => Ok(true),
            Ok(reason) => Err(LedgerError::Corrupt { path: self.path.clone(), reason }),
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted) => Ok(false),
            Err(error) => Err(self.failed(&error)),
        }
    }

    pub(super) fn interrupt_handle(&self) -> rusqlite::InterruptHandle {
        self.connection.get_interrupt_handle()
    }

    /// The last rows, the oldest of them first.
    pub fn rows(&self, filter: &RowFilter) -> Result<Vec<Row>, LedgerError> {
        self.labelled_rows(filter, &Labels::new())
    }

    /// As [`Self::rows`], of those that have all these labels.
    pub fn labelled_rows(&self, filter: &RowFilter, labels: &Labels) -> Result<Vec<Row>, LedgerError> {
        let run = || {
            let mut rows = match &filter.account {
                None => self.last_rows(None, labels, filter.limit)?,
                Some(top) if top.is_host() => self.last_rows(None, labels, filter.limit)?,
                Some(top) => match self.subtree(top)?.as_slice() {
                    [] => Vec::new(),
                    [agent, ..] if top.as_str() == top.agent_name() => {
                        self.last_rows(Some(("r.agent", *agent)), labels, filter.limit)?
                    }
                    // The last rows of each, and of those the last: a task has few tasks below it.
                    ids => ids
                        .iter()
                        .map(|id| self.last_rows(Some(("r.account", *id)), labels, filter.limit))
                        .collect::<Result<Vec<_>, _>>()?
                        .concat(),
                },
            };
            rows.sort_unstable_by_key(|(seq, _)| *seq);
            rows.drain(..rows.len().saturating_sub(filter.limit));
            Ok(rows.into_iter().map(|(_, row)| row).collect())
        };
        run().map_err(|e| self.failed(&e))
    }

    /// Every account, by path, the host first.
    pub fn accounts(&self) -> Result<Vec<AccountTotals>, LedgerError> {
        let sql = |third| {
            format!(
                "SELECT path, state, spent, held, coalesce(config_budget, budget), exchanges, refusals, \
                 (SELECT coalesce(sum(amount), 0) FROM fundings f WHERE f.account = accounts.id), {third} \
                 FROM accounts ORDER BY id <> 0, path"
            )
        };
        let read = |row: &SqlRow<'_>| {
            Ok(AccountTotals {
                path: parsed(row, 0)?,
                state: parsed(row, 1)?,
                spent: Pico::new(row.get(2)?),
                held: Pico::new(row.get(3)?),
                budget: row.get::<_, Option<i64>>(4)?.map(Pico::new),
                exchanges: count(row, 5)?,
                refusals: count(row, 6)?,
                funded: Pico::new(row.get(7)?),
                since: Timestamp::from_micros(row.get(8)?),
                reason: row.get(9)?,
                status: row.get(10)?,
                labels: labels(row, 11)?,
            })
        };
        let run = || {
            let third = self.has_table("events")?;
            let third = if third { "since, reason, status, labels" } else { "0, NULL, NULL, NULL" };
            self.connection.prepare_cached(&sql(third))?.query_map([], read)?.collect::<Result<Vec<_>, _>>()
        };
        run().map_err(|e| self.failed(&e))
    }

    /// What each process of the account and of everything below it spent, the dearest first.
    pub fn processes(&self, path: &AccountPath) -> Result<Vec<ProcessTotals>, LedgerError> {
        // Amounts are summed in two parts: each is at its cap at most, and a sum of such is more than SQLite's integer.
        // The accounts one kind after the other, so that each is found by its path and not by looking at all of them.
        let sql = "SELECT pid, start_ticks, exe, sum(p.exchanges), sum(p.spent / ?2), sum(p.spent % ?2) \
            FROM (SELECT id FROM accounts WHERE path = ?1 \
            UNION ALL SELECT id FROM accounts WHERE path > ?1 || '/' AND path < ?1 || '0' \
            UNION ALL SELECT id FROM accounts WHERE ?1 = 'host' AND path <> 'host') a \
            CROSS JOIN processes p ON p.account = a.id \
            GROUP BY pid, start_ticks, exe";
        let read = |row: &SqlRow<'_>| {
            Ok(ProcessTotals {
                process: Process { pid: row.get(0)?, start_ticks: count(row, 1)?, exe: row.get(2)? },
                spent: Pico::new(row.get::<_, i64>(4)?.saturating_mul(SUM_PART).saturating_add(row.get(5)?)),
                exchanges: count(row, 3)?,
            })
        };
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map(params![path.as_str(), SUM_PART], read)?.collect::<Result<Vec<_>, _>>()
        };
        let mut totals = run().map_err(|e| self.failed(&e))?;
        by_spend(&mut totals);
        Ok(totals)
    }

    /// As [`Self::processes`], of every account at once.
    pub fn all_processes(&self) -> Result<HashMap<AccountPath, Vec<ProcessTotals>>, LedgerError> {
        let sql = "SELECT pid, start_ticks, exe, a.path, p.spent, p.exchanges FROM processes p \
            JOIN accounts a ON a.id = p.account";
        let run = || {
            let mut sums = HashMap::<AccountPath, HashMap<Process, (Pico, u64)>>::new();
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let process = Process { pid: row.get(0)?, start_ticks: count(row, 1)?, exe: row.get(2)? };
                let (spent, exchanges) = (Pico::new(row.get(4)?), count(row, 5)?);
                let mut at: Option<AccountPath> = Some(parsed(row, 3)?);
                while let Some(path) = at {
                    at = path.parent();
                    let sum = sums.entry(path).or_default().entry(process.clone()).or_default();
                    *sum = (sum.0.saturating_add(spent), sum.1.saturating_add(exchanges));
                }
            }
            Ok(sums)
        };
        let sums = run().map_err(|e| self.failed(&e))?;
        let totals = |(process, (spent, exchanges))| ProcessTotals { process, spent, exchanges };
        let dearest = |sums: HashMap<_, _>| {
            let mut totals: Vec<ProcessTotals> = sums.into_iter().map(totals).collect();
            by_spend(&mut totals);
            totals
        };
        Ok(sums.into_iter().map(|(path, sums)| (path, dearest(sums))).collect())
    }

    /// Ids of the account and of everything below it, itself first. `0` is the character after `/`.
    fn subtree(&self, top: &AccountPath) -> rusqlite::Result<Vec<i64>> {
        let sql = "SELECT id FROM accounts WHERE path = ?1 \
            UNION ALL SELECT id FROM accounts WHERE path > ?1 || '/' AND path < ?1 || '0'";
        self.connection.prepare_cached(sql)?.query_map([top.as_str()], |r| r.get(0))?.collect()
    }

    /// The last rows whose column has that id, and that have the labels.
    fn last_rows(
        &self,
        which: Option<(&str, i64)>,
        labels: &Labels,
        limit: usize,
    ) -> rusqlite::Result<Vec<(i64, Row)>> {
        let late = self.late_columns;
        if late == BEFORE_SECOND && !labels.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = vec![Value::from(i64::try_from(limit).unwrap_or(i64::MAX))];
        let mut conditions = Vec::new();
        if let Some((column, id)) = which {
            values.push(id.into());
            conditions.push(format!("{column} = ?{}", values.len()));
        }
        for (key, value) in labels {
            values.push(value.clone().into());
            conditions.push(format!("{} = ?{}", label_sql("r.detail", key), values.len()));
        }
        let which = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
        let sql = format!(
            "SELECT {ROW_COLUMNS}{late} FROM rows r JOIN accounts a ON a.id = r.account {which} ORDER BY r.seq DESC LIMIT ?1"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.query_map(params_from_iter(values), row)?.collect()
    }

    /// The row's columns that came with the second version, or what stands for them.
    pub(super) fn late_columns(&self) -> &'static str {
        self.late_columns
    }

    pub(super) fn has_table(&self, name: &str) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1)";
        self.connection.query_row(sql, [name], |row| row.get(0))
    }

    pub(super) fn failed(&self, error: &rusqlite::Error) -> LedgerError {
        LedgerError::reading(&self.path, error)
    }
}

/// The dearest first.
fn by_spend(totals: &mut [ProcessTotals]) {
    totals.sort_unstable_by(|a, b| {
        let order = |t: &ProcessTotals| (Reverse(t.spent), t.process.pid, t.process.start_ticks);
        order(a).cmp(&order(b)).then_with(|| a.process.exe.cmp(&b.process.exe))
    });
}

fn row(r: &SqlRow<'_>) -> rusqlite::Result<(i64, Row)> {
    let row = Row {
        account: parsed(r, 0)?,
        id: exchange_id(r, 2)?,
        time: Timestamp::from_micros(r.get(3)?),
        process: Process { pid: r.get(4)?, start_ticks: count(r, 5)?, exe: r.get(6)? },
        provider: r.get(7)?,
        endpoint: r.get(8)?,
        host: r.get(9)?,
        method: r.get(10)?,
        path: r.get(11)?,
        model: r.get(12)?,
        requested_model: r.get(13)?,
        status: r.get(14)?,
        stream: r.get(15)?,
        usage: usage(r, 16)?,
        usage_quality: named(r, 28, text::read_quality)?,
        held_usd: Pico::new(r.get(29)?),
        cost_usd: Pico::new(r.get(30)?),
        price: named(r, 31, text::read_price)?,
        clamped: maybe_count(r, 32)?,
        outcome: parsed(r, 33)?,
        ttfb_ms: maybe_count(r, 34)?,
        duration_ms: count(r, 35)?,
        request_id: r.get(36)?,
        reason: r.get(37)?,
        count: count(r, 38)?,
        category: r.get(39)?,
        notional_usd: r.get::<_, Option<i64>>(40)?.map(Pico::new),
        detail: detail(r, 41)?,
        corrects: r.get::<_, Option<[u8; 16]>>(42)?.map(|bytes| ExchangeId(Uuid::from_bytes(bytes))),
    };
    Ok((r.get(1)?, row))
}

fn detail(r: &SqlRow<'_>, index: usize) -> rusqlite::Result<Detail> {
    let Some(json) = r.get::<_, Option<String>>(index)? else { return Ok(Detail::default()) };
    serde_json::from_str(&json).map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}

/// Twelve columns from `first` on, in the order of the table.
fn usage(r: &SqlRow<'_>, first: usize) -> rusqlite::Result<Usage> {
    Ok(Usage {
        input_tokens: count(r, first)?,
        input_uncached: count(r, first + 1)?,
        cache_read: count(r, first + 2)?,
        cache_write_5m: count(r, first + 3)?,
        cache_write_1h: count(r, first + 4)?,
        cache_write_other: count(r, first + 5)?,
        input_audio: count(r, first + 6)?,
        input_image: count(r, first + 7)?,
        output_tokens: count(r, first + 8)?,
        reasoning_tokens: count(r, first + 9)?,
        output_audio: count(r, first + 10)?,
        output_image: count(r, first + 11)?,
    })
}
