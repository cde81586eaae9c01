//! Windows, limits and states over time and over restarts: what was used is used once, whatever the clock does.

use std::{path::Path, sync::Arc, time::Duration};

use meter_common::AccountRef;

use super::{
    fake::{NOW, Page, asked, given, path, row, spent},
    *,
};
use crate::{
    accounts::{Category, LimitKey, LimitRule, TaskStatus, Window, policy::Policy},
    clock::Timestamp,
    measure::Unit,
    usage::Usage,
};

const HOUR: i64 = 3_600_000_000;

/// 2027-01-15 08:00 UTC, a Friday.
fn after(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.micros() + micros)
}

fn rule(window: Window, category: &str, unit: Unit, amount: i64) -> LimitRule {
    LimitRule { key: LimitKey { window, category: Category::named(category), unit }, amount }
}

fn daily(amount: i64) -> LimitRule {
    rule(Window::Day, "any", Unit::Usd, amount)
}

fn plan(limits: &[LimitRule]) -> Plan {
    let policy = Policy { limits: limits.to_vec(), ..Policy::default() };
    Plan { agents: vec![(path("research"), policy)], ..Plan::default() }
}

/// A start on what an earlier one left, after a boot.
fn start(dir: &Path, plan: &Plan, now: Timestamp) -> (Arc<Cashier>, AccountRef) {
    let cashier = Cashier::open(dir, Page::new(), plan, Durability::Full, false, now).unwrap();
    let task = cashier.bind(&path("research/t"), &given(None), now).unwrap();
    (cashier, task)
}

fn spend(cashier: &Arc<Cashier>, task: AccountRef, amount: i64, at: Timestamp) {
    let hold = cashier.admit_now(&asked(task, amount), at).unwrap();
    hold.settle(exchange(amount, at));
}

fn exchange(cost: i64, at: Timestamp) -> Row {
    let usage = Usage { input_tokens: 7, output_tokens: 3, ..Usage::default() };
    Row { time: at, duration_ms: 0, usage, ..row(cost) }
}

/// What the agent's limits have used, in their order.
fn used(cashier: &Cashier) -> Vec<i64> {
    let books = cashier.books.lock();
    let account = books.accounts.get(books.accounts.id(&path("research")).unwrap());
    account.limits.iter().map(|limit| limit.amount - books.accounts.left(account, limit)).collect()
}

#[test]
fn a_day_s_limit_opens_by_itself_at_midnight() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), NOW);
    spend(&cashier, task, 100, NOW);
    assert!(!cashier.is_open(task));
    let mut changes = cashier.changes();
    cashier.tick(after(16 * HOUR - 1));
    assert!(!cashier.is_open(task), "the day's last microsecond");
    cashier.tick(after(16 * HOUR));
    assert!(cashier.is_open(task), "nobody asked for anything");
    assert_eq!(changes.try_recv().unwrap().state, meter_common::state::OPEN);
    assert_eq!((used(&cashier), spent(&cashier, "research")), (vec![0], 100));
}

#[test]
fn a_charge_of_a_request_in_flight_at_the_reset_lands_in_one_day() {
    let dir = tempfile::tempdir().unwrap();
    let rules = [daily(100), rule(Window::Total, "any", Unit::Usd, 1_000)];
    let (cashier, task) = start(dir.path(), &plan(&rules), NOW);
    let midnight = 16 * HOUR;
    let begun = cashier.admit_now(&asked(task, 60), after(midnight - HOUR)).unwrap();
    let long = cashier.admit_now(&asked(task, 40), after(midnight - HOUR)).unwrap();
    cashier.tick(after(midnight));
    // What ended before midnight and is settled after it is the day before's.
    begun.settle(exchange(60, after(midnight - 1)));
    assert_eq!(used(&cashier), [0, 60]);
    long.settle(Row { duration_ms: 3_600_000, ..exchange(40, after(midnight - HOUR)) });
    assert_eq!(used(&cashier), [40, 100]);
    cashier.tick(after(midnight + 24 * HOUR));
    assert_eq!(used(&cashier), [0, 100]);
}

