//! Torn pages, each kind by name: the start is refused, `verify` says what is wrong, `recover` gives a sound ledger in
//! which nothing is spent less.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
};

use rusqlite::Connection;

use super::{
    rollup::DAY_MICROS,
    tests::{OTHER, TASK, begin, hold, plain, resolve, row, rows, store, totals},
    *,
};
use crate::{
    accounts::{AccountId, Extension},
    clock::Timestamp,
    events::{Event, EventKind},
    exchange::Row,
    ids::{ExchangeId, Process},
    money::Pico,
};

const PAGE: u64 = 4_096;
const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const ROWS: i64 = 3_000;
const HELD: i64 = 70;
/// Of the rows, sums of days included, and of the holds that were resolved.
const SPENT: i64 = ROWS * (ROWS - 1) / 2 + 20;

/// A ledger with some of everything, on so many pages that a table has leaves and inner pages.
fn filled(dir: &Path) -> Store {
    let mut store = store(dir);
    let task =
        |n: u32| Op::Account { id: AccountId::new(5 + n), parent: OTHER, path: format!("b/task-{n}").parse().unwrap() };
    store.commit(&(0..200).map(task).collect::<Vec<_>>().iter()).unwrap();
    let made = |cost: i64| {
        let day = if cost < 100 { 1 } else { 9 };
        let process = Process { pid: u32::try_from(cost % 300).unwrap(), ..row("b", 0).process };
        let reason = (cost % 500 == 0).then(|| "long ".repeat(3_000));
        plain(OTHER, Row { time: Timestamp::from_micros(day * DAY_MICROS), process, reason, ..row("b", cost) })
    };
    store.commit(&(0..ROWS).map(made).collect::<Vec<_>>().iter()).unwrap();
    let done = hold(50);
    store.commit(&[begin(&done)].iter()).unwrap();
    store.commit(&[resolve(&done, 20), begin(&hold(HELD))].iter()).unwrap();
    let fund = Op::Fund { id: TASK, time: NOW, amount: Pico::new(5), actor_uid: 0 };
    store.commit(&[fund, Op::Budget { id: TASK, given: Some(Pico::new(900)), forget_smallest: false }].iter()).unwrap();
    while store.roll_up(Timestamp::from_micros(2 * DAY_MICROS), 500).unwrap() > 0 {}
    store
}

/// As a death leaves it, with nothing in the log.
fn dead(dir: &Path) {
    let store = filled(dir);
    store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
}

