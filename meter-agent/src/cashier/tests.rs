//! What the cashier promises to the proxy, the enforcer and the CLI.

use std::sync::{Arc, Barrier};

use meter_common::{AccountRef, UNLIMITED, flag, state};

use super::{
    fake::{NOW, Page, admit, assert_published, open, path, row, spent},
    *,
};
use crate::{
    clock,
    exchange::Outcome,
    kernel::Book,
    ledger::{Reader, RowFilter},
};

struct Desk {
    dir: tempfile::TempDir,
    page: Arc<Page>,
    cashier: Arc<Cashier>,
    task: AccountRef,
}

/// Agent `research` with a budget, its task `t` bound.
fn desk(budget: Option<i64>) -> Desk {
    let dir = tempfile::tempdir().unwrap();
    let page = Page::new();
    let cashier = open(dir.path(), &page, budget, false);
    let task = cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
    Desk { dir, page, cashier, task }
}

impl Desk {
    fn agent(&self) -> AccountRef {
        self.cashier.bind(&path("research"), &fake::given(None), NOW).unwrap()
    }

    fn agent_state(&self) -> u32 {
        self.page.read(self.agent().slot).state
    }

    fn rows(&self, account: Option<&str>) -> Vec<Row> {
        let filter = RowFilter { account: account.map(path), limit: 1_000 };
        Reader::open(self.dir.path()).unwrap().rows(&filter).unwrap()
    }
}

#[tokio::test]
async fn an_exchange_is_held_settled_and_written() {
    let desk = desk(Some(1_000));
    let mut hold = admit(&desk.cashier, desk.task, 300).unwrap();
    assert_eq!(desk.page.read(desk.agent().slot).hold_granted, 300);
    assert_eq!(desk.page.read(desk.agent().slot).remaining, 1_000);
    hold.durable().await.unwrap();
    let id = hold.id;
    hold.settle(row(120));
    assert_published(&desk.cashier, &desk.page);
    assert_eq!(desk.page.read(desk.agent().slot).remaining, 880);
    assert_eq!(desk.page.read(desk.task.slot).remaining, UNLIMITED);
    desk.cashier.flush().await;
    let rows = desk.rows(Some("research"));
    assert_eq!(rows, [Row { id, held_usd: Pico::new(300), ..row(120) }]);
    let totals = Reader::open(desk.dir.path()).unwrap().accounts().unwrap();
    let totals: Vec<_> = totals.iter().map(|t| (t.path.as_str(), t.spent.get(), t.held.get(), t.exchanges)).collect();
    assert_eq!(totals, [("host", 120, 0, 1), ("research", 120, 0, 1), ("research/t", 120, 0, 1)]);
}

#[tokio::test]
async fn a_loop_is_stopped_at_its_first_refusal_whatever_came_for_nothing_before() {
    for restart in [false, true] {
        let desk = desk(Some(1_000));
        admit(&desk.cashier, desk.task, 0).unwrap().settle(row(0));
        admit(&desk.cashier, desk.task, 600).unwrap().settle(row(600));
        let Desk { dir, page, mut cashier, mut task } = desk;
        if restart {
            cashier.flush().await;
            cashier.close().await;
            drop(cashier);
            cashier = open(dir.path(), &page, Some(1_000), true);
            task = cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
        }
        assert!(admit(&cashier, task, 600).is_err());
        let state = cashier.status_of(&path("research")).unwrap().state;
        assert_eq!(state, "draining", "restart: {restart}");
    }
}

#[test]
fn labels_are_bounded_over_all_openings_of_an_account() {
    let desk = desk(None);
    let open = |keys: std::ops::Range<usize>| {
        let labels = keys.map(|n| (format!("k{n}"), "v".to_owned())).collect();
        desk.cashier.bind(&path("research/t"), &Given { labels, ..Given::default() }, NOW)
    };
    open(0..10).unwrap();
    open(5..16).unwrap();
    assert!(open(15..17).unwrap_err().to_string().contains("these are 17"));
    assert_eq!(desk.cashier.status_of(&path("research/t")).unwrap().labels.len(), 16);
}

