//! Random histories of the accounts against a reference that adds everything up from scratch.

use proptest::prelude::*;

use super::{
    tests::{ask, cost, held, host, set_budget},
    *,
};
use crate::{accounts::policy::MIN_OUTPUT_TOKENS, pricing::Quote};

const PATHS: [&str; 5] = ["a", "a/t", "a/u", "a/t/s", "b"];

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit { at: usize, input: i64, tokens: u64, stated: bool },
    Grow { hold: usize, more: i64 },
    Settle { hold: usize, cost: i64 },
    Fund { at: usize, amount: i64 },
    Budget { at: usize, amount: Option<i64> },
    FinishStop { at: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..PATHS.len();
    prop_oneof![
        6 => (at.clone(), 0..400i64, 0..4_000u64, any::<bool>())
            .prop_map(|(at, input, tokens, stated)| Step::Admit { at, input, tokens, stated }),
        1 => (0..8usize, 0..300i64).prop_map(|(hold, more)| Step::Grow { hold, more }),
        5 => (0..8usize, 0..3_000i64).prop_map(|(hold, cost)| Step::Settle { hold, cost }),
        1 => (at.clone(), 1..2_000i64).prop_map(|(at, amount)| Step::Fund { at, amount }),
        1 => (at.clone(), proptest::option::of(0..9_000i64)).prop_map(|(at, amount)| Step::Budget { at, amount }),
        1 => at.prop_map(|at| Step::FinishStop { at }),
    ]
}

/// Everything that ever happened, as lists.
#[derive(Default)]
struct Reference {
    /// (account, amount) of holds outstanding.
    open: Vec<(usize, i64)>,
    /// (account, cost) of everything posted.
    posted: Vec<(usize, i64)>,
    budget: [Option<i64>; PATHS.len()],
    funded: [i64; PATHS.len()],
}

impl Reference {
    fn below(list: &[(usize, i64)], top: &AccountPath) -> i64 {
        list.iter().filter(|(at, _)| path(*at).is_within(top)).map(|(_, amount)| amount).sum()
    }

    fn check(&self, accounts: &Accounts) {
        for (i, name) in PATHS.iter().enumerate() {
            let account = accounts.get(accounts.id(&path(i)).unwrap());
            let (spent, held) = (Self::below(&self.posted, &path(i)), Self::below(&self.open, &path(i)));
            assert_eq!((account.spent().get(), account.held().get()), (spent, held), "{name}");
            let limit = self.budget[i].map(|amount| amount + self.funded[i]);
            assert_eq!(accounts.remaining(account).map(Pico::get), limit.map(|l| l - spent), "{name}");
            if limit.is_some_and(|l| l > 0 && l <= spent) {
                assert_ne!(account.state, State::Open, "{name} has nothing left");
            }
            if account.state == State::Stopped {
                assert_eq!(held, 0, "{name} stopped with a hold outstanding");
            }
        }
        let host = accounts.get(AccountId::HOST);
        assert_eq!(host.spent().get(), self.posted.iter().map(|p| p.1).sum::<i64>());
        assert_eq!(host.state, State::Open);
    }

    /// Whether `amount` more fits every limit above `at`, added up from the lists.
    fn fits(&self, at: usize, amount: i64) -> bool {
        (0..PATHS.len()).filter(|i| path(at).is_within(&path(*i))).all(|i| {
            let used = Self::below(&self.posted, &path(i)) + Self::below(&self.open, &path(i));
            self.budget[i].is_none_or(|b| used + amount <= b + self.funded[i])
        })
    }
}

fn path(i: usize) -> AccountPath {
    PATHS[i].parse().unwrap()
}

fn apply(step: Step, accounts: &mut Accounts, reference: &mut Reference) {
    match step {
        Step::Admit { at, input, tokens, stated } => {
            let quote = Quote {
                input: Pico::new(input),
                per_output_token: Pico::new(1),
                input_tokens: 0,
                choices: 1,
                output_ceiling: tokens,
                stated,
                can_clamp: true,
            };
            let id = accounts.id(&path(at)).unwrap();
            let was_open = accounts.is_open(id);
            match accounts.admit(id, &ask(&quote)) {
                Ok(grant) => {
                    assert!(was_open);
                    assert!(reference.fits(at, grant.amounts.usd.get()), "admission overshot");
                    if let Some(ceiling) = grant.clamp {
                        assert!(!stated && ceiling >= MIN_OUTPUT_TOKENS && ceiling < tokens);
                        assert!(!reference.fits(at, quote.worst_at(ceiling + 1).get()), "not the largest that fits");
                    } else {
                        assert_eq!(grant.amounts.usd, quote.worst());
                    }
                    reference.open.push((at, grant.amounts.usd.get()));
                }
                Err(Denied::Budget { .. }) => assert!(!reference.fits(at, quote.worst().get())),
                Err(Denied::NotOpen { .. }) => assert!(!was_open),
                Err(denied) => panic!("{denied:?}"),
            }
        }
        Step::Grow { hold, more } => {
            if let Some(&mut (at, ref mut amount)) = reference.open.get_mut(hold) {
                let id = accounts.id(&path(at)).unwrap();
                if accounts.grow(id, Category::of("llm"), Pico::new(more), false) {
                    *amount += more;
                }
            }
        }
        Step::Settle { hold, cost: paid } if hold < reference.open.len() => {
            let (at, amount) = reference.open.swap_remove(hold);
            accounts.settle(accounts.id(&path(at)).unwrap(), &held(amount), &cost(paid));
            reference.posted.push((at, paid));
        }
        Step::Settle { .. } => {}
        Step::Fund { at, amount } => {
            accounts.fund(accounts.id(&path(at)).unwrap(), Pico::new(amount));
            reference.funded[at] += amount;
        }
        Step::Budget { at, amount } => {
            let id = accounts.id(&path(at)).unwrap();
            set_budget(accounts, id, amount);
            reference.budget[at] = amount;
        }
        Step::FinishStop { at } => {
            accounts.finish_stop(accounts.id(&path(at)).unwrap());
        }
    }
}

proptest! {
    #[test]
    fn every_history_adds_up(steps in proptest::collection::vec(step(), 1..120)) {
        let mut accounts = host();
        for i in 0..PATHS.len() {
            accounts.ensure(&path(i), &mut Vec::new());
        }
        let mut reference = Reference::default();
        for step in steps {
            apply(step, &mut accounts, &mut reference);
            reference.check(&accounts);
        }
    }
}