fn root(dir: &Path, name: &str) -> u64 {
    let file = Connection::open(dir.join(FILE_NAME)).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    file.query_row(sql, [name], |r| r.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// The page that the n-th cell of an inner page leads to.
fn child(dir: &Path, page: u64, n: u64) -> u64 {
    let file = fs::File::open(dir.join(FILE_NAME)).unwrap();
    let read = |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, (page - 1) * PAGE + at).unwrap();
    let (mut place, mut number) = ([0; 2], [0; 4]);
    read(12 + n * 2, &mut place);
    read(u16::from_be_bytes(place).into(), &mut number);
    u32::from_be_bytes(number).into()
}

fn tear(dir: &Path, page: u64, from: u64, byte: u8) {
    let file = OpenOptions::new().write(true).open(dir.join(FILE_NAME)).unwrap();
    assert!(page * PAGE <= file.metadata().unwrap().len(), "there is no page {page}");
    let torn = vec![byte; usize::try_from(PAGE - from).unwrap()];
    file.write_all_at(&torn, (page - 1) * PAGE + from).unwrap();
}

/// Everything that must hold after damage of any kind. Returns what `verify` found and what `recover` says was lost.
fn recovered(dir: &Path) -> (String, String) {
    let refused = Store::open(dir).err().map(|error| error.to_string()).unwrap_or_default();
    for word in ["meter.db is damaged", "meter ledger verify", "meter ledger recover"] {
        assert!(refused.contains(word), "{refused}");
    }
    let damaged = fs::read(dir.join(FILE_NAME)).unwrap();
    let found = verify(dir).unwrap().findings;
    assert!(!found.is_empty());
    assert_eq!(fs::read(dir.join(FILE_NAME)).unwrap(), damaged, "verify changes nothing");

    let done = recover(dir, NOW).unwrap();
    assert_eq!(fs::read(&done.damaged).unwrap(), damaged, "the damaged file is kept");
    assert!(done.damaged.to_string_lossy().contains("meter.db.damaged-20270115T"), "{done:?}");
    let after = verify(dir).unwrap();
    assert_eq!(after.findings, Vec::<String>::new(), "{:?}", done.lost);
    let loaded = Store::open(dir).unwrap().load().unwrap();
    assert!(loaded.accounts.len() >= 5);
    for name in ["host", "b"] {
        let spent = totals(dir, name).spent;
        let least = if name == "host" { SPENT } else { SPENT - 20 };
        assert!(spent >= Pico::new(least), "{name}: {spent}, {:?}", done.lost);
    }
    // What is not sure to be held any more is spent.
    let host = totals(dir, "host");
    assert!(host.spent.saturating_add(host.held) >= Pico::new(SPENT + HELD), "{host:?}");
    assert!(matches!(recover(dir, NOW), Err(LedgerError::Sound { .. })));
    (found.join("\n"), done.lost.join("\n"))
}

fn exactly_spent(dir: &Path) {
    let host = totals(dir, "host");
    assert_eq!((host.spent, host.held), (Pico::new(SPENT), Pico::new(HELD)));
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_sound_ledger_has_no_findings_with_a_daemon_and_without() {
    let dir = dir();
    let open = filled(dir.path());
    let verified = verify(dir.path()).unwrap();
    assert_eq!(verified.findings, Vec::<String>::new());
    assert_eq!((verified.rows, verified.rollups, verified.open_holds, verified.accounts), (2_901, 1, 1, 205));
    assert!(matches!(recover(dir.path(), NOW), Err(LedgerError::Locked { .. })));
    open.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().findings, Vec::<String>::new());
    assert!(matches!(recover(dir.path(), NOW), Err(LedgerError::Sound { .. })));
}

#[test]
fn a_torn_page_of_rows_costs_their_rows_and_no_money() {
    let dir = dir();
    dead(dir.path());
    let page = child(dir.path(), root(dir.path(), "rows"), 3);
    tear(dir.path(), page, 0, 0);
    let (found, lost) = recovered(dir.path());
    assert!(found.contains(&format!("Page {page}, of rows, is damaged")), "{found}");
    assert!(lost.contains("rows are lost") && lost.contains("that b had spent"), "{lost}");
    exactly_spent(dir.path());
    let left = rows(dir.path(), None, 9_999).len();
    assert!((2_850..2_901).contains(&left), "{left} rows are left");
}

#[test]
fn half_a_torn_page_of_rows_gives_the_other_half() {
    let dir = dir();
    dead(dir.path());
    let page = child(dir.path(), root(dir.path(), "rows"), 5);
    tear(dir.path(), page, PAGE / 2, 0xff);
    recovered(dir.path());
    exactly_spent(dir.path());
}

#[test]
fn a_torn_inner_page_loses_no_row() {
    let dir = dir();
    dead(dir.path());
    tear(dir.path(), root(dir.path(), "rows"), 0, 0xff);
    let (_, lost) = recovered(dir.path());
    exactly_spent(dir.path());
    assert_eq!(rows(dir.path(), None, 9_999).len(), 2_901, "{lost}");
}

#[test]
fn a_torn_page_of_an_index_loses_nothing() {
    for index in ["rows_account", "rows_agent"] {
        let dir = dir();
        dead(dir.path());
        let page = child(dir.path(), root(dir.path(), index), 1);
        tear(dir.path(), page, 0, 0);
        let (found, _) = recovered(dir.path());
        assert!(found.contains(index), "{found}");
        exactly_spent(dir.path());
        assert_eq!(rows(dir.path(), None, 9_999).len(), 2_901);
    }
}

#[test]
fn accounts_without_their_records_keep_their_names_and_are_revoked() {
    let dir = dir();
    dead(dir.path());
    let root = root(dir.path(), "accounts");
    tear(dir.path(), child(dir.path(), root, 0), 0, 0);
    let (_, lost) = recovered(dir.path());
    assert!(lost.contains("The record of the account a/t is lost") && lost.contains("revoked"), "{lost}");
    exactly_spent(dir.path());
    let all = Reader::open(dir.path()).unwrap().accounts().unwrap();
    let states: Vec<_> = all.iter().map(|a| (a.path.as_str(), a.state.as_str())).collect();
    assert!(states.contains(&("host", "open")) && states.contains(&("a/t", "revoked")), "{states:?}");
    assert_eq!(all.len(), 205);
    assert_eq!(totals(dir.path(), "a/t").spent, Pico::new(20));
}

#[test]
fn accounts_that_nothing_names_any_more_keep_their_spend() {
    let dir = dir();
    dead(dir.path());
    let accounts = root(dir.path(), "accounts");
    let names = root(dir.path(), "sqlite_autoindex_accounts_1");
    for page in [child(dir.path(), accounts, 0), accounts, names] {
        tear(dir.path(), page, 0, 0);
    }
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("meter ledger recover"), "{refused}");
    recover(dir.path(), NOW).unwrap();
    assert_eq!(verify(dir.path()).unwrap().findings, Vec::<String>::new());
    Store::open(dir.path()).unwrap().load().unwrap();
    assert!(totals(dir.path(), "host").spent >= Pico::new(SPENT));
}

