//! Quotes and charges against prices worked out by hand from the providers' price lists.

use super::*;

/// 2026-11-21 00:00 UTC.
const AT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

fn reading(model: &str, usage: Usage) -> Reading {
    Reading { model: Some(model.to_owned()), usage, ..Reading::nothing() }
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input_tokens: input, input_uncached: input, output_tokens: output, ..Usage::default() }
}

fn facts(model: &str, bound: u64, ceiling: Option<u64>) -> RequestFacts {
    RequestFacts { model: Some(model.to_owned()), input_bound: bound, ceiling, choices: 1, ..RequestFacts::default() }
}

fn usd(text: &str) -> Pico {
    text.parse().unwrap()
}

#[test]
fn a_charge_is_the_price_list_to_the_pico_dollar() {
    let prices = Prices::embedded();
    let charge = |provider, model, usage| prices.charge(provider, None, &reading(model, usage), AT);
    // gpt-4o: $2.50 in, $1.25 cached, $10 out, per million.
    let cached = Usage { input_uncached: 60, cache_read: 40, ..usage(100, 7) };
    let got = charge("openai", "gpt-4o-2024-08-06", cached);
    assert_eq!(got, Charge { cost: usd("0.00027"), kind: PriceKind::Priced });
    // claude-sonnet-4-5: $3 in, $3.75 and $6 written, $0.30 read, $15 out.
    let written = Usage { input_uncached: 10, cache_read: 20, cache_write_5m: 30, cache_write_1h: 40, ..usage(100, 1) };
    assert_eq!(charge("anthropic", "claude-sonnet-4-5-20250929", written).cost, usd("0.0004035"));
    // Above 200,000 tokens of input gemini-2.5-pro costs $2.50 and $15.
    assert_eq!(charge("google", "gemini-2.5-pro", usage(200_000, 1)).cost, usd("0.25001"));
    assert_eq!(charge("google", "gemini-2.5-pro", usage(200_001, 1)).cost, usd("0.5000175"));
}

#[test]
fn the_answers_tier_decides() {
    let prices = Prices::embedded();
    let with = |tier: &str| {
        let reading = Reading { service_tier: Some(tier.to_owned()), ..reading("gpt-4o", usage(1_000_000, 0)) };
        prices.charge("openai", None, &reading, AT).cost
    };
    assert_eq!((with("default"), with("priority"), with("auto")), (usd("2.5"), usd("4.25"), usd("2.5")));
}

#[test]
fn lines_are_priced_at_their_own_model_with_fees_and_surcharges() {
    let prices = Prices::embedded();
    let lines = vec![
        Line { usage: usage(1_000, 0), surcharge_percent: 110, web_searches: 1, ..Line::default() },
        Line { model: Some("claude-opus-4-6".to_owned()), usage: usage(1_000, 0), ..Line::default() },
    ];
    let reading = Reading { lines, ..reading("claude-sonnet-4-5", usage(2_000, 0)) };
    // 1.1 x $0.003, $0.01 for the search, $0.005.
    assert_eq!(prices.charge("anthropic", None, &reading, AT).cost, usd("0.0183"));
}

#[test]
fn an_unknown_model_costs_its_providers_dearest_and_says_so() {
    let prices = Prices::embedded();
    let unknown = prices.charge("anthropic", None, &reading("nobody-knows", usage(1_000, 1_000)), AT);
    let opus = prices.charge("anthropic", None, &reading("claude-opus-4-6", usage(1_000, 1_000)), AT);
    assert_eq!(unknown.kind, PriceKind::Unpriced);
    assert!(unknown.cost >= opus.cost && opus.cost.is_positive());
    let named = prices.charge("openai", Some("gpt-4o"), &reading("my-alias", usage(100, 0)), AT);
    assert_eq!(named, Charge { cost: usd("0.00025"), kind: PriceKind::Priced });
    let quote = prices.quote("anthropic", &facts("nobody-knows", 1_000, Some(1_000)), AT);
    assert!(quote.worst() >= unknown.cost);
}

