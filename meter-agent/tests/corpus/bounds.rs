//! Nothing costs more than it was quoted, neither as a whole nor by its input alone, and how far above the quotes are.
//!
//! The medians are of requests of a few dozen tokens, as recorded for tests; longer ones come closer to their bound.

use meter_agent::{
    money::Pico,
    pricing::{PriceKind, Prices},
    usage::{Billing, Line, Quality, Reading, Usage},
};

use crate::{
    case::{AT, Case, cases, filter, find, table},
    exceptions::{is_past_the_input_quote, is_past_the_quote},
    report::Failures,
};

/// Quotes by what was charged.
#[derive(Default)]
struct Ratios {
    stated: Vec<f64>,
    open: Vec<f64>,
    input: Vec<f64>,
    /// Of requests whose bytes bound their input.
    bounded_input: Vec<f64>,
    /// Of requests that name state which their bytes do not contain.
    unbounded_input: Vec<f64>,
}

/// Medians of the input part that must not be passed: over all requests, and over those that their bytes bound. Those
/// that name state are bounded by the window, however little they use of it.
const INPUT_RATIO_MAX: f64 = 8.0;
const BOUNDED_INPUT_RATIO_MAX: f64 = 7.0;

/// As above for the whole, where the request states its ceiling. Where it does not, the model's maximum bounds the
/// output, and the ratio says nothing but that.
const STATED_RATIO_MAX: f64 = 24.0;

#[test]
fn no_answer_costs_more_than_its_quote() {
    let table = table();
    let prices = Prices::embedded();
    let mut failures = Failures::default();
    let mut ratios = Ratios::default();
    for case in cases().iter().filter(|c| c.is_one_answer() && is_whole_request(c)) {
        let found = find(&table, case);
        let Some(facts) = case.facts(&found) else { continue };
        if case.call(&found).1.endpoint.billing != Billing::Metered {
            continue;
        }
        failures.looked();
        let reading = case.reading(&found);
        let charge = prices.charge(found.price_provider, facts.model.as_deref(), &reading, AT);
        if charge.kind != PriceKind::Priced || reading.quality == Quality::Absent {
            continue;
        }
        let quote = prices.quote(found.price_provider, &facts, AT);
        if quote.worst() < charge.cost && !is_past_the_quote(case) {
            failures.add(case, format!("quoted {} but cost {}: {facts:?} {reading:?}", quote.worst(), charge.cost));
            continue;
        }
        ratios.note(if quote.stated { Kind::Stated } else { Kind::Open }, quote.worst(), charge.cost);
        let input = input_of(&reading);
        let cost = prices.charge(found.price_provider, facts.model.as_deref(), &input, AT).cost;
        if quote.input < cost && !is_past_the_input_quote(case) && !is_past_the_quote(case) {
            failures.add(case, format!("input quoted {} but cost {cost}: {facts:?} {reading:?}", quote.input));
            continue;
        }
        ratios.note(Kind::Input, quote.input, cost);
        ratios.note(if facts.input_unbounded { Kind::Unbounded } else { Kind::Bounded }, quote.input, cost);
    }
    let medians = ratios.medians();
    failures.end(400);
    if filter().is_none() {
        let [stated, _, input, bounded, _] = medians;
        assert!(
            stated < STATED_RATIO_MAX && input < INPUT_RATIO_MAX && bounded < BOUNDED_INPUT_RATIO_MAX,
            "{medians:?}"
        );
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Stated,
    Open,
    Input,
    Bounded,
    Unbounded,
}

impl Ratios {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people to look at")]
    fn note(&mut self, kind: Kind, quoted: Pico, cost: Pico) {
        if cost.is_positive() {
            let ratio = quoted.get() as f64 / cost.get() as f64;
            match kind {
                Kind::Stated => self.stated.push(ratio),
                Kind::Open => self.open.push(ratio),
                Kind::Input => self.input.push(ratio),
                Kind::Bounded => self.bounded_input.push(ratio),
                Kind::Unbounded => self.unbounded_input.push(ratio),
            }
        }
    }

    /// Prints the medians and gives them, in the order of the fields.
    fn medians(self) -> [f64; 5] {
        let of = |name: &str, ratios: Vec<f64>| {
            let (count, median) = (ratios.len(), median(ratios));
            println!("quote by charge, {name}: median {median:.1} of {count}");
            median
        };
        [
            of("with a stated ceiling", self.stated),
            of("without", self.open),
            of("input alone", self.input),
            of("input alone, bounded by its bytes", self.bounded_input),
            of("input alone, bounded by the window", self.unbounded_input),
        ]
    }
}

fn median(mut ratios: Vec<f64>) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Some recorders leave the request out.
fn is_whole_request(case: &Case) -> bool {
    case.request_body.is_some() && case.provenance != "C"
}

/// The reading without its output.
fn input_of(reading: &Reading) -> Reading {
    let without =
        |usage: Usage| Usage { output_tokens: 0, reasoning_tokens: 0, output_audio: 0, output_image: 0, ..usage };
    let line = |line: &Line| Line { usage: without(line.usage), output_video: 0, ..line.clone() };
    Reading { usage: without(reading.usage), lines: reading.lines.iter().map(line).collect(), ..reading.clone() }
}
