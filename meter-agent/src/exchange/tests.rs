//! How exchanges end, and what each end costs.

use super::*;
use crate::{
    pricing::{Imported, PlanMode, PriceKind, Settings},
    usage::{Line, Quality, Usage},
};

const HELD: Pico = Pico::new(7_000_000);

fn exchange(billing: Billing) -> Exchange {
    Exchange::new(Opening {
        account: AccountPath::of_agent("research").unwrap(),
        process: Process::default(),
        provider: "openai".to_owned(),
        price_provider: "openai".to_owned(),
        endpoint: "chat_completions",
        billing,
        category: LLM,
        host: "api.openai.com".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        at: Timestamp::from_micros(1_790_000_000_000_000),
        monotonic_ns: 0,
    })
}

fn held(billing: Billing) -> Exchange {
    let mut exchange = exchange(billing);
    exchange.admitted(ExchangeId::new(), HELD, None);
    exchange
}

fn end(exchange: Exchange, end: &End) -> Row {
    exchange.end(end, None, &Prices::embedded(), 5_000_000)
}

#[test]
fn what_never_left_costs_nothing() {
    for how in [End::AgentGone, End::Unreachable { status: 502, why: "refused".to_owned() }] {
        let row = end(held(Billing::Metered), &how);
        assert_eq!((row.cost_usd, row.usage_quality), (Pico::ZERO, Quality::Exact), "{how:?}");
        assert_eq!(row.held_usd, HELD);
    }
}

#[test]
fn what_left_and_was_never_answered_consumes_its_hold() {
    for how in [
        End::AgentGone,
        End::Unreachable { status: 502, why: "reset".to_owned() },
        End::LedgerFault { status: 503, why: "disk full".to_owned() },
    ] {
        let mut exchange = held(Billing::Metered);
        exchange.sent();
        let row = end(exchange, &how);
        assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Absent), "{how:?}");
    }
}

#[test]
fn what_the_meter_cut_costs_what_was_delivered_and_never_more_than_it_holds() {
    let cut = |status| End::Cut { status, why: "revoked".to_owned() };
    let mut exchange = held(Billing::Metered);
    exchange.grown(Pico::new(9_000_000));
    exchange.sent();
    exchange.answered(200, None, 2_000_000);
    let delivered = Reading {
        model: Some("gpt-4o".to_owned()),
        ..Reading::of(Quality::Estimated, Usage { output_tokens: 1, ..Usage::default() })
    };
    assert_eq!(exchange.cost_of(&delivered, &Prices::embedded()), Pico::new(10_000_000));
    let row = exchange.end(&cut(None), Some(delivered), &Prices::embedded(), 5_000_000);
    assert_eq!((row.outcome, row.status, row.cost_usd), (Outcome::Cut, Some(200), Pico::new(9_000_000)));
    assert_eq!(row.reason.as_deref(), Some("revoked"));

    let mut waiting = held(Billing::Metered);
    waiting.sent();
    let row = end(waiting, &cut(Some(402)));
    assert_eq!((row.outcome, row.status, row.cost_usd), (Outcome::Cut, Some(402), HELD));

    let row = end(held(Billing::Metered), &cut(Some(402)));
    assert_eq!((row.outcome, row.status, row.cost_usd), (Outcome::RefusedBudget, Some(402), Pico::ZERO));
}

#[test]
fn an_error_answer_costs_nothing_and_an_unread_success_its_hold() {
    for (status, cost, outcome) in [(429, Pico::ZERO, Outcome::UpstreamError), (200, HELD, Outcome::Complete)] {
        let mut exchange = held(Billing::Unknown);
        exchange.sent();
        exchange.answered(status, None, 2_000_000);
        let row = end(exchange, &End::Complete);
        assert_eq!((row.cost_usd, row.outcome, row.status), (cost, outcome, Some(status)));
        assert_eq!((row.ttfb_ms, row.duration_ms), (Some(2), 5));
    }
}

#[test]
fn a_free_call_costs_nothing_however_it_ends() {
    let mut free = exchange(Billing::Free);
    free.sent();
    let row = end(free, &End::AgentGone);
    assert_eq!((row.cost_usd, row.outcome, row.status), (Pico::ZERO, Outcome::ClientGone, None));
}

#[test]
fn a_reading_of_an_answer_that_never_came_is_not_believed() {
    let mut exchange = held(Billing::Metered);
    exchange.sent();
    let row = exchange.end(&End::AgentGone, Some(Reading::nothing()), &Prices::embedded(), 0);
    assert_eq!(row.cost_usd, HELD);
}

fn reading(input_tokens: u64) -> Reading {
    let usage = Usage { input_tokens, input_uncached: input_tokens, ..Usage::default() };
    Reading { usage, model: Some("gpt-4o".to_owned()), ..Reading::nothing() }
}