#[test]
fn sixty_four_at_once_never_spend_more_than_the_budget() {
    let desk = desk(Some(1_000));
    let start = Barrier::new(64);
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    let Ok(hold) = admit(&desk.cashier, desk.task, 100) else { return 0 };
                    assert!(desk.page.read(0).hold_granted <= 1_000);
                    hold.settle(row(100));
                    1
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(admitted, 10);
    assert_eq!(spent(&desk.cashier, "research"), 1_000);
    assert_eq!(desk.agent_state(), state::DRAINING);
    assert_published(&desk.cashier, &desk.page);
}

#[test]
fn one_request_too_dear_leaves_the_account_open() {
    let desk = desk(Some(1_000));
    admit(&desk.cashier, desk.task, 100).unwrap().settle(row(100));
    let Err(Refused::Budget { facts, .. }) = admit(&desk.cashier, desk.task, 5_000) else { panic!() };
    assert_eq!((facts.account.as_str(), facts.needed.amount), ("research", 5_000));
    assert!(desk.cashier.is_open(desk.task));
    assert_eq!(desk.agent_state(), state::OPEN);
    assert!(admit(&desk.cashier, desk.task, 100).is_ok());
}

#[test]
fn a_stop_drains_is_confirmed_and_is_lifted_by_money() {
    let desk = desk(Some(1_000));
    let mut told = desk.cashier.changes();
    let agent = desk.agent();
    let change = |state| StateChange { path: path("research"), account: agent, state };
    let (first, second) =
        (admit(&desk.cashier, desk.task, 500).unwrap(), admit(&desk.cashier, desk.task, 500).unwrap());
    first.settle(row(1_100));
    assert_eq!(told.try_recv().unwrap(), change(state::DRAINING));
    assert!(!desk.cashier.is_open(desk.task));
    assert!(matches!(admit(&desk.cashier, desk.task, 0), Err(Refused::NotOpen { state: "draining", .. })));
    desk.cashier.finish_stop(agent);
    assert_eq!(desk.agent_state(), state::DRAINING, "a hold is outstanding");
    second.settle(row(1));
    assert_eq!(told.try_recv().unwrap(), change(state::DRAINING), "the last hold's end is told");
    assert_eq!(desk.cashier.ending(), [change(state::DRAINING)]);
    desk.cashier.finish_stop(agent);
    assert_eq!(told.try_recv().unwrap(), change(state::STOPPED));
    assert_eq!(desk.agent_state(), state::STOPPED);
    assert_eq!(desk.page.read(desk.task.slot).state, state::OPEN, "the stop is the agent's");
    let left = desk.cashier.fund(&path("research"), Pico::new(500), 1_000, NOW).unwrap();
    assert_eq!(left, Pico::new(399));
    assert_eq!(told.try_recv().unwrap(), change(state::OPEN));
    assert_published(&desk.cashier, &desk.page);
    assert!(admit(&desk.cashier, desk.task, 399).is_ok());
}

#[tokio::test]
async fn an_account_that_loses_its_cgroup_while_it_drains_is_stopped() {
    let desk = desk(Some(100));
    admit(&desk.cashier, desk.task, 100).unwrap().settle(row(100));
    assert_eq!(state_of(&desk.cashier), State::Draining.as_str());
    desk.cashier.unbind(&path("research/t"));
    // The task's slot, and then its agent's.
    desk.cashier.flush().await;
    desk.cashier.flush().await;
    assert_eq!(desk.cashier.bound().len(), 1, "the host's");
    assert_eq!(state_of(&desk.cashier), State::Stopped.as_str());
    desk.cashier.close().await;
    let again = open(desk.dir.path(), &Page::new(), Some(100), false);
    assert_eq!(state_of(&again), State::Stopped.as_str());
}

