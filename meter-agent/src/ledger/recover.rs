//! `meter ledger recover`: a new ledger of what can be read of a damaged one, in which spend is never lower.
//!
//! Every page that can be read gives its records ([`super::salvage`]), with the write-ahead log over the file. What an
//! account had spent is then the larger of its total and of what its rows add up to; a difference, and holds that
//! were lost, are charged by a row that says so. What can't be known is decided against the agent: an account whose
//! record is lost is revoked. The damaged file stays beside the new one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, params, types::Value};
use serde::Serialize;

use super::{
    LedgerError,
    commit::insert_row,
    mark::{self, COMMITS, FLOOR, IDENTITY, Mark},
    salvage::{self, Found, Report, Shape},
    schema::{FILE_NAME, RAISE_QUARTERS, STEPS, VERSION},
    store, sums,
    sums::{Sum, Totals, capped},
    verify::verify,
};
use crate::{
    accounts::{AccountId, QUARTERS_KEPT, State, quarter},
    clock::Timestamp,
    exchange::{Outcome, Row},
    ids::{AccountPath, ExchangeId},
    ledger::HoldRecord,
    money::Pico,
};

/// The new file until it is whole.
const WORK_NAME: &str = "meter.db.recovering";
/// Keys of `meta` that a ledger has; any other text with a number is an entry of the index of accounts.
const META_KEYS: [&str; 5] = ["clean", IDENTITY, COMMITS, FLOOR, store::DAMAGED];
/// An account's id beyond this is garbage: no host has nearly as many.
const ACCOUNTS_MAX: i64 = 10_000_000;

/// Versions that later meters may write; what is beyond is a number on a torn page.
const LATER_VERSIONS: std::ops::Range<i64> = VERSION + 1..1_000;

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Recovered {
    pub file: PathBuf,
    /// Where the damaged file is now.
    pub damaged: PathBuf,
    pub accounts: u64,
    pub rows: u64,
    pub open_holds: u64,
    /// What was lost, and what was done about it; one sentence each.
    pub lost: Vec<String>,
}

/// Rebuilds the ledger below `data_dir`, which no daemon may have open.
pub fn recover(data_dir: &Path, now: Timestamp) -> Result<Recovered, LedgerError> {
    let path = data_dir.join(FILE_NAME);
    if !path.exists() {
        return Err(LedgerError::Missing { path });
    }
    let _lock = store::lock(data_dir)?;
    let mark = Mark::read(data_dir);
    match verify(data_dir) {
        Ok(verified) if verified.findings.is_empty() && !was_condemned(&path) => {
            return Err(LedgerError::Sound { path });
        }
        // Of a later meter's ledger this one would keep what it knows, and nothing else.
        Err(error @ LedgerError::Schema { found, .. }) if LATER_VERSIONS.contains(&found) => return Err(error),
        Ok(_) | Err(_) => {}
    }
    let work = data_dir.join(WORK_NAME);
    let access = |e: io::Error| LedgerError::Access { path: path.clone(), reason: e.to_string() };
    remove(&work).map_err(access)?;
    let writing = |e: rusqlite::Error| LedgerError::writing(&work, &e);
    let mut rebuild = Rebuild::new(&work).map_err(writing)?;
    let report = rebuild.fill(&path).map_err(access)?;
    if rebuild.is_empty().map_err(writing)? {
        remove(&work).map_err(access)?;
        return Err(LedgerError::Lost { path });
    }
    let (counts, lost) = rebuild.finish(&report, mark, now).map_err(writing)?;
    let damaged = replace(data_dir, &path, &work, now).map_err(access)?;
    let [accounts, rows, open_holds] = counts;
    Ok(Recovered { file: path, damaged, accounts, rows, open_holds, lost })
}

