//! The design's sentences about admission and stopping, one test each.

use std::collections::BTreeMap;

use super::*;
use crate::pricing::Quote;

fn quote(input: i64, rate: i64, ceiling: u64) -> Quote {
    Quote {
        input: Pico::new(input),
        per_output_token: Pico::new(rate),
        input_tokens: 0,
        choices: 1,
        output_ceiling: ceiling,
        stated: true,
        can_clamp: true,
    }
}

fn open_quote(input: i64, rate: i64, ceiling: u64) -> Quote {
    Quote { stated: false, ..quote(input, rate, ceiling) }
}

/// `research/t` with a budget on the agent, the task, or neither.
fn tree(agent: Option<i64>, task: Option<i64>) -> (Accounts, AccountId, AccountId) {
    let mut accounts = host();
    let task_id = accounts.ensure(&"research/t".parse().unwrap(), &mut Vec::new());
    let agent_id = accounts.get(task_id).parent;
    set_budget(&mut accounts, agent_id, agent);
    set_budget(&mut accounts, task_id, task);
    (accounts, agent_id, task_id)
}

/// Sets the budget of an account, in place of the one it has.
pub(super) fn set_budget(accounts: &mut Accounts, id: AccountId, budget: Option<i64>) -> Changes {
    if let Some(amount) = budget {
        return accounts.give(id, Some(Pico::new(amount)), &BTreeMap::new());
    }
    accounts.get_mut(id).given.limits.clear();
    accounts.refresh_all()
}

pub(super) const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

pub(super) fn host() -> Accounts {
    Accounts::new(TimeZone::UTC, NOW)
}

pub(super) const fn ask(quote: &Quote) -> Ask<'_> {
    let category = Category::of("llm");
    Ask { quote, category, model: None, fallbacks: &[], names_model: false, degraded: false, patient: false, now: NOW }
}

pub(super) const fn held(amount: i64) -> Held {
    Held { category: Category::of("llm"), amounts: Amounts { usd: Pico::new(amount), tokens: 0, requests: 1 } }
}

pub(super) const fn cost(amount: i64) -> Posting {
    Posting { category: Category::of("llm"), used: Amounts { usd: Pico::new(amount), tokens: 0, requests: 1 }, at: NOW }
}

fn granted(amount: i64, tokens: u64) -> Grant {
    let amounts = Amounts { tokens: tokens.cast_signed(), ..held(amount).amounts };
    Grant { amounts, clamp: None, crowded: false, would_refuse: None, overage: false }
}

fn state(accounts: &Accounts, id: AccountId) -> State {
    accounts.get(id).state
}

#[test]
fn a_hold_falls_on_the_whole_path_or_nowhere() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    assert_eq!(accounts.admit(task, &ask(&quote(10, 1, 50))).unwrap(), granted(60, 50));
    for id in [task, agent, AccountId::HOST] {
        assert_eq!(accounts.get(id).held(), Pico::new(60));
    }
    assert!(matches!(accounts.admit(task, &ask(&quote(10, 1, 50))), Err(Denied::Budget { .. })));
    for id in [task, agent, AccountId::HOST] {
        assert_eq!(accounts.get(id).held(), Pico::new(60), "a refusal holds nothing anywhere");
    }
}

#[test]
fn settlement_releases_the_rest_of_the_hold() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(60, 0, 0))).unwrap();
    accounts.settle(task, &held(60), &cost(5));
    assert_eq!(accounts.get(agent).held(), Pico::ZERO);
    assert_eq!(accounts.get(agent).spent(), Pico::new(5));
    assert_eq!(accounts.remaining(accounts.get(agent)), Some(Pico::new(95)));
    assert_eq!(accounts.remaining_word(accounts.get(task)), meter_common::UNLIMITED);
}

#[test]
fn holds_are_seen_however_many_there_were_before() {
    let (mut accounts, _, task) = tree(Some(100), None);
    for id in accounts.line(task) {
        let account = accounts.get_mut(id);
        (account.hold_granted, account.hold_ended) = (Pico::MAX, Pico::MAX);
    }
    accounts.admit(task, &ask(&quote(60, 0, 0))).unwrap();
    assert!(matches!(accounts.admit(task, &ask(&quote(60, 0, 0))), Err(Denied::Budget { .. })));
    accounts.settle(task, &held(60), &cost(5));
    accounts.admit(task, &ask(&quote(60, 0, 0))).unwrap();
    assert_eq!(accounts.get(task).held(), Pico::new(60));
}

