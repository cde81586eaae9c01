//! Stages, pace and what is unusual, on accounts alone.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    policy::{AtLimit, Models, Policy, Reaction, Stages, Throttle, Watch},
    tests::{NOW, ask, host},
    *,
};
use crate::{events::EventKind, measure::Unit, pricing::Quote};

const LLM: Category = Category::of("llm");
const MINUTE: i64 = 60 * 1_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

fn rule(window: Window, unit: Unit, amount: i64) -> LimitRule {
    LimitRule { key: LimitKey { window, category: Category::ANY, unit }, amount }
}

/// An agent by a policy; its limits are in pico-dollars.
fn agent(policy: Policy) -> (Accounts, AccountId) {
    let mut accounts = host();
    let plan = Plan { agents: vec![("research".parse().unwrap(), policy)], ..Plan::default() };
    accounts.set_plan(&plan, &mut Vec::new());
    let id = accounts.id(&"research".parse().unwrap()).unwrap();
    (accounts, id)
}

fn total(amount: i64, policy: Policy) -> (Accounts, AccountId) {
    agent(Policy { limits: vec![rule(Window::Total, Unit::Usd, amount)], ..policy })
}

fn after(micros: i64) -> Timestamp {
    Timestamp::from_micros(NOW.micros() + micros)
}

/// Charges an amount at a time, and returns what there is to tell.
fn charge_at(accounts: &mut Accounts, id: AccountId, at: Timestamp, amount: i64) -> Vec<Notice> {
    accounts.advance(at);
    let used = Amounts { usd: Pico::new(amount), tokens: 10, requests: 1 };
    accounts.charge(id, &Posting { category: LLM, used, at });
    let line = accounts.line(id);
    let cost = Pico::new(amount);
    accounts.look(&line, &Charged { at, cost, held: Some(cost) })
}

fn charge(accounts: &mut Accounts, id: AccountId, amount: i64) -> Vec<Notice> {
    charge_at(accounts, id, NOW, amount)
}

fn kinds(notices: &[Notice]) -> Vec<EventKind> {
    notices.iter().map(|notice| notice.kind).collect()
}

fn quote(amount: i64) -> Quote {
    Quote::fixed(Pico::new(amount))
}

#[test]
fn the_fullest_limit_makes_the_stage() {
    let limits = vec![rule(Window::Total, Unit::Usd, 1_000), rule(Window::Hour, Unit::Requests, 10)];
    let (mut accounts, id) = agent(Policy { limits, ..Policy::default() });
    let mut stages = Vec::new();
    for _ in 0..10 {
        charge(&mut accounts, id, 1);
        stages.push(accounts.stage(id).as_str());
    }
    assert_eq!(stages, ["log", "log", "log", "log", "log", "log", "log", "warn", "throttle", "stop"]);
}

#[test]
fn each_stage_and_alert_point_is_told_exactly_once() {
    let stages = Some(Stages { warn: 80, throttle: 90, alerts: vec![50, 75] });
    let (mut accounts, id) = total(100, Policy { stages, ..Policy::default() });
    let mut told = Vec::new();
    for spent in 1..=100 {
        for notice in charge(&mut accounts, id, 1) {
            assert_eq!((notice.kind, notice.account, notice.reaction), (EventKind::Stage, id, Reaction::Tell));
            told.push(spent);
        }
    }
    assert_eq!(told, [50, 75, 80, 90, 100]);
}

#[test]
fn a_jump_over_several_points_is_told_once() {
    let (mut accounts, id) = total(100, Policy::default());
    let told = charge(&mut accounts, id, 95);
    assert_eq!(told.len(), 1);
    assert!(told[0].text.contains("95 %") && told[0].text.contains("stage throttle"), "{}", told[0].text);
    assert!(charge(&mut accounts, id, 1).is_empty());
}

#[test]
fn a_point_is_told_again_in_the_next_window_and_after_a_raise() {
    let (mut accounts, id) = agent(Policy { limits: vec![rule(Window::Hour, Unit::Usd, 100)], ..Policy::default() });
    assert_eq!(charge(&mut accounts, id, 85).len(), 1);
    assert_eq!(charge_at(&mut accounts, id, after(60 * MINUTE), 85).len(), 1);

    let (mut accounts, id) = total(100, Policy::default());
    assert_eq!(charge(&mut accounts, id, 85).len(), 1);
    accounts.fund(id, Pico::new(100));
    assert_eq!(accounts.stage(id), Stage::Log);
    assert_eq!(charge(&mut accounts, id, 75).len(), 1, "80 % of what there is now");
}

#[test]
fn what_was_passed_before_the_start_is_not_told_again() {
    let (mut accounts, id) = total(100, Policy::default());
    accounts.charge(id, &Posting { category: LLM, used: Amounts::usd(Pico::new(85)), at: NOW });
    accounts.take_for_told();
    assert!(charge(&mut accounts, id, 1).is_empty());
    assert_eq!(charge(&mut accounts, id, 5).len(), 1);
}

