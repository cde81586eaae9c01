//! Random histories, ended by a death at a random moment of the ledger: nothing spent is ever lost, and the
//! kernel's map says what memory says at every step.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    fake::{NOW, Page, asked, assert_published, path, row, spent},
    *,
};
use crate::{
    accounts::{Category, LimitKey, LimitRule, Window, policy::Policy},
    exchange::results::Verdict,
    kernel::Book,
    ledger::verify,
    measure::Unit,
    usage::{ResultRef, Standing},
};

const TASKS: [&str; 3] = ["research/t", "research/u", "research/t/s"];
/// Those that people shut.
const ACCOUNTS: [&str; 4] = ["research/t", "research/u", "research", "host"];
const MINUTE: i64 = 60_000_000;

/// In all, and a day.
fn plan() -> Plan {
    let daily = LimitKey { window: Window::Day, category: Category::ANY, unit: Unit::Usd };
    let limits = vec![LimitRule::budget(Pico::new(1_000)), LimitRule { key: daily, amount: 600 }];
    Plan { agents: vec![(path("research"), Policy { limits, ..Policy::default() })], ..Plan::default() }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit {
        task: usize,
        amount: i64,
    },
    Grow {
        hold: usize,
        more: i64,
    },
    Settle {
        hold: usize,
        cost: i64,
    },
    Drop {
        hold: usize,
    },
    /// Its exchange ends, and its price comes later.
    Park {
        hold: usize,
    },
    Result {
        cost: i64,
    },
    Fund {
        amount: i64,
    },
    Extend {
        by: i64,
    },
    /// So many minutes go by.
    Tick {
        minutes: i64,
    },
    Revoke {
        account: usize,
    },
    Restore {
        account: usize,
    },
    /// Its cgroup goes, or is there again.
    Unbind {
        task: usize,
    },
    Bind {
        task: usize,
    },
    FinishStop,
    /// What the ledger holds now is what will be found after the death.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    let (task, account) = (0..TASKS.len(), 0..ACCOUNTS.len());
    prop_oneof![
        10 => (task.clone(), 0..200i64).prop_map(|(task, amount)| Step::Admit { task, amount }),
        2 => (0..6usize, 0..100i64).prop_map(|(hold, more)| Step::Grow { hold, more }),
        6 => (0..6usize, 0..300i64).prop_map(|(hold, cost)| Step::Settle { hold, cost }),
        2 => (0..6usize).prop_map(|hold| Step::Drop { hold }),
        1 => (0..6usize).prop_map(|hold| Step::Park { hold }),
        1 => (0..300i64).prop_map(|cost| Step::Result { cost }),
        2 => (1..400i64).prop_map(|amount| Step::Fund { amount }),
        1 => (1..400i64).prop_map(|by| Step::Extend { by }),
        2 => (1..700i64).prop_map(|minutes| Step::Tick { minutes }),
        1 => account.clone().prop_map(|account| Step::Revoke { account }),
        1 => account.prop_map(|account| Step::Restore { account }),
        1 => task.clone().prop_map(|task| Step::Unbind { task }),
        2 => task.prop_map(|task| Step::Bind { task }),
        2 => Just(Step::FinishStop),
        2 => Just(Step::Snapshot),
    ]
}

