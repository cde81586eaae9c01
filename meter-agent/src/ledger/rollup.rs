//! Old rows become sums by day, account, provider, model and category, a few at a time.
//!
//! What a row costs and counts moves in one transaction: rows and sums together always make the accounts' totals.
//!
//! A sum has the labels that all of its rows have. An account's labels are the same all day but on the day on which
//! somebody changes them, so that old rows are found by their labels as new ones are.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row as SqlRow, Transaction, TransactionBehavior, params};

use super::{
    LedgerError, Store,
    load::{count, labels, parsed},
    schema::{OLDEST_ROWS, ROLLUP_LABELS, UPSERT_ROLLUP},
};
use crate::{
    clock::Timestamp,
    exchange::{Detail, Outcome},
    labels::Labels,
};

/// Rows of one transaction: a few milliseconds, so that whoever waits for a hold meanwhile does not notice.
pub(super) const ROLL_UP_ROWS: usize = 1_000;
pub(super) const DAY_MICROS: i64 = 86_400_000_000;
/// Columns of tokens, as many as a usage has.
const TOKENS: usize = 12;
const FIRST_TOKENS: usize = 9;
const COST: usize = FIRST_TOKENS + TOKENS;

/// Day, account, provider, model, category, agent.
type Key = (i64, i64, String, String, String, i64);

#[derive(Default)]
struct Sum {
    exchanges: u64,
    refusals: u64,
    tokens: [u64; TOKENS],
    cost: i64,
    notional: i64,
    /// `None` before the first row.
    labels: Option<Labels>,
}

impl Store {
    /// Moves what is older than `before` of the oldest `max_rows` rows into the sums of their days. Returns how many
    /// were moved; 0 is the end.
    pub fn roll_up(&mut self, before: Timestamp, max_rows: usize) -> Result<usize, LedgerError> {
        let mut run = || {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let (mut sums, moved) = gather(&tx, before, max_rows)?;
            if moved.is_empty() {
                return Ok(0);
            }
            write(&tx, &mut sums)?;
            let mut delete = tx.prepare_cached("DELETE FROM rows WHERE seq = ?1")?;
            moved.iter().try_for_each(|seq| delete.execute([seq]).map(|_| ()))?;
            drop(delete);
            self.standing.count(&tx)?;
            tx.commit()?;
            Ok(moved.len())
        };
        let moved = run().map_err(|e: rusqlite::Error| LedgerError::writing(&self.path, &e))?;
        if moved > 0 {
            self.standing.committed(crate::money::Pico::ZERO);
        }
        Ok(moved)
    }
}

fn gather(tx: &Transaction<'_>, before: Timestamp, max: usize) -> rusqlite::Result<(BTreeMap<Key, Sum>, Vec<i64>)> {
    let (mut sums, mut moved) = (BTreeMap::<Key, Sum>::new(), Vec::new());
    let mut statement = tx.prepare_cached(OLDEST_ROWS)?;
    let mut rows = statement.query([i64::try_from(max).unwrap_or(i64::MAX)])?;
    while let Some(row) = rows.next()? {
        let time: i64 = row.get(1)?;
        if time < before.micros() {
            let day = time.div_euclid(DAY_MICROS);
            let key = (day, row.get(2)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(3)?);
            sums.entry(key).or_default().add(row)?;
            moved.push(row.get(0)?);
        }
    }
    Ok((sums, moved))
}

impl Sum {
    fn add(&mut self, row: &SqlRow<'_>) -> rusqlite::Result<()> {
        let outcome: Outcome = parsed(row, 7)?;
        let events = if outcome.is_exchange() { &mut self.exchanges } else { &mut self.refusals };
        *events = events.saturating_add(count(row, 8)?);
        for (index, tokens) in (FIRST_TOKENS..).zip(&mut self.tokens) {
            *tokens = tokens.saturating_add(count(row, index)?);
        }
        self.cost = self.cost.saturating_add(row.get(COST)?);
        self.notional = self.notional.saturating_add(row.get::<_, Option<i64>>(COST + 1)?.unwrap_or(0));
        self.has_in_common(labels_of(row, COST + 2)?);
        Ok(())
    }

    fn has_in_common(&mut self, other: Labels) {
        self.labels = Some(match self.labels.take() {
            None => other,
            Some(mut own) => {
                own.retain(|key, value| other.get(key) == Some(value));
                own
            }
        });
    }
}

/// The labels in a row's `detail`.
fn labels_of(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Labels> {
    let detail: Option<String> = row.get(index)?;
    Ok(detail.and_then(|json| serde_json::from_str::<Detail>(&json).ok()).unwrap_or_default().labels)
}

fn write(tx: &Transaction<'_>, sums: &mut BTreeMap<Key, Sum>) -> rusqlite::Result<()> {
    // A day's sum ends at the largest integer, as totals do.
    let capped = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let mut upsert = tx.prepare_cached(UPSERT_ROLLUP)?;
    let mut known = tx.prepare_cached(ROLLUP_LABELS)?;
    for ((day, account, provider, model, category, agent), sum) in sums {
        let before = known.query_row(params![day, account, provider, model, category], |r| labels(r, 0)).optional()?;
        if let Some(before) = before {
            sum.has_in_common(before);
        }
        let kept = sum.labels.as_ref().filter(|labels| !labels.is_empty());
        let kept = kept.and_then(|labels| serde_json::to_string(labels).ok());
        let t = sum.tokens.map(capped);
        let (exchanges, refusals) = (capped(sum.exchanges), capped(sum.refusals));
        upsert.execute(params![
            day,
            account,
            provider,
            model,
            category,
            agent,
            exchanges,
            refusals,
            t[0],
            t[1],
            t[2],
            t[3],
            t[4],
            t[5],
            t[6],
            t[7],
            t[8],
            t[9],
            t[10],
            t[11],
            sum.cost,
            sum.notional,
            kept
        ])?;
    }
    Ok(())
}