#[tokio::test]
async fn an_account_without_a_cgroup_is_stopped_as_soon_as_its_limit_is_spent() {
    let desk = desk(Some(100));
    admit(&desk.cashier, desk.task, 60).unwrap().settle(row(60));
    desk.cashier.unbind(&path("research/t"));
    desk.cashier.flush().await;
    desk.cashier.flush().await;
    assert_eq!(state_of(&desk.cashier), State::Open.as_str());
    desk.cashier.apply(&fake::plan(Some(50)), NOW);
    assert_eq!(state_of(&desk.cashier), State::Stopped.as_str());
    desk.cashier.apply(&fake::plan(Some(100)), NOW);
    assert_eq!(state_of(&desk.cashier), State::Open.as_str());
}

#[tokio::test]
async fn what_drained_before_a_reboot_is_stopped_after_it() {
    let desk = desk(Some(100));
    admit(&desk.cashier, desk.task, 100).unwrap().settle(row(100));
    desk.cashier.close().await;
    let again = open(desk.dir.path(), &Page::new(), Some(100), false);
    assert_eq!(state_of(&again), State::Stopped.as_str());
    let agent = again.bind(&path("research"), &fake::given(None), NOW).unwrap();
    assert_eq!(again.ending(), [], "there is nothing to end");
    assert!(!again.is_open(agent));
}

fn state_of(cashier: &Cashier) -> &'static str {
    cashier.status_of(&path("research")).unwrap().state
}

#[test]
fn a_dropped_hold_is_charged_in_full_as_unresolved() {
    let desk = desk(None);
    let request = RequestLine { provider: "anthropic".to_owned(), ..RequestLine::default() }.into();
    drop(desk.cashier.admit_now(&Asked { request, ..fake::asked(desk.task, 70) }, NOW).unwrap());
    assert_eq!(spent(&desk.cashier, "research/t"), 70);
    desk.cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
    let rows = desk.rows(None);
    assert_eq!((rows[0].outcome, rows[0].cost_usd), (Outcome::Unresolved, Pico::new(70)));
    assert_eq!((rows[0].provider.as_str(), rows[0].process.pid), ("anthropic", 42));
}

#[test]
fn a_hold_settled_without_a_charge_costs_nothing() {
    let desk = desk(Some(100));
    admit(&desk.cashier, desk.task, 70).unwrap().settle(Row { outcome: Outcome::UpstreamUnreachable, ..row(0) });
    assert_eq!(spent(&desk.cashier, "host"), 0);
    assert!(admit(&desk.cashier, desk.task, 100).is_ok());
}

#[test]
fn a_growing_stream_is_bounded_by_the_limit() {
    let desk = desk(Some(100));
    let mut hold = admit(&desk.cashier, desk.task, 60).unwrap();
    assert!(hold.grow(Pico::new(40)) && !hold.grow(Pico::new(1)));
    assert_eq!(hold.amount, Pico::new(100));
    assert_published(&desk.cashier, &desk.page);
    hold.settle(row(90));
    assert_eq!(desk.page.read(desk.agent().slot).hold_ended, 100);
}

#[test]
fn refusals_and_free_calls_are_counted_for_what_they_are() {
    let desk = desk(None);
    desk.cashier.record(Row { outcome: Outcome::RefusedKernel, count: 5, ..row(0) });
    desk.cashier.record(row(0));
    let summary = desk.cashier.summary(&path("research")).unwrap();
    assert_eq!((summary.exchanges, summary.refusals, summary.spent), (1, 5, Pico::ZERO));
    assert_eq!(desk.cashier.summary(&path("nobody")), None);
}