#[test]
fn accounts_that_only_their_use_still_names_can_be_loaded_again() {
    for left in ["quarters", "processes", "extensions", "events", "results"] {
        let dir = dir();
        let mut store = store(dir.path());
        let lapsed = ResultState::Lapsed { row: ExchangeId::new(), account: OTHER, charged: Pico::new(9) };
        let result = |name: &str| ResultRecord {
            provider: "openai".to_owned(),
            result: name.to_owned(),
            state: lapsed,
            time: NOW,
        };
        let extension = Extension { by: Pico::new(1), from: NOW, until: NOW };
        let event =
            Event { time: NOW, account: OTHER, kind: EventKind::Stage, actor_uid: None, text: "80 %".to_owned() };
        let ops = [
            plain(OTHER, row("b", 7)),
            Op::Extend { id: OTHER, extension, actor_uid: 0 },
            Op::Event(Box::new(event)),
            Op::Result(Box::new(result("resp_1"))),
        ];
        store.commit(&ops.iter()).unwrap();
        drop(store);
        let file = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        file.execute_batch("DELETE FROM accounts WHERE path = 'b'").unwrap();
        for table in ["rows", "quarters", "processes", "extensions", "events", "results"] {
            let kept = if table == left { "0" } else { "1" };
            file.execute_batch(&format!("DELETE FROM {table} WHERE {kept}")).unwrap();
        }
        drop(file);
        assert!(!verify(dir.path()).unwrap().findings.is_empty(), "{left}");
        let done = recover(dir.path(), NOW).unwrap();
        let loaded = Store::open(dir.path()).unwrap().load();
        assert_eq!(loaded.map(|l| l.accounts.len()).map_err(|e| e.to_string()), Ok(5), "{left}: {done:?}");
        assert_eq!(totals(dir.path(), "host").spent, Pico::new(7));
    }
}

