//! What becomes of a ledger over time: old rows summed up, an older copy put back, damage found beside the work.

use std::{fs, path::Path, time::Duration};

use proptest::prelude::*;

use super::{
    rollup::DAY_MICROS,
    schema::FILE_NAME,
    tests::{AGENT, OTHER, TASK, begin, hold, plain, resolve, row, rows, store, totals},
    *,
};
use crate::{
    clock::Timestamp,
    exchange::{Detail, Outcome, Row},
    ids::ExchangeId,
    money::Pico,
    usage::Usage,
};

const ALL: usize = 1_000;

fn on_day(day: i64, account: &str, cost: i64) -> Row {
    Row { time: Timestamp::from_micros(day * DAY_MICROS + 1), ..row(account, cost) }
}

fn day(day: i64) -> Timestamp {
    Timestamp::from_micros(day * DAY_MICROS)
}

/// Sums over rows and rollups: cost, exchanges and refusals, output tokens.
fn sums(dir: &Path) -> (i64, i64, i64) {
    let sql = "SELECT sum(cost), sum(events), sum(tokens) FROM (
        SELECT cost, count AS events, output_tokens AS tokens FROM rows
        UNION ALL SELECT cost, exchanges + refusals, output_tokens FROM rollups)";
    let file = rusqlite::Connection::open(dir.join(FILE_NAME)).unwrap();
    file.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap()
}

fn days(dir: &Path) -> Vec<(i64, String, i64, i64)> {
    let file = rusqlite::Connection::open(dir.join(FILE_NAME)).unwrap();
    let mut select = file.prepare("SELECT day, model, exchanges, cost FROM rollups ORDER BY day, model").unwrap();
    select.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))).unwrap().map(Result::unwrap).collect()
}

#[test]
fn old_rows_become_the_sums_of_their_day_account_and_model() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let of = |model: &str, row| Row { model: Some(model.to_owned()), outcome: Outcome::Complete, ..row };
    let asked = Row { requested_model: Some("x".to_owned()), ..on_day(1, "b", 6) };
    let ops = [
        plain(TASK, of("x", on_day(1, "a/t", 3))),
        plain(TASK, of("x", on_day(1, "a/t", 4))),
        plain(TASK, of("y", on_day(1, "a/t", 5))),
        plain(OTHER, asked),
        plain(TASK, of("x", on_day(2, "a/t", 7))),
        plain(TASK, of("x", on_day(3, "a/t", 8))),
    ];
    store.commit(&ops.iter()).unwrap();
    let before = sums(dir.path());
    assert_eq!(store.roll_up(day(3), ALL).unwrap(), 5);
    let named = |day, model: &str, n, cost| (day, model.to_owned(), n, cost);
    let expected = [named(1, "x", 2, 7), named(1, "x", 1, 6), named(1, "y", 1, 5), named(2, "x", 1, 7)];
    assert_eq!(days(dir.path()), expected);
    assert_eq!(sums(dir.path()), before);
    assert_eq!(rows(dir.path(), None, 9).len(), 1, "what is not old stays");
    assert_eq!(totals(dir.path(), "host").spent, Pico::new(33), "totals are as they were");
    assert_eq!(store.roll_up(day(3), ALL).unwrap(), 0);
    // A late one joins its day.
    store.commit(&[plain(TASK, of("y", on_day(1, "a/t", 1)))].iter()).unwrap();
    assert_eq!(store.roll_up(day(3), ALL).unwrap(), 1);
    assert!(days(dir.path()).contains(&named(1, "y", 2, 6)));
}

