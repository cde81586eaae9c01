//! One batch, one transaction: rows as they come, totals once per account and process.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    HoldRecord, LedgerError, Op, Resolves, ResultRecord, ResultState, Store,
    schema::{
        FOLD_QUARTERS, GROW_HOLD, INSERT_HOLD, INSERT_ROW, PRUNE_RESULTS, UPDATE_TOTALS, UPSERT_PROCESS,
        UPSERT_QUARTER, UPSERT_RESULT,
    },
    text,
};
use crate::{
    accounts::{AccountId, Category, LimitKey, quarter},
    exchange::Row,
    ids::{ExchangeId, Process},
    measure::Amounts,
    money::Pico,
};

impl Store {
    /// Records everything in order or nothing. Returns what was left out for an error of its own: a row that
    /// resolves a hold which has been resolved already.
    pub fn commit<'a>(
        &mut self,
        ops: &(impl Iterator<Item = &'a Op> + Clone),
    ) -> Result<Vec<LedgerError>, LedgerError> {
        let mut run = || {
            let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut batch = Batch::new(ops.clone());
            for op in ops.clone() {
                batch.apply(&tx, op)?;
            }
            batch.write_totals(&tx)?;
            self.standing.count(&tx)?;
            tx.commit()?;
            let spent = batch.accounts.get(&AccountId::HOST).map_or(0, |host| host.spent);
            Ok((batch.left_out, spent))
        };
        let (left_out, spent) = run().map_err(|e: rusqlite::Error| LedgerError::writing(&self.path, &e))?;
        self.standing.committed(Pico::new(spent));
        Ok(left_out)
    }
}

#[derive(Default)]
struct Totals {
    spent: i64,
    held: i64,
    exchanges: u64,
    refusals: u64,
    smallest_hold: Option<Pico>,
    forget_smallest: bool,
}

struct Batch<'a> {
    /// Holds that end in the batch they began in: they need no row of their own.
    passing: HashSet<ExchangeId>,
    accounts: HashMap<AccountId, Totals>,
    processes: HashMap<(AccountId, &'a Process), (i64, u64)>,
    quarters: HashMap<(AccountId, i64, Category), Amounts>,
    left_out: Vec<LedgerError>,
}

impl<'a> Batch<'a> {
    fn new(ops: impl Iterator<Item = &'a Op> + Clone) -> Self {
        let begun: HashSet<ExchangeId> =
            ops.clone().filter_map(|op| if let Op::Hold { hold, .. } = op { Some(hold.id) } else { None }).collect();
        let ended = ops.filter_map(|op| match op {
            Op::Row { resolves: Some(resolves), .. } | Op::Release { resolves, .. } => Some(resolves.hold),
            _ => None,
        });
        let passing = ended.filter(|id| begun.contains(id)).collect();
        Self {
            passing,
            accounts: HashMap::new(),
            processes: HashMap::new(),
            quarters: HashMap::new(),
            left_out: Vec::new(),
        }
    }

