//! Background work, over restarts and over the time that is waited for it.

use std::sync::Arc;

use super::{
    Cashier, Durability, Plan,
    fake::{NOW, Page, admit, asked, assert_published, given, open, path, row, spent},
    results::{RESULT_MEMORY, RESULT_WAIT},
};
use crate::{
    accounts::{Category, LimitKey, LimitRule, Window, policy::Policy},
    clock::Timestamp,
    exchange::{Outcome, Row, results::Verdict},
    ledger::{Reader, RowFilter},
    measure::Unit,
    money::Pico,
    usage::{ResultRef, Standing},
};

const HELD: i64 = 60;

fn result(standing: Standing) -> ResultRef {
    ResultRef { id: "resp_1".to_owned(), standing }
}

/// Orders a result: it is waited for, and its hold stays.
fn order(cashier: &Arc<Cashier>) {
    let account = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    let hold = admit(cashier, account, HELD).unwrap();
    let pending = result(Standing::Pending);
    assert_eq!(cashier.see_result("openai", &pending), Verdict::Wait);
    cashier.park(hold, row(0), "openai", &pending);
}

fn show(cashier: &Cashier, cost: i64) -> Verdict {
    let seen = result(Standing::Repeat);
    let verdict = cashier.see_result("openai", &seen);
    if verdict == Verdict::Charge {
        cashier.bill_result(row(cost), None, "openai", &seen);
    }
    verdict
}

fn held(cashier: &Cashier) -> i64 {
    cashier.held(&path("research")).unwrap().get()
}

fn after(span: std::time::Duration) -> Timestamp {
    Timestamp::from_micros(NOW.micros() + i64::try_from(span.as_micros()).unwrap())
}

async fn rows(cashier: &Cashier, dir: &std::path::Path) -> Vec<Row> {
    cashier.flush().await;
    Reader::open(dir).unwrap().rows(&RowFilter { account: None, limit: 100 }).unwrap()
}

#[tokio::test]
async fn an_order_keeps_its_hold_until_its_result_is_seen_and_is_charged_once() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(100), false);
    order(&cashier);
    assert_eq!((spent(&cashier, "research"), held(&cashier)), (0, HELD));
    assert_published(&cashier, &page);
    assert_eq!(cashier.see_result("openai", &result(Standing::Pending)), Verdict::Repeat);
    assert_eq!(show(&cashier, 25), Verdict::Charge);
    assert_eq!((spent(&cashier, "research"), held(&cashier)), (25, 0));
    assert_eq!(show(&cashier, 25), Verdict::Repeat);
    assert_published(&cashier, &page);
    let rows = rows(&cashier, dir.path()).await;
    assert_eq!(rows.iter().map(|r| r.cost_usd.get()).collect::<Vec<_>>(), [0, 25]);
    assert_eq!((rows[1].corrects, rows[1].account.as_str()), (Some(rows[0].id), "research/t"));
}

#[tokio::test]
async fn a_restart_goes_on_waiting_and_remembers_what_was_billed() {
    for survived in [true, false] {
        let (dir, mut page) = (tempfile::tempdir().unwrap(), Page::new());
        let cashier = open(dir.path(), &page, Some(100), false);
        order(&cashier);
        cashier.flush().await;
        page = page.survivor();
        cashier.close().await;
        drop(cashier);

        let cashier = open(dir.path(), &page, Some(100), survived);
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (0, HELD), "survived: {survived}");
        assert_published(&cashier, &page);
        assert_eq!(show(&cashier, 25), Verdict::Charge);
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (25, 0));
        cashier.flush().await;
        page = page.survivor();
        cashier.close().await;
        drop(cashier);

        let cashier = open(dir.path(), &page, Some(100), survived);
        assert_eq!(show(&cashier, 25), Verdict::Repeat);
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (25, 0));
    }
}

#[tokio::test]
async fn what_is_not_seen_in_a_day_is_charged_in_full_and_corrected_when_it_comes() {
    for (cost, restart) in [(25, false), (75, false), (25, true)] {
        let (dir, mut page) = (tempfile::tempdir().unwrap(), Page::new());
        let mut cashier = open(dir.path(), &page, Some(100), false);
        order(&cashier);
        cashier.lapse_results(after(RESULT_WAIT.saturating_sub(std::time::Duration::from_secs(1))));
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (0, HELD));
        cashier.lapse_results(after(RESULT_WAIT));
        cashier.lapse_results(after(RESULT_WAIT));
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (HELD, 0));
        if restart {
            cashier.flush().await;
            page = page.survivor();
            cashier.close().await;
            drop(cashier);
            cashier = open(dir.path(), &page, Some(100), true);
        }
        assert_eq!(show(&cashier, cost), Verdict::Charge);
        assert_eq!(show(&cashier, cost), Verdict::Repeat);
        assert_eq!((spent(&cashier, "research"), held(&cashier)), (cost, 0));
        assert_published(&cashier, &page);
        let rows = rows(&cashier, dir.path()).await;
        let told: Vec<_> = rows.iter().map(|r| (r.outcome, r.cost_usd.get())).collect();
        let difference = cost - HELD;
        assert_eq!(
            told,
            [(Outcome::Complete, 0), (Outcome::Unresolved, HELD), (Outcome::Complete, difference)],
            "{cost}"
        );
        assert_eq!((rows[1].corrects, rows[2].corrects), (Some(rows[0].id), Some(rows[1].id)));
        assert_eq!(cashier.summary(&path("research")).unwrap().exchanges, 2, "an order and a look at its result");
        let sum = Reader::open(dir.path()).unwrap().accounts().unwrap();
        let agent = sum.iter().find(|a| a.path == path("research")).unwrap();
        assert_eq!(agent.spent, Pico::new(cost));
    }
}