#[test]
fn recording_never_fails_on_a_limit() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(60, 0, 0))).unwrap();
    accounts.settle(task, &held(60), &cost(250));
    assert_eq!(accounts.get(agent).spent(), Pico::new(250));
    assert_eq!(accounts.remaining(accounts.get(agent)), Some(Pico::new(-150)));
    assert_eq!(state(&accounts, agent), State::Draining);
}

#[test]
fn holds_are_not_in_what_the_kernel_is_told() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(100, 0, 0))).unwrap();
    assert_eq!(accounts.remaining_word(accounts.get(agent)), 100);
    assert_eq!(state(&accounts, agent), State::Open);
}

#[test]
fn a_request_without_a_ceiling_is_given_the_largest_that_fits() {
    let (mut accounts, _, task) = tree(Some(10_000), None);
    let grant = accounts.admit(task, &ask(&open_quote(1_000, 3, 64_000))).unwrap();
    assert_eq!(grant, Grant { clamp: Some(3_000), crowded: true, ..granted(10_000, 3_000) });
}

#[test]
fn a_ceiling_below_the_least_useful_one_is_not_given() {
    let (mut accounts, _, task) = tree(Some(1_023), None);
    assert!(accounts.admit(task, &ask(&open_quote(0, 1, 64_000))).is_err());
    let (mut accounts, _, task) = tree(Some(1_024), None);
    assert_eq!(accounts.admit(task, &ask(&open_quote(0, 1, 64_000))).unwrap().clamp, Some(1_024));
}

#[test]
fn a_stated_ceiling_is_not_changed() {
    let (mut accounts, _, task) = tree(Some(10_000), None);
    assert!(accounts.admit(task, &ask(&quote(1_000, 3, 64_000))).is_err());
    let (mut accounts, _, task) = tree(Some(10_000), None);
    let fixed = Quote { can_clamp: false, ..open_quote(1_000, 3, 64_000) };
    assert!(accounts.admit(task, &ask(&fixed)).is_err());
}

#[test]
fn the_tightest_limit_of_the_path_decides_the_ceiling() {
    let (mut accounts, _, task) = tree(Some(5_000), Some(9_000));
    assert_eq!(accounts.admit(task, &ask(&open_quote(0, 1, 64_000))).unwrap().clamp, Some(5_000));
    let Err(Denied::Budget { facts, .. }) = accounts.admit(task, &ask(&open_quote(0, 1, 64_000))) else { panic!() };
    assert_eq!((facts.account.as_str(), facts.held.amount), ("research", 5_000));
    assert_eq!(facts.needed.amount, 1_024);
}

#[test]
fn an_ordinary_loop_is_stopped_at_its_first_refusal() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    let ordinary = quote(30, 0, 0);
    for _ in 0..3 {
        let grant = accounts.admit(task, &ask(&ordinary)).unwrap();
        accounts.settle(task, &held(grant.amounts.usd.get()), &cost(30));
    }
    let Err(Denied::Budget { changes, .. }) = accounts.admit(task, &ask(&ordinary)) else { panic!() };
    assert_eq!(changes.as_slice(), [Change { account: agent, state: State::Draining }]);
    assert_eq!(state(&accounts, task), State::Open, "the stop applies to the account that owns the limit");
    assert!(!accounts.is_open(task));
}

#[test]
fn one_dear_outlier_stops_nobody() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    let ordinary = accounts.admit(task, &ask(&quote(30, 0, 0))).unwrap();
    accounts.settle(task, &held(ordinary.amounts.usd.get()), &cost(30));
    assert!(
        matches!(accounts.admit(task, &ask(&quote(90, 0, 0))), Err(Denied::Budget { changes, .. }) if changes.is_empty())
    );
    assert_eq!(state(&accounts, agent), State::Open);
    assert!(accounts.admit(task, &ask(&quote(30, 0, 0))).is_ok());
}

#[test]
fn a_refusal_while_another_hold_is_outstanding_stops_nobody() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(90, 0, 0))).unwrap();
    assert!(accounts.admit(task, &ask(&quote(90, 0, 0))).is_err());
    assert_eq!(state(&accounts, agent), State::Open);
}

#[test]
fn before_any_hold_one_output_token_is_the_measure() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    assert!(accounts.admit(task, &ask(&quote(50, 1, 1_000))).is_err());
    assert_eq!(state(&accounts, agent), State::Open, "one token would have cost 51 of 100");
    assert!(accounts.admit(task, &ask(&quote(100, 1, 1_000))).is_err());
    assert_eq!(state(&accounts, agent), State::Draining, "not even one token fits");
}

