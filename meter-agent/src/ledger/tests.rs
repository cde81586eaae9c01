//! The ledger's promises, and its disasters by name.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, mpsc},
};

use proptest::prelude::*;

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
fn rows_are_found_by_account_and_below_the_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let place = [(TASK, "a/t"), (SUBTASK, "a/t/s"), (OTHER, "b"), (AGENT, "a"), (SUBTASK, "a/t/s"), (TASK, "a/t")];
    let ops: Vec<_> = (0..).zip(place).map(|(cost, (id, name))| plain(id, row(name, cost))).collect();
    store.commit(&ops.iter()).unwrap();
    let costs = |account, limit| rows(dir.path(), account, limit).iter().map(|r| r.cost_usd.get()).collect::<Vec<_>>();
    assert_eq!(costs(None, 100), [0, 1, 2, 3, 4, 5]);
    assert_eq!(costs(Some("host"), 2), [4, 5]);
    assert_eq!(costs(Some("a"), 4), [1, 3, 4, 5]);
    assert_eq!(costs(Some("a/t"), 3), [1, 4, 5]);
    assert_eq!(costs(Some("a/t/s"), 9), [1, 4]);
    assert!(costs(Some("nobody"), 9).is_empty());
    assert!(costs(None, 0).is_empty());
}

#[test]
fn processes_are_summed_over_everything_below() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let by = |pid, account: &str, cost| Row { process: Process { pid, ..row("a", 0).process }, ..row(account, cost) };
    let refused = Row { outcome: Outcome::RefusedKernel, ..by(3, "a", 0) };
    let ops = [
        plain(TASK, by(1, "a/t", 5)),
        plain(SUBTASK, by(1, "a/t/s", 6)),
        plain(OTHER, by(1, "b", 7)),
        plain(AGENT, by(2, "a", 1)),
        plain(AGENT, refused),
    ];
    store.commit(&ops[..2].iter()).unwrap();
    store.commit(&ops[2..].iter()).unwrap();
    let spent = |account: &str| {
        let list = Reader::open(dir.path()).unwrap().processes(&path(account)).unwrap();
        list.iter().map(|p| (p.process.pid, p.spent.get(), p.exchanges)).collect::<Vec<_>>()
    };
    assert_eq!(spent("host"), [(1, 18, 3), (2, 1, 1)]);
    assert_eq!(spent("a"), [(1, 11, 2), (2, 1, 1)]);
    assert_eq!(spent("a/t/s"), [(1, 6, 1)]);
    assert_eq!(totals(dir.path(), "a").refusals, 1);
    let reader = Reader::open(dir.path()).unwrap();
    let all = reader.all_processes().unwrap();
    for account in ["host", "a", "a/t", "a/t/s", "b"] {
        assert_eq!(all[&path(account)], reader.processes(&path(account)).unwrap(), "{account}");
    }
}

#[test]
fn what_a_process_spent_in_many_accounts_is_capped_and_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let ops = [plain(TASK, row("a/t", i64::MAX)), plain(OTHER, row("b", i64::MAX)), plain(AGENT, row("a", 7))];
    store.commit(&ops.iter()).unwrap();
    let spent = |account: &str| Reader::open(dir.path()).unwrap().processes(&path(account)).unwrap()[0].spent;
    assert_eq!((spent("host"), spent("a")), (Pico::new(i64::MAX), Pico::new(i64::MAX)));
    assert_eq!(spent("a/t"), Pico::new(i64::MAX), "one that is at the cap by itself is exact");
}

#[test]
fn the_queries_of_the_cli_use_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    for (which, index) in [("WHERE r.agent = 1", "rows_agent"), ("WHERE r.account = 2", "rows_account")] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT a.path, r.cost FROM rows r JOIN accounts a ON a.id = r.account {which} \
             ORDER BY r.seq DESC LIMIT 100"
        );
        let mut statement = store.connection.prepare(&sql).unwrap();
        let plan: Vec<String> = statement.query_map([], |r| r.get(3)).unwrap().map(Result::unwrap).collect();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
    }
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
fn the_files_are_for_their_owner() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    drop(Store::open(&data).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join(FILE_NAME)) & !0o640, 0);
}

#[test]
fn a_file_that_is_no_ledger_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(FILE_NAME);
    fs::write(&file, "my notes, which are longer than the header of a database would be: one hundred bytes and more")
        .unwrap();
    let before = fs::read(&file).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("meter.db is damaged or not a ledger") && error.contains("meter ledger recover"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(matches!(Reader::open(dir.path()), Err(LedgerError::Corrupt { .. })));
}

