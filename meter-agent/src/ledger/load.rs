//! What the ledger knew when it was opened: the material of recovery.

use meter_common::AccountRef;
use rusqlite::{Row as SqlRow, types::Type};
use uuid::Uuid;

use super::{HoldRecord, LedgerError, ResultRecord, ResultState, Store, text};
use crate::{
    accounts::{AccountId, State},
    clock::Timestamp,
    exchange::RequestLine,
    ids::{AccountPath, ExchangeId, Process},
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
}

#[derive(Debug)]
pub struct LoadedAccount {
    pub id: AccountId,
    pub parent: AccountId,
    pub path: AccountPath,
    /// Given with the account itself (`meter run --budget`).
    pub budget: Option<Pico>,
    /// Given by the config when the ledger was last open.
    pub config_budget: Option<Pico>,
    pub funded: Pico,
    pub smallest_hold: Option<Pico>,
    pub state: State,
    pub spent: Pico,
    pub exchanges: u64,
    pub refusals: u64,
    pub bound: Option<AccountRef>,
}

impl LoadedAccount {
    /// The configured amount that was in force.
    pub fn configured(&self) -> Option<Pico> {
        self.config_budget.or(self.budget)
    }
}

const ACCOUNTS: &str = "SELECT id, parent, path, budget, config_budget, smallest_hold, state, spent, exchanges, \
    refusals, slot, generation, (SELECT coalesce(sum(amount), 0) FROM fundings f WHERE f.account = accounts.id) \
    FROM accounts ORDER BY id";

const HOLDS: &str = "SELECT id, account, amount, clamp, time, pid, start_ticks, exe, provider, endpoint, host, method, \
    path, requested_model, stream, category FROM holds ORDER BY id";

const RESULTS: &str = "SELECT provider, result, state, time, hold, row, account, charged FROM results ORDER BY time";

impl Store {
    pub fn load(&self) -> Result<Loaded, LedgerError> {
        let run = || {
            let accounts = self.connection.prepare(ACCOUNTS)?.query_map([], account)?.collect::<Result<Vec<_>, _>>()?;
            let holds = self.connection.prepare(HOLDS)?.query_map([], hold)?.collect::<Result<Vec<_>, _>>()?;
            let results = self.connection.prepare(RESULTS)?.query_map([], result)?.collect::<Result<Vec<_>, _>>()?;
            Ok(Loaded { accounts, holds, results })
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
        config_budget: pico(row, 4)?,
        smallest_hold: pico(row, 5)?,
        state: parsed(row, 6)?,
        spent: Pico::new(row.get(7)?),
        exchanges: count(row, 8)?,
        refusals: count(row, 9)?,
        bound: slot.zip(generation).map(|(slot, generation)| AccountRef { slot, generation }),
        funded: Pico::new(row.get(12)?),
    })
}

fn hold(row: &SqlRow<'_>) -> rusqlite::Result<HoldRecord> {
    Ok(HoldRecord {
        id: exchange_id(row, 0)?,
        account: AccountId::new(row.get(1)?),
        amount: Pico::new(row.get(2)?),
        clamp: maybe_count(row, 3)?,
        time: Timestamp::from_micros(row.get(4)?),
        process: Process { pid: row.get(5)?, start_ticks: count(row, 6)?, exe: row.get(7)? },
        request: RequestLine {
            provider: row.get(8)?,
            endpoint: row.get(9)?,
            host: row.get(10)?,
            method: row.get(11)?,
            path: row.get(12)?,
            requested_model: row.get(13)?,
            stream: row.get(14)?,
            category: row.get(15)?,
        },
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
