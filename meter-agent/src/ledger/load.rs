//! What the ledger knew when it was opened: the material of recovery.

use std::{collections::BTreeMap, sync::Arc};

use meter_common::AccountRef;
use rusqlite::{Row as SqlRow, types::Type};
use uuid::Uuid;

use super::{HoldRecord, LedgerError, ResultRecord, ResultState, Store, mark::FLOOR, text};
use crate::{
    accounts::{AccountId, Category, Extension, LimitRule, State, TaskStatus},
    clock::Timestamp,
    exchange::RequestLine,
    ids::{AccountPath, ExchangeId, Process},
    measure::Amounts,
    money::Pico,
};

/// Everything that the accounts are rebuilt from.
#[derive(Debug)]
pub struct Loaded {
    /// By id, ascending and without gaps; the host is the first.
    pub accounts: Vec<LoadedAccount>,
    /// Holds that were never resolved, the oldest first.
    pub holds: Vec<HoldRecord>,
    /// Results that can be read again, the oldest first.
    pub results: Vec<ResultRecord>,
    /// What the host had spent by a newer copy of the ledger, which this one was accepted in place of.
    pub floor: Option<Pico>,
    /// What each account itself used, by quarter of an hour.
    pub quarters: Vec<LoadedQuarter>,
    pub extensions: Vec<(AccountId, Extension)>,
}

/// What an account itself used in a quarter of an hour; in quarter 0, before all that are kept.
#[derive(Debug)]
pub struct LoadedQuarter {
    pub account: AccountId,
    pub quarter: i64,
    pub category: Category,
    pub used: Amounts,
}

#[derive(Debug)]
pub struct LoadedAccount {
    pub id: AccountId,
    pub parent: AccountId,
    pub path: AccountPath,
    /// Given with the account itself (`meter run --budget`).
    pub budget: Option<Pico>,
    /// In force when the ledger was last open, fundings and extensions aside.
    pub in_force: Vec<LimitRule>,
    pub labels: BTreeMap<String, String>,
    /// When it came to its state.
    pub since: Timestamp,
    pub reason: Option<String>,
    pub status: Option<TaskStatus>,
    pub funded: Pico,
    /// Of that, what was given since the account came to its state.
    pub funded_since: Pico,
    pub smallest_hold: Option<Pico>,
    pub state: State,
    pub spent: Pico,
    pub exchanges: u64,
    pub refusals: u64,
    pub bound: Option<AccountRef>,
}

const ACCOUNTS: &str = "SELECT id, parent, path, budget, config_budget, smallest_hold, state, spent, exchanges, \
    refusals, slot, generation, (SELECT coalesce(sum(amount), 0) FROM fundings f WHERE f.account = accounts.id), \
    since, reason, status, labels, in_force, (SELECT coalesce(sum(amount), 0) FROM fundings f \
    WHERE f.account = accounts.id AND f.time >= accounts.since) FROM accounts ORDER BY id";

const QUARTERS: &str = "SELECT account, quarter, category, usd, tokens, requests FROM quarters ORDER BY quarter";

const EXTENSIONS: &str = "SELECT account, amount, since, until FROM extensions ORDER BY seq";

const HOLDS: &str = "SELECT id, account, amount, clamp, time, pid, start_ticks, exe, provider, endpoint, host, method, \
    path, requested_model, stream, category, tokens FROM holds ORDER BY id";

const RESULTS: &str = "SELECT provider, result, state, time, hold, row, account, charged FROM results ORDER BY time";

impl Store {
    pub fn load(&self) -> Result<Loaded, LedgerError> {
        let run = || {
            let accounts = self.connection.prepare(ACCOUNTS)?.query_map([], account)?.collect::<Result<Vec<_>, _>>()?;
            let holds = self.connection.prepare(HOLDS)?.query_map([], hold)?.collect::<Result<Vec<_>, _>>()?;
            let results = self.connection.prepare(RESULTS)?.query_map([], result)?.collect::<Result<Vec<_>, _>>()?;
            let quarters = self.connection.prepare(QUARTERS)?.query_map([], quarter)?.collect::<Result<Vec<_>, _>>()?;
            let extensions =
                self.connection.prepare(EXTENSIONS)?.query_map([], extension)?.collect::<Result<_, _>>()?;
            let floor = self.meta(FLOOR)?.map(Pico::new);
            Ok(Loaded { accounts, holds, results, floor, quarters, extensions })
        };
        let loaded = run().map_err(|e: rusqlite::Error| LedgerError::reading(&self.path, &e))?;
        self.believable(&loaded)?;
        Ok(loaded)
    }

    /// The read side of what `commit` guarantees: ids without gaps, parents before children, holds of known accounts.
    fn believable(&self, loaded: &Loaded) -> Result<(), LedgerError> {
        let corrupt = |reason: String| Err(LedgerError::Corrupt { path: self.path.clone(), reason });
        for (expected, a) in (0u32..).zip(&loaded.accounts) {
            let above = loaded.accounts.get(a.parent.get() as usize).map(|up| &up.path);
            let placed = if expected == 0 { a.path.is_host() } else { a.path.parent().as_ref() == above };
            if a.id.get() != expected || !placed || (expected > 0 && a.parent >= a.id) {
                return corrupt(format!("account {} is out of place", a.path));
            }
            if a.spent < Pico::ZERO {
                return corrupt(format!("account {} has spent {}", a.path, a.spent));
            }
        }
        let count = loaded.accounts.len();
        let unknown = |id: AccountId| id.get() as usize >= count;
        if loaded.quarters.iter().any(|q| unknown(q.account)) || loaded.extensions.iter().any(|(id, _)| unknown(*id)) {
            return corrupt("it has amounts of an account that it does not have".to_owned());
        }
        let stray = |r: &&ResultRecord| matches!(r.state, ResultState::Lapsed { account, .. } if account.get() as usize >= count);
        if let Some(result) = loaded.results.iter().find(stray) {
            return corrupt(format!("result {} makes no sense", result.result));
        }
        match loaded.holds.iter().find(|h| h.account.get() as usize >= count || h.amount < Pico::ZERO) {
            Some(hold) => corrupt(format!("hold {} makes no sense", hold.id)),
            None if count == 0 => corrupt("it has no host account".to_owned()),
            None => Ok(()),
        }
    }
}