#[test]
fn a_damaged_page_is_found_after_an_unclean_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let many: Vec<_> = (0..500).map(|cost| plain(OTHER, row("b", cost))).collect();
    store.commit(&many.iter()).unwrap();
    drop(store);
    let mut file = fs::OpenOptions::new().write(true).open(dir.path().join(FILE_NAME)).unwrap();
    let length = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(length / 2)).unwrap();
    file.write_all(&[0xff; 8_192]).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("meter.db is damaged"), "{error}");
}

#[test]
fn another_schema_or_another_database_is_refused() {
    for (sql, found) in [("PRAGMA user_version = 99", 99), ("CREATE TABLE theirs (x)", 0)] {
        let dir = tempfile::tempdir().unwrap();
        let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
        other.execute_batch(sql).unwrap();
        assert!(matches!(Store::open(dir.path()), Err(LedgerError::Schema { found: f, .. }) if f == found), "{sql}");
    }
}

#[test]
fn a_ledger_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = store(dir.path());
    assert!(matches!(Store::open(dir.path()), Err(LedgerError::Locked { .. })));
    drop(first);
    let other = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = refused(dir.path());
    assert!(error.contains("meter.db is in use by another process"), "{error}");
}

#[test]
fn a_ledger_that_cannot_be_opened_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE_NAME)).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("meter.db cannot be opened") && error.contains("data_dir"), "{error}");
}

#[test]
fn a_commit_is_synced_before_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let mode: String = store.connection.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
    let synchronous: i64 = store.connection.pragma_query_value(None, "synchronous", |r| r.get(0)).unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2), "2 is FULL");
}

#[test]
fn a_dead_daemon_s_ledger_is_read_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.commit(&[plain(OTHER, row("b", 3))].iter()).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "meter.db-wal"] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    assert_eq!(rows(copy.path(), Some("b"), 9).len(), 1);
    assert_eq!(totals(copy.path(), "host").spent, Pico::new(3));
}

#[test]
fn only_an_unclean_end_costs_a_check_of_every_page() {
    let dir = tempfile::tempdir().unwrap();
    let clean = |store: &Store| -> i64 {
        store.connection.query_row("SELECT value FROM meta WHERE key = 'clean'", [], |r| r.get(0)).unwrap()
    };
    let first = store(dir.path());
    assert_eq!(clean(&first), 0, "while it is open, its end is not known to be clean");
    first.close().unwrap();
    let file = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    let marked: i64 = file.query_row("SELECT value FROM meta WHERE key = 'clean'", [], |r| r.get(0)).unwrap();
    assert_eq!(marked, 1);
}

#[test]
fn a_missing_ledger_is_said_to_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(LedgerError::Missing { .. })));
}

#[test]
fn accounts_that_make_no_sense_are_refused() {
    for sql in [
        "DELETE FROM accounts WHERE id = 2",
        "UPDATE accounts SET parent = 4 WHERE id = 2",
        "UPDATE accounts SET spent = -1 WHERE id = 2",
        "UPDATE accounts SET state = 'happy' WHERE id = 2",
        "UPDATE accounts SET path = '../x' WHERE id = 2",
        "DELETE FROM accounts",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.connection.execute_batch(sql).unwrap();
        assert!(matches!(store.load(), Err(LedgerError::Corrupt { .. })), "{sql}");
    }
}

fn refused(dir: &Path) -> String {
    Store::open(dir).err().expect("it is no sound ledger").to_string()
}

prop_compose! {
    fn any_usage()(n in any::<[u64; 12]>()) -> Usage {
        Usage {
            input_tokens: n[0], input_uncached: n[1], cache_read: n[2], cache_write_5m: n[3], cache_write_1h: n[4],
            cache_write_other: n[5], input_audio: n[6], input_image: n[7], output_tokens: n[8],
            reasoning_tokens: n[9], output_audio: n[10], output_image: n[11],
        }
    }
}

