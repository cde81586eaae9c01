//! What the cashier makes of its ledger: an older copy put back, one that is blocked, and storms of refusals.

use std::{fs, path::Path, sync::Arc, time::Duration};

use super::{
    fake::{NOW, Page, admit, open, path, plan, row, spent},
    *,
};
use crate::{
    exchange::Outcome,
    kernel::Book,
    ledger::{LedgerError, Reader, RowFilter, Store},
    money::Pico,
};

fn copy(from: &Path, to: &Path) {
    for name in ["meter.db", "meter.db-wal"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn rows(dir: &Path) -> Vec<Row> {
    Reader::open(dir).unwrap().rows(&RowFilter { account: None, limit: 10_000 }).unwrap()
}

/// A folder whose ledger is older than the page: 40 of 160 were spent when it was copied.
async fn older() -> (tempfile::TempDir, Arc<Page>) {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let page = Page::new();
    let cashier = open(dir.path(), &page, Some(1_000), false);
    let task = cashier.bind(&path("research/t"), &super::fake::given(None), NOW).unwrap();
    admit(&cashier, task, 100).unwrap().settle(row(40));
    cashier.flush().await;
    copy(dir.path(), backup.path());
    admit(&cashier, task, 300).unwrap().settle(row(120));
    cashier.flush().await;
    let survivor = page.survivor();
    cashier.close().await;
    copy(backup.path(), dir.path());
    (dir, survivor)
}

fn try_open(dir: &Path, page: &Arc<Page>, survived: bool) -> Result<Arc<Cashier>, CashierError> {
    let book: Arc<dyn Book> = Arc::clone(page) as _;
    let plan = plan(Some(1_000));
    Cashier::open(dir, book, &plan, Durability::Full, survived, NOW)
}

#[tokio::test]
async fn an_older_ledger_is_refused_whether_the_map_survived_or_not() {
    let (dir, page) = older().await;
    for survived in [true, false] {
        let refused = try_open(dir.path(), &page, survived);
        assert!(matches!(refused, Err(CashierError::Ledger(LedgerError::Older { .. }))), "{survived}");
    }
}

#[tokio::test]
async fn an_accepted_older_ledger_and_the_map_make_what_was_spent_exactly() {
    let (dir, page) = older().await;
    Store::accept_older(dir.path()).unwrap();
    for _ in 0..2 {
        let after = try_open(dir.path(), &page, true).unwrap();
        assert_eq!(["host", "research", "research/t"].map(|a| spent(&after, a)), [160; 3]);
        after.close().await;
    }
}

#[tokio::test]
async fn after_a_restart_of_the_machine_an_accepted_older_ledger_charges_the_host() {
    let (dir, _) = older().await;
    Store::accept_older(dir.path()).unwrap();
    for _ in 0..2 {
        let after = try_open(dir.path(), &Page::new(), false).unwrap();
        assert_eq!((spent(&after, "host"), spent(&after, "research")), (160, 40));
        after.close().await;
    }
    assert_eq!(rows(dir.path()).iter().filter(|r| r.outcome == Outcome::Unresolved).count(), 1);
}

#[tokio::test]
async fn an_older_copy_of_the_whole_folder_lowers_nothing_while_the_map_survives() {
    let (dir, page) = older().await;
    fs::remove_file(dir.path().join("meter.mark")).unwrap();
    let after = try_open(dir.path(), &page, true).unwrap();
    assert_eq!(["host", "research", "research/t"].map(|a| spent(&after, a)), [160; 3]);
}

fn refused(time: Timestamp) -> Row {
    Row { time, outcome: Outcome::RefusedBudget, status: Some(402), ..row(0) }
}

#[tokio::test]
async fn a_storm_of_refusals_is_a_row_a_minute_and_each_of_them_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let cashier = open(dir.path(), &Page::new(), Some(1_000), false);
    cashier.bind(&path("research/t"), &super::fake::given(None), NOW).unwrap();
    for second in 0..150 {
        let now = Timestamp::from_micros(NOW.micros() + second * 1_000_000);
        for _ in 0..10 {
            cashier.record(refused(now));
        }
        cashier.write_refusals(now);
    }
    cashier.close().await;
    let rows = rows(dir.path());
    assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 1_500);
    assert_eq!(rows.len(), 4, "the first, and one for each of three minutes: {rows:?}");
    let totals = Reader::open(dir.path()).unwrap().accounts().unwrap();
    assert!(totals.iter().all(|t| t.refusals == 1_500), "{totals:?}");
}

#[tokio::test]
async fn refusals_that_have_gathered_stay_with_an_agent_that_is_renamed() {
    let dir = tempfile::tempdir().unwrap();
    let cashier = open(dir.path(), &Page::new(), Some(1_000), false);
    for _ in 0..3 {
        cashier.record(Row { account: path("research"), ..refused(NOW) });
    }
    let renamed = [(path("research"), path("later"))].to_vec();
    assert!(cashier.apply(&Plan { renamed, ..Plan::default() }, NOW).is_empty());
    cashier.close().await;
    let totals = Reader::open(dir.path()).unwrap().accounts().unwrap();
    let of = |name: &str| totals.iter().find(|t| t.path == path(name)).unwrap().refusals;
    assert_eq!((of("host"), of("later")), (3, 3));
}