#[test]
fn sums_of_days_keep_the_labels_that_all_their_rows_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let labelled = |day, cost, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let detail = Detail { labels, ..Detail::default() };
        plain(OTHER, Row { detail, ..on_day(day, "b", cost) })
    };
    let ops = [
        labelled(1, 1, &[("team", "search"), ("user", "x")]),
        labelled(1, 2, &[("team", "search"), ("user", "y")]),
        labelled(2, 4, &[("team", "search"), ("user", "x")]),
        labelled(3, 8, &[("team", "other")]),
        labelled(4, 16, &[]),
    ];
    store.commit(&ops.iter()).unwrap();
    let query = |by: &[&str], labels: &[(&str, &str)]| ReportQuery {
        by: by.iter().map(|by| by.parse().unwrap()).collect(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..ReportQuery::default()
    };
    let report = |by: &[&str], labels: &[(&str, &str)]| -> Vec<(String, i64)> {
        let lines = Reader::open(dir.path()).unwrap().report(&query(by, labels), &jiff::tz::TimeZone::UTC).unwrap();
        lines.into_iter().map(|line| (line.keys.join(" "), line.cost_usd.get())).collect()
    };
    let of = |key: &str, cost| (key.to_owned(), cost);
    let by_team = [of("", 16), of("other", 8), of("search", 7)];
    let by_user = || report(&["label.user"], &[("team", "search")]);
    assert_eq!(report(&["label.team"], &[]), by_team);
    assert_eq!(by_user(), [of("x", 5), of("y", 2)]);
    // In steps that part the rows of a day.
    while store.roll_up(day(9), 1).unwrap() > 0 {}
    assert_eq!(rows(dir.path(), None, 9).len(), 0);
    assert_eq!(report(&["label.team"], &[]), by_team);
    assert_eq!(by_user(), [of("x", 4), of("", 3)], "of a day on which it changed it is not kept");
    // A late one without any.
    store.commit(&[labelled(3, 32, &[])].iter()).unwrap();
    store.roll_up(day(9), ALL).unwrap();
    assert_eq!(report(&["label.team"], &[]), [of("", 56), of("search", 7)]);
}

#[test]
fn days_of_a_report_are_those_of_the_config_s_time_zone() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let at = |text: &str, cost| plain(OTHER, Row { time: Timestamp::parse(text).unwrap(), ..row("b", cost) });
    // The clocks of New York are 4 hours behind, from the second night on 5.
    let ops = [
        at("2026-11-01T03:59:59Z", 1),
        at("2026-11-01T04:00:00Z", 2),
        at("2026-11-02T04:59:59Z", 4),
        at("2026-11-02T05:00:00Z", 8),
    ];
    store.commit(&ops.iter()).unwrap();
    let report = |zone: &str, since: Option<&str>| -> Vec<(String, i64)> {
        let zone = jiff::tz::TimeZone::get(zone).unwrap();
        let since = since.map(|day| Timestamp::of_clock(day.parse().unwrap(), &zone).unwrap());
        let query = ReportQuery { by: vec![By::Day], since, ..ReportQuery::default() };
        let lines = Reader::open(dir.path()).unwrap().report(&query, &zone).unwrap();
        lines.into_iter().map(|line| (line.keys.concat(), line.cost_usd.get())).collect()
    };
    let of = |day: &str, cost| (day.to_owned(), cost);
    let (new_york, second) = ("America/New_York", Some("2026-11-01"));
    assert_eq!(report("UTC", None), [of("2026-11-01", 3), of("2026-11-02", 12)]);
    assert_eq!(report(new_york, None), [of("2026-10-31", 1), of("2026-11-01", 6), of("2026-11-02", 8)]);
    assert_eq!(report(new_york, second), [of("2026-11-01", 6), of("2026-11-02", 8)]);
    // Sums are of days in UTC, and are called by their date wherever that is.
    while store.roll_up(Timestamp::parse("2026-12-01T00:00:00Z").unwrap(), ALL).unwrap() > 0 {}
    for zone in ["UTC", new_york, "Pacific/Kiritimati"] {
        assert_eq!(report(zone, second), [of("2026-11-01", 3), of("2026-11-02", 12)], "{zone}");
    }
}

#[test]
fn rolling_up_goes_in_small_steps_and_past_rows_that_are_not_old() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let many: Vec<_> = (0..25).map(|n| plain(OTHER, on_day(if n % 5 == 0 { 9 } else { 1 }, "b", n))).collect();
    store.commit(&many.iter()).unwrap();
    let before = sums(dir.path());
    let mut steps = Vec::new();
    loop {
        match store.roll_up(day(2), 10).unwrap() {
            0 => break,
            moved => steps.push(moved),
        }
        assert_eq!(sums(dir.path()), before);
    }
    assert_eq!((steps[0], steps.iter().sum::<usize>()), (8, 20));
    assert_eq!(rows(dir.path(), None, 99).len(), 5);
}

