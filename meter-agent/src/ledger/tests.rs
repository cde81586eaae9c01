//! What is written is what is read: holds, rows, results, and the writer's word. What the ledger's other tests share.

use std::{
    path::Path,
    sync::{Arc, mpsc},
};

use super::*;
use crate::{
    accounts::{AccountId, Line},
    clock::Timestamp,
    exchange::{Detail, LLM, Outcome, RequestLine, Row},
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

pub(super) const AGENT: AccountId = AccountId::new(1);
pub(super) const TASK: AccountId = AccountId::new(2);
pub(super) const SUBTASK: AccountId = AccountId::new(3);
pub(super) const OTHER: AccountId = AccountId::new(4);

pub(super) fn path(text: &str) -> AccountPath {
    text.parse().unwrap()
}

/// `a`, `a/t`, `a/t/s` and `b`.
pub(super) fn store(dir: &Path) -> Store {
    let mut store = Store::open(dir).unwrap();
    let account = |id, parent, text| Op::Account { id, parent, path: path(text) };
    let ops = [
        account(AGENT, AccountId::HOST, "a"),
        account(TASK, AGENT, "a/t"),
        account(SUBTASK, TASK, "a/t/s"),
        account(OTHER, AccountId::HOST, "b"),
    ];
    assert!(store.commit(&ops.iter()).unwrap().is_empty());
    store
}

pub(super) fn line(id: AccountId) -> Line {
    let parents = [AccountId::HOST, AccountId::HOST, AGENT, TASK, AccountId::HOST];
    let mut line: Line = [id].into_iter().collect();
    while *line.last().unwrap() != AccountId::HOST {
        line.push(parents[line.last().unwrap().get() as usize]);
    }
    line
}

pub(super) fn row(account: &str, cost: i64) -> Row {
    Row {
        id: ExchangeId::new(),
        time: Timestamp::from_micros(1),
        account: path(account),
        process: Process { pid: 9, start_ticks: 8, exe: "/bin/x".to_owned() },
        provider: "google".to_owned(),
        endpoint: "generate".to_owned(),
        host: "h".to_owned(),
        method: "POST".to_owned(),
        path: "/".to_owned(),
        model: None,
        requested_model: None,
        status: None,
        stream: false,
        usage: Usage::default(),
        usage_quality: Quality::Absent,
        held_usd: Pico::ZERO,
        cost_usd: Pico::new(cost),
        price: PriceKind::Plan,
        clamped: None,
        outcome: Outcome::Cut,
        ttfb_ms: None,
        duration_ms: 0,
        request_id: None,
        reason: None,
        count: 1,
        category: LLM.to_owned(),
        notional_usd: None,
        detail: Detail::default(),
        corrects: None,
    }
}

pub(super) fn plain(id: AccountId, row: Row) -> Op {
    Op::Row { line: line(id), row: Box::new(row), resolves: None }
}

pub(super) fn hold(amount: i64) -> Arc<HoldRecord> {
    Arc::new(HoldRecord {
        id: ExchangeId::new(),
        account: TASK,
        amount: Pico::new(amount),
        tokens: 0,
        clamp: Some(u64::MAX),
        time: Timestamp::from_micros(-5),
        process: Process { pid: 1, start_ticks: u64::MAX, exe: "é".to_owned() }.into(),
        request: RequestLine { host: "h".to_owned(), stream: true, ..RequestLine::default() }.into(),
    })
}

pub(super) fn begin(hold: &Arc<HoldRecord>) -> Op {
    Op::Hold { line: line(TASK), hold: Arc::clone(hold) }
}

pub(super) fn resolve(hold: &HoldRecord, cost: i64) -> Op {
    let resolves = Some(Resolves { hold: hold.id, amount: hold.amount, tokens: 0 });
    Op::Row { line: line(TASK), row: Box::new(Row { id: hold.id, ..row("a/t", cost) }), resolves }
}

pub(super) fn rows(dir: &Path, account: Option<&str>, limit: usize) -> Vec<Row> {
    Reader::open(dir).unwrap().rows(&RowFilter { account: account.map(path), limit }).unwrap()
}

pub(super) fn totals(dir: &Path, account: &str) -> AccountTotals {
    let all = Reader::open(dir).unwrap().accounts().unwrap();
    all.into_iter().find(|t| t.path == path(account)).unwrap()
}

#[test]
fn an_open_hold_reads_back_and_its_row_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let hold = hold(50);
    store.commit(&[begin(&hold)].iter()).unwrap();
    assert_eq!(store.load().unwrap().holds, [(*hold).clone()]);
    assert_eq!(totals(dir.path(), "a").held, Pico::new(50));
    store.commit(&[resolve(&hold, 20)].iter()).unwrap();
    assert_eq!(store.load().unwrap().holds, []);
    let agent = totals(dir.path(), "a");
    assert_eq!((agent.held, agent.spent, agent.exchanges), (Pico::ZERO, Pico::new(20), 1));
}