prop_compose! {
    fn any_row()(
        usage in any_usage(),
        text in any::<[String; 6]>(),
        maybe in any::<[Option<String>; 4]>(),
        numbers in any::<(u64, Option<u64>, Option<u64>, u64, u32, Option<u16>, bool)>(),
        money in any::<(u32, u32)>(),
        outcome in 0..Outcome::ALL.len(),
        kind in 0..4usize,
    ) -> Row {
        let [provider, endpoint, host, method, path_, exe] = text;
        let [model, requested_model, request_id, reason] = maybe;
        let (start_ticks, clamped, ttfb_ms, duration_ms, pid, status, stream) = numbers;
        Row {
            process: Process { pid, start_ticks, exe },
            provider, endpoint, host, method, path: path_, model, requested_model, status, stream, usage,
            usage_quality: [Quality::Exact, Quality::Estimated, Quality::Absent][kind % 3],
            held_usd: Pico::new(money.0.into()),
            price: [PriceKind::Priced, PriceKind::Provider, PriceKind::Plan, PriceKind::Unpriced][kind],
            clamped,
            outcome: Outcome::ALL[outcome],
            ttfb_ms, duration_ms, request_id, reason,
            ..row("a/t", money.1.into())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_row_reads_back_as_it_was_written(row in any_row()) {
        let dir = tempfile::tempdir().unwrap();
        store(dir.path()).commit(&[plain(TASK, row.clone())].iter()).unwrap();
        prop_assert_eq!(rows(dir.path(), None, 9), [row]);
    }
}

/// A ledger as the first version left it.
fn first_version(dir: &Path) {
    let connection = rusqlite::Connection::open(dir.join(schema::FILE_NAME)).unwrap();
    connection.execute_batch(schema::STEPS[0][0]).unwrap();
    let fill = "
        INSERT INTO accounts (id, path, parent, spent, held) VALUES (1, 'a', 0, 30, 7);
        INSERT INTO holds VALUES (x'0193b7a0000070008000000000000001', 1, 7, NULL, 5, 9, 8, '/x', 'openai', 'e', 'h',
            'POST', '/', 'm', 1);
        INSERT INTO rows (id, account, agent, time, pid, start_ticks, exe, provider, endpoint, host, method, path,
            stream, input_tokens, input_uncached, cache_read, cache_write_5m, cache_write_1h, cache_write_other,
            input_audio, input_image, output_tokens, reasoning_tokens, output_audio, output_image, usage_quality,
            held, cost, price, outcome, duration_ms, count)
            VALUES (x'0193b7a0000070008000000000000002', 1, 1, 4, 9, 8, '/x', 'openai', 'e', 'h', 'POST', '/', 0,
            1, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 'exact', 9, 30, 'priced', 'complete', 3, 1);
        INSERT INTO fundings (time, account, amount, actor_uid) VALUES (1, 1, 11, 0);
        PRAGMA user_version = 1;";
    connection.execute_batch(fill).unwrap();
}

#[test]
fn a_ledger_of_the_first_version_is_read_as_it_is_and_taken_over_whole() {
    let dir = tempfile::tempdir().unwrap();
    first_version(dir.path());
    let before = rows(dir.path(), None, 10);
    assert_eq!((before.len(), before[0].category.as_str(), before[0].cost_usd), (1, LLM, Pico::new(30)));

    let store = Store::open(dir.path()).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!((loaded.holds.len(), loaded.holds[0].request.category.as_str()), (1, LLM));
    assert_eq!((loaded.accounts[1].spent, loaded.accounts[1].funded), (Pico::new(30), Pico::new(11)));
    assert_eq!(rows(dir.path(), None, 10), before);
    store.close().unwrap();
    // Once: the second opening finds nothing to do.
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().holds.len(), 1);
}

#[test]
fn a_ledger_that_cannot_be_taken_over_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    first_version(dir.path());
    let file = dir.path().join(schema::FILE_NAME);
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE results (theirs)").unwrap();
    assert!(Store::open(dir.path()).is_err());
    let version: i64 = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row("SELECT user_version FROM pragma_user_version", [], |r| r.get(0))
        .unwrap();
    assert_eq!((version, rows(dir.path(), None, 10).len()), (1, 1), "half of it was done");
}

#[test]
fn every_version_has_its_step() {
    assert_eq!(usize::try_from(schema::VERSION).unwrap(), schema::STEPS.len());
}

#[test]
fn what_explains_a_charge_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let mut told = row("a/t", 5);
    told.category = "web-search".to_owned();
    told.notional_usd = Some(Pico::new(77));
    told.corrects = Some(ExchangeId::new());
    told.detail.server_tools.insert("web_search".into(), 3);
    told.detail.units.insert("audio_seconds".into(), crate::usage::Quantity::from_f64(1.5).unwrap());
    let line = crate::exchange::RowLine {
        model: Some("m".to_owned()),
        usage: Usage { output_tokens: 4, ..Usage::default() },
        units: told.detail.units.clone(),
        cost_usd: Pico::new(2),
    };
    told.detail.lines.push(line);
    let silent = row("a/t", 6);
    store.commit(&[plain(TASK, told.clone()), plain(TASK, silent.clone())].iter()).unwrap();
    assert_eq!(rows(dir.path(), None, 10), [told, silent]);
    let empty: i64 = rusqlite::Connection::open(dir.path().join(schema::FILE_NAME))
        .unwrap()
        .query_row("SELECT count(*) FROM rows WHERE detail IS NULL", [], |r| r.get(0))
        .unwrap();
    assert_eq!(empty, 1);
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