    fn apply(&mut self, tx: &Transaction<'_>, op: &'a Op) -> rusqlite::Result<()> {
        let run = |sql: &str, params: &[&dyn rusqlite::ToSql]| tx.prepare_cached(sql)?.execute(params).map(|_| ());
        match op {
            Op::Account { id, parent, path } => run(
                "INSERT INTO accounts (id, path, parent) VALUES (?1, ?2, ?3)",
                params![id.get(), path.as_str(), parent.get()],
            ),
            Op::Budget { id, given, forget_smallest } => {
                self.forget_smallest(*id, *forget_smallest);
                run("UPDATE accounts SET budget = ?2 WHERE id = ?1", params![id.get(), given.map(Pico::get)])
            }
            Op::InForce { id, limits, forget_smallest } => {
                self.forget_smallest(*id, *forget_smallest);
                let budget = limits.iter().find(|rule| rule.key == LimitKey::BUDGET).map(|rule| rule.amount);
                let sql = "UPDATE accounts SET config_budget = ?2, in_force = ?3 WHERE id = ?1";
                run(sql, params![id.get(), budget, text::limits(limits)])
            }
            Op::Labels { id, labels } => {
                let json = serde_json::to_string(labels).unwrap_or_default();
                run("UPDATE accounts SET labels = ?2 WHERE id = ?1", params![id.get(), json])
            }
            Op::State { id, state, since, reason } => run(
                "UPDATE accounts SET state = ?2, since = ?3, reason = ?4 WHERE id = ?1",
                params![id.get(), state.as_str(), since.micros(), reason],
            ),
            Op::Closed { id, status } => {
                run("UPDATE accounts SET status = ?2 WHERE id = ?1", params![id.get(), status.as_str()])
            }
            Op::Rename { id, path } => {
                run("UPDATE accounts SET path = ?2 WHERE id = ?1", params![id.get(), path.as_str()])
            }
            Op::Extend { id, extension, actor_uid } => run(
                "INSERT INTO extensions (account, amount, since, until, actor_uid) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![id.get(), extension.by.get(), extension.from.micros(), extension.until.micros(), actor_uid],
            ),
            Op::Event(event) => run(
                "INSERT INTO events (time, account, kind, actor_uid, text) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![event.time.micros(), event.account.get(), event.kind.as_str(), event.actor_uid, event.text],
            ),
            Op::Bind { id, account } => run(
                "UPDATE accounts SET slot = ?2, generation = ?3 WHERE id = ?1",
                params![id.get(), account.slot, account.generation],
            ),
            Op::Unbind { id } => {
                run("UPDATE accounts SET slot = NULL, generation = NULL WHERE id = ?1", params![id.get()])
            }
            Op::Fund { id, time, amount, actor_uid } => {
                self.forget_smallest(*id, true);
                run(
                    "INSERT INTO fundings (time, account, amount, actor_uid) VALUES (?1, ?2, ?3, ?4)",
                    params![time.micros(), id.get(), amount.get(), actor_uid],
                )
            }
            Op::Hold { line, hold } => {
                for &at in line {
                    let totals = self.accounts.entry(at).or_default();
                    totals.held = totals.held.saturating_add(hold.amount.get());
                    if hold.amount.is_positive() {
                        totals.smallest_hold = Some(totals.smallest_hold.map_or(hold.amount, |s| s.min(hold.amount)));
                    }
                }
                if self.passing.contains(&hold.id) { Ok(()) } else { insert_hold(tx, hold) }
            }
            Op::Grow { line, hold, more } => {
                for &at in line {
                    let totals = self.accounts.entry(at).or_default();
                    totals.held = totals.held.saturating_add(more.get());
                }
                run(GROW_HOLD, params![hold.0.as_bytes(), more.get()])
            }
            Op::Row { line, row, resolves } => self.row(tx, line, row, *resolves),
            Op::Release { line, resolves } => self.release(tx, line, *resolves),
            Op::Result(record) => write_result(tx, record),
            Op::PruneResults { before, keep } => {
                run(PRUNE_RESULTS, params![before.micros(), i64::try_from(*keep).unwrap_or(i64::MAX)])
            }
            Op::FoldQuarters { before } => {
                run(FOLD_QUARTERS, params![before])?;
                run("DELETE FROM quarters WHERE quarter <> 0 AND quarter < ?1", params![before])
            }
            Op::Barrier => Ok(()),
        }
    }

    fn forget_smallest(&mut self, id: AccountId, forget: bool) {
        if forget {
            let totals = self.accounts.entry(id).or_default();
            totals.forget_smallest = true;
            totals.smallest_hold = None;
        }
    }

    fn row(
        &mut self,
        tx: &Transaction<'_>,
        line: &[AccountId],
        row: &'a Row,
        resolves: Option<Resolves>,
    ) -> rusqlite::Result<()> {
        if let Some(Resolves { hold, .. }) = resolves
            && !self.end_hold(tx, hold)?
        {
            return Ok(());
        }
        for &at in line {
            let totals = self.accounts.entry(at).or_default();
            totals.spent = totals.spent.saturating_add(row.cost_usd.get());
            totals.held = totals.held.saturating_sub(resolves.map_or(0, |r| r.amount.get()));
            totals.exchanges += row.exchanges();
            totals.refusals += row.refusals();
        }
        let account = line.first().copied().unwrap_or(AccountId::HOST);
        if row.exchanges() > 0 || row.cost_usd.is_positive() {
            let (spent, exchanges) = self.processes.entry((account, &row.process)).or_default();
            *spent = spent.saturating_add(row.cost_usd.get());
            *exchanges += row.exchanges();
        }
        let posting = row.posting(resolves.map(|r| r.tokens));
        if posting.used != Amounts::ZERO {
            let amounts = self.quarters.entry((account, quarter(posting.at), posting.category)).or_default();
            *amounts = amounts.plus(posting.used);
        }
        let agent = line.iter().rev().nth(1).copied().unwrap_or(AccountId::HOST);
        insert_row(tx, account, agent, row, resolves)
    }

    fn release(&mut self, tx: &Transaction<'_>, line: &[AccountId], resolves: Resolves) -> rusqlite::Result<()> {
        if self.end_hold(tx, resolves.hold)? {
            for &at in line {
                let totals = self.accounts.entry(at).or_default();
                totals.held = totals.held.saturating_sub(resolves.amount.get());
            }
        }
        Ok(())
    }