struct World {
    dir: tempfile::TempDir,
    page: Arc<Page>,
    cashier: Arc<Cashier>,
    tasks: Vec<Option<AccountRef>>,
    agent: AccountRef,
    holds: Vec<Hold>,
    /// Results that are waited for.
    ordered: Vec<ResultRef>,
    orders: u32,
    now: Timestamp,
    found: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let page = Page::new();
        let book: Arc<dyn Book> = Arc::clone(&page) as _;
        let cashier = Cashier::open(dir.path(), book, &plan(), Durability::Full, false, NOW).unwrap();
        let tasks = TASKS.iter().map(|t| cashier.bind(&path(t), &fake::given(None), NOW).ok()).collect();
        let agent = cashier.bind(&path("research"), &fake::given(None), NOW).unwrap();
        let found = copy(dir.path());
        let (holds, ordered) = (Vec::new(), Vec::new());
        Self { dir, page, cashier, tasks, agent, holds, ordered, orders: 0, now: NOW, found }
    }

    fn row(&self, cost: i64) -> Row {
        Row { time: self.now, ..row(cost) }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Admit { task, amount } => {
                let Some(task) = self.tasks[task] else { return };
                self.holds.extend(self.cashier.admit_now(&asked(task, amount), self.now).ok());
            }
            Step::Grow { hold, more } => {
                if let Some(hold) = self.holds.get_mut(hold) {
                    let _ = hold.grow(Pico::new(more));
                }
            }
            Step::Settle { hold, cost } if hold < self.holds.len() => {
                let row = self.row(cost);
                self.holds.swap_remove(hold).settle(row);
            }
            Step::Drop { hold } if hold < self.holds.len() => drop(self.holds.swap_remove(hold)),
            Step::Park { hold } if hold < self.holds.len() => {
                self.orders += 1;
                let pending = ResultRef { id: format!("r{}", self.orders), standing: Standing::Pending };
                self.cashier.see_result("openai", &pending);
                let row = self.row(0);
                self.cashier.park(self.holds.swap_remove(hold), row, "openai", &pending);
                self.ordered.push(pending);
            }
            Step::Settle { .. } | Step::Drop { .. } | Step::Park { .. } => {}
            Step::Result { cost } => self.show(cost),
            Step::Fund { amount } => {
                self.cashier.fund(&path("research"), Pico::new(amount), 0, self.now).unwrap();
            }
            Step::Extend { by } => {
                let until = Timestamp::from_micros(self.now.micros() + 100 * MINUTE);
                self.cashier.extend(&path("research"), Pico::new(by), until, 0, self.now).unwrap();
            }
            Step::Tick { minutes } => {
                self.now = Timestamp::from_micros(self.now.micros() + minutes * MINUTE);
                self.cashier.tick(self.now);
            }
            Step::Revoke { account } => {
                self.cashier.revoke(&path(ACCOUNTS[account]), "a test", None, self.now).unwrap();
            }
            Step::Restore { account } => {
                self.cashier.restore(&path(ACCOUNTS[account]), None, self.now).unwrap();
            }
            Step::Unbind { task } => {
                self.cashier.unbind(&path(TASKS[task]));
                self.tasks[task] = None;
                // A slot is given back once the ledger has all of its account; so that is what is found.
                self.snapshot();
            }
            Step::Bind { task } => {
                let bound = self.cashier.bind(&path(TASKS[task]), &fake::given(None), self.now);
                self.tasks[task] = bound.ok();
                // As binding is, before anybody has the reference.
                self.snapshot();
            }
            Step::FinishStop => self.cashier.finish_stop(self.agent),
            Step::Snapshot => self.snapshot(),
        }
    }

    fn show(&mut self, cost: i64) {
        let Some(ordered) = self.ordered.pop() else { return };
        let seen = ResultRef { standing: Standing::Repeat, ..ordered };
        assert_eq!(self.cashier.see_result("openai", &seen), Verdict::Charge);
        self.cashier.bill_result(self.row(cost), None, "openai", &seen);
    }

    fn snapshot(&mut self) {
        // Binding again waits for everything before it; twice, since a slot that is free may free the one above it.
        for _ in 0..3 {
            self.cashier.bind(&path("research"), &fake::given(None), self.now).unwrap();
        }
        self.found = copy(self.dir.path());
    }

    /// Nobody is left between two states: with nothing under way, an account that drains has somebody who ends it.
    fn check(&self) {
        assert_published(&self.cashier, &self.page);
        let books = self.cashier.books.lock();
        for id in books.accounts.ids() {
            let account = books.accounts.get(id);
            let has_end = books.slots.reference(id).is_some() || account.holds > 0;
            assert!(account.state != State::Draining || has_end, "{} drains for ever", account.path);
            let is_spent = books.accounts.is_spent(id);
            assert!(account.state != State::Open || !is_spent, "{} is open and spent", account.path);
        }
    }

    fn has_slot(&self, name: &str) -> bool {
        let books = self.cashier.books.lock();
        books.accounts.id(&path(name)).is_some_and(|id| books.slots.reference(id).is_some())
    }

    fn die_and_restart(mut self) {
        // Of one without a slot the map knows nothing: a result that was charged to it in the last moment is known by
        // those above.
        let names = TASKS.iter().copied().chain(["research", "host"]).filter(|name| self.has_slot(name));
        let before: Vec<_> = names.map(|name| (name, spent(&self.cashier, name))).collect();
        let held: i64 = self.holds.iter().map(|h| h.amount.get()).sum();
        let page = self.page.survivor();
        let book: Arc<dyn Book> = Arc::clone(&page) as _;
        let after = Cashier::open(self.found.path(), book, &plan(), Durability::Full, true, self.now).unwrap();
        assert_published(&after, &page);
        for (name, old) in before {
            assert!(spent(&after, name) >= old, "{name} fell from {old} to {}", spent(&after, name));
        }
        let parked = after.held(&path("host")).unwrap().get();
        assert!(
            spent(&after, "host") + parked >= spent(&self.cashier, "host") + held,
            "what was held is charged, or waits for its result"
        );
        assert_eq!(spent(&after, "host"), spent(&after, "research"), "the host is the sum of its agents");
        self.holds.clear();
        after.writer.close();
        let found = verify(self.found.path()).unwrap();
        assert_eq!(found.findings, Vec::<String>::new(), "what was found adds up");
    }

    /// The ledger alone, after an orderly end, says what memory did.
    fn end_and_restart(mut self) {
        self.holds.clear();
        while !self.ordered.is_empty() {
            self.show(7);
        }
        let names = TASKS.iter().copied().chain(["research", "host"]);
        let facts = |cashier: &Cashier, name: &str| {
            let status = cashier.status_of(&path(name)).unwrap();
            let limits: Vec<_> = status.limits.iter().map(|l| (l.limit.clone(), l.spent.clone())).collect();
            (status.spent_usd, status.held_usd, status.exchanges, limits, status.state == "revoked")
        };
        let before: Vec<_> = names.map(|name| (name, facts(&self.cashier, name))).collect();
        self.cashier.writer.close();
        drop(self.cashier);
        assert_eq!(verify(self.dir.path()).unwrap().findings, Vec::<String>::new());
        let book: Arc<dyn Book> = Page::new();
        let after = Cashier::open(self.dir.path(), book, &plan(), Durability::Full, false, self.now).unwrap();
        for (name, old) in before {
            assert_eq!(facts(&after, name), old, "{name}");
        }
    }
}

fn copy(dir: &std::path::Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["meter.db", "meter.db-wal"] {
        if dir.join(name).exists() {
            std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        }
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn no_death_loses_money(steps in proptest::collection::vec(step(), 1..60), orderly in any::<bool>()) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
            world.check();
        }
        if orderly { world.end_and_restart() } else { world.die_and_restart() }
    }
}
