//! `meter ledger verify`: is the file sound, and does what it says add up? Changes nothing; a daemon may write meanwhile.
//!
//! What is looked at is one state of the ledger: everything is read in one transaction.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use serde::Serialize;

use super::{
    LedgerError,
    mark::{self, Mark},
    reader::Reader,
    sums::{self, Sum, Totals, capped},
};
use crate::{ids::AccountPath, money::Pico};

/// Findings of one kind that are told one by one.
const TOLD_MAX: usize = 20;

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Verified {
    pub file: PathBuf,
    pub accounts: u64,
    pub rows: u64,
    /// Sums of days, in which older rows are.
    pub rollups: u64,
    pub open_holds: u64,
    /// One sentence each; none where everything adds up.
    pub findings: Vec<String>,
}

/// How the finding begins that nothing has to be rebuilt for.
pub const NOT_THE_LAST: &str = "It is not the ledger that was in use last";

/// Looks at the ledger below `data_dir`. What is damaged is a finding; what can't be looked at is an error.
pub fn verify(data_dir: &Path) -> Result<Verified, LedgerError> {
    let file = data_dir.join(super::FILE_NAME);
    let mut verified =
        Verified { file: file.clone(), accounts: 0, rows: 0, rollups: 0, open_holds: 0, findings: Vec::new() };
    let mut run = || {
        let reader = Reader::open(data_dir)?;
        look(&reader, data_dir, &mut verified).map_err(|e| LedgerError::reading(&file, &e))
    };
    match run() {
        Ok(()) => {}
        Err(LedgerError::Corrupt { reason, .. }) => {
            let sentence = format!("{} can't be read to its end: {reason}.", file.display());
            verified.findings.push(sentence);
        }
        Err(error) => return Err(error),
    }
    Ok(verified)
}