/// Another process that has the ledger locked.
fn block(dir: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(dir.join("meter.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    other
}

fn level(dir: &Path, durability: Durability) -> (Arc<Cashier>, AccountRef) {
    let book: Arc<dyn Book> = Page::new();
    let cashier = Cashier::open(dir, book, &Plan::default(), durability, false, NOW).unwrap();
    let task = cashier.bind(&path("research/t"), &super::fake::given(None), NOW).unwrap();
    (cashier, task)
}

#[expect(clippy::result_large_err, reason = "as for Cashier::admit")]
fn hold(cashier: &Arc<Cashier>, task: AccountRef) -> Result<Hold, Refused> {
    admit(cashier, task, 100)
}

#[tokio::test]
async fn strict_and_full_wait_for_the_row_of_the_hold() {
    for durability in [Durability::Strict, Durability::Full] {
        let dir = tempfile::tempdir().unwrap();
        let (cashier, task) = level(dir.path(), durability);
        cashier.flush().await;
        let lock = block(dir.path());
        let mut held = hold(&cashier, task).unwrap();
        // Shorter than one try at the lock, so that the ledger is slow and not at fault yet.
        let early = tokio::time::timeout(Duration::from_millis(100), held.durable()).await;
        assert!(early.is_err(), "{durability:?}: told before it was durable");
        drop(lock);
        held.durable().await.unwrap();
        assert_eq!(Store::open(dir.path()).err().map(|e| e.to_string().contains("in use")), Some(true));
        held.settle(row(1));
    }
}

#[tokio::test]
async fn relaxed_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = level(dir.path(), Durability::Relaxed);
    cashier.flush().await;
    let lock = block(dir.path());
    let mut held = hold(&cashier, task).unwrap();
    held.durable().await.unwrap();
    held.settle(row(7));
    assert_eq!(rows(dir.path()).len(), 0, "nothing of it is in the ledger");
    drop(lock);
    cashier.close().await;
    assert_eq!(rows(dir.path())[0].cost_usd, Pico::new(7), "and it comes when it can");
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_admits_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = level(dir.path(), Durability::Full);
    let before = hold(&cashier, task).unwrap();
    cashier.flush().await;
    let lock = block(dir.path());
    before.settle(row(33));
    cashier.flush().await;
    let Err(Refused::Ledger(why)) = hold(&cashier, task) else { panic!("admitted") };
    assert!(why.contains("cannot be written") && why.contains("meter.db"), "{why}");
    for _ in 0..50 {
        cashier.record(refused(NOW));
    }
    assert_eq!(spent(&cashier, "research"), 33, "the charge is in memory");
    drop(lock);
    while cashier.ledger_fault().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    hold(&cashier, task).unwrap().settle(row(1));
    cashier.close().await;
    let rows = rows(dir.path());
    assert_eq!(rows.iter().map(|r| r.cost_usd.get()).sum::<i64>(), 34);
    assert_eq!(rows.iter().map(Row::refusals).sum::<u64>(), 50);
}

/// Who is bound, as the ledger has it.
fn bound_in_the_ledger(dir: &Path) -> Vec<String> {
    let file = rusqlite::Connection::open(dir.join("meter.db")).unwrap();
    let mut list = file.prepare("SELECT path FROM accounts WHERE slot IS NOT NULL ORDER BY path").unwrap();
    list.query_map([], |r| r.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn bound(cashier: &Cashier) -> Vec<String> {
    cashier.bound().into_iter().map(|(path, _)| path.to_string()).filter(|path| path != "host").collect()
}

/// Until the ledger can be written, and has heard of everything.
async fn writable(cashier: &Cashier) {
    while cashier.ledger_fault().is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A slot that is given back may free the one above it.
    for _ in 0..3 {
        cashier.flush().await;
    }
}

#[tokio::test]
async fn what_could_not_be_bound_for_want_of_the_ledger_keeps_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, _task) = level(dir.path(), Durability::Full);
    cashier.flush().await;
    let lock = block(dir.path());
    for name in ["research/u", "other/t"] {
        let refused = cashier.bind(&path(name), &super::fake::given(None), NOW);
        assert!(matches!(refused, Err(CashierError::NotWritable(_))), "{name}");
    }
    drop(lock);
    writable(&cashier).await;
    assert_eq!(bound(&cashier), ["research", "research/t"]);
    assert_eq!(bound_in_the_ledger(dir.path()), ["research", "research/t"]);
}

#[tokio::test]
async fn one_that_comes_and_goes_while_the_ledger_is_blocked_is_unbound_in_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, _task) = level(dir.path(), Durability::Full);
    cashier.flush().await;
    let lock = block(dir.path());
    cashier.unbind(&path("research/t"));
    cashier.bind(&path("research/t"), &super::fake::given(None), NOW).unwrap_err();
    cashier.unbind(&path("research/t"));
    drop(lock);
    writable(&cashier).await;
    assert_eq!((bound(&cashier), bound_in_the_ledger(dir.path())), (Vec::new(), Vec::new()));
}
