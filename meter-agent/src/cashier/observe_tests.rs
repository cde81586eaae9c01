//! The cashier on the way to a wall: slowed down, told, stopped for what is unusual, and going on.

use std::{sync::Arc, time::Duration};

use super::{
    fake::{NOW, Page, asked, given, path},
    *,
};
use crate::{
    accounts::{
        LimitRule,
        policy::{AtLimit, Models, Policy, Reaction, Throttle, Watch},
    },
    clock,
    ledger::Reader,
};

struct Desk {
    cashier: Arc<Cashier>,
    task: AccountRef,
    dir: tempfile::TempDir,
}

fn desk(budget: i64, policy: Policy) -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let page = Page::new();
    let limits = vec![LimitRule::budget(Pico::new(budget))];
    let plan = Plan { agents: vec![(path("research"), Policy { limits, ..policy })], ..Plan::default() };
    let cashier = Cashier::open(dir.path(), page, &plan, Durability::Full, false, NOW).unwrap();
    let task = cashier.bind(&path("research/t"), &given(None), NOW).unwrap();
    Desk { cashier, task, dir }
}

impl Desk {
    fn spend(&self, amount: i64) {
        let hold = self.cashier.admit_now(&asked(self.task, amount), NOW).unwrap();
        hold.settle(super::fake::row(amount));
    }

    async fn admit(&self) -> Result<Hold, Refused> {
        self.cashier.admit(asked(self.task, 1), clock::now()).await
    }
}

/// Reads what was told, by kind.
async fn told(desk: &Desk, kind: &str) -> usize {
    desk.cashier.flush().await;
    let reader = Reader::open(desk.dir.path()).unwrap();
    let filter = crate::ledger::EventFilter { account: None, kind: crate::events::EventKind::named(kind), limit: 100 };
    reader.events(&filter).unwrap().len()
}

#[tokio::test]
async fn one_request_after_the_other_passes_in_order_and_who_leaves_takes_no_turn() {
    let desk = desk(1_000, Policy { throttle: Some(Throttle::PerMinute(300)), ..Policy::default() });
    desk.spend(950);
    let started = tokio::time::Instant::now();
    desk.admit().await.unwrap().release();
    assert!(started.elapsed() < Duration::from_millis(150), "the first passes at once");
    let gone = tokio::time::timeout(Duration::from_millis(20), desk.admit()).await;
    assert!(gone.is_err() && desk.cashier.paced() == 0);
    for _ in 0..3 {
        desk.admit().await.unwrap().release();
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(600) && took < Duration::from_millis(1_500), "{took:?}");
}

#[tokio::test]
async fn money_lets_everybody_pass_who_is_slowed_down() {
    for throttle in [Throttle::PerMinute(1), Throttle::Proportional(Duration::from_mins(10))] {
        money_lets_pass(throttle).await;
    }
}

async fn money_lets_pass(throttle: Throttle) {
    let desk = desk(1_000, Policy { throttle: Some(throttle), ..Policy::default() });
    desk.spend(950);
    if throttle == Throttle::PerMinute(1) {
        desk.admit().await.unwrap().release();
    }
    let cashier = Arc::clone(&desk.cashier);
    let task = desk.task;
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let waiting = tokio::spawn(async move { cashier.admit(asked(task, 1), clock::now()).await });
    while desk.cashier.paced() == 0 {
        tokio::task::yield_now().await;
    }
    desk.cashier.apply(&Plan { agents: vec![(path("research"), Policy::default())], ..Plan::default() }, NOW);
    tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap().release();
}

#[tokio::test]
async fn the_request_that_is_one_too_many_stops_its_account() {
    let watch = Watch { repeats: Some(2), on_repeat: Some(Reaction::Stop), ..Watch::default() };
    let desk = desk(1_000, Policy { watch, ..Policy::default() });
    assert!(desk.cashier.watches_repeats(desk.task));
    let ask = || Asked { fingerprint: Some(7), ..asked(desk.task, 1) };
    desk.cashier.admit(ask(), NOW).await.unwrap().release();
    let refused = desk.cashier.admit(ask(), NOW).await.unwrap_err();
    assert!(matches!(refused, Refused::NotOpen { state: "revoked", reason: Some(_), .. }), "{refused:?}");
    assert_eq!((told(&desk, "repeat").await, told(&desk, "revoked").await), (1, 1));
    assert_eq!(desk.cashier.status_of(&path("research")).unwrap().state, "open");
}

#[test]
fn repeats_are_watched_as_the_config_in_force_says() {
    let desk = desk(1_000, Policy::default());
    let apply = |repeats| {
        let watch = Watch { repeats, ..Watch::default() };
        let policy = Policy { watch, ..Policy::default() };
        desk.cashier.apply(&Plan { agents: vec![(path("research"), policy)], ..Plan::default() }, NOW);
        desk.cashier.watches_repeats(desk.task)
    };
    assert!(!desk.cashier.watches_repeats(desk.task));
    assert!(apply(Some(2)) && !apply(Some(0)) && apply(Some(3)) && !apply(None));
}

#[tokio::test]
async fn what_goes_beyond_a_limit_is_counted_and_told() {
    let desk =
        desk(100, Policy { at_limit: Some(AtLimit::Continue), throttle: Some(Throttle::Off), ..Policy::default() });
    for _ in 0..6 {
        desk.spend(25);
    }
    let status = desk.cashier.status_of(&path("research")).unwrap();
    assert_eq!((status.stage, status.overage_usd, status.state), ("stop", Pico::new(50), "open"));
    assert_eq!((told(&desk, "overage").await, told(&desk, "stage").await), (3, 1), "at 100, 120 and 150 %");
}

#[tokio::test]
async fn a_model_that_is_named_after_admission_is_looked_at_too() {
    let models = Models { allow: vec!["gpt-5".to_owned()], deny: vec![] };
    let desk = desk(100, Policy { models, ..Policy::default() });
    assert!(desk.cashier.permit(desk.task, Some("gpt-5"), NOW).is_ok());
    for other in [Some("o3"), None] {
        assert!(matches!(desk.cashier.permit(desk.task, other, NOW), Err(Refused::Model { .. })));
    }
}