#[test]
fn overage_is_told_at_the_limit_and_at_each_further_tenth() {
    let (mut accounts, id) = total(100, Policy { at_limit: Some(AtLimit::Continue), ..Policy::default() });
    let mut told = Vec::new();
    for spent in 1..=125 {
        let notices = charge(&mut accounts, id, 1);
        if kinds(&notices).contains(&EventKind::Overage) {
            told.push(spent);
        }
    }
    assert_eq!(told, [100, 110, 120]);
    assert_eq!(accounts.overage(accounts.get(id)), Pico::new(25));
    assert_eq!(accounts.get(id).state, State::Open);
}

#[test]
fn requests_are_held_back_the_longer_the_less_is_left() {
    let throttle = Some(Throttle::Proportional(Duration::from_secs(10)));
    let (mut accounts, id) = total(100, Policy { throttle, ..Policy::default() });
    let delay = |accounts: &Accounts| match accounts.paces(&accounts.line(id), LLM, true, NOW).as_slice() {
        [] => None,
        [(at, Pace::Delay(delay))] if *at == id => Some(delay.as_secs()),
        other => panic!("{other:?}"),
    };
    charge(&mut accounts, id, 89);
    assert_eq!(delay(&accounts), None);
    for left in [0, 5, 9] {
        charge(
            &mut accounts,
            id,
            if left == 0 {
                1
            } else if left == 5 {
                5
            } else {
                4
            },
        );
        assert_eq!(delay(&accounts), Some(left));
    }
    assert!(accounts.paces(&accounts.line(id), LLM, false, NOW).is_empty(), "what is free is not held back");
}

#[test]
fn nothing_is_held_back_that_is_not_enforced_or_is_off() {
    for policy in [
        Policy { enforce: Some(false), ..Policy::default() },
        Policy { throttle: Some(Throttle::Off), ..Policy::default() },
    ] {
        let (mut accounts, id) = total(100, policy);
        charge(&mut accounts, id, 95);
        assert!(accounts.paces(&accounts.line(id), LLM, true, NOW).is_empty());
    }
}

#[test]
fn a_limit_that_is_spent_too_fast_is_told_once() {
    let watch = Watch { expect: Some(Duration::from_mins(10)), ..Watch::default() };
    for (first, second, told) in [(0, 50, true), (0, 61, false)] {
        let (mut accounts, id) = total(100, Policy { watch: watch.clone(), ..Policy::default() });
        charge_at(&mut accounts, id, after(first * 1_000_000), 40);
        let notices = charge_at(&mut accounts, id, after(second * 1_000_000), 41);
        assert_eq!(kinds(&notices).contains(&EventKind::Pace), told, "after {second} s");
        assert!(!kinds(&charge_at(&mut accounts, id, after(second * 1_000_000), 1)).contains(&EventKind::Pace));
    }
}

#[test]
fn what_is_spent_too_fast_is_slowed_down_until_its_time_is_over() {
    let watch = Watch { expect: Some(Duration::from_mins(10)), on_pace: Some(Reaction::Throttle), ..Watch::default() };
    let policy = Policy { watch, throttle: Some(Throttle::PerMinute(20)), ..Policy::default() };
    let (mut accounts, id) = total(100, policy);
    charge(&mut accounts, id, 81);
    let paces = |accounts: &Accounts, at| accounts.paces(&accounts.line(id), LLM, true, at).len();
    assert_eq!(paces(&accounts, after(MINUTE)), 1);
    assert_eq!(paces(&accounts, after(11 * MINUTE)), 0);
}

#[test]
fn the_same_request_again_and_again_is_told_once_per_row_of_them() {
    let watch = Watch { repeats: Some(3), on_repeat: Some(Reaction::Stop), ..Watch::default() };
    let (mut accounts, id) = total(100, Policy { watch, ..Policy::default() });
    let told: Vec<bool> = [7, 7, 8, 7, 7, 7, 7, 8, 8, 8].map(|n| accounts.repeated(id, n).is_some()).to_vec();
    assert_eq!(told.iter().enumerate().filter(|(_, told)| **told).map(|(n, _)| n).collect::<Vec<_>>(), [5, 9]);
    let watch = Watch { repeats: Some(1), on_repeat: Some(Reaction::Stop), ..Watch::default() };
    let (mut accounts, id) = total(100, Policy { watch, enforce: Some(false), ..Policy::default() });
    assert_eq!(accounts.repeated(id, 1).unwrap().reaction, Reaction::Tell);
}

#[test]
fn a_day_far_above_the_fortnight_before_it_is_told_once() {
    let spend = |days: i64, today: i64| {
        let mut accounts = Accounts::new(TimeZone::UTC, NOW);
        let id = accounts.ensure(&"research".parse().unwrap(), &mut Vec::new());
        let mut told = Vec::new();
        for day in 0..days {
            told.extend(charge_at(&mut accounts, id, after(day * DAY), 10));
        }
        for _ in 0..2 {
            told.extend(charge_at(&mut accounts, id, after(days * DAY), today / 2));
        }
        told.iter().filter(|notice| notice.kind == EventKind::Baseline && notice.account == id).count()
    };
    assert_eq!(spend(20, 30), 0, "3 times it is not above it");
    assert_eq!(spend(20, 32), 1);
    assert_eq!(spend(4, 32), 1);
    assert_eq!(spend(2, 1_000), 0, "too few days to compare with");
}

