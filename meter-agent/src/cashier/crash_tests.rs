//! Disasters, by name: the sidecar dies at each step, and is started on what is left.
//!
//! What is left is a copy of the ledger as it stood at one moment and of the kernel's map at another, which is
//! exactly what a death between the two leaves.

use std::{path::Path, sync::Arc};

use meter_common::{AccountRef, state};

use super::{
    fake::{NOW, Page, admit, assert_published, open, path, row, spent},
    *,
};
use crate::{
    exchange::Outcome,
    kernel::Book,
    ledger::{LedgerError, Reader, RowFilter},
};

struct Scene {
    dir: tempfile::TempDir,
    page: Arc<Page>,
    cashier: Arc<Cashier>,
    task: AccountRef,
}

async fn scene() -> Scene {
    let dir = tempfile::tempdir().unwrap();
    let page = Page::new();
    let cashier = open(dir.path(), &page, Some(1_000), false);
    let task = cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
    admit(&cashier, task, 100).unwrap().settle(row(40));
    cashier.flush().await;
    Scene { dir, page, cashier, task }
}

impl Scene {
    /// The ledger's files as a death now would leave them.
    async fn ledger(&self) -> tempfile::TempDir {
        self.cashier.flush().await;
        self.ledger_as_it_is()
    }

    fn ledger_as_it_is(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for name in ["meter.db", "meter.db-wal"] {
            let from = self.dir.path().join(name);
            if from.exists() {
                std::fs::copy(from, copy.path().join(name)).unwrap();
            }
        }
        copy
    }
}

/// Starts on what is left, and checks what every start must keep.
fn restart(ledger: &Path, page: &Arc<Page>) -> Arc<Cashier> {
    let before: Vec<_> = (0..4).map(|slot| page.read(slot)).collect();
    let cashier = open(ledger, page, Some(1_000), true);
    assert_published(&cashier, page);
    for (slot, old) in (0u32..).zip(before) {
        let new = page.read(slot);
        if new.generation == old.generation {
            assert!(new.spent >= old.spent && new.hold_granted >= old.hold_granted, "slot {slot} fell");
            assert_eq!(new.hold_granted, new.hold_ended, "no hold survives its sidecar");
        }
    }
    cashier
}

fn unresolved(ledger: &Path) -> Vec<(AccountPath, i64)> {
    let rows = Reader::open(ledger).unwrap().rows(&RowFilter { account: None, limit: 100 }).unwrap();
    let lost = rows.into_iter().filter(|r| r.outcome == Outcome::Unresolved);
    lost.map(|r| (r.account, r.cost_usd.get())).collect()
}

#[tokio::test]
async fn dead_before_the_hold_s_row() {
    let scene = scene().await;
    let ledger = scene.ledger().await;
    let hold = admit(&scene.cashier, scene.task, 300).unwrap();
    let page = scene.page.survivor();
    let after = restart(ledger.path(), &page);
    assert_eq!(spent(&after, "research/t"), 340, "the map knows of the hold");
    assert_eq!(spent(&after, "host"), 340, "and it is charged once");
    assert_eq!(unresolved(ledger.path()), [(path("research/t"), 300)]);
    hold.settle(row(0));
}

#[tokio::test]
async fn dead_after_the_hold_s_row() {
    let scene = scene().await;
    let hold = admit(&scene.cashier, scene.task, 300).unwrap();
    let (ledger, page) = (scene.ledger().await, scene.page.survivor());
    let after = restart(ledger.path(), &page);
    assert_eq!((spent(&after, "research/t"), spent(&after, "host")), (340, 340));
    assert_eq!(unresolved(ledger.path()), [(path("research/t"), 300)]);
    hold.settle(row(0));
}

#[tokio::test]
async fn dead_after_the_hold_s_row_and_the_machine_too() {
    let scene = scene().await;
    let hold = admit(&scene.cashier, scene.task, 300).unwrap();
    let ledger = scene.ledger().await;
    let after = open(ledger.path(), &Page::new(), Some(1_000), false);
    assert_eq!(spent(&after, "research"), 340);
    assert_eq!(after.account_of(scene.task), None, "a binding does not survive a boot");
    hold.settle(row(0));
}

#[tokio::test]
async fn dead_before_the_settlement_s_row() {
    let scene = scene().await;
    for (cost, expected) in [(120, 340), (450, 490)] {
        let hold = admit(&scene.cashier, scene.task, 300).unwrap();
        let ledger = scene.ledger().await;
        hold.settle(row(cost));
        let page = scene.page.survivor();
        let base = if cost == 450 { 120 } else { 0 };
        let after = restart(ledger.path(), &page);
        assert_eq!(spent(&after, "research/t"), base + expected, "cost {cost}: the larger of ledger and map");
        assert_eq!(spent(&after, "host"), base + expected);
    }
}

