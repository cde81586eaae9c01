//! Random histories, ended by a death at a random moment of the ledger: nothing spent is ever lost, and the
//! kernel's map says what memory says at every step.

use std::sync::Arc;

use proptest::prelude::*;

use super::{
    fake::{NOW, Page, admit, assert_published, open, path, row, spent},
    *,
};

const TASKS: [&str; 3] = ["research/t", "research/u", "research/t/s"];

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
    Fund {
        amount: i64,
    },
    FinishStop,
    /// What the ledger holds now is what will be found after the death.
    Snapshot,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..TASKS.len(), 0..200i64).prop_map(|(task, amount)| Step::Admit { task, amount }),
        1 => (0..6usize, 0..100i64).prop_map(|(hold, more)| Step::Grow { hold, more }),
        3 => (0..6usize, 0..300i64).prop_map(|(hold, cost)| Step::Settle { hold, cost }),
        1 => (0..6usize).prop_map(|hold| Step::Drop { hold }),
        1 => (1..400i64).prop_map(|amount| Step::Fund { amount }),
        1 => Just(Step::FinishStop),
        1 => Just(Step::Snapshot),
    ]
}

struct World {
    dir: tempfile::TempDir,
    page: Arc<Page>,
    cashier: Arc<Cashier>,
    tasks: Vec<AccountRef>,
    agent: AccountRef,
    holds: Vec<Hold>,
    found: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let page = Page::new();
        let cashier = open(dir.path(), &page, Some(1_000), false);
        let tasks = TASKS.iter().map(|t| cashier.bind(&path(t), &fake::given(None), NOW).unwrap()).collect();
        let agent = cashier.bind(&path("research"), &fake::given(None), NOW).unwrap();
        let found = copy(dir.path());
        Self { dir, page, cashier, tasks, agent, holds: Vec::new(), found }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Admit { task, amount } => self.holds.extend(admit(&self.cashier, self.tasks[task], amount).ok()),
            Step::Grow { hold, more } => {
                if let Some(hold) = self.holds.get_mut(hold) {
                    let _ = hold.grow(Pico::new(more));
                }
            }
            Step::Settle { hold, cost } if hold < self.holds.len() => self.holds.swap_remove(hold).settle(row(cost)),
            Step::Drop { hold } if hold < self.holds.len() => drop(self.holds.swap_remove(hold)),
            Step::Settle { .. } | Step::Drop { .. } => {}
            Step::Fund { amount } => {
                self.cashier.fund(&path("research"), Pico::new(amount), 0, NOW).unwrap();
            }
            Step::FinishStop => self.cashier.finish_stop(self.agent),
            Step::Snapshot => {
                // Binding again waits for everything before it.
                self.cashier.bind(&path("research"), &fake::given(None), NOW).unwrap();
                self.found = copy(self.dir.path());
            }
        }
    }

    fn die_and_restart(mut self) {
        let names = TASKS.iter().copied().chain(["research", "host"]);
        let before: Vec<_> = names.map(|name| (name, spent(&self.cashier, name))).collect();
        let held: i64 = self.holds.iter().map(|h| h.amount.get()).sum();
        let page = self.page.survivor();
        let after = open(self.found.path(), &page, Some(1_000), true);
        assert_published(&after, &page);
        for (name, old) in before {
            assert!(spent(&after, name) >= old, "{name} fell from {old} to {}", spent(&after, name));
        }
        assert!(spent(&after, "host") >= spent(&self.cashier, "host") + held, "what was held is charged");
        assert_eq!(spent(&after, "host"), spent(&after, "research"), "the host is the sum of its agents");
        self.holds.clear();
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
    fn no_death_loses_money(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in steps {
            world.apply(step);
            assert_published(&world.cashier, &world.page);
        }
        world.die_and_restart();
    }
}
