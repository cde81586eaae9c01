//! What the reader finds: every field as it was written, by account, by process, and by an index.

use proptest::prelude::*;

use super::{
    tests::{AGENT, OTHER, SUBTASK, TASK, path, plain, row, rows, store, totals},
    *,
};
use crate::{
    exchange::{Outcome, Row},
    ids::{ExchangeId, Process},
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

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
