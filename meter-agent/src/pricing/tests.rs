//! Quotes and charges against prices worked out by hand from the providers' price lists.

use super::{
    charge::billed,
    fees::Per,
    quote::{ROUNDING, STATED_MAX},
    *,
};
use crate::usage::{Line, Quality, Quantity, Units, Usage};

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
fn a_request_that_several_models_may_answer_is_held_for_the_dearest() {
    let prices = Prices::embedded();
    let alone = |model: &str, ceiling| prices.quote("openrouter", &facts(model, 1_000, ceiling), AT);
    let (cheap, dear) = ("openai/gpt-4o-mini", "openai/gpt-4o");
    for ceiling in [Some(100), None] {
        let of = |model: &str, fallbacks: &[&str], bills_attempts| {
            let fallbacks = fallbacks.iter().map(|&name| name.to_owned()).collect();
            let asked = RequestFacts { fallbacks, bills_attempts, ..facts(model, 1_000, ceiling) };
            prices.quote("openrouter", &asked, AT)
        };
        assert_eq!(of(cheap, &[dear], false).worst(), alone(dear, ceiling).worst());
        assert_eq!(of(dear, &[cheap, cheap], false).worst(), alone(dear, ceiling).worst());
        let both = alone(dear, ceiling).worst_at(100).saturating_add(alone(cheap, ceiling).worst_at(100));
        assert_eq!(of(dear, &[cheap], true).worst_at(100), both, "every attempt is billed");
    }
    let refusing =
        Prices::new(Settings { unknown_model: UnknownModel::Refuse, ..Settings::default() }, Imported::default());
    let asked = RequestFacts { fallbacks: vec!["nobody-knows".to_owned()], ..facts("gpt-4o", 10, Some(10)) };
    let refused = refusing.admit("openai", &asked, AT, false).unwrap_err();
    assert_eq!(refused.model, "nobody-knows");
}

#[test]
fn a_charge_is_the_price_list_to_the_pico_dollar() {
    let prices = Prices::embedded();
    let charge = |provider, model, usage| prices.charge(provider, None, &reading(model, usage), AT);
    // gpt-4o: $2.50 in, $1.25 cached, $10 out, per million.
    let cached = Usage { input_uncached: 60, cache_read: 40, ..usage(100, 7) };
    let got = charge("openai", "gpt-4o-2024-08-06", cached);
    assert_eq!((got.cost, got.kind), (usd("0.00027"), PriceKind::Priced));
    // claude-sonnet-4-5: $3 in, $3.75 and $6 written, $0.30 read, $15 out.
    let written = Usage { input_uncached: 10, cache_read: 20, cache_write_5m: 30, cache_write_1h: 40, ..usage(100, 1) };
    assert_eq!(charge("anthropic", "claude-sonnet-4-5-20250929", written).cost, usd("0.0004035"));
    // Above 200,000 tokens of input gemini-2.5-pro costs $2.50 and $15.
    assert_eq!(charge("google", "gemini-2.5-pro", usage(200_000, 1)).cost, usd("0.25001"));
    assert_eq!(charge("google", "gemini-2.5-pro", usage(200_001, 1)).cost, usd("0.5000175"));
}