#[test]
fn lost_holds_are_charged_in_full() {
    let dir = dir();
    dead(dir.path());
    tear(dir.path(), root(dir.path(), "holds"), 0, 0);
    let (_, lost) = recovered(dir.path());
    let host = totals(dir.path(), "host");
    assert_eq!((host.spent, host.held), (Pico::new(SPENT + HELD), Pico::ZERO), "{lost}");
    assert_eq!(totals(dir.path(), "a/t").spent, Pico::new(20 + HELD));
}

#[test]
fn a_torn_first_page_is_done_without() {
    let dir = dir();
    dead(dir.path());
    tear(dir.path(), 1, 0, 0);
    let (_, lost) = recovered(dir.path());
    assert!(lost.contains("by their shape alone"), "{lost}");
    let task = totals(dir.path(), "a/t");
    assert_eq!((task.budget, task.funded), (Some(Pico::new(900)), Pico::new(5)));
    let left = rows(dir.path(), None, 9_999);
    assert!(left.len() >= 2_901);
    assert!(left.iter().any(|r| r.reason.as_ref().is_some_and(|r| r.len() == 15_000)), "over several pages");
}

#[test]
fn a_torn_page_of_the_schema_is_done_without() {
    let dir = dir();
    dead(dir.path());
    let file = fs::File::open(dir.path().join(FILE_NAME)).unwrap();
    let mut kind = [0];
    file.read_exact_at(&mut kind, 100).unwrap();
    assert_eq!(kind, [5], "the schema is on several pages");
    let mut place = [0; 2];
    file.read_exact_at(&mut place, 112).unwrap();
    let mut page = [0; 4];
    file.read_exact_at(&mut page, u16::from_be_bytes(place).into()).unwrap();
    tear(dir.path(), u32::from_be_bytes(page).into(), 0, 0);
    recovered(dir.path());
}

#[test]
fn a_truncated_ledger_gives_what_is_left_of_it() {
    let dir = dir();
    dead(dir.path());
    let file = OpenOptions::new().write(true).open(dir.path().join(FILE_NAME)).unwrap();
    let pages = file.metadata().unwrap().len() / PAGE;
    file.set_len(pages / 2 * PAGE + 1_000).unwrap();
    let (_, lost) = recovered(dir.path());
    assert!(lost.contains("that b had spent"), "{lost}");
    exactly_spent(dir.path());
}

#[test]
fn what_is_only_in_the_log_is_not_lost() {
    let dir = dir();
    dead(dir.path());
    let torn = child(dir.path(), root(dir.path(), "rows"), 2);
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[plain(OTHER, row("b", 1_000_000))].iter()).unwrap();
    // As a death leaves it, and not as the end of this process does, which copies the log into the file.
    let left = tempfile::tempdir().unwrap();
    for name in [FILE_NAME, "meter.db-wal", "meter.mark"] {
        fs::copy(dir.path().join(name), left.path().join(name)).unwrap();
    }
    tear(left.path(), torn, 0, 0);
    recovered(left.path());
    assert_eq!(totals(left.path(), "host").spent, Pico::new(SPENT + 1_000_000));
    let all = rows(left.path(), None, 9_999);
    assert!(all.iter().any(|row| row.cost_usd == Pico::new(1_000_000)));
}

#[test]
fn totals_that_do_not_add_up_are_found_and_are_no_less_after_recovery() {
    let dir = dir();
    dead(dir.path());
    let change = |sql: &str| Connection::open(dir.path().join(FILE_NAME)).unwrap().execute_batch(sql).unwrap();
    change("UPDATE accounts SET spent = spent + 5 WHERE path = 'b'; UPDATE accounts SET held = 3 WHERE path = 'a'");
    let found = verify(dir.path()).unwrap().findings.join("\n");
    assert!(
        found.contains("The account b has spent $0.000004498505 by its total, and $0.0000044985 by its rows."),
        "{found}"
    );
    assert!(found.contains("The account a has held"), "{found}");
    recover(dir.path(), NOW).unwrap();
    assert_eq!(verify(dir.path()).unwrap().findings, Vec::<String>::new());
    assert_eq!(totals(dir.path(), "b").spent, Pico::new(SPENT - 20 + 5));

    change("DELETE FROM accounts WHERE path = 'b/task-7'");
    let found = verify(dir.path()).unwrap().findings.join("\n");
    assert!(found.contains("The account with the id 12 is missing."), "{found}");
    change(
        "INSERT INTO holds SELECT resolves, 2, 9, NULL, 1, 1, 1, '', '', '', '', '', '', NULL, 0, 'llm', 0 FROM rows \
        WHERE resolves IS NOT NULL",
    );
    let found = verify(dir.path()).unwrap().findings.join("\n");
    assert!(found.contains("1 holds are outstanding that were resolved already."), "{found}");
}