#[test]
fn binding_again_gives_the_same_slot_and_unbinding_makes_it_stale() {
    let desk = desk(None);
    let (task, again) = (desk.task, desk.cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap());
    assert_eq!(task, again);
    assert_eq!(desk.cashier.account_of(task), Some(path("research/t")));
    assert_ne!((task.slot, task.generation), (0, 0));
    let hold = admit(&desk.cashier, task, 10).unwrap();
    desk.cashier.unbind(&path("research/t"));
    assert_eq!(desk.page.read(task.slot).state, state::OPEN, "a hold still refers to it");
    hold.settle(row(10));
    wait_until(|| desk.page.read(task.slot).state == state::FREE);
    assert_ne!(desk.page.read(task.slot).generation, task.generation);
    assert_eq!(desk.cashier.account_of(task), None);
    assert!(!desk.cashier.is_open(task));
    assert!(matches!(admit(&desk.cashier, task, 1), Err(Refused::NotOpen { state: "unknown", .. })));
    wait_until(|| desk.cashier.bound().len() == 1);
    assert_eq!(spent(&desk.cashier, "research/t"), 10, "what it spent stays");
    let new = desk.cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
    assert_ne!(new, task);
    assert_eq!(desk.page.read(new.slot).spent, 10);
}

#[test]
fn a_parent_keeps_its_slot_while_a_child_has_one() {
    let desk = desk(None);
    let agent = desk.agent();
    desk.cashier.unbind(&path("research"));
    desk.cashier.bind(&path("research/t"), &fake::given(None), NOW).unwrap();
    assert_eq!(desk.cashier.account_of(agent), Some(path("research")));
    desk.cashier.unbind(&path("research/t"));
    wait_until(|| desk.cashier.account_of(agent).is_none());
}

#[test]
fn out_of_slots_is_said() {
    let desk = desk(None);
    let mut books = desk.cashier.books.lock();
    while books.slots.take(crate::accounts::AccountId::new(9_999), crate::accounts::AccountId::HOST).is_some() {}
    drop(books);
    let error = desk.cashier.bind(&path("other"), &fake::given(None), NOW).unwrap_err().to_string();
    assert!(error.contains("all 16384 slots are bound"), "{error}");
}

#[test]
fn a_limit_of_zero_tells_the_kernel_to_let_connects_pass() {
    let desk = desk(Some(0));
    assert!(admit(&desk.cashier, desk.task, 1).is_err());
    let record = desk.page.read(desk.agent().slot);
    assert_eq!((record.flags, record.state, record.remaining), (flag::WALL_REQUESTS, state::OPEN, 0));
    assert!(admit(&desk.cashier, desk.task, 0).is_ok());
}

#[test]
fn a_task_s_own_budget_caps_it() {
    let desk = desk(Some(1_000));
    let capped = desk.cashier.bind(&path("research/u"), &fake::given(Some(50)), NOW).unwrap();
    assert_eq!(desk.page.read(capped.slot).remaining, 50);
    assert!(admit(&desk.cashier, capped, 51).is_err());
    assert!(admit(&desk.cashier, desk.task, 51).is_ok());
    let status = desk.cashier.status();
    let paths: Vec<_> = status.iter().map(|s| s.account.as_str()).collect();
    assert_eq!(paths, ["host", "research", "research/t", "research/u"]);
    let limit = LimitStatus {
        window: "total".to_owned(),
        category: "any".to_owned(),
        unit: "usd".to_owned(),
        limit: "0.00000000005".to_owned(),
        spent: "0".to_owned(),
        held: "0".to_owned(),
        remaining: "0.00000000005".to_owned(),
        reset: None,
    };
    assert_eq!(status[3].limits, [limit]);
    let one = desk.cashier.status_of(&path("research/u")).unwrap();
    assert_eq!((&one.account, &one.limits), (&status[3].account, &status[3].limits));
    assert!(desk.cashier.status_of(&path("research/v")).is_none());
}

#[tokio::test]
async fn what_is_held_below_an_account_is_told_without_its_status() {
    let desk = desk(None);
    let hold = admit(&desk.cashier, desk.task, 30).unwrap();
    let held = |account: &str| desk.cashier.held(&path(account));
    assert_eq!((held("research"), held("research/t")), (Some(Pico::new(30)), Some(Pico::new(30))));
    hold.settle(row(1));
    assert_eq!((held("research"), held("other")), (Some(Pico::ZERO), None));
}