#[test]
fn cached_sound_and_pictures_are_what_has_no_room_beside_the_cache() {
    let prices = Prices::embedded();
    let cost = |provider, model: &str, line: &Line| {
        let reading = Reading { lines: vec![line.clone()], ..reading(model, line.usage) };
        let charge = prices.charge(provider, None, &reading, AT);
        assert_eq!(charge.kind, PriceKind::Priced);
        charge.cost
    };
    let line = |usage| Line { usage, ..Line::default() };
    // gpt-realtime: $32 for sound, $0.40 cached, per million. At least 400 of the sound were cached.
    let spoken = Usage { input_uncached: 100, cache_read: 900, input_audio: 500, ..usage(1_000, 0) };
    assert_eq!(cost("openai", "gpt-realtime", &line(spoken)), usd("0.00356"));
    let stated = Line { cache_read_audio: 400, ..line(spoken) };
    assert_eq!(cost("openai", "gpt-realtime", &stated), usd("0.00356"));
    // gemini-2.5-flash: $1 for sound, $0.30 for the rest, $0.03 cached. 300 of the pictures were cached, and no sound.
    let seen = Usage { input_uncached: 500, cache_read: 500, input_audio: 400, input_image: 400, ..usage(1_000, 0) };
    assert_eq!(cost("google", "gemini-2.5-flash", &line(seen)), usd("0.000445"));
    // Where all of it has room, none is taken to be cached.
    let apart = Usage { input_uncached: 900, cache_read: 100, input_audio: 500, ..usage(1_000, 0) };
    assert_eq!(cost("google", "gemini-2.5-flash", &line(apart)), usd("0.000623"));
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
        Line { usage: usage(1_000, 0), surcharge_percent: 110, ..Line::default() },
        Line { model: Some("claude-opus-4-6".to_owned()), usage: usage(1_000, 0), ..Line::default() },
    ];
    let server_tools = [("web_search".into(), 1)].into();
    let reading = Reading { lines, server_tools, ..reading("claude-sonnet-4-5", usage(2_000, 0)) };
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
    assert_eq!((named.cost, named.kind), (usd("0.00025"), PriceKind::Priced));
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
    let kept = prices.book().rates.len();
    assert!(kept < 10, "{kept}");
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

#[test]
fn a_grounded_prompt_is_billed_once_before_gemini_3_and_by_query_since() {
    for (tool, model, calls) in [
        ("google_search", "gemini-2.5-flash", 1),
        ("google_search", "gemini-3-pro-preview", 4),
        ("google_maps", "gemini-2.5-flash", 1),
        ("web_search", "gemini-2.5-flash", 4),
    ] {
        assert_eq!(billed(tool, model, 4, Per::Each), calls, "{tool} {model}");
    }
    assert_eq!(billed("code_interpreter", "gpt-5", 4, Per::Exchange), 1);
}

/// Half-up, of a sum of tokens times dollars per million, in integers: `("2.50", 60)`.
fn by_hand(parts: &[(&str, u64)]) -> Pico {
    let sum: i128 = parts.iter().map(|(rate, tokens)| i128::from(usd(rate).get()) * i128::from(*tokens)).sum();
    Pico::new(i64::try_from((sum + 500_000) / 1_000_000).unwrap())
}

#[test]
fn charges_are_the_sums_of_exact_decimals() {
    let prices = Prices::embedded();
    // Rates from the providers' price lists: uncached, read, written (5 m), written (1 h), output.
    for (provider, model, [uncached, read, short, hour, output]) in [
        ("openai", "gpt-4o-2024-08-06", ["2.5", "1.25", "2.5", "2.5", "10"]),
        ("openai", "gpt-4o-mini", ["0.15", "0.075", "0.15", "0.15", "0.6"]),
        ("openai", "gpt-5", ["1.25", "0.125", "1.25", "1.25", "10"]),
        ("anthropic", "claude-sonnet-4-5", ["3", "0.3", "3.75", "6", "15"]),
        ("anthropic", "claude-haiku-4-5", ["1", "0.1", "1.25", "2", "5"]),
        ("google", "gemini-2.5-pro", ["1.25", "0.125", "1.25", "1.25", "10"]),
        ("groq", "llama-3.3-70b-versatile", ["0.59", "0.59", "0.59", "0.59", "0.79"]),
    ] {
        for n in [1, 7, 333, 12_345, 33_331] {
            let split = Usage {
                input_tokens: n + 3 * n + n / 2 + n / 7,
                input_uncached: n,
                cache_read: 3 * n,
                cache_write_5m: n / 2,
                cache_write_1h: n / 7,
                output_tokens: 11 * n,
                ..Usage::default()
            };
            let want = by_hand(&[(uncached, n), (read, 3 * n), (short, n / 2), (hour, n / 7), (output, 11 * n)]);
            let got = prices.charge(provider, None, &reading(model, split), AT);
            assert_eq!((got.cost, got.kind, got.reason), (want, PriceKind::Priced, None), "{model} {n}");
        }
    }
}