#[test]
fn nothing_and_absent_cost_nothing_here() {
    let prices = Prices::embedded();
    for reading in [Reading::nothing(), Reading::absent()] {
        assert_eq!(prices.charge("openai", Some("nobody-knows"), &reading, AT).cost, Pico::ZERO);
    }
}

#[test]
fn an_estimate_is_priced_at_the_dearest_input_bucket() {
    let prices = Prices::embedded();
    let exact = reading("gpt-5.6-sol", usage(1_000_000, 0));
    let estimate = Reading { quality: Quality::Estimated, ..exact.clone() };
    let (exact, estimate) =
        (prices.charge("openai", None, &exact, AT).cost, prices.charge("openai", None, &estimate, AT).cost);
    assert_eq!(estimate.get() * 4, exact.get() * 5, "a cache write costs 1.25 times the input");
}

#[test]
fn a_quote_takes_the_dearest_bucket_tier_and_output_it_can_reach() {
    let prices = Prices::embedded();
    let plain = prices.quote("anthropic", &facts("claude-sonnet-4-5", 1_000, Some(10)), AT);
    assert_eq!(plain.worst(), usd("0.00315").saturating_add(ROUNDING));
    let hour = RequestFacts { cache_1h: true, cache_5m: true, ..facts("claude-sonnet-4-5", 1_000, Some(10)) };
    assert_eq!(prices.quote("anthropic", &hour, AT).worst(), usd("0.00615").saturating_add(ROUNDING));
    let long = prices.quote("google", &facts("gemini-2.5-pro", 200_001, Some(1)), AT);
    assert_eq!((long.per_output_token, long.input), (usd("0.000015"), usd("0.5000025").saturating_add(ROUNDING)));
    let priority = RequestFacts { service_tier: Some("priority".to_owned()), ..facts("gpt-4o", 0, Some(1)) };
    assert_eq!(prices.quote("openai", &priority, AT).per_output_token, usd("0.000017"));
    let three = RequestFacts { choices: 3, ..facts("gpt-4o", 0, Some(1)) };
    assert_eq!(prices.quote("openai", &three, AT).per_output_token, usd("0.00003"));
}

#[test]
fn what_states_no_ceiling_has_the_models_and_an_unbounded_input_has_the_window() {
    let prices = Prices::embedded();
    let open = prices.quote("openai", &facts("gpt-4o-mini", 10, None), AT);
    assert_eq!((open.output_ceiling, open.stated), (16_384, false));
    let window = RequestFacts { input_unbounded: true, ..facts("gpt-4o", 10, Some(1)) };
    // 128,000 and 6 %.
    assert_eq!(prices.quote("openai", &window, AT).input, usd("0.3392").saturating_add(ROUNDING));
    let embedding = RequestFacts { no_output: true, ..facts("text-embedding-3-small", 50_000, None) };
    let quote = prices.quote("openai", &embedding, AT);
    assert_eq!((quote.output_ceiling, quote.per_output_token), (0, Pico::ZERO));
    assert_eq!(quote.input, usd("0.001").saturating_add(ROUNDING));
}

#[test]
fn names_made_up_by_an_agent_do_not_fill_the_memory() {
    let prices = Prices::embedded();
    for n in 0..200 {
        prices.quote("google", &facts(&format!("made-up-{n}"), 10, None), AT);
    }
    assert!(prices.rates.len() < 10, "{}", prices.rates.len());
}

#[test]
fn what_is_free_is_quoted_at_nothing() {
    let prices = Prices::embedded();
    let quote = prices.quote("google", &facts("gemma-3-27b-it", 1_000, Some(1_000)), AT);
    assert_eq!(quote.worst(), Pico::ZERO);
}

#[test]
fn an_absurd_ceiling_is_not_held_as_if_it_could_be_had() {
    let absurd = RequestFacts { choices: u64::MAX, ..facts("gpt-4o", 10, Some(u64::MAX)) };
    let quote = Prices::embedded().quote("openai", &absurd, AT);
    assert_eq!(quote.output_ceiling, STATED_MAX);
    assert!(quote.stated && quote.worst() < Pico::CAP);
}