    /// `false`, and on the list of what was left out, where it has ended before.
    fn end_hold(&mut self, tx: &Transaction<'_>, hold: ExchangeId) -> rusqlite::Result<bool> {
        let ended = self.passing.remove(&hold)
            || tx.prepare_cached("DELETE FROM holds WHERE id = ?1")?.execute([hold.0.as_bytes()])? > 0;
        if !ended {
            self.left_out.push(LedgerError::AlreadyResolved(hold));
        }
        Ok(ended)
    }

    fn write_totals(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut update = tx.prepare_cached(UPDATE_TOTALS)?;
        for (id, t) in &self.accounts {
            update.execute(params![
                id.get(),
                t.spent,
                t.held,
                bits(t.exchanges),
                bits(t.refusals),
                t.forget_smallest,
                t.smallest_hold.map(Pico::get)
            ])?;
        }
        let mut upsert = tx.prepare_cached(UPSERT_QUARTER)?;
        for ((account, quarter, category), amounts) in &self.quarters {
            let Amounts { usd, tokens, requests } = amounts;
            upsert.execute(params![account.get(), quarter, category.as_str(), usd.get(), tokens, requests])?;
        }
        let mut upsert = tx.prepare_cached(UPSERT_PROCESS)?;
        for ((account, process), (spent, exchanges)) in &self.processes {
            let Process { pid, start_ticks, exe } = process;
            upsert.execute(params![account.get(), pid, bits(*start_ticks), exe, spent, bits(*exchanges)])?;
        }
        Ok(())
    }
}

fn insert_hold(tx: &Transaction<'_>, hold: &HoldRecord) -> rusqlite::Result<()> {
    let HoldRecord { id, account, amount, tokens, clamp, time, process, request } = hold;
    tx.prepare_cached(INSERT_HOLD)?.execute(params![
        id.0.as_bytes(),
        account.get(),
        amount.get(),
        clamp.map(bits),
        time.micros(),
        process.pid,
        bits(process.start_ticks),
        process.exe,
        request.provider,
        request.endpoint,
        request.host,
        request.method,
        request.path,
        request.requested_model,
        request.stream,
        request.category,
        tokens,
    ])?;
    Ok(())
}

fn write_result(tx: &Transaction<'_>, record: &ResultRecord) -> rusqlite::Result<()> {
    let ResultRecord { provider, result, state, time } = record;
    let (hold, row, account, charged) = match state {
        ResultState::Pending { hold } => (Some(hold), None, None, None),
        ResultState::Billed => (None, None, None, None),
        ResultState::Lapsed { row, account, charged } => (None, Some(row), Some(account), Some(charged)),
    };
    let bytes = |id: Option<&ExchangeId>| id.map(|id| *id.0.as_bytes());
    tx.prepare_cached(UPSERT_RESULT)?.execute(params![
        provider,
        result,
        text::result_state(state),
        time.micros(),
        bytes(hold),
        bytes(row),
        account.map(|id| id.get()),
        charged.map(|amount| amount.get()),
    ])?;
    Ok(())
}

pub(super) fn insert_row(
    tx: &Connection,
    account: AccountId,
    agent: AccountId,
    row: &Row,
    resolves: Option<Resolves>,
) -> rusqlite::Result<()> {
    let usage = &row.usage;
    tx.prepare_cached(INSERT_ROW)?.execute(params![
        row.id.0.as_bytes(),
        resolves.map(|r| *r.hold.0.as_bytes()),
        account.get(),
        agent.get(),
        row.time.micros(),
        row.process.pid,
        bits(row.process.start_ticks),
        row.process.exe,
        row.provider,
        row.endpoint,
        row.host,
        row.method,
        row.path,
        row.model,
        row.requested_model,
        row.status,
        row.stream,
        bits(usage.input_tokens),
        bits(usage.input_uncached),
        bits(usage.cache_read),
        bits(usage.cache_write_5m),
        bits(usage.cache_write_1h),
        bits(usage.cache_write_other),
        bits(usage.input_audio),
        bits(usage.input_image),
        bits(usage.output_tokens),
        bits(usage.reasoning_tokens),
        bits(usage.output_audio),
        bits(usage.output_image),
        text::quality(row.usage_quality),
        row.held_usd.get(),
        row.cost_usd.get(),
        text::price(row.price),
        row.clamped.map(bits),
        row.outcome.as_str(),
        row.ttfb_ms.map(bits),
        bits(row.duration_ms),
        row.request_id,
        row.reason,
        bits(row.count),
        row.category,
        row.notional_usd.map(Pico::get),
        detail(row),
        row.corrects.map(|id| *id.0.as_bytes()),
    ])?;
    Ok(())
}

/// Mostly nothing.
fn detail(row: &Row) -> Option<String> {
    if row.detail.is_empty() { None } else { serde_json::to_string(&row.detail).ok() }
}

/// SQLite's integers are signed; a count keeps its bits and reads back as it was.
fn bits(count: u64) -> i64 {
    count.cast_signed()
}