fn own(model: &str, input: &str, output: &str) -> PriceOverride {
    let tokens = TokenRates { input: usd(input), output: usd(output), ..TokenRates::default() };
    PriceOverride {
        model: model.to_owned(),
        card: Card { tokens: Some(tokens), ..Card::default() },
        ..PriceOverride::default()
    }
}

fn with(overrides: Vec<PriceOverride>) -> Prices {
    Prices::new(Settings { overrides, ..Settings::default() }, Imported::default())
}

#[test]
fn the_configs_price_wins_over_the_providers_own_charge_and_the_catalogue() {
    let prices = with(vec![own("gpt-4o*", "0.123456", "1")]);
    let stated = Reading { reported: Some(usd("5")), ..reading("gpt-4o", usage(1_000_000, 0)) };
    let got = prices.charge("openai", None, &stated, AT);
    assert_eq!((got.cost, got.kind), (usd("0.123456"), PriceKind::Priced));
    assert_eq!(got.reason.as_deref(), Some("price of the config"));
    let quote = prices.quote("openai", &facts("gpt-4o", 1_000_000, Some(10)), AT);
    assert!(quote.worst() >= usd("0.016"), "{quote:?}");
    let other = prices.charge("openai", None, &reading("gpt-5", usage(1_000_000, 0)), AT);
    assert_eq!(other.cost, usd("1.25"));
}

#[test]
fn a_price_per_unit_alone_makes_no_tokens_free() {
    let units_alone = |unit: &str, price: &str| PriceOverride {
        model: "*".to_owned(),
        card: Card { per_unit: [(unit.to_owned(), usd(price))].into(), ..Card::default() },
        ..PriceOverride::default()
    };
    let overrides = vec![units_alone("web_search", "0.5"), units_alone("images", "0.04"), own("gpt-4o*", "7", "1")];
    let prices = with(overrides.clone());
    let charge = |model: &str, usage, tools: &[(&'static str, u64)], units: &[(&'static str, u64)]| {
        let server_tools = tools.iter().map(|(tool, n)| ((*tool).into(), *n)).collect();
        let units = units.iter().map(|(unit, n)| ((*unit).into(), Quantity::whole(*n))).collect();
        prices.charge("openai", None, &Reading { server_tools, units, ..reading(model, usage) }, AT).cost
    };
    let million = usage(1_000_000, 0);
    assert_eq!(charge("gpt-5", million, &[("web_search", 2)], &[]), usd("2.25"));
    assert_eq!(charge("gpt-4o", million, &[("web_search", 2)], &[]), usd("8"));
    assert_eq!(charge("gpt-image-1", million, &[], &[("images", 3)]), usd("0.12"));
    assert!(prices.quote("openai", &facts("gpt-5", 100_000, Some(10)), AT).worst() >= usd("0.125"));
    let settings = Settings { overrides, unknown_model: UnknownModel::Refuse, ..Settings::default() };
    let refusing = Prices::new(settings, Imported::default());
    assert!(refusing.admit("openai", &facts("brand-new", 1, Some(1)), AT, false).is_err());
    let told = prices.explain(Some(Seller::from("openai")), "gpt-5", AT);
    assert!(told.source.contains("catalogue") && told.fees[0].usd == usd("0.5"), "{told:?}");
}

#[test]
fn an_imported_list_without_rates_of_tokens_makes_none_free() {
    let list = br#"{"venice/picture": {"litellm_provider": "venice", "output_cost_per_image": 0.07}}"#;
    let mut imported = Imported::default();
    imported.add(PriceFile::read(list).unwrap());
    let prices = Prices::new(Settings::default(), imported);
    let got = prices.charge("venice", None, &reading("picture", usage(1_000_000, 0)), AT);
    assert!(got.cost.is_positive() && got.kind == PriceKind::Unpriced, "{got:?}");
    let drawn = Reading { units: [("images".into(), Quantity::whole(2))].into(), ..reading("picture", usage(9, 0)) };
    assert_eq!(prices.charge("venice", None, &drawn, AT).cost, usd("0.14"));
}