/// A daemon found damage in it, and said so in the file.
fn was_condemned(path: &Path) -> bool {
    let file = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
    file.and_then(|file| mark::meta(&file, store::DAMAGED)).is_ok_and(|found| found.is_some())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The new file in the place of the damaged one. A crash in between leaves the damaged one, or one that the mark knows
/// to be incomplete; never a new file with an old log.
fn replace(data_dir: &Path, path: &Path, work: &Path, now: Timestamp) -> io::Result<PathBuf> {
    File::open(work)?.sync_all()?;
    let stamp: String = now.rfc3339().chars().take(19).filter(|c| *c != ':' && *c != '-').collect();
    let (mut damaged, mut n) = (data_dir.join(format!("{FILE_NAME}.damaged-{stamp}")), 1);
    while damaged.exists() {
        n += 1;
        damaged = data_dir.join(format!("{FILE_NAME}.damaged-{stamp}-{n}"));
    }
    let beside = |path: &Path, end: &str| PathBuf::from(format!("{}{end}", path.display()));
    fs::hard_link(path, &damaged)?;
    let log = beside(path, "-wal");
    if log.exists() {
        fs::rename(&log, beside(&damaged, "-wal"))?;
    }
    remove(&beside(path, "-shm"))?;
    fs::rename(work, path)?;
    File::open(data_dir)?.sync_all()?;
    Ok(damaged)
}

struct Rebuild {
    file: Connection,
    shapes: Vec<Shape>,
    names: BTreeMap<i64, String>,
    /// Records that a constraint refused: a second copy, or nonsense.
    refused: u64,
    meta: BTreeMap<String, i64>,
}

impl Rebuild {
    fn new(work: &Path) -> rusqlite::Result<Self> {
        let file = Connection::open(work)?;
        // It becomes the ledger when it is whole and synced, and is thrown away before.
        file.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        STEPS.iter().copied().flatten().try_for_each(|step| file.execute_batch(step))?;
        file.execute_batch("DELETE FROM accounts; DELETE FROM meta")?;
        let shapes = salvage::shapes()?;
        Ok(Self { file, shapes, names: BTreeMap::new(), refused: 0, meta: BTreeMap::new() })
    }

    fn fill(&mut self, path: &Path) -> io::Result<Report> {
        let shapes = std::mem::take(&mut self.shapes);
        let report = salvage::read(path, &shapes, |found| self.take(&shapes, found));
        self.shapes = shapes;
        let mut report = report?;
        for (id, name) in report.names.drain(..) {
            self.name(id, name);
        }
        Ok(report)
    }

    fn take(&mut self, shapes: &[Shape], Found { table, values }: Found) {
        let shape = &shapes[table];
        if shape.name == "meta" {
            if let [Value::Text(key), Value::Integer(value)] = &values[..] {
                // An agent may be named as the identity is, which is a random number and no account's.
                let names_an_agent = key == IDENTITY && (0..ACCOUNTS_MAX).contains(value);
                if META_KEYS.contains(&key.as_str()) && !names_an_agent {
                    self.meta.insert(key.clone(), *value);
                } else {
                    self.name(*value, key.clone());
                }
            }
            return;
        }
        let insert =
            || self.file.prepare_cached(&shape.insert(values.len()))?.execute(rusqlite::params_from_iter(&values));
        // One that is there already is a copy that a page which is not used any more had.
        if insert().is_err() {
            self.refused += 1;
        }
    }

    fn name(&mut self, id: i64, name: String) {
        if (0..ACCOUNTS_MAX).contains(&id) && name.parse::<AccountPath>().is_ok() {
            self.names.entry(id).or_insert(name);
        }
    }

    fn is_empty(&self) -> rusqlite::Result<bool> {
        let found = self.file.query_row(
            "SELECT (SELECT count(*) FROM accounts) + (SELECT count(*) FROM rows) + (SELECT count(*) FROM rollups)",
            [],
            |r| r.get::<_, i64>(0),
        )?;
        Ok(found == 0 && self.names.is_empty())
    }

    fn finish(self, report: &Report, mark: Option<Mark>, now: Timestamp) -> rusqlite::Result<([u64; 3], Vec<String>)> {
        let mut lost = pages(report);
        if report.unfit + self.refused > 0 {
            lost.push(format!("{} records can't be read.", report.unfit + self.refused));
        }
        lost.extend(self.gaps()?);
        self.file.execute("DELETE FROM holds WHERE id IN (SELECT resolves FROM rows)", [])?;
        let known = sums::totals(&self.file)?;
        lost.extend(self.restore_accounts(&known)?);
        let mark = mark.filter(|mark| self.meta.get(IDENTITY).is_none_or(|id| *id == mark.ledger));
        lost.extend(self.settle(&known, mark, now)?);
        self.identify(mark)?;
        // What windows have used falls no more than what is spent.
        self.file.execute(RAISE_QUARTERS, [quarter(now).saturating_sub(QUARTERS_KEPT)])?;
        let count = |table: &str| {
            self.file
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0))
                .map(i64::cast_unsigned)
        };
        let counts = [count("accounts")?, count("rows")?, count("holds")?];
        self.file.pragma_update(None, "user_version", VERSION)?;
        self.file.execute_batch("COMMIT")?;
        self.file.close().map_err(|(_, error)| error)?;
        Ok((counts, lost))
    }

    /// What the numbers of rows and fundings do not reach.
    fn gaps(&self) -> rusqlite::Result<Vec<String>> {
        let mut sentences = Vec::new();
        for (table, what) in [("rows", "rows"), ("fundings", "fundings, which have to be made again by `meter fund`,")]
        {
            let sql = format!("SELECT coalesce(max(seq) - min(seq) + 1 - count(*), 0) FROM {table}");
            let missing: i64 = self.file.query_row(&sql, [], |r| r.get(0))?;
            if missing > 0 {
                sentences.push(format!("At least {missing} {what} are lost."));
            }
        }
        Ok(sentences)
    }

    /// Accounts whose record is lost, by what else names them.
    fn restore_accounts(&self, known: &BTreeMap<i64, Totals>) -> rusqlite::Result<Vec<String>> {
        let mut sentences = Vec::new();
        let mut paths: BTreeMap<i64, String> = known.iter().map(|(id, account)| (*id, account.path.clone())).collect();
        let mut ids: BTreeSet<i64> = paths.keys().chain(self.names.keys()).copied().collect();
        let tables =
            ["rows", "holds", "fundings", "rollups", "processes", "quarters", "extensions", "events", "results"];
        for table in tables {
            let sql = format!("SELECT DISTINCT account FROM {table} WHERE account IS NOT NULL");
            let mut list = self.file.prepare(&sql)?;
            ids.extend(list.query_map([], |r| r.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?);
        }
        let last = ids.range(..ACCOUNTS_MAX).next_back().copied().unwrap_or(0);
        for id in 0..=last {
            if known.contains_key(&id) {
                continue;
            }
            let (path, parent) = self.place(id, known, &paths);
            let state = if id == 0 { State::Open } else { State::Revoked };
            let sql = "INSERT INTO accounts (id, path, parent, state) VALUES (?1, ?2, ?3, ?4)";
            self.file.execute(sql, params![id, path, parent, state.as_str()])?;
            sentences.push(if id == 0 {
                "The record of the host's account is lost; it is rebuilt from its rows.".to_owned()
            } else {
                format!(
                    "The record of the account {path} is lost, and with it the budget that it was given by --budget; it \
                     is revoked until somebody has looked at it."
                )
            });
            paths.insert(id, path);
        }
        Ok(sentences)
    }

    /// The path and the parent of an account without a record.
    fn place(&self, id: i64, known: &BTreeMap<i64, Totals>, paths: &BTreeMap<i64, String>) -> (String, i64) {
        if id == 0 {
            return (AccountPath::HOST.to_owned(), 0);
        }
        let above_child = known.values().find(|child| child.parent == id);
        let by_child = above_child.and_then(|child| child.path.parse::<AccountPath>().ok()?.parent());
        let named = self.names.get(&id).and_then(|name| name.parse().ok()).or(by_child);
        let free = |path: &AccountPath| !paths.values().any(|taken| taken == path.as_str());
        if let Some(path) = named.filter(free)
            && let Some(above) = path.parent()
            && let Some((&parent, _)) = paths.iter().find(|(at, name)| **at < id && **name == above.as_str())
        {
            return (path.as_str().to_owned(), parent);
        }
        (format!("lost-{id}"), 0)
    }

    /// Totals that are not below what is known of them, and rows that make up for what is missing.
    fn settle(
        &self,
        known: &BTreeMap<i64, Totals>,
        mark: Option<Mark>,
        now: Timestamp,
    ) -> rusqlite::Result<Vec<String>> {
        let accounts = sums::totals(&self.file)?;
        let own = sums::own(&self.file, true)?;
        let (mut below, mut sentences) = (BTreeMap::<i64, Sum>::new(), Vec::new());
        let held = sums::with_children(&accounts, own.clone());
        for (&id, account) in accounts.iter().rev() {
            let mut sum = own.get(&id).copied().unwrap_or_default();
            sum.add(below.get(&id).copied().unwrap_or_default());
            let was = known.get(&id).cloned().unwrap_or_default();
            let open = held.get(&id).map_or(0, |sum| sum.held);
            let mut spent = was.spent + (was.held - open).max(0);
            if let (0, Some(mark)) = (id, mark) {
                spent = spent.max(mark.spent.get().into());
            }
            let missing = Sum {
                spent: (spent - sum.spent).max(0),
                held: 0,
                exchanges: (was.exchanges - sum.exchanges).max(0),
                refusals: (was.refusals - sum.refusals).max(0),
            };
            if missing != Sum::default() {
                self.make_up(id, &accounts, missing, now)?;
                sum.add(missing);
            }
            if missing.spent > 0 {
                let amount = Pico::new(capped(missing.spent));
                sentences.push(format!(
                    "${amount} that {} had spent or held are in no row that can be read; they are charged in one.",
                    account.path
                ));
            }
            let sql = "UPDATE accounts SET spent = ?2, held = ?3, exchanges = ?4, refusals = ?5 WHERE id = ?1";
            self.file.execute(
                sql,
                params![id, capped(sum.spent), capped(open), capped(sum.exchanges), capped(sum.refusals)],
            )?;
            if id > account.parent {
                below.entry(account.parent).or_default().add(Sum { held: 0, ..sum });
            }
        }
        Ok(sentences)
    }

    /// Rows in the place of those that are lost.
    fn make_up(&self, id: i64, accounts: &BTreeMap<i64, Totals>, missing: Sum, now: Timestamp) -> rusqlite::Result<()> {
        let Some(account) = accounts.get(&id) else { return Ok(()) };
        let mut agent = id;
        while let Some(above) =
            accounts.get(&agent).map(|account| account.parent).filter(|above| *above > 0 && *above < agent)
        {
            agent = above;
        }
        let at = |id: i64| AccountId::new(u32::try_from(id).unwrap_or(0));
        let path = account.path.parse().unwrap_or_else(|_| AccountPath::host());
        let amount = Pico::new(capped(missing.spent));
        let hold = HoldRecord::unknown(at(id), amount, now);
        let row = hold.unresolved(path, amount, now, "rows that a damaged page held, charged by the account's total");
        let events = |n: i128| u64::try_from(n).unwrap_or(0);
        if missing.spent > 0 || missing.exchanges > 0 {
            let row = Row { held_usd: Pico::ZERO, count: events(missing.exchanges), ..row.clone() };
            insert_row(&self.file, at(id), at(agent), &row, None)?;
        }
        if missing.refusals > 0 {
            let reason = Some("refusals whose rows a damaged page held".to_owned());
            let (outcome, count) = (Outcome::RefusedRequest, events(missing.refusals));
            let none = Pico::ZERO;
            let row = Row { id: ExchangeId::new(), outcome, count, reason, cost_usd: none, held_usd: none, ..row };
            insert_row(&self.file, at(id), at(agent), &row, None)?;
        }
        Ok(())
    }

    /// The ledger stays the one that it was, and is newer than the damaged one.
    fn identify(&self, mark: Option<Mark>) -> rusqlite::Result<()> {
        let mark = mark.unwrap_or_default();
        let identity = self.meta.get(IDENTITY).copied().or((mark.ledger != 0).then_some(mark.ledger));
        let commits = self.meta.get(COMMITS).copied().unwrap_or(0).max(mark.commits).saturating_add(1);
        mark::set_meta(&self.file, "clean", 1)?;
        mark::set_meta(&self.file, COMMITS, commits)?;
        if let Some(floor) = self.meta.get(FLOOR) {
            mark::set_meta(&self.file, FLOOR, *floor)?;
        }
        match identity {
            Some(identity) => mark::set_meta(&self.file, IDENTITY, identity),
            None => self.file.execute("INSERT INTO meta VALUES (?1, random())", [IDENTITY]).map(|_| ()),
        }
    }
}