#[tokio::test]
async fn a_correction_opens_an_account_that_has_money_again() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(HELD), false);
    order(&cashier);
    let account = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    cashier.lapse_results(after(RESULT_WAIT));
    assert!(!cashier.is_open(account));
    assert_eq!(show(&cashier, 25), Verdict::Charge);
    assert!(cashier.is_open(account));
    assert_published(&cashier, &page);
}

/// So much a day, and so many requests.
fn daily(amount: i64, requests: i64) -> Plan {
    let limit = |window, unit, amount| LimitRule { key: LimitKey { window, category: Category::ANY, unit }, amount };
    let limits = vec![limit(Window::Day, Unit::Usd, amount), limit(Window::Total, Unit::Requests, requests)];
    Plan { agents: vec![(path("research"), Policy { limits, ..Policy::default() })], ..Plan::default() }
}

#[tokio::test]
async fn a_correction_makes_no_room_in_a_day_that_it_was_not_charged_in() {
    let day = |days: u64| after(std::time::Duration::from_hours(24 * days));
    for restart in [false, true] {
        let (dir, mut page) = (tempfile::tempdir().unwrap(), Page::new());
        let plan = daily(100, 100);
        let mut cashier = open(dir.path(), &page, None, false);
        cashier.apply(&plan, NOW);
        order(&cashier);
        cashier.lapse_results(day(1));
        let seen = result(Standing::Repeat);
        assert_eq!(cashier.see_result("openai", &seen), Verdict::Charge);
        let late = Row { time: day(3), ..row(10) };
        cashier.tick(day(3));
        cashier.bill_result(late, None, "openai", &seen);
        assert_eq!(spent(&cashier, "research"), 10);
        if restart {
            cashier.flush().await;
            page = page.survivor();
            cashier.close().await;
            drop(cashier);
            cashier = Cashier::open(dir.path(), Arc::clone(&page) as _, &plan, Durability::Full, true, day(3)).unwrap();
        }
        let task = cashier.bind(&path("research/t"), &given(None), day(3)).unwrap();
        let ordinary = cashier.admit_now(&asked(task, 100), day(3)).unwrap();
        ordinary.settle(Row { time: day(3), ..row(100) });
        assert!(cashier.admit_now(&asked(task, 1), day(3)).is_err(), "100 a day are 100, restart: {restart}");
    }
}

#[tokio::test]
async fn an_order_counts_as_one_request_whatever_becomes_of_its_result() {
    for (lapses, cost) in [(false, 25), (true, 25), (true, 75)] {
        let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
        let cashier = open(dir.path(), &page, None, false);
        cashier.apply(&daily(1_000, 100), NOW);
        order(&cashier);
        if lapses {
            cashier.lapse_results(after(RESULT_WAIT));
        }
        assert_eq!(show(&cashier, cost), Verdict::Charge);
        let status = cashier.status_of(&path("research")).unwrap();
        let requests = status.limits.iter().find(|limit| limit.unit == "requests").unwrap();
        assert_eq!((requests.spent.as_str(), requests.held.as_str()), ("1", "0"), "lapses: {lapses}, {cost}");
    }
}

#[tokio::test]
async fn money_that_a_correction_gives_back_is_there_for_who_waits() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(100), false);
    order(&cashier);
    cashier.lapse_results(after(RESULT_WAIT));
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    let _long = admit(&cashier, task, 30).unwrap();
    let theirs = Arc::clone(&cashier);
    #[expect(clippy::disallowed_methods, reason = "what it comes to is asked for")]
    let waiter = tokio::spawn(async move { theirs.admit(asked(task, 40), NOW).await });
    while cashier.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(show(&cashier, 10), Verdict::Charge);
    let waiter = tokio::time::timeout(std::time::Duration::from_secs(10), waiter).await.unwrap();
    assert_eq!(waiter.unwrap().unwrap().amount, Pico::new(40));
}

#[tokio::test]
async fn an_account_that_only_waits_for_a_result_can_be_stopped() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(100), false);
    order(&cashier);
    let agent = cashier.bound().into_iter().find(|(p, _)| *p == path("research")).unwrap().1;
    cashier.record(row(100));
    cashier.finish_stop(agent);
    assert_eq!(cashier.status_of(&path("research")).unwrap().state, "stopped");
    assert_eq!(show(&cashier, 25), Verdict::Charge);
    assert_eq!(spent(&cashier, "research"), 125);
}

#[tokio::test]
async fn what_was_charged_unseen_is_forgotten_in_the_end() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(100), false);
    order(&cashier);
    cashier.lapse_results(after(RESULT_WAIT));
    cashier.lapse_results(after(RESULT_WAIT + RESULT_MEMORY));
    cashier.flush().await;
    cashier.close().await;
    drop(cashier);
    let store = crate::ledger::Store::open(dir.path()).unwrap();
    assert!(store.load().unwrap().results.is_empty());
}

#[tokio::test]
async fn two_who_see_a_result_at_once_are_charged_once() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = open(dir.path(), &page, Some(100), false);
    order(&cashier);
    let seen = result(Standing::Repeat);
    assert_eq!(cashier.see_result("openai", &seen), Verdict::Charge);
    assert_eq!(cashier.see_result("openai", &seen), Verdict::Repeat, "while the first one charges it");
    cashier.bill_result(row(25), None, "openai", &seen);
    assert_eq!((spent(&cashier, "research"), held(&cashier)), (25, 0));
    assert_eq!(cashier.see_result("openai", &seen), Verdict::Repeat);
}
