//! What the rows of a ledger add up to, to be compared with the accounts' totals, or put in their place.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::reader::SUM_PART;
use crate::exchange::Outcome;

/// An account as the file has it.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) parent: i64,
    pub(super) path: String,
    pub(super) spent: i128,
    pub(super) held: i128,
    pub(super) exchanges: i128,
    pub(super) refusals: i128,
}

/// What the rows of an account itself, or of it and all below it, add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) spent: i128,
    pub(super) held: i128,
    pub(super) exchanges: i128,
    pub(super) refusals: i128,
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.spent += other.spent;
        self.held += other.held;
        self.exchanges += other.exchanges;
        self.refusals += other.refusals;
    }
}

/// Every account by id.
pub(super) fn totals(file: &Connection) -> rusqlite::Result<BTreeMap<i64, Totals>> {
    let mut list = file.prepare("SELECT id, parent, path, spent, held, exchanges, refusals FROM accounts")?;
    list.query_map([], |r| {
        let totals = Totals {
            parent: r.get(1)?,
            path: r.get(2)?,
            spent: r.get::<_, i64>(3)?.into(),
            held: r.get::<_, i64>(4)?.into(),
            exchanges: r.get::<_, i64>(5)?.into(),
            refusals: r.get::<_, i64>(6)?.into(),
        };
        Ok((r.get(0)?, totals))
    })?
    .collect()
}

/// What each account's own rows, sums of days and open holds add up to.
pub(super) fn own(file: &Connection, has_rollups: bool) -> rusqlite::Result<BTreeMap<i64, Sum>> {
    let mut sums = BTreeMap::<i64, Sum>::new();
    let exchanges: Vec<&str> = Outcome::ALL.iter().filter(|o| o.is_exchange()).map(|o| o.as_str()).collect();
    let rows = format!(
        "SELECT account, outcome IN ('{}'), sum(cost / {SUM_PART}), sum(cost % {SUM_PART}), sum(count) FROM rows GROUP BY 1, 2",
        exchanges.join("', '")
    );
    let mut add = |sql: &str, read: fn(&rusqlite::Row<'_>) -> rusqlite::Result<Sum>| -> rusqlite::Result<()> {
        let mut list = file.prepare(sql)?;
        let mut rows = list.query([])?;
        while let Some(row) = rows.next()? {
            sums.entry(row.get(0)?).or_default().add(read(row)?);
        }
        Ok(())
    };
    add(&rows, |r| {
        let (is_exchange, events): (bool, i64) = (r.get(1)?, r.get(4)?);
        let (exchanges, refusals) = if is_exchange { (events, 0) } else { (0, events) };
        Ok(Sum { spent: parts(r, 2)?, exchanges: exchanges.into(), refusals: refusals.into(), ..Sum::default() })
    })?;
    let holds = format!("SELECT account, sum(amount / {SUM_PART}), sum(amount % {SUM_PART}) FROM holds GROUP BY 1");
    add(&holds, |r| Ok(Sum { held: parts(r, 1)?, ..Sum::default() }))?;
    if has_rollups {
        let days = format!(
            "SELECT account, sum(cost / {SUM_PART}), sum(cost % {SUM_PART}), sum(exchanges), sum(refusals) FROM rollups GROUP BY 1"
        );
        add(&days, |r| {
            let (exchanges, refusals): (i64, i64) = (r.get(3)?, r.get(4)?);
            Ok(Sum { spent: parts(r, 1)?, exchanges: exchanges.into(), refusals: refusals.into(), ..Sum::default() })
        })?;
    }
    Ok(sums)
}

/// With everything below added to what is above it. Ids of parents are smaller than those of their children.
pub(super) fn with_children(accounts: &BTreeMap<i64, Totals>, mut own: BTreeMap<i64, Sum>) -> BTreeMap<i64, Sum> {
    for (&id, account) in accounts.iter().rev() {
        if id > account.parent {
            let sum = own.get(&id).copied().unwrap_or_default();
            own.entry(account.parent).or_default().add(sum);
        }
    }
    own
}

fn parts(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<i128> {
    let (whole, rest): (i64, i64) = (row.get(first)?, row.get(first + 1)?);
    Ok(i128::from(whole) * i128::from(SUM_PART) + i128::from(rest))
}

/// Totals end at the largest amount.
pub(super) fn capped(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}