#[tokio::test]
async fn a_window_that_rolled_over_while_the_sidecar_was_down_has_opened_its_account() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), NOW);
    spend(&cashier, task, 100, NOW);
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), after(HOUR));
    assert!(!cashier.is_open(task), "the same day");
    assert_eq!(used(&cashier), [100]);
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), after(24 * HOUR));
    assert!(cashier.is_open(task));
    assert_eq!((used(&cashier), spent(&cashier, "research")), (vec![0], 100));
}

#[tokio::test]
async fn every_window_unit_and_category_knows_over_a_restart_what_it_has_used() {
    let dir = tempfile::tempdir().unwrap();
    let windows = [Window::Hour, Window::Day, Window::Week, Window::Month, Window::Total];
    let mut rules: Vec<_> = windows.iter().map(|w| rule(*w, "any", Unit::Usd, 9_000)).collect();
    rules.extend(windows.iter().map(|w| rule(*w, "llm", Unit::Tokens, 9_000_000_000_000)));
    rules.extend(windows.iter().map(|w| rule(*w, "llm", Unit::Requests, 9_000)));
    rules.push(rule(Window::Total, "x402", Unit::Usd, 9_000));
    let (cashier, task) = start(dir.path(), &plan(&rules), NOW);
    for (hours, amount) in [(0, 1), (1, 10), (24, 100), (96, 1_000), (24 * 31, 4)] {
        spend(&cashier, task, amount, after(hours * HOUR));
    }
    let now = after(24 * 31 * HOUR + 1);
    let expected = [4, 4, 4, 4, 1_115, 10, 10, 10, 10, 50, 1, 1, 1, 1, 5, 0];
    assert_eq!(used(&cashier), expected);
    cashier.close().await;
    drop(cashier);
    let (cashier, _) = start(dir.path(), &plan(&rules), now);
    assert_eq!(used(&cashier), expected);
}

#[tokio::test]
async fn what_the_map_alone_knows_counts_in_every_window() {
    let (dir, copy, page) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Page::new());
    let rules = [daily(100), rule(Window::Hour, "any", Unit::Usd, 90), rule(Window::Total, "any", Unit::Usd, 1_000)];
    let plan = plan(&rules);
    let cashier = Cashier::open(dir.path(), Arc::clone(&page) as _, &plan, Durability::Full, false, NOW).unwrap();
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    spend(&cashier, task, 10, NOW);
    cashier.flush().await;
    for name in ["meter.db", "meter.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    spend(&cashier, task, 30, after(1));
    let _under_way = cashier.admit_now(&asked(task, 20), after(1)).unwrap();
    let again = Cashier::open(copy.path(), page.survivor(), &plan, Durability::Full, true, after(2)).unwrap();
    assert_eq!(used(&again), [60, 60, 60]);
}

#[tokio::test]
async fn a_limit_that_is_set_in_the_middle_of_a_day_knows_what_the_day_has_used() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[]), NOW);
    spend(&cashier, task, 70, NOW);
    cashier.apply(&plan(&[daily(100)]), NOW);
    assert_eq!(used(&cashier), [70]);
    assert!(cashier.admit_now(&asked(task, 31), NOW).is_err());
    cashier.apply(&plan(&[daily(70)]), NOW);
    assert!(!cashier.is_open(task), "lowered to what is spent");
    cashier.apply(&plan(&[daily(71)]), NOW);
    assert!(cashier.is_open(task), "and raised again");
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&[daily(60)]), NOW);
    assert!(!cashier.is_open(task), "edited while the sidecar was down");
    assert_eq!(used(&cashier), [70]);
}

