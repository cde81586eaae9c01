//! Waiting for other holds: who waits, in which order, and how a wait ends.

use std::{sync::Arc, time::Duration};

use meter_common::AccountRef;

use super::{
    fake::{NOW, Page, asked, given, open, path, row, spent},
    *,
};
use crate::{
    accounts::{LimitKey, LimitRule, Window, policy::Policy},
    clock::Timestamp,
    tasks,
};

/// A limit of 100 on the agent.
fn desk() -> (tempfile::TempDir, Arc<Cashier>, AccountRef) {
    let dir = tempfile::tempdir().unwrap();
    let cashier = open(dir.path(), &Page::new(), Some(100), false);
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    (dir, cashier, task)
}

/// Asks in a task of its own, and returns once it waits.
#[expect(clippy::disallowed_methods, reason = "what it comes to is asked for")]
async fn waits(
    cashier: &Arc<Cashier>,
    account: AccountRef,
    amount: i64,
) -> tokio::task::JoinHandle<Result<Hold, Refused>> {
    let (theirs, before) = (Arc::clone(cashier), cashier.waiting());
    let waiter = tokio::spawn(async move { theirs.admit(asked(account, amount), NOW).await });
    while cashier.waiting() == before {
        assert!(!waiter.is_finished(), "it does not wait");
        tokio::task::yield_now().await;
    }
    waiter
}

fn held(cashier: &Cashier) -> i64 {
    cashier.held(&path("host")).unwrap().get()
}

#[tokio::test]
async fn what_fits_once_others_have_ended_waits_for_them() {
    let (_dir, cashier, task) = desk();
    let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let waiter = waits(&cashier, task, 60).await;
    first.settle(row(10));
    let second = waiter.await.unwrap().unwrap();
    assert_eq!((second.amount.get(), held(&cashier)), (60, 60));
    second.settle(row(5));
    assert_eq!((spent(&cashier, "research"), held(&cashier), cashier.waiting()), (15, 0, 0));
}

#[tokio::test]
async fn what_never_fits_is_refused_at_once() {
    let (_dir, cashier, task) = desk();
    let _held = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    assert!(matches!(cashier.admit(asked(task, 101), NOW).await, Err(Refused::Budget { .. })));
}

#[tokio::test]
async fn what_no_longer_fits_when_the_others_have_ended_is_refused() {
    let (_dir, cashier, task) = desk();
    let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let waiter = waits(&cashier, task, 60).await;
    first.settle(row(80));
    let Err(Refused::Budget { facts, .. }) = waiter.await.unwrap() else { panic!("not refused") };
    assert_eq!((facts.spent.amount, facts.held.amount, facts.needed.amount), (80, 0, 60));
}

#[tokio::test]
async fn nobody_overtakes() {
    let (_dir, cashier, task) = desk();
    let first = cashier.admit_now(&asked(task, 60), NOW).unwrap();
    let large = waits(&cashier, task, 90).await;
    // It would fit now, and comes later.
    let small = waits(&cashier, task, 30).await;
    first.settle(row(0));
    let large = large.await.unwrap().unwrap();
    assert!(!small.is_finished());
    large.settle(row(0));
    assert_eq!(small.await.unwrap().unwrap().amount.get(), 30);
}

#[tokio::test]
async fn what_costs_nothing_waits_for_nobody() {
    let (_dir, cashier, task) = desk();
    let _first = cashier.admit_now(&asked(task, 60), NOW).unwrap();
    let _large = waits(&cashier, task, 90).await;
    assert!(cashier.admit(asked(task, 0), NOW).await.is_ok());
}

#[tokio::test]
async fn whoever_leaves_waits_no_longer_and_holds_nothing() {
    let (_dir, cashier, task) = desk();
    let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let gone = waits(&cashier, task, 60).await;
    let next = waits(&cashier, task, 50).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(cashier.waiting(), 1);
    first.settle(row(0));
    assert_eq!(next.await.unwrap().unwrap().amount.get(), 50);
    assert_eq!(held(&cashier), 0, "the hold was dropped with its owner, and charged");
}