#[test]
fn a_plan_pays_unless_the_config_counts_it() {
    let counted = Settings { plan: PlanMode::Count, ..Settings::default() };
    for (settings, cost) in [(Settings::default(), Pico::ZERO), (counted, Pico::new(2_500_000_000_000))] {
        let prices = Prices::new(settings, Imported::default());
        let mut exchange = held(Billing::Metered);
        exchange.plan(true);
        exchange.sent();
        exchange.answered(200, None, 0);
        let row = exchange.end(&End::Complete, Some(reading(1_000_000)), &prices, 0);
        assert_eq!((row.cost_usd, row.price), (cost, PriceKind::Plan));
        assert_eq!(row.notional_usd, Some(Pico::new(2_500_000_000_000)));
    }
}

#[test]
fn a_settled_payment_is_the_charge() {
    for (amount, cost, kind) in
        [(Some(Pico::new(10)), Pico::new(10), PriceKind::Provider), (None, HELD, PriceKind::Unpriced)]
    {
        let mut exchange = held(Billing::Metered);
        exchange.sent();
        exchange.answered(200, None, 0);
        exchange.paid(x402::Payment { amount });
        let row = exchange.end(&End::Complete, Some(reading(1_000)), &Prices::embedded(), 0);
        assert_eq!((row.cost_usd, row.price, row.category.as_str()), (cost, kind, "x402"));
    }
}

#[test]
fn several_models_are_several_lines_with_their_costs() {
    let mut exchange = held(Billing::Metered);
    exchange.sent();
    exchange.answered(200, None, 0);
    let line = |model: Option<&str>, usage| Line { model: model.map(str::to_owned), usage, ..Line::default() };
    let part = reading(1_000_000).usage;
    let lines = vec![line(None, part), line(Some("gpt-4o-mini"), part)];
    let both = Reading { lines, usage: part.plus(part), ..reading(0) };
    let row = exchange.end(&End::Complete, Some(both), &Prices::embedded(), 0);
    let costs: Vec<(&str, &str)> = row
        .detail
        .lines
        .iter()
        .map(|l| (l.model.as_deref().unwrap(), if l.cost_usd == Pico::new(2_500_000_000_000) { "2.5" } else { "0.15" }))
        .collect();
    assert_eq!(costs, [("gpt-4o", "2.5"), ("gpt-4o-mini", "0.15")]);
    assert_eq!(row.cost_usd, Pico::new(2_650_000_000_000));
}

#[test]
fn an_estimate_is_charged_up_to_its_hold() {
    let mut exchange = held(Billing::Metered);
    exchange.asked(Some("gpt-4o".to_owned()), true);
    exchange.sent();
    exchange.answered(200, None, 0);
    let usage = Usage { input_tokens: 9_000, input_uncached: 9_000, output_tokens: 9_000, ..Usage::default() };
    let reading = Reading { usage, quality: Quality::Estimated, ..Reading::nothing() };
    let row = exchange.end(&End::AgentGone, Some(reading), &Prices::embedded(), 0);
    assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Estimated));
}

#[test]
fn a_usage_that_cannot_be_is_as_good_as_none() {
    let mut exchange = held(Billing::Metered);
    exchange.sent();
    exchange.answered(200, None, 0);
    let usage = Usage { output_tokens: u64::MAX, ..Usage::default() };
    let reading = Reading { usage, ..Reading::nothing() };
    let row = exchange.end(&End::Complete, Some(reading), &Prices::embedded(), 0);
    assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Absent));
}

#[test]
fn no_part_of_a_usage_can_be_what_none_is() {
    let mut exchange = held(Billing::Metered);
    exchange.asked(Some("é".repeat(1 << 20)), false);
    exchange.sent();
    exchange.answered(200, None, 0);
    let part = u64::MAX / 2 + 1;
    let usage = Usage { cache_write_5m: part, cache_write_other: part, ..reading(9).usage };
    let absurd = Reading { usage, ..reading(9) };
    let row = exchange.end(&End::Complete, Some(absurd), &Prices::embedded(), 0);
    assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Absent));
    assert_eq!(row.requested_model.map(|name| name.len()), Some(512));
}

#[test]
fn a_charge_beyond_the_hold_is_posted_and_named() {
    let charged = |mut exchange: Exchange| {
        exchange.asked(Some("gpt-4o".to_owned()), false);
        exchange.sent();
        exchange.answered(200, None, 0);
        exchange.end(&End::Complete, Some(reading(1_000_000_000)), &Prices::embedded(), 0)
    };
    let row = charged(held(Billing::Metered));
    assert!(row.cost_usd > HELD && row.reason.is_some_and(|reason| reason.contains("overrun")));
    assert_eq!(charged(exchange(Billing::Metered)).reason, None, "nothing was held for it");
}