#[test]
fn absurd_counts_are_capped_and_hinder_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let usage = Usage { output_tokens: u64::MAX, ..Usage::default() };
    let absurd = || Row { usage, notional_usd: Some(Pico::MAX), ..on_day(1, "b", i64::MAX) };
    for _ in 0..2 {
        store.commit(&[plain(OTHER, absurd()), plain(OTHER, absurd())].iter()).unwrap();
        assert_eq!(store.roll_up(day(2), ALL).unwrap(), 2);
    }
    assert_eq!(days(dir.path()), [(1, String::new(), 4, i64::MAX)]);
}

#[test]
fn absurd_amounts_in_old_quarters_are_capped_and_keep_nothing_from_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let ops = [1, 2, 3].map(|day| plain(OTHER, on_day(day, "b", i64::MAX)));
    store.commit(&ops.iter()).unwrap();
    let before = crate::accounts::quarter(day(9));
    for _ in 0..2 {
        store.commit(&[Op::FoldQuarters { before }].iter()).unwrap();
        let quarters = store.load().unwrap().quarters;
        let [all] = &quarters[..] else { panic!("{quarters:?}") };
        assert_eq!((all.quarter, all.used.usd), (0, Pico::MAX));
    }
}

#[test]
fn the_writer_rolls_up_when_it_has_nothing_else_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let many: Vec<_> = (0..2_500).map(|cost| plain(OTHER, on_day(1, "b", cost))).collect();
    store.commit(&many.iter()).unwrap();
    let writer = Writer::start(store).unwrap();
    writer.roll_up(day(2));
    let left = || rows(dir.path(), None, 9_999).len();
    for _ in 0..2_000 {
        if left() == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(left(), 0);
    assert_eq!(sums(dir.path()).0, (0..2_500).sum::<i64>());
    assert!(writer.fault().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rows_and_rollups_always_make_the_totals(
        made in prop::collection::vec((0..6i64, 0..3usize, 0..1_000i64, 0..Outcome::ALL.len()), 1..60),
        cuts in prop::collection::vec((0..7i64, 1..20usize), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = store(dir.path());
        let ops: Vec<_> = made.iter().map(|&(day, at, cost, outcome)| {
            let (id, name) = [(AGENT, "a"), (TASK, "a/t"), (OTHER, "b")][at];
            plain(id, Row { outcome: Outcome::ALL[outcome], ..on_day(day, name, cost) })
        }).collect();
        store.commit(&ops.iter()).unwrap();
        for (before, max) in cuts {
            store.roll_up(day(before), max).unwrap();
            let host = totals(dir.path(), "host");
            let (cost, events, _) = sums(dir.path());
            prop_assert_eq!(host.spent, Pico::new(cost));
            prop_assert_eq!(host.exchanges + host.refusals, events.cast_unsigned());
        }
    }
}

/// The ledger's files without the mark: what a backup of it would hold.
fn copy(from: &Path, to: &Path) {
    for name in [FILE_NAME, "meter.db-wal"] {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

fn spend(store: &mut Store, cost: i64) {
    store.commit(&[plain(TASK, row("a/t", cost))].iter()).unwrap();
}

fn older(dir: &Path) -> String {
    match Store::open(dir) {
        Err(error @ LedgerError::Older { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn an_older_copy_put_back_is_refused_until_it_is_accepted_and_then_the_host_s_spend_is_known() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut newest = store(dir.path());
    spend(&mut newest, 5);
    newest.close().unwrap();
    copy(dir.path(), backup.path());
    let mut newest = Store::open(dir.path()).unwrap();
    spend(&mut newest, 7);
    spend(&mut newest, 8);
    drop(newest);
    Store::open(dir.path()).unwrap().close().unwrap();

    copy(backup.path(), dir.path());
    let error = older(dir.path());
    assert!(
        error.contains("meter.db") && error.contains("$0.000000000015") && error.contains("--accept-older"),
        "{error}"
    );
    assert_eq!(totals(dir.path(), "host").spent, Pico::new(5), "it is left as it was");
    older(dir.path());

    assert_eq!(Store::accept_older(dir.path()).unwrap(), Some(Pico::new(15)));
    let mut accepted = Store::open(dir.path()).unwrap();
    assert_eq!(accepted.load().unwrap().floor, Some(Pico::new(20)));
    accepted.forget_floor().unwrap();
    assert_eq!(accepted.load().unwrap().floor, None);
    accepted.close().unwrap();
    assert_eq!(Store::accept_older(dir.path()).unwrap(), None, "there is nothing to accept any more");
    // What it replaced is now the one that came before.
    assert!(Store::open(dir.path()).is_ok());
}

#[test]
fn an_older_copy_whose_acceptance_fails_half_way_is_still_known_to_be_one() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut newest = store(dir.path());
    spend(&mut newest, 5);
    newest.close().unwrap();
    copy(dir.path(), backup.path());
    let mut newest = Store::open(dir.path()).unwrap();
    spend(&mut newest, 15);
    newest.close().unwrap();
    copy(backup.path(), dir.path());
    let file = rusqlite::Connection::open(dir.path().join(FILE_NAME)).unwrap();
    file.execute_batch("CREATE TRIGGER full BEFORE INSERT ON meta BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        .unwrap();
    assert!(Store::accept_older(dir.path()).is_err());
    assert!(older(dir.path()).contains("$0.000000000015"));
    file.execute_batch("DROP TRIGGER full").unwrap();
    drop(file);
    assert_eq!(Store::accept_older(dir.path()).unwrap(), Some(Pico::new(15)));
}

#[test]
fn a_ledger_that_was_removed_or_replaced_is_noticed() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut first = store(dir.path());
    spend(&mut first, 9);
    first.close().unwrap();
    store(other.path()).close().unwrap();
    copy(other.path(), dir.path());
    assert!(older(dir.path()).contains("it is another one"));
    fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    older(dir.path());
    assert_eq!(Store::accept_older(dir.path()).unwrap(), Some(Pico::new(9)));
    assert_eq!(Store::open(dir.path()).unwrap().load().unwrap().floor, Some(Pico::new(9)));
}

#[test]
fn a_crash_is_not_taken_for_an_older_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    for cost in 0..20 {
        let hold = hold(50);
        store.commit(&[begin(&hold)].iter()).unwrap();
        store.commit(&[resolve(&hold, cost)].iter()).unwrap();
        // As the files are at this moment, mark included.
        let left = tempfile::tempdir().unwrap();
        copy(dir.path(), left.path());
        fs::copy(dir.path().join("meter.mark"), left.path().join("meter.mark")).unwrap();
        Store::open(left.path()).unwrap();
    }
    // A mark that is behind, garbled or gone says nothing.
    drop(store);
    fs::write(dir.path().join("meter.mark"), "meter-mark-1 7").unwrap();
    drop(Store::open(dir.path()).unwrap());
    fs::remove_file(dir.path().join("meter.mark")).unwrap();
    drop(Store::open(dir.path()).unwrap());
}

#[test]
fn a_write_that_failed_does_not_count() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.connection.execute_batch("PRAGMA max_page_count = 1").unwrap();
    let pages: i64 = store.connection.pragma_query_value(None, "page_count", |r| r.get(0)).unwrap();
    store.connection.pragma_update(None, "max_page_count", pages).unwrap();
    let big = Row { reason: Some("x".repeat(100_000)), id: ExchangeId::new(), ..row("a", 1) };
    store.commit(&[plain(AGENT, big)].iter()).unwrap_err();
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn damage_found_beside_the_work_ends_admission_and_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    let many: Vec<_> = (0..2_000).map(|cost| plain(OTHER, row("b", cost))).collect();
    store.commit(&many.iter()).unwrap();
    store.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let bytes = fs::read(dir.path().join(FILE_NAME)).unwrap();
    let middle = bytes.len() / 2 / 4_096 * 4_096;
    let file = fs::OpenOptions::new().write(true).open(dir.path().join(FILE_NAME)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 4_096], middle as u64).unwrap();
    // As a large one is opened after an unclean end.
    store.unchecked = true;
    let writer = Writer::start(store).unwrap();
    for _ in 0..2_000 {
        if writer.fault().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let fault = writer.fault().unwrap();
    assert!(fault.contains("is damaged") && fault.contains("meter ledger recover"), "{fault}");
    writer.close();
    assert!(matches!(Store::open(dir.path()), Err(LedgerError::Corrupt { .. })));
}