#[test]
fn a_hold_is_resolved_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    for together in [true, false] {
        let hold = hold(50);
        let before = totals(dir.path(), "host").spent;
        let (first, second) = (resolve(&hold, 20), resolve(&hold, 20));
        let left_out = if together {
            store.commit(&[begin(&hold), first, second].iter()).unwrap()
        } else {
            store.commit(&[begin(&hold)].iter()).unwrap();
            store.commit(&[first].iter()).unwrap();
            store.commit(&[second].iter()).unwrap()
        };
        assert!(matches!(left_out[..], [LedgerError::AlreadyResolved(id)] if id == hold.id));
        assert_eq!(totals(dir.path(), "host").spent, before.saturating_add(Pico::new(20)));
    }
}

#[test]
fn a_grown_hold_is_kept_at_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let hold = hold(50);
    store.commit(&[begin(&hold)].iter()).unwrap();
    store.commit(&[Op::Grow { line: line(TASK), hold: hold.id, more: Pico::new(7) }].iter()).unwrap();
    assert_eq!(store.load().unwrap().holds[0].amount, Pico::new(57));
    assert_eq!(totals(dir.path(), "host").held, Pico::new(57));
}

#[test]
fn an_absurd_amount_does_not_keep_what_follows_from_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let absurd = hold(i64::MAX);
    for op in [
        plain(TASK, row("a/t", i64::MAX)),
        plain(TASK, row("a/t", 5)),
        begin(&absurd),
        begin(&hold(7)),
        Op::Grow { line: line(TASK), hold: absurd.id, more: Pico::new(7) },
        resolve(&absurd, i64::MAX),
    ] {
        assert!(store.commit(&[op].iter()).unwrap().is_empty());
    }
    let both = [plain(TASK, row("a/t", i64::MAX)), plain(TASK, row("a/t", i64::MAX))];
    assert!(store.commit(&both.iter()).unwrap().is_empty());
    drop(store);
    assert_eq!(totals(dir.path(), "a/t").spent, Pico::MAX);
}

#[test]
fn a_full_disk_writes_nothing_and_the_batch_fits_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |r| r.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let big = Row { reason: Some("x".repeat(100_000)), ..row("a", 1) };
    let batch = [plain(OTHER, row("b", 3)), plain(AGENT, big)];
    let error = store.commit(&batch.iter()).unwrap_err().to_string();
    assert!(error.contains("cannot be written") && error.contains("meter.db") && error.contains("full"), "{error}");
    assert_eq!(rows(dir.path(), None, 9), []);
    assert_eq!(totals(dir.path(), "host").spent, Pico::ZERO);
    store.connection.pragma_update(None, "max_page_count", 100_000).unwrap();
    store.commit(&batch.iter()).unwrap();
    assert_eq!(totals(dir.path(), "host").spent, Pico::new(4));
}