#[test]
fn a_reported_charge_is_taken_unless_it_can_not_be() {
    let prices = Prices::embedded();
    let charge = |usd_text: &str| {
        let reading = Reading { reported: Some(usd(usd_text)), ..reading("gpt-4o", usage(1_000, 0)) };
        let charge = prices.charge("openai", None, &reading, AT);
        (charge.cost, charge.kind, charge.reason.is_some())
    };
    assert_eq!(charge("0.0031"), (usd("0.0031"), PriceKind::Provider, false));
    assert_eq!(charge("0"), (Pico::ZERO, PriceKind::Provider, false));
    assert_eq!(charge("0.9"), (usd("0.9"), PriceKind::Provider, false));
    assert_eq!(charge("2.6"), (usd("0.0025"), PriceKind::Priced, true));
    let lone = Reading { reported: Some(usd("1001")), model: Some("x".to_owned()), ..Reading::nothing() };
    assert_eq!(prices.charge("openrouter", None, &lone, AT).cost, Pico::ZERO);
}

#[test]
fn a_batch_costs_half_and_is_quoted_whole() {
    let prices = Prices::embedded();
    let batch = Reading { batch: true, ..reading("claude-sonnet-4-5", usage(1_000_000, 0)) };
    // Above 200,000 tokens of input both have the long context's rate.
    assert_eq!(prices.charge("anthropic", None, &batch, AT).cost, usd("3"));
    let named = Reading { service_tier: Some("batch".to_owned()), batch: false, ..batch };
    assert_eq!(prices.charge("anthropic", None, &named, AT).cost, usd("3"));
}

#[test]
fn tools_have_their_fees() {
    let prices = Prices::embedded();
    let fee = |provider: &str, model: &str, tool: &'static str, calls: u64| {
        let reading = Reading { server_tools: [(tool.into(), calls)].into(), ..reading(model, Usage::default()) };
        let charge = prices.charge(provider, None, &reading, AT);
        (charge.cost.to_string(), charge.kind)
    };
    let priced = |text: &str| (text.to_owned(), PriceKind::Priced);
    assert_eq!(fee("openai", "gpt-5", "web_search", 3), priced("0.03"));
    assert_eq!(fee("openai", "gpt-5", "file_search", 4), priced("0.01"));
    assert_eq!(fee("openai", "gpt-5", "code_interpreter", 4), priced("0.03"));
    assert_eq!(fee("openai", "gpt-5", "mcp", 4), priced("0"));
    assert_eq!(fee("anthropic", "claude-sonnet-4-5", "web_fetch", 4), priced("0"));
    assert_eq!(fee("google", "gemini-2.5-flash", "google_search", 4), priced("0.035"));
    assert_eq!(fee("google", "gemini-3-pro-preview", "google_search", 4), priced("0.056"));
    assert_eq!(fee("x-ai", "grok-4", "x_search", 2), priced("0.01"));
    assert_eq!(fee("openai", "gpt-5", "crystal_ball", 1), ("0.035".to_owned(), PriceKind::Unpriced));
}

#[test]
fn units_are_priced_by_the_catalogue_or_the_table_and_never_silently_free() {
    let prices = Prices::embedded();
    let cost = |provider: &str, model: &str, unit: &'static str, n: f64, variant: Option<&str>| {
        let units: Units = [(unit.into(), Quantity::from_f64(n).unwrap())].into();
        let variant = variant.map(str::to_owned);
        let ordered =
            RequestFacts { no_output: true, units: units.clone(), variant: variant.clone(), ..facts(model, 0, None) };
        let charge = prices.charge(provider, None, &Reading { units, variant, ..reading(model, Usage::default()) }, AT);
        assert!(prices.quote(provider, &ordered, AT).worst() >= charge.cost, "{model} {unit}");
        (charge.cost.to_string(), charge.kind)
    };
    let priced = |text: &str| (text.to_owned(), PriceKind::Priced);
    assert_eq!(cost("openai", "dall-e-3", "images", 2.0, Some("hd/1024x1792")), priced("0.24"));
    assert_eq!(cost("openai", "dall-e-2", "images", 1.0, Some("256x256")), priced("0.016"));
    assert_eq!(cost("openai", "whisper-1", "audio_seconds", 90.0, None), priced("0.009"));
    assert_eq!(cost("openai", "tts-1-hd", "billable_characters", 1_000.0, None), priced("0.03"));
    assert_eq!(cost("mistral", "mistral-ocr-latest", "ocr_pages", 10.0, None), priced("0.04"));
    assert_eq!(cost("cohere", "rerank-v3.5", "search_units", 1.0, None), priced("0.002"));
    assert_eq!(cost("openai", "brand-new", "images", 1.0, None), ("0.25".to_owned(), PriceKind::Unpriced));
    assert_eq!(cost("tavily", "", "credits", 2.0, Some("search")), priced("0.016"));
    assert_eq!(cost("exa", "", "pages", 3.0, Some("contents")), priced("0.003"));
}