#[tokio::test]
async fn who_leaves_the_head_of_a_queue_lets_those_behind_pass() {
    let (_dir, cashier, task) = desk();
    let _first = cashier.admit_now(&asked(task, 60), NOW).unwrap();
    let large = waits(&cashier, task, 90).await;
    let (small, smaller) = (waits(&cashier, task, 30).await, waits(&cashier, task, 10).await);
    large.abort();
    assert!(large.await.unwrap_err().is_cancelled());
    // Long before their own time is over, and with nobody's hold ended.
    let both = async { (small.await.unwrap().unwrap(), smaller.await.unwrap().unwrap()) };
    let (small, smaller) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    assert_eq!((small.amount.get(), smaller.amount.get(), held(&cashier)), (30, 10, 100));
}

#[tokio::test]
async fn a_hold_that_comes_as_its_owner_leaves_is_given_back() {
    let (_dir, cashier, task) = desk();
    for _ in 0..50 {
        let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
        let waiter = waits(&cashier, task, 60).await;
        let freed = tasks::spawn_thread("test", move || first.settle(row(0))).unwrap();
        waiter.abort();
        if let Ok(Ok(hold)) = waiter.await {
            hold.release();
        }
        freed.join().unwrap();
        assert_eq!((held(&cashier), cashier.waiting(), spent(&cashier, "host")), (0, 0, 0));
    }
}

#[tokio::test]
async fn money_that_comes_ends_the_wait() {
    let (_dir, cashier, task) = desk();
    let _first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let waiter = waits(&cashier, task, 60).await;
    let theirs = Arc::clone(&cashier);
    tokio::task::spawn_blocking(move || theirs.fund(&path("research"), Pico::new(40), 0, NOW)).await.unwrap().unwrap();
    assert_eq!(waiter.await.unwrap().unwrap().amount.get(), 60);
}

#[tokio::test]
async fn a_revoked_account_s_requests_wait_no_longer() {
    let (_dir, cashier, task) = desk();
    let first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let waiter = waits(&cashier, task, 60).await;
    assert!(cashier.revoke(&path("research"), "a test", None, NOW).unwrap());
    let Err(Refused::NotOpen { account, state, reason, .. }) = waiter.await.unwrap() else { panic!("admitted") };
    assert_eq!((account.as_str(), state, reason.as_deref()), ("research", "revoked", Some("a test")));
    first.settle(row(0));
}

/// A limit of 100 on the agent, with that much patience.
fn patience(cashier: &Cashier, wait: Duration) {
    let limits = vec![LimitRule::budget(Pico::new(100))];
    let policy = Policy { limits, wait: Some(wait), ..Policy::default() };
    cashier.apply(&Plan { agents: vec![(path("research"), policy)], ..Plan::default() }, NOW);
}

#[tokio::test]
async fn a_wait_ends_with_what_can_be_had_when_its_time_is_over() {
    let (_dir, cashier, task) = desk();
    patience(&cashier, Duration::from_millis(50));
    let _first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    let waiter = waits(&cashier, task, 60).await;
    let Err(Refused::Budget { facts, .. }) = waiter.await.unwrap() else { panic!("not refused") };
    assert_eq!((facts.held.amount, facts.needed.amount), (80, 60));
    assert_eq!(cashier.waiting(), 0);
}

#[tokio::test]
async fn a_policy_that_does_not_wait_refuses_at_once() {
    let (_dir, cashier, task) = desk();
    patience(&cashier, Duration::ZERO);
    let _first = cashier.admit_now(&asked(task, 80), NOW).unwrap();
    assert!(matches!(cashier.admit(asked(task, 60), NOW).await, Err(Refused::Budget { .. })));
}

#[tokio::test]
async fn a_window_that_begins_ends_the_wait_of_what_it_has_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let cashier = open(dir.path(), &Page::new(), None, false);
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    let key = LimitKey { window: Window::Hour, ..LimitKey::BUDGET };
    let policy = Policy { limits: vec![LimitRule { key, amount: 100 }], ..Policy::default() };
    cashier.apply(&Plan { agents: vec![(path("research"), policy)], ..Plan::default() }, NOW);
    cashier.admit_now(&asked(task, 50), NOW).unwrap().settle(row(50));
    let other = cashier.admit_now(&asked(task, 40), NOW).unwrap();
    let waiter = waits(&cashier, task, 45).await;
    cashier.tick(Timestamp::from_micros(NOW.micros() + 3_600_000_000));
    assert_eq!(waiter.await.unwrap().unwrap().amount.get(), 45);
    other.settle(row(0));
}