#[test]
fn the_ledger_of_a_later_meter_is_not_taken_for_a_damaged_one() {
    let dir = dir();
    filled(dir.path()).close().unwrap();
    let file = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    file.pragma_update(None, "user_version", 9).unwrap();
    drop(file);
    let error = recover(dir.path(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Schema { found: 9, .. }), "{error}");
    assert!(error.to_string().contains("use the meter that wrote it"));
}

#[test]
fn a_file_of_which_nothing_is_a_ledger_is_left_as_it_is() {
    let dir = dir();
    let path = dir.path().join(FILE_NAME);
    fs::write(&path, vec![b'x'; 20_000]).unwrap();
    let error = recover(dir.path(), NOW).unwrap_err();
    assert!(matches!(error, LedgerError::Lost { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 20_000]);
    assert!(matches!(verify(tempfile::tempdir().unwrap().path()), Err(LedgerError::Missing { .. })));
}

#[test]
fn a_damaged_older_copy_is_not_less_than_its_mark() {
    let dir = dir();
    let backup = tempfile::tempdir().unwrap();
    dead(dir.path());
    fs::copy(dir.path().join(FILE_NAME), backup.path().join(FILE_NAME)).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.commit(&[plain(OTHER, row("b", 500))].iter()).unwrap();
    store.close().unwrap();
    fs::copy(backup.path().join(FILE_NAME), dir.path().join(FILE_NAME)).unwrap();
    tear(dir.path(), child(dir.path(), root(dir.path(), "rows"), 3), 0, 0);
    recovered(dir.path());
    assert_eq!(totals(dir.path(), "host").spent, Pico::new(SPENT + 500));
}

#[test]
fn a_ledger_of_single_pages_is_recovered_from_again_and_again() {
    let dir = dir();
    let mut small = store(dir.path());
    // As the key of the ledger's identity.
    let named = Op::Account { id: AccountId::new(5), parent: AccountId::HOST, path: "ledger".parse().unwrap() };
    small.commit(&[named].iter()).unwrap();
    for cost in 0..6 {
        let held = hold(cost * 2);
        small.commit(&[begin(&held)].iter()).unwrap();
        small.commit(&[resolve(&held, cost)].iter()).unwrap();
    }
    drop(small);
    let mut spent = Pico::new(15);
    for table in ["rows", "accounts", "rows_account", "sqlite_schema"] {
        let page = if table == "sqlite_schema" { 1 } else { root(dir.path(), table) };
        Connection::open(dir.path().join(FILE_NAME)).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        tear(dir.path(), page, 0, 0);
        assert!(matches!(Store::open(dir.path()), Err(LedgerError::Corrupt { .. })), "{table}");
        let done = recover(dir.path(), NOW).unwrap();
        assert_eq!(verify(dir.path()).unwrap().findings, Vec::<String>::new(), "{table}: {:?}", done.lost);
        let mut store = Store::open(dir.path()).unwrap();
        store.load().unwrap();
        let now = totals(dir.path(), "host").spent;
        assert!(now >= spent, "{table}: {now} after {spent}");
        store.commit(&[plain(TASK, row("a/t", 1))].iter()).unwrap();
        spent = totals(dir.path(), "host").spent;
    }
}