fn pages(report: &Report) -> Vec<String> {
    let mut by_table = BTreeMap::<&str, Vec<String>>::new();
    for (page, table) in &report.torn {
        by_table.entry(table.as_deref().unwrap_or("nothing known")).or_default().push(page.to_string());
    }
    let mut sentences: Vec<String> = by_table
        .into_iter()
        .map(|(table, pages)| {
            let told: Vec<&str> = pages.iter().map(String::as_str).take(8).collect();
            let more = if pages.len() > told.len() {
                format!(" and {} more", pages.len() - told.len())
            } else {
                String::new()
            };
            format!("Of {table} can't be read: page {}{more}.", told.join(", "))
        })
        .collect();
    if report.no_schema {
        sentences.push(
            "Where the tables are can't be read, so records are known by their shape alone; some that were summed up or \
             resolved may be there again."
                .to_owned(),
        );
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_says_of_itself_names_no_account() {
        let dir = tempfile::tempdir().unwrap();
        let mut rebuild = Rebuild::new(&dir.path().join(WORK_NAME)).unwrap();
        let shapes = salvage::shapes().unwrap();
        let table = shapes.iter().position(|shape| shape.name == "meta").unwrap();
        for key in META_KEYS.into_iter().filter(|key| *key != IDENTITY) {
            rebuild.take(&shapes, Found { table, values: vec![Value::Text(key.to_owned()), Value::Integer(1)] });
        }
        // Set by a daemon that found damage, which is why anybody recovers.
        rebuild.take(&shapes, Found { table, values: vec![Value::Text("damaged".to_owned()), Value::Integer(1)] });
        rebuild.take(&shapes, Found { table, values: vec![Value::Text("research".to_owned()), Value::Integer(1)] });
        assert_eq!(rebuild.names, BTreeMap::from([(1, "research".to_owned())]));
    }
}