#[test]
fn a_funding_that_cannot_be_says_why() {
    let desk = desk(None);
    let fund = |name: &str, amount| desk.cashier.fund(&path(name), amount, 0, NOW).unwrap_err().to_string();
    assert!(fund("reserch", Pico::new(1)).contains("known are: research, research/t"));
    assert!(fund("research", Pico::new(1)).contains("has no limit to fund"));
    assert!(fund("research", Pico::ZERO).contains("funds nothing"));
    desk.cashier.bind(&path("research/u"), &fake::given(Some(1)), NOW).unwrap();
    assert!(fund("research/u", Pico::CAP).contains("above the largest limit, $9000000"));
}

#[test]
fn an_agent_of_the_config_is_funded_before_it_was_ever_seen() {
    let dir = tempfile::tempdir().unwrap();
    let cashier = open(dir.path(), &Page::new(), Some(5), false);
    assert_eq!(cashier.fund(&path("research"), Pico::new(7), 0, NOW).unwrap(), Pico::new(12));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_ledger_stops_admission_and_resumes_by_itself() {
    let desk = desk(Some(1_000));
    let blocker = rusqlite::Connection::open(desk.dir.path().join(crate::ledger::FILE_NAME)).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut hold = admit(&desk.cashier, desk.task, 100).unwrap();
    assert!(matches!(hold.durable().await, Err(CashierError::NotWritable(_))));
    assert!(desk.cashier.ledger_fault().is_some());
    assert!(matches!(admit(&desk.cashier, desk.task, 1), Err(Refused::Ledger(_))));
    let cashier = Arc::clone(&desk.cashier);
    let funding = tokio::task::spawn_blocking(move || cashier.fund(&path("research"), Pico::new(9), 0, NOW));
    assert!(matches!(funding.await.unwrap(), Err(CashierError::NotWritable(_))));
    hold.settle(row(60));
    assert_eq!(desk.page.read(desk.agent_unchecked().slot).spent, 60, "the charge stays in the map and in memory");
    blocker.execute_batch("ROLLBACK").unwrap();
    wait_until(|| desk.cashier.ledger_fault().is_none());
    assert!(admit(&desk.cashier, desk.task, 1).is_ok());
    desk.cashier.flush().await;
    let rows = desk.rows(None);
    assert_eq!(rows[0].cost_usd, Pico::new(60), "nothing was lost");
    assert_eq!(desk.cashier.status()[1].remaining_usd, Some(Pico::new(939)), "a refused funding has not happened");
    assert_eq!(desk.reopened_remaining().await, Some(Pico::new(939)));
}

impl Desk {
    fn agent_unchecked(&self) -> AccountRef {
        self.cashier.bound().iter().find(|(p, _)| *p == path("research")).unwrap().1
    }

    /// What a second start makes of the agent's budget.
    async fn reopened_remaining(self) -> Option<Pico> {
        let Self { dir, page, cashier, .. } = self;
        cashier.close().await;
        open(dir.path(), &page, Some(1_000), true).status()[1].remaining_usd
    }
}

#[test]
fn relaxed_durability_waits_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let book: Arc<dyn Book> = Page::new();
    let cashier = Cashier::open(dir.path(), book, &Plan::default(), Durability::Relaxed, false, NOW).unwrap();
    let task = cashier.bind(&path("a"), &fake::given(None), NOW).unwrap();
    let mut hold = admit(&cashier, task, 1).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::pin::pin!(hold.durable()).poll(&mut context).is_ready());
}

fn wait_until(fact: impl Fn() -> bool) {
    let deadline = clock::monotonic_ns() + 10_000_000_000;
    while !fact() {
        assert!(clock::monotonic_ns() < deadline, "it never came about");
        std::thread::yield_now();
    }
}