#[test]
fn what_tokens_were_paid_for_is_not_paid_twice() {
    let prices = Prices::embedded();
    let units: Units = [("images".into(), Quantity::whole(1))].into();
    let spent = Usage { output_image: 1_000, ..usage(10, 1_000) };
    let with_image = Reading { units, ..reading("gpt-image-1", spent) };
    let without = Reading { units: Units::new(), ..with_image.clone() };
    assert_eq!(prices.charge("openai", None, &with_image, AT), prices.charge("openai", None, &without, AT));
}

#[test]
fn a_provider_that_no_list_has_is_charged_as_another_and_says_so() {
    let prices = Prices::embedded();
    let charge = |provider, model: &str| prices.charge(provider, None, &reading(model, usage(1_000_000, 0)), AT);
    let gateway = charge("vercel", "openai/gpt-4o");
    assert_eq!((gateway.cost, gateway.kind), (usd("2.5"), PriceKind::Priced), "it passes the price on");
    assert!(gateway.reason.unwrap().contains("at openai"));
    let resold = charge("snowflake", "gpt-4o");
    assert_eq!((resold.cost, resold.kind), (usd("2.5"), PriceKind::Unpriced));
    let spelled = charge("crusoe", "mistral-small-3-2-24b-instruct");
    assert!(spelled.cost < usd("1") && spelled.kind == PriceKind::Unpriced, "{spelled:?}");
    let unheard = charge("nobody", "nothing-like-it");
    assert_eq!((unheard.cost, unheard.kind), (usd("150"), PriceKind::Unpriced));
    for model in ["openai/gpt-4o", "nothing-like-it"] {
        let quote = prices.quote("nobody", &facts(model, 100_000, Some(1_000)), AT);
        let cost = prices.charge("nobody", None, &reading(model, usage(100_000, 1_000)), AT).cost;
        assert!(quote.worst() >= cost, "{model}");
    }
}

#[test]
fn a_local_host_is_free_and_says_so() {
    let prices = Prices::embedded();
    let local = Seller { id: "ollama", catalogue: crate::usage::hosts::LOCAL };
    let charge = prices.charge(local, None, &reading("gpt-4o", usage(1_000, 1_000)), AT);
    assert_eq!(
        (charge.cost, charge.kind, charge.reason.as_deref()),
        (Pico::ZERO, PriceKind::Priced, Some("local host"))
    );
    assert_eq!(prices.quote(local, &facts("gpt-4o", 1_000, None), AT).worst(), Pico::ZERO);
}

#[test]
fn an_unknown_model_is_refused_where_the_policy_says_so() {
    let settings = Settings { unknown_model: UnknownModel::Refuse, ..Settings::default() };
    let prices = Prices::new(settings, Imported::default());
    let admit = |provider: &str, model: &str| prices.admit(provider, &facts(model, 10, Some(10)), AT, false);
    assert!(admit("openai", "gpt-4o").is_ok());
    let refused = admit("openai", "nobody-knows").unwrap_err().to_string();
    assert!(refused.contains("`nobody-knows` of openai") && refused.contains("[[price]]"), "{refused}");
    assert!(admit("nobody", "gpt-4o").is_err());
    let picture = RequestFacts {
        no_output: true,
        units: [("images".into(), Quantity::whole(1))].into(),
        ..facts("dall-e-3", 10, None)
    };
    assert!(prices.admit("openai", &picture, AT, false).is_ok());
}