#[test]
fn a_clock_that_is_set_gives_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), NOW);
    spend(&cashier, task, 60, NOW);
    spend(&cashier, task, 50, after(24 * HOUR));
    assert_eq!(used(&cashier), [50], "set forward by a day");
    cashier.tick(NOW);
    assert_eq!(used(&cashier), [110], "and back: the day has been spent in, whatever the clock said then");
    assert!(!cashier.is_open(task));
    cashier.tick(after(48 * HOUR));
    assert_eq!((used(&cashier), cashier.is_open(task)), (vec![0], true));
}

#[tokio::test]
async fn an_extension_ends_by_itself_also_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let budget = [LimitRule::budget(Pico::new(100))];
    let (cashier, task) = start(dir.path(), &plan(&budget), NOW);
    spend(&cashier, task, 100, NOW);
    assert!(!cashier.is_open(task));
    let left = cashier.extend(&path("research"), Pico::new(50), after(HOUR), 0, NOW).unwrap();
    assert_eq!((left, cashier.is_open(task)), (Some(Pico::new(50)), true));
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&budget), after(HOUR - 1));
    assert!(cashier.is_open(task));
    spend(&cashier, task, 20, after(HOUR - 1));
    cashier.tick(after(HOUR));
    assert!(!cashier.is_open(task));
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&budget), after(2 * HOUR));
    assert!(!cashier.is_open(task));
    assert_eq!(used(&cashier), [120]);
}

#[test]
fn what_is_left_when_an_extension_ends_is_what_the_kernel_reads() {
    let (dir, page) = (tempfile::tempdir().unwrap(), Page::new());
    let cashier = super::fake::open(dir.path(), &page, Some(100), false);
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    spend(&cashier, task, 20, NOW);
    cashier.extend(&path("research"), Pico::new(50), after(HOUR / 3), 0, NOW).unwrap();
    cashier.tick(after(HOUR / 2));
    assert_eq!(used(&cashier), [20]);
    super::fake::assert_published(&cashier, &page);
}

#[tokio::test]
async fn a_new_window_is_there_for_who_waits_whoever_took_notice_of_it_first() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[rule(Window::Hour, "any", Unit::Usd, 100)]), NOW);
    spend(&cashier, task, 60, NOW);
    let _long = cashier.admit_now(&asked(task, 30), NOW).unwrap();
    let theirs = Arc::clone(&cashier);
    #[expect(clippy::disallowed_methods, reason = "what it comes to is asked for")]
    let waiter = tokio::spawn(async move { theirs.admit(asked(task, 40), NOW).await });
    while cashier.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let other = cashier.admit_now(&asked(task, 10), after(HOUR)).unwrap();
    cashier.tick(after(HOUR + 1));
    let waiter = tokio::time::timeout(Duration::from_secs(10), waiter).await.unwrap();
    assert_eq!(waiter.unwrap().unwrap().amount.get() + other.amount.get(), 50);
}

#[tokio::test]
async fn a_funding_is_never_lost() {
    let dir = tempfile::tempdir().unwrap();
    let budget = [LimitRule::budget(Pico::new(100))];
    let (cashier, task) = start(dir.path(), &plan(&budget), NOW);
    spend(&cashier, task, 100, NOW);
    cashier.fund(&path("research"), Pico::new(30), 0, NOW).unwrap();
    // Killed: nothing was closed.
    let copy = tempfile::tempdir().unwrap();
    for name in ["meter.db", "meter.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let (again, task) = start(copy.path(), &plan(&budget), NOW);
    assert!(again.is_open(task));
    assert_eq!(again.status_of(&path("research")).unwrap().remaining_usd, Some(Pico::new(30)));
}

#[tokio::test]
async fn what_people_shut_stays_shut_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, _) = start(dir.path(), &plan(&[]), NOW);
    assert!(cashier.revoke(&path("research"), "it mails customers", Some(1_000), NOW).unwrap());
    assert!(!cashier.revoke(&path("research"), "again", None, NOW).unwrap(), "it is so already");
    cashier.bind(&path("other/t"), &given(None), NOW).unwrap();
    assert!(cashier.close_task(&path("other/t"), TaskStatus::Failed, None, NOW).unwrap());
    cashier.close().await;
    drop(cashier);
    let (cashier, task) = start(dir.path(), &plan(&[]), NOW);
    let status = cashier.status_of(&path("research")).unwrap();
    assert_eq!((status.state, status.reason.as_deref()), ("revoked", Some("it mails customers")));
    assert!(!cashier.is_open(task));
    assert!(cashier.restore(&path("research"), None, NOW).unwrap());
    assert!(cashier.is_open(task));
    let error = cashier.bind(&path("other/t"), &given(None), NOW).unwrap_err().to_string();
    assert!(error.contains("`other/t` is closed"), "{error}");
    assert!(!cashier.restore(&path("other/t"), None, NOW).unwrap(), "a closed task is closed for good");
    assert_eq!(cashier.status_of(&path("other/t")).unwrap().status, Some("failed"));
}

