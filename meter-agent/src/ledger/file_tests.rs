//! The ledger as files: whose they are, which are refused and why, and how those of earlier versions are taken over.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use super::{
    tests::{OTHER, plain, row, rows, store, totals},
    *,
};
use crate::{exchange::LLM, money::Pico};

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