#[test]
fn subscription_traffic_is_admitted_at_nothing_unless_it_counts() {
    let ask = facts("gpt-4o", 1_000, Some(1_000));
    let free = Prices::embedded().admit("openai", &ask, AT, true).unwrap();
    assert_eq!(free.worst(), Pico::ZERO);
    let counting = Prices::new(Settings { plan: PlanMode::Count, ..Settings::default() }, Imported::default());
    assert!(counting.admit("openai", &ask, AT, true).unwrap().worst().is_positive());
}

#[test]
fn an_imported_list_fills_what_the_catalogue_lacks_at_once() {
    let list = r#"{"venice/new-model": {"litellm_provider": "venice", "input_cost_per_token": 7e-07,
        "output_cost_per_token": 2.8e-06}, "gpt-4o": {"litellm_provider": "openai", "input_cost_per_token": 1}}"#;
    let prices = Prices::embedded();
    let charge = |model: &str, provider: &str| prices.charge(provider, None, &reading(model, usage(1_000_000, 0)), AT);
    assert_eq!(charge("new-model", "venice").kind, PriceKind::Unpriced);
    let mut imported = Imported::default();
    imported.add(PriceFile::read(list.as_bytes()).unwrap());
    prices.replace(imported);
    let known = charge("new-model", "venice");
    assert_eq!((known.cost, known.kind), (usd("0.7"), PriceKind::Priced));
    assert_eq!(charge("gpt-4o", "openai").cost, usd("2.5"));
}

#[test]
fn auto_is_quoted_at_the_dearest_tier_it_can_become() {
    let prices = Prices::embedded();
    let quote = |tier: Option<&str>| {
        let asked = RequestFacts { service_tier: tier.map(str::to_owned), ..facts("gpt-4o", 0, Some(1)) };
        prices.quote("openai", &asked, AT).per_output_token
    };
    assert_eq!((quote(None), quote(Some("auto"))), (usd("0.00001"), usd("0.000017")));
}

#[test]
fn an_ordinary_charge_takes_microseconds() {
    let prices = Prices::embedded();
    let one = reading("gpt-4o-2024-08-06", Usage { input_uncached: 60, cache_read: 40, ..usage(100, 7) });
    let started = crate::clock::monotonic_ns();
    let times = 2_000;
    for _ in 0..times {
        std::hint::black_box(prices.charge("openai", Some("gpt-4o"), &one, AT));
    }
    let each_ns = (crate::clock::monotonic_ns() - started) / times;
    // Built without optimisation, and beside other tests: far above the 5 us that it may take.
    assert!(each_ns < 200_000, "{each_ns} ns");
}

#[test]
fn a_model_that_the_catalogue_has_for_nothing_says_so() {
    let prices = Prices::embedded();
    let charge = |provider, model: &str| prices.charge(provider, None, &reading(model, usage(1_000_000, 0)), AT);
    let free = charge("google", "gemma-3-27b-it");
    let found = (free.cost, free.kind, free.reason.as_deref());
    assert_eq!(found, (Pico::ZERO, PriceKind::Priced, Some("free by the price list")));
}

#[test]
fn a_gateways_unknown_model_costs_what_its_maker_takes() {
    let charge = Prices::embedded().charge(
        "openrouter",
        None,
        &reading("openai/text-embedding-3-small", usage(1_000_000, 0)),
        AT,
    );
    assert_eq!((charge.cost, charge.kind), (usd("0.02"), PriceKind::Unpriced));
}

#[test]
fn another_config_s_prices_take_the_place_of_those_before() {
    let prices = Prices::embedded();
    let charge = |prices: &Prices| prices.charge("openai", None, &reading("gpt-4o", usage(1_000_000, 0)), AT).cost;
    assert_eq!((charge(&prices), prices.counts_plans()), (usd("2.5"), false));
    let mut own = PriceOverride { model: "gpt-4o".to_owned(), ..PriceOverride::default() };
    own.card.request = usd("7");
    own.card.tokens = Some(TokenRates::default());
    let settings = Settings { overrides: vec![own], plan: PlanMode::Count, ..Settings::default() };
    prices.configure(settings, Imported::default());
    assert_eq!((charge(&prices), prices.counts_plans()), (usd("7"), true));
    // An import later keeps what the config says.
    prices.replace(Imported::default());
    assert_eq!(charge(&prices), usd("7"));
}
