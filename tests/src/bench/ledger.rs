//! The ledger alone: exchanges that it takes in a second by group commit, and how fast a large one starts and answers.
//!
//! The large one is made below the folder for temporary files, some 400 bytes a row, and removed again.

use std::{
    hint::black_box,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use meter_agent::{
    accounts::{AccountId, Line},
    clock::Timestamp,
    control::report::AccountReport,
    exchange::{RequestLine, Row},
    ids::AccountPath,
    ledger::{HoldRecord, Op, Reader, Reply, Resolves, RowFilter, Store, Writer},
};

use super::rows;

/// Exchanges of the group commit's measurement.
const EXCHANGES: u64 = 200_000;
const AGENTS: u32 = 100;
const TASKS: u32 = 9;
const BATCH: u64 = 4_096;
const LAST: usize = 100;
const ROUNDS: usize = 11;

/// `bench ledger ROWS`.
pub fn run(rows: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    group_commit(&folder.path().join("commit"))?;
    large(&folder.path().join("large"), rows)
}

/// Agents of so many tasks each, in the order of their ids.
fn accounts() -> anyhow::Result<Vec<(Op, AccountPath, Line)>> {
    let mut made = Vec::new();
    let mut id = 0;
    for agent in 0..AGENTS {
        id += 1;
        let agent_id = AccountId::new(id);
        let path: AccountPath = format!("agent-{agent}").parse()?;
        let line: Line = [agent_id, AccountId::HOST].into_iter().collect();
        made.push((Op::Account { id: agent_id, parent: AccountId::HOST, path: path.clone() }, path.clone(), line));
        for task in 0..TASKS {
            id += 1;
            let (id, path) = (AccountId::new(id), path.child(&format!("task-{task}"))?);
            let line: Line = [id, agent_id, AccountId::HOST].into_iter().collect();
            made.push((Op::Account { id, parent: agent_id, path: path.clone() }, path, line));
        }
    }
    Ok(made)
}

fn row(n: u64, account: &AccountPath) -> Row {
    let time = 1_800_000_000_000_000 + i64::try_from(n).unwrap_or(0) * 1_000;
    rows::row(account.clone(), Timestamp::from_micros(time))
}

/// Each exchange is a hold that somebody waits for and a row that resolves it, as the sidecar queues them.
fn group_commit(folder: &Path) -> anyhow::Result<()> {
    let accounts = accounts()?;
    let mut store = Store::open(folder)?;
    let made: Vec<&Op> = accounts.iter().map(|(op, ..)| op).collect();
    store.commit(&made.iter().copied())?;
    let writer = Writer::start(store)?;
    let durable = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    for (n, (_, path, line)) in (0..EXCHANGES).zip(accounts.iter().cycle()) {
        while !writer.has_room() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let row = row(n, path);
        let hold = Arc::new(HoldRecord {
            id: row.id,
            account: line[0],
            amount: row.held_usd,
            tokens: 0,
            clamp: None,
            time: row.time,
            process: row.process.clone().into(),
            request: RequestLine { host: row.host.clone(), path: row.path.clone(), ..RequestLine::default() }.into(),
        });
        let resolves = Some(Resolves { hold: row.id, amount: row.held_usd, tokens: 0 });
        let told = Arc::clone(&durable);
        let reply = Reply::First(Box::new(move |result| {
            told.fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
        }));
        writer.wake(&writer.push(Op::Hold { line: line.clone(), hold }, Some(reply)));
        writer.wake(&writer.push(Op::Row { line: line.clone(), row: Box::new(row), resolves }, None));
    }
    writer.close();
    let took = start.elapsed();
    anyhow::ensure!(durable.load(Ordering::Relaxed) == EXCHANGES, "not every hold became durable");
    println!("\nLedger: {:.0} exchanges/s by group commit, hold and row.", per_second(EXCHANGES, took));
    Ok(())
}

fn large(folder: &Path, rows: u64) -> anyhow::Result<()> {
    let accounts = accounts()?;
    let mut store = Store::open(folder)?;
    let made: Vec<&Op> = accounts.iter().map(|(op, ..)| op).collect();
    store.commit(&made.iter().copied())?;
    let start = Instant::now();
    let mut next = (0..rows).zip(accounts.iter().cycle());
    loop {
        let batch: Vec<Op> = next
            .by_ref()
            .take(usize::try_from(BATCH)?)
            .map(|(n, (_, path, line))| Op::Row { line: line.clone(), row: Box::new(row(n, path)), resolves: None })
            .collect();
        if batch.is_empty() {
            break;
        }
        store.commit(&batch.iter())?;
    }
    // As a death leaves it.
    drop(store);
    let bytes = std::fs::metadata(folder.join("meter.db"))?.len();
    println!("A ledger of {rows} rows, {} MB, made in {:.0} s:", bytes / 1_000_000, start.elapsed().as_secs_f64());

    let start = Instant::now();
    let store = Store::open(folder)?;
    black_box(store.load()?);
    println!("  start after a death      {:>8.1} ms", millis(start.elapsed()));
    let reader = Reader::open(folder)?;
    let (agent, task): (AccountPath, AccountPath) = ("agent-7".parse()?, "agent-7/task-3".parse()?);
    for (name, account) in [("all", None), ("an agent", Some(&agent)), ("a task", Some(&task))] {
        let filter = RowFilter { account: account.cloned(), limit: LAST };
        let took = median(|| Ok(reader.rows(&filter)?))?;
        println!("  last {LAST} rows, {name:<11} {:>8.1} ms", millis(took));
    }
    let took = median(|| Ok(AccountReport::from_ledger(&reader)?))?;
    println!("  status, {} accounts    {:>8.1} ms", accounts.len() + 1, millis(took));
    let took = median(|| Ok((reader.accounts()?, reader.processes(&agent)?)))?;
    println!("  balance                  {:>8.1} ms", millis(took));
    drop(reader);
    store.close()?;
    let start = Instant::now();
    let mut store = Store::open(folder)?;
    black_box(store.load()?);
    println!("  start after a clean end  {:>8.1} ms", millis(start.elapsed()));
    let far = Timestamp::from_micros(i64::MAX);
    let took = median(|| store.roll_up(far, 1_000).context("rolling up"))?;
    println!("  1,000 rows rolled up     {:>8.1} ms", millis(took));
    Ok(())
}

fn median<T>(mut work: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(work()?);
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[ROUNDS / 2])
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people to read")]
fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