#[test]
fn only_the_owner_of_the_limit_that_refused_is_stopped() {
    let (mut accounts, agent, task) = tree(Some(1_000), Some(20));
    assert!(accounts.admit(task, &ask(&quote(30, 0, 0))).is_err());
    assert_eq!(state(&accounts, task), State::Draining);
    assert_eq!(state(&accounts, agent), State::Open);
}

#[test]
fn a_spent_limit_drains_and_then_stops() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(50, 0, 0))).unwrap();
    accounts.admit(task, &ask(&quote(50, 0, 0))).unwrap();
    let changes = accounts.settle(task, &held(50), &cost(100));
    assert_eq!(changes.as_slice(), [Change { account: agent, state: State::Draining }]);
    assert_eq!(accounts.finish_stop(agent), None, "what was admitted finishes first");
    let changes = accounts.settle(task, &held(50), &cost(1));
    assert_eq!(changes.as_slice(), [Change { account: agent, state: State::Draining }], "the last hold's end is told");
    assert_eq!(accounts.finish_stop(agent), Some(Change { account: agent, state: State::Stopped }));
    assert!(matches!(accounts.admit(task, &ask(&quote(0, 0, 0))), Err(Denied::NotOpen { state: State::Stopped, .. })));
}

#[test]
fn money_opens_a_stopped_account_by_itself() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(100, 0, 0))).unwrap();
    accounts.settle(task, &held(100), &cost(120));
    accounts.finish_stop(agent).unwrap();
    assert!(accounts.fund(agent, Pico::new(20)).is_empty(), "still nothing left to spend");
    let changes = accounts.fund(agent, Pico::new(5));
    assert_eq!(changes.as_slice(), [Change { account: agent, state: State::Open }]);
    assert_eq!(accounts.remaining(accounts.get(agent)), Some(Pico::new(5)));
    accounts.charge(task, &cost(5));
    assert_eq!(state(&accounts, agent), State::Draining);
    assert_eq!(set_budget(&mut accounts, agent, Some(200))[0].state, State::Open, "a raised limit too");
}

#[test]
fn the_same_budget_again_opens_nothing() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.charge(task, &cost(90));
    accounts.admit(task, &ask(&quote(100, 0, 0))).unwrap_err();
    assert_eq!(state(&accounts, agent), State::Draining);
    assert!(set_budget(&mut accounts, agent, Some(100)).is_empty());
    assert_eq!(state(&accounts, agent), State::Draining);
}

#[test]
fn a_funding_forgets_the_smallest_hold() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(1, 0, 0))).unwrap();
    accounts.settle(task, &held(1), &cost(1));
    accounts.fund(agent, Pico::new(1));
    assert!(accounts.admit(task, &ask(&quote(150, 1, 1))).is_err());
    assert_eq!(state(&accounts, agent), State::Draining, "measured by the refused request, not by the old hold");
}

#[test]
fn a_limit_of_zero_keeps_the_network_and_refuses_what_is_priced() {
    let (mut accounts, agent, task) = tree(Some(0), None);
    assert_eq!(accounts.get(agent).flags(), flag::WALL_REQUESTS);
    assert!(accounts.admit(task, &ask(&quote(1, 0, 0))).is_err());
    assert!(accounts.is_open(task));
    accounts.admit(task, &ask(&quote(0, 0, 0))).unwrap();
    accounts.settle(task, &held(0), &cost(0));
    assert!(accounts.is_open(task));
    accounts.fund(agent, Pico::new(10));
    assert_eq!(accounts.get(agent).flags(), 0);
    assert!(accounts.admit(task, &ask(&quote(1, 0, 0))).is_ok());
}

#[test]
fn a_stream_grows_its_hold_only_where_it_fits() {
    let (mut accounts, agent, task) = tree(Some(100), None);
    accounts.admit(task, &ask(&quote(60, 0, 0))).unwrap();
    assert!(accounts.grow(task, Category::of("llm"), Pico::new(40), false));
    assert!(!accounts.grow(task, Category::of("llm"), Pico::new(1), false));
    assert_eq!(accounts.get(agent).held(), Pico::new(100));
}

#[test]
fn the_path_may_be_eight_accounts_deep() {
    let mut accounts = host();
    let mut made = Vec::new();
    let deepest = accounts.ensure(&"1/2/3/4/5/6/7".parse().unwrap(), &mut made);
    assert_eq!(made.len(), 7);
    assert_eq!(accounts.line(deepest).len(), 8);
    let top = accounts.id(&"1".parse().unwrap()).unwrap();
    set_budget(&mut accounts, top, Some(10));
    assert!(accounts.admit(deepest, &ask(&quote(11, 0, 0))).is_err());
}

#[test]
fn states_read_back_from_their_names() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
}