#[tokio::test]
async fn dead_after_the_settlement_s_row() {
    let scene = scene().await;
    admit(&scene.cashier, scene.task, 300).unwrap().settle(row(120));
    let (ledger, page) = (scene.ledger().await, scene.page.survivor());
    let after = restart(ledger.path(), &page);
    assert_eq!(spent(&after, "research/t"), 160);
    assert_eq!(unresolved(ledger.path()), []);
}

#[tokio::test]
async fn dead_twice_charges_once() {
    let scene = scene().await;
    let ledger = scene.ledger().await;
    let hold = admit(&scene.cashier, scene.task, 300).unwrap();
    let page = scene.page.survivor();
    for _ in 0..3 {
        let after = restart(ledger.path(), &page);
        assert_eq!(spent(&after, "host"), 340);
        after.close().await;
    }
    hold.settle(row(0));
}

#[tokio::test]
async fn a_map_behind_the_ledger_takes_nothing_back() {
    let scene = scene().await;
    let page = scene.page.survivor();
    admit(&scene.cashier, scene.task, 300).unwrap().settle(row(120));
    let after = restart(scene.ledger().await.path(), &page);
    assert_eq!(spent(&after, "research"), 160);
}

#[tokio::test]
async fn a_binding_that_survived_goes_on_and_a_stale_slot_does_not() {
    let scene = scene().await;
    let ledger = scene.ledger().await;
    let late = scene.cashier.bind(&path("research/late"), &fake::given(None), NOW).unwrap();
    let page = scene.page.survivor();
    let after = restart(ledger.path(), &page);
    assert_eq!(after.account_of(scene.task), Some(path("research/t")), "its cgroup still refers to it");
    assert!(admit(&after, scene.task, 10).is_ok());
    assert_eq!(after.account_of(late), None);
    assert_eq!(page.read(late.slot).state, state::FREE);
    assert_ne!(page.read(late.slot).generation, late.generation);
    let names: Vec<_> = after.bound().into_iter().map(|(p, _)| p.to_string()).collect();
    assert_eq!(names, ["host", "research", "research/t"]);
}

#[tokio::test]
async fn limits_come_from_config_and_fundings_and_never_from_the_map() {
    let scene = scene().await;
    let cashier = Arc::clone(&scene.cashier);
    tokio::task::spawn_blocking(move || cashier.fund(&path("research"), Pico::new(500), 0, NOW).unwrap())
        .await
        .unwrap();
    let (ledger, page) = (scene.ledger().await, scene.page.survivor());
    let agent = scene.cashier.bound()[1].1;
    let mut forged = page.read(agent.slot);
    forged.remaining = 1;
    page.publish(agent.slot, &forged);
    let after = restart(ledger.path(), &page);
    assert_eq!(page.read(agent.slot).remaining, 1_460, "the funding is not lost");
    after.close().await;
    let after = open(ledger.path(), &page, None, true);
    assert_eq!(after.status()[1].remaining_usd, None, "the config took the limit away");
    after.close().await;
    let after = open(ledger.path(), &page, Some(100), true);
    assert_eq!(after.status()[1].remaining_usd, Some(Pico::new(560)), "fundings waited for a limit");
}

#[tokio::test]
async fn a_stopped_account_stays_stopped_until_its_limit_is_raised() {
    let scene = scene().await;
    let agent = scene.cashier.bound()[1].1;
    admit(&scene.cashier, scene.task, 930).unwrap().settle(row(930));
    admit(&scene.cashier, scene.task, 950).unwrap_err();
    scene.cashier.finish_stop(agent);
    let (ledger, page) = (scene.ledger().await, scene.page.survivor());
    let after = restart(ledger.path(), &page);
    assert_eq!(page.read(agent.slot).state, state::STOPPED, "30 are left, less than the smallest hold");
    after.close().await;
    let after = open(ledger.path(), &page, Some(2_000), true);
    assert_eq!(page.read(agent.slot).state, state::OPEN);
    drop(after);
}

#[tokio::test]
async fn a_task_s_budget_survives() {
    let scene = scene().await;
    let cashier = Arc::clone(&scene.cashier);
    let bind = move || cashier.bind(&path("research/u"), &fake::given(Some(70)), NOW).unwrap();
    let task = tokio::task::spawn_blocking(bind).await.unwrap();
    let (ledger, page) = (scene.ledger().await, scene.page.survivor());
    let after = restart(ledger.path(), &page);
    assert_eq!(page.read(task.slot).remaining, 70);
    assert!(admit(&after, task, 71).is_err());
}

#[tokio::test]
async fn a_second_daemon_on_the_same_ledger_is_refused() {
    let scene = scene().await;
    let book: Arc<dyn Book> = Page::new();
    let second = Cashier::open(scene.dir.path(), book, &Plan::default(), Durability::Full, false, NOW);
    assert!(matches!(second, Err(CashierError::Ledger(LedgerError::Locked { .. }))));
}