fn look(reader: &Reader, data_dir: &Path, verified: &mut Verified) -> rusqlite::Result<()> {
    let file = reader.connection();
    // Before the ledger is: a daemon's commit between the two makes the ledger the newer one.
    let mark = Mark::read(data_dir);
    // A daemon's commits in between are not seen.
    file.execute_batch("BEGIN")?;
    let version = reader.version();
    verified.findings.extend(structure(file)?);
    let count = |table: &str| -> rusqlite::Result<u64> {
        file.query_row(&format!("SELECT count(*) FROM {table}"), [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned)
    };
    let has_rollups = version >= 3;
    verified.accounts = count("accounts")?;
    verified.rows = count("rows")?;
    verified.open_holds = count("holds")?;
    verified.rollups = if has_rollups { count("rollups")? } else { 0 };
    let accounts = sums::totals(file)?;
    verified.findings.extend(places(&accounts));
    verified.findings.extend(strays(file, &accounts, version)?);
    verified.findings.extend(additions(&accounts, sums::own(file, has_rollups)?));
    verified.findings.extend(resolved(file)?);
    if let Some(why) = mark.and_then(|mark| mark.beyond(mark::of(file, version).ok()?)) {
        let fix = "put that one back, or go on with this one by `meter ledger recover --accept-older`";
        verified.findings.push(format!("{NOT_THE_LAST}: {why}; {fix}."));
    }
    Ok(())
}

/// What SQLite finds in pages, cells and indexes.
fn structure(file: &Connection) -> rusqlite::Result<Vec<String>> {
    let roots: BTreeMap<i64, String> = file
        .prepare("SELECT rootpage, name FROM sqlite_schema WHERE rootpage > 0")?
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut check = file.prepare(&format!("PRAGMA integrity_check({TOLD_MAX})"))?;
    let mut said: Vec<String> = Vec::new();
    // It ends with an error where it can't go on; what it said until then is what is wrong.
    let mut rows = check.query([])?;
    while let Ok(Some(row)) = rows.next() {
        said.push(row.get(0)?);
    }
    drop(rows);
    let lines = said.iter().flat_map(|text| text.lines()).filter(|line| *line != "ok" && !line.starts_with("***"));
    Ok(lines.map(|line| structural(line, &roots)).collect())
}

/// `Tree 5 page 12 ...` names no table, and a page by its number alone.
fn structural(line: &str, roots: &BTreeMap<i64, String>) -> String {
    let mut words = line.split_whitespace();
    let number = |word: Option<&str>| word.and_then(|w| w.trim_end_matches(':').parse::<i64>().ok());
    if words.next() == Some("Tree")
        && let Some(name) = number(words.next()).and_then(|root| roots.get(&root))
        && words.next() == Some("page")
        && let Some(page) = number(words.next())
    {
        let rest = words.collect::<Vec<_>>().join(" ");
        return format!("Page {page}, of {name}, is damaged ({rest}).");
    }
    format!("The file is damaged: {line}.")
}

/// Ids without gaps, each account below its parent.
fn places(accounts: &BTreeMap<i64, Totals>) -> Vec<String> {
    let mut findings = Vec::new();
    for (expected, (&id, account)) in (0..).zip(accounts) {
        if id != expected {
            findings.push(format!("The account with the id {expected} is missing."));
            break;
        }
        let above = accounts.get(&account.parent).map(|parent| parent.path.as_str());
        let parent = account.path.parse::<AccountPath>().ok().and_then(|path| path.parent());
        let placed = if id == 0 { account.path == AccountPath::HOST } else { account.parent < id };
        if !placed || (id > 0 && parent.as_ref().map(AccountPath::as_str) != above) {
            findings.push(format!("The account {} is not below its parent.", account.path));
        }
    }
    if accounts.is_empty() {
        findings.push("The host's account is missing.".to_owned());
    }
    findings.truncate(TOLD_MAX);
    findings
}

/// Tables with something of an account, and the version that they came with.
const OF_ACCOUNTS: [(&str, usize); 8] = [
    ("rows", 1),
    ("holds", 1),
    ("fundings", 1),
    ("processes", 1),
    ("rollups", 3),
    ("quarters", 3),
    ("extensions", 3),
    ("events", 3),
];

/// What belongs to an account that is not there.
fn strays(file: &Connection, accounts: &BTreeMap<i64, Totals>, version: usize) -> rusqlite::Result<Vec<String>> {
    let mut findings = Vec::new();
    for (table, _) in OF_ACCOUNTS.into_iter().filter(|(_, since)| *since <= version) {
        let mut list = file.prepare(&format!("SELECT account, count(*) FROM {table} GROUP BY account"))?;
        let counts = list.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<Vec<(i64, i64)>, _>>()?;
        for (id, count) in counts.into_iter().filter(|(id, _)| !accounts.contains_key(id)) {
            findings.push(format!("{count} of {table} belong to the account with the id {id}, which does not exist."));
        }
    }
    Ok(findings)
}

/// Totals are what rows, sums of days and holds add up to.
fn additions(accounts: &BTreeMap<i64, Totals>, own: BTreeMap<i64, Sum>) -> Vec<String> {
    let sums = sums::with_children(accounts, own);
    let mut findings = Vec::new();
    for (id, account) in accounts {
        let sum = sums.get(id).copied().unwrap_or_default();
        let path = &account.path;
        let money = |what: &str, total: i128, sum: i128| {
            // A total that has reached the largest amount stays there.
            let same = total == sum || (total == i64::MAX.into() && sum > total);
            let (total, sum) = (Pico::new(capped(total)), Pico::new(capped(sum)));
            (!same).then(|| format!("The account {path} has {what} ${total} by its total, and ${sum} by its rows."))
        };
        let events = |what: &str, total: i128, sum: i128| {
            (total != sum)
                .then(|| format!("The account {path} has {total} {what} by its total, and {sum} by its rows."))
        };
        findings.extend(money("spent", account.spent, sum.spent));
        findings.extend(money("held", account.held, sum.held));
        findings.extend(events("exchanges", account.exchanges, sum.exchanges));
        findings.extend(events("refusals", account.refusals, sum.refusals));
    }
    if findings.len() > TOLD_MAX {
        let more = findings.len() - TOLD_MAX;
        findings.truncate(TOLD_MAX);
        findings.push(format!("{more} more totals are not what their rows add up to."));
    }
    findings
}

/// Each hold is resolved once, and then it is no hold any more.
fn resolved(file: &Connection) -> rusqlite::Result<Vec<String>> {
    let count = |sql: &str| file.query_row(sql, [], |r| r.get::<_, i64>(0));
    let open = count("SELECT count(*) FROM holds h WHERE EXISTS (SELECT 1 FROM rows r WHERE r.resolves = h.id)")?;
    let twice = count(
        "SELECT count(*) FROM (SELECT resolves FROM rows NOT INDEXED WHERE resolves IS NOT NULL GROUP BY resolves \
         HAVING count(*) > 1)",
    )?;
    let mut findings = Vec::new();
    if open > 0 {
        findings.push(format!("{open} holds are outstanding that were resolved already."));
    }
    if twice > 0 {
        findings.push(format!("{twice} holds were resolved more than once."));
    }
    Ok(findings)
}