#[test]
fn what_was_queued_quietly_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(store(dir.path())).unwrap();
    for cost in 0..100 {
        // Until the thread sleeps.
        std::thread::sleep(std::time::Duration::from_millis(if cost % 10 == 0 { 30 } else { 0 }));
        writer.push_quietly(plain(OTHER, row("b", cost)), None);
        let (tell, told) = mpsc::channel();
        let reply = Reply::First(Box::new(move |result| tell.send(result).unwrap()));
        writer.wake(&writer.push(Op::Barrier, Some(reply)));
        told.recv_timeout(std::time::Duration::from_secs(10)).expect("the thread was woken").unwrap();
    }
}

#[test]
fn the_writer_answers_after_the_commit_and_closes_clean() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start(store(dir.path())).unwrap();
    let (tell, told) = mpsc::channel();
    for cost in 0..10_000 {
        let tell = tell.clone();
        let reply = (cost == 9_999).then(|| Reply::First(Box::new(move |result| tell.send(result).unwrap())));
        writer.wake(&writer.push(plain(OTHER, row("b", cost)), reply));
    }
    told.recv().unwrap().unwrap();
    assert_eq!(rows(dir.path(), Some("b"), 1)[0].cost_usd, Pico::new(9_999), "durable when told");
    writer.close();
    let (tell, told) = mpsc::channel();
    let late = Reply::First(Box::new(move |result| tell.send(result).unwrap()));
    writer.wake(&writer.push(Op::Barrier, Some(late)));
    assert!(told.recv().unwrap().is_err());
    assert!(!dir.path().join("meter.db-wal").exists());
    assert_eq!(rows(dir.path(), None, 20_000).len(), 10_000, "read without a daemon");
}

#[test]
fn a_hold_that_nothing_was_used_of_leaves_no_row() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    for together in [true, false] {
        let hold = hold(50);
        let release =
            Op::Release { line: line(TASK), resolves: Resolves { hold: hold.id, amount: hold.amount, tokens: 0 } };
        if together {
            assert!(store.commit(&[begin(&hold), release.clone()].iter()).unwrap().is_empty());
        } else {
            store.commit(&[begin(&hold)].iter()).unwrap();
            assert!(store.commit(&[release.clone()].iter()).unwrap().is_empty());
        }
        assert!(matches!(store.commit(&[release].iter()).unwrap()[..], [LedgerError::AlreadyResolved(_)]));
    }
    assert_eq!((totals(dir.path(), "host").held, rows(dir.path(), None, 10).len()), (Pico::ZERO, 0));
    assert!(store.load().unwrap().holds.is_empty());
}

#[test]
fn results_read_back_as_they_stand_last_and_old_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let record = |name: &str, state, time| {
        let time = Timestamp::from_micros(time);
        ResultRecord { provider: "openai".to_owned(), result: name.to_owned(), state, time }
    };
    let pending = ResultState::Pending { hold: ExchangeId::new() };
    let lapsed = ResultState::Lapsed { row: ExchangeId::new(), account: TASK, charged: Pico::new(9) };
    let all = [
        record("waited", pending, 1),
        record("late", pending, 2),
        record("late", lapsed, 3),
        record("old", ResultState::Billed, 4),
        record("new", ResultState::Billed, 9),
    ];
    let ops: Vec<_> = all.iter().cloned().map(|r| Op::Result(Box::new(r))).collect();
    store.commit(&ops.iter()).unwrap();
    assert_eq!(store.load().unwrap().results, [all[0].clone(), all[2].clone(), all[3].clone(), all[4].clone()]);

    let prune = |before, keep| Op::PruneResults { before: Timestamp::from_micros(before), keep };
    store.commit(&[prune(5, 100)].iter()).unwrap();
    assert_eq!(store.load().unwrap().results, [all[0].clone(), all[4].clone()]);
    store.commit(&[Op::Result(Box::new(record("newer", ResultState::Billed, 10))), prune(0, 0)].iter()).unwrap();
    assert_eq!(store.load().unwrap().results, [all[0].clone(), record("newer", ResultState::Billed, 10)]);
}