#[tokio::test]
async fn an_agent_that_is_renamed_keeps_what_it_used() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[daily(100)]), NOW);
    spend(&cashier, task, 70, NOW);
    let policy = Policy { limits: vec![daily(100)], ..Policy::default() };
    let renamed = Plan {
        agents: vec![(path("study"), policy)],
        renamed: vec![(path("research"), path("study"))],
        ..Plan::default()
    };
    assert_eq!(cashier.apply(&renamed, NOW), [path("research")], "it has a cgroup, whose name can't be changed");
    cashier.close().await;
    drop(cashier);
    let cashier = Cashier::open(dir.path(), Page::new(), &renamed, Durability::Full, false, NOW).unwrap();
    assert!(cashier.status_of(&path("research")).is_none());
    let study = cashier.status_of(&path("study/t")).unwrap();
    assert_eq!(study.spent_usd, Pico::new(70));
    assert_eq!(cashier.status_of(&path("study")).unwrap().limits[0].spent, "0.00000000007");
}

#[test]
fn ten_tasks_under_an_agent_spend_what_the_agent_has() {
    let dir = tempfile::tempdir().unwrap();
    let rules = [LimitRule::budget(Pico::new(500)), rule(Window::Task, "any", Unit::Usd, 100)];
    let (cashier, _) = start(dir.path(), &plan(&rules), NOW);
    let mut total = 0;
    for n in 0..10 {
        let task = cashier.bind(&path(&format!("research/{n}")), &given(None), NOW).unwrap();
        while let Ok(hold) = cashier.admit_now(&asked(task, 30), NOW) {
            hold.settle(exchange(30, NOW));
            total += 30;
        }
        assert!(spent(&cashier, &format!("research/{n}")) <= 90, "a task's own limit is 100");
    }
    assert_eq!((total, spent(&cashier, "research")), (480, 480));
}

#[test]
fn a_cap_of_zero_blocks_what_is_priced_and_no_cap_is_not_one_of_zero() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[daily(0)]), NOW);
    assert!(cashier.admit_now(&asked(task, 1), NOW).is_err());
    assert!(cashier.is_open(task), "the network goes on");
    spend(&cashier, task, 0, NOW);
    cashier.apply(&plan(&[]), NOW);
    spend(&cashier, task, 1_000_000, NOW);
}

#[test]
fn requests_are_counted_whatever_they_cost() {
    let dir = tempfile::tempdir().unwrap();
    let (cashier, task) = start(dir.path(), &plan(&[rule(Window::Total, "any", Unit::Requests, 3)]), NOW);
    let held = cashier.admit_now(&asked(task, 0), NOW).unwrap();
    spend(&cashier, task, 0, NOW);
    spend(&cashier, task, 0, NOW);
    let Err(Refused::Budget { facts, .. }) = cashier.admit_now(&asked(task, 0), NOW) else { panic!("a fourth") };
    let text = facts.sentence();
    assert!(
        text.contains("limit total 3 requests (any): 2 requests spent, 1 request held, 1 request needed"),
        "{text}"
    );
    held.release();
    assert!(cashier.admit_now(&asked(task, 0), NOW).is_ok());
}