#[test]
fn an_account_whose_time_is_not_over_after_all_opens_again() {
    let (mut accounts, id) = total(100, Policy { until: Some(after(60 * MINUTE)), ..Policy::default() });
    let state = |accounts: &Accounts| accounts.get(id).state;
    for _ in 0..2 {
        // A clock that is wrong by a day, and set right.
        accounts.advance(after(DAY));
        assert_eq!(state(&accounts), State::Draining);
        accounts.finish_stop(id);
        accounts.advance(after(MINUTE));
        assert_eq!(state(&accounts), State::Open);
    }
}

#[test]
fn the_time_in_which_a_limit_is_meant_to_be_spent_begins_with_its_own_use() {
    let watch = Watch { expect: Some(Duration::from_mins(10)), ..Watch::default() };
    let search = Category::of("web-search");
    let key = LimitKey { window: Window::Total, category: search, unit: Unit::Usd };
    let (mut accounts, id) = agent(Policy { limits: vec![LimitRule { key, amount: 100 }], watch, ..Policy::default() });
    charge(&mut accounts, id, 5);
    let at = after(30 * MINUTE);
    accounts.charge(id, &Posting { category: search, used: Amounts::usd(Pico::new(90)), at });
    let line = accounts.line(id);
    let notices = accounts.look(&line, &Charged { at, cost: Pico::new(90), held: Some(Pico::new(90)) });
    assert!(kinds(&notices).contains(&EventKind::Pace), "{notices:?}");
}

#[test]
fn a_charge_beyond_its_hold_is_told_once_an_hour() {
    let (mut accounts, id) = total(1_000, Policy::default());
    let mut overrun = |at| {
        accounts.advance(at);
        let line = accounts.line(id);
        let charged = Charged { at, cost: Pico::new(2), held: Some(Pico::new(1)) };
        kinds(&accounts.look(&line, &charged)).contains(&EventKind::Overrun)
    };
    assert_eq!([overrun(NOW), overrun(NOW), overrun(after(60 * MINUTE))], [true, false, true]);
}

#[test]
fn observing_grants_everything_and_says_what_would_have_refused() {
    let policy = Policy {
        enforce: Some(false),
        max_cost: Some(Pico::new(50)),
        models: Models { allow: vec![], deny: vec!["*-pro".to_owned()] },
        until: None,
        ..Policy::default()
    };
    let (mut accounts, id) = total(100, policy.clone());
    let mut admit = |amount, model| {
        let quote = quote(amount);
        let ask = Ask { model, names_model: true, ..ask(&quote) };
        let loose = accounts.admit(id, &ask).expect("nothing is refused").would_refuse;
        loose.map(|loose| (loose.obstacle, accounts.would_refuse(&loose).is_some()))
    };
    assert_eq!(admit(10, Some("gpt-5")), None);
    assert_eq!(admit(10, Some("gpt-5-pro")), Some((Obstacle::Model, true)));
    assert_eq!(admit(10, Some("gpt-5-pro")), Some((Obstacle::Model, false)), "told once");
    assert_eq!(admit(60, None), Some((Obstacle::Ceiling, true)));
    assert_eq!(admit(90, None), Some((Obstacle::Limit(LimitKey::BUDGET), true)));
    assert_eq!(admit(90, None), Some((Obstacle::Limit(LimitKey::BUDGET), false)));

    let (mut accounts, id) = total(100, Policy { until: Some(NOW), ..policy });
    let quote = quote(1);
    let loose = accounts.admit(id, &ask(&quote)).unwrap().would_refuse.unwrap();
    assert_eq!(loose.obstacle, Obstacle::Until);
}

#[test]
fn a_list_of_allowed_models_refuses_what_names_none() {
    let models = Models { allow: vec!["gpt-*".to_owned()], deny: vec![] };
    let (mut accounts, id) = total(100, Policy { models, ..Policy::default() });
    let quote = quote(1);
    let mut admit = |model, fallbacks: &[String], names_model| {
        accounts.admit(id, &Ask { model, fallbacks, names_model, ..ask(&quote) })
    };
    let denied = |model: Option<&str>| Err(Denied::Model { account: id, model: model.map(str::to_owned) });
    assert!(admit(Some("gpt-5"), &[], true).is_ok());
    assert_eq!(admit(Some("o3"), &[], true), denied(Some("o3")));
    assert_eq!(admit(None, &[], true), denied(None));
    assert!(admit(None, &[], false).is_ok(), "a search has no model");
    let both = ["gpt-4o".to_owned(), "o3".to_owned()];
    assert!(admit(Some("gpt-5"), &both[..1], true).is_ok());
    assert_eq!(admit(Some("gpt-5"), &both, true), denied(Some("o3")), "each that may answer is looked at");
    assert_eq!(accounts.get(id).holds, 3);
}