fn account(row: &SqlRow<'_>) -> rusqlite::Result<LoadedAccount> {
    let slot: Option<u32> = row.get(10)?;
    let generation: Option<u32> = row.get(11)?;
    Ok(LoadedAccount {
        id: AccountId::new(row.get(0)?),
        parent: AccountId::new(row.get(1)?),
        path: parsed(row, 2)?,
        budget: pico(row, 3)?,
        in_force: in_force(row)?,
        labels: labels(row, 16)?,
        since: Timestamp::from_micros(row.get(13)?),
        reason: row.get(14)?,
        status: row.get::<_, Option<String>>(15)?.and_then(|status| TaskStatus::named(&status)),
        // One of nothing is from before those were left out.
        smallest_hold: pico(row, 5)?.filter(|least| least.is_positive()),
        state: parsed(row, 6)?,
        spent: Pico::new(row.get(7)?),
        exchanges: count(row, 8)?,
        refusals: count(row, 9)?,
        bound: slot.zip(generation).map(|(slot, generation)| AccountRef { slot, generation }),
        funded: Pico::new(row.get(12)?),
        funded_since: Pico::new(row.get(18)?),
    })
}

fn hold(row: &SqlRow<'_>) -> rusqlite::Result<HoldRecord> {
    Ok(HoldRecord {
        id: exchange_id(row, 0)?,
        account: AccountId::new(row.get(1)?),
        amount: Pico::new(row.get(2)?),
        tokens: row.get(16)?,
        clamp: maybe_count(row, 3)?,
        time: Timestamp::from_micros(row.get(4)?),
        process: Process { pid: row.get(5)?, start_ticks: count(row, 6)?, exe: row.get(7)? }.into(),
        request: Arc::new(RequestLine {
            provider: row.get(8)?,
            endpoint: row.get(9)?,
            host: row.get(10)?,
            method: row.get(11)?,
            path: row.get(12)?,
            requested_model: row.get(13)?,
            stream: row.get(14)?,
            category: row.get(15)?,
        }),
    })
}

fn result(row: &SqlRow<'_>) -> rusqlite::Result<ResultRecord> {
    let state = match row.get::<_, String>(2)?.as_str() {
        text::PENDING => ResultState::Pending { hold: exchange_id(row, 4)? },
        text::BILLED => ResultState::Billed,
        text::LAPSED => ResultState::Lapsed {
            row: exchange_id(row, 5)?,
            account: AccountId::new(row.get(6)?),
            charged: Pico::new(row.get(7)?),
        },
        other => {
            let unknown = text::Unknown(other.to_owned(), "state of a result");
            return Err(rusqlite::Error::FromSqlConversionFailure(2, Type::Text, Box::new(unknown)));
        }
    };
    Ok(ResultRecord { provider: row.get(0)?, result: row.get(1)?, state, time: Timestamp::from_micros(row.get(3)?) })
}

fn quarter(row: &SqlRow<'_>) -> rusqlite::Result<LoadedQuarter> {
    Ok(LoadedQuarter {
        account: AccountId::new(row.get(0)?),
        quarter: row.get(1)?,
        category: Category::named(row.get_ref(2)?.as_str()?),
        used: Amounts { usd: Pico::new(row.get(3)?), tokens: row.get(4)?, requests: row.get(5)? },
    })
}

fn extension(row: &SqlRow<'_>) -> rusqlite::Result<(AccountId, Extension)> {
    let time = |index| Ok::<_, rusqlite::Error>(Timestamp::from_micros(row.get(index)?));
    Ok((AccountId::new(row.get(0)?), Extension { by: Pico::new(row.get(1)?), from: time(2)?, until: time(3)? }))
}

/// A ledger of an earlier version knew of budgets alone.
fn in_force(row: &SqlRow<'_>) -> rusqlite::Result<Vec<LimitRule>> {
    if let Some(text) = row.get::<_, Option<String>>(17)? {
        return Ok(text::read_limits(&text));
    }
    let budget = pico(row, 4)?.or(pico(row, 3)?);
    Ok(budget.map(LimitRule::budget).into_iter().collect())
}

pub(super) fn labels(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<BTreeMap<String, String>> {
    let text: Option<String> = row.get(index)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

fn pico(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<Pico>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(Pico::new))
}

/// A count as its bits were written.
pub(super) fn count(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(index)?.cast_unsigned())
}

pub(super) fn maybe_count(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(index)?.map(i64::cast_unsigned))
}

pub(super) fn exchange_id(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<ExchangeId> {
    Ok(ExchangeId(Uuid::from_bytes(row.get(index)?)))
}

/// A text that names a value.
pub(super) fn parsed<T>(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    named(row, index, str::parse)
}

pub(super) fn named<T, E>(
    row: &SqlRow<'_>,
    index: usize,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(index)?;
    read(&text).map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(e)))
}
