//! A stream that breaks off is an estimate within its hold, or says that nothing is known; it is exact only where the
//! provider's last word had arrived.

use meter_agent::{
    exchange::{End, Exchange, LLM, Opening, Row},
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    pricing::Prices,
    usage::{Billing, BodyEnd, Quality, Reading, RequestFacts, Usage},
};

use crate::{
    case::{AT, Case, cases, exhaustive, find, table},
    check::usage_of,
    report::Failures,
};

/// Events at which a case is cut, evenly spread, and always at the last few.
const SAMPLED: usize = 16;
const LAST: usize = 4;

#[test]
fn a_stream_cut_at_any_event_is_an_estimate_within_its_hold() {
    let table = table();
    let prices = Prices::embedded();
    let mut failures = Failures::default();
    for case in cases().iter().filter(|c| is_streamed_usage(c)) {
        let found = find(&table, case);
        let Some(facts) = case.facts(&found) else { continue };
        failures.looked();
        let body = case.body();
        let truth = usage_of(case.expected.usage.as_ref().unwrap());
        let hold = prices.quote(found.price_provider, &facts, AT).worst();
        let ends = sampled(event_ends(case, &body));
        for end in ends {
            let reading = case.read(&found, &facts, &[&body[..end]], BodyEnd::Cut);
            if is_short(&reading, &truth) {
                failures
                    .add(case, format!("exact at byte {end} of {}: {:?}, but {truth:?}", body.len(), reading.usage));
                break;
            }
            let quality = reading.quality;
            let cost = cut_short(found.price_provider, &facts, reading, hold, &prices).cost_usd;
            if quality != Quality::Exact && cost > hold {
                failures.add(case, format!("{cost} at byte {end} of {} is past the hold of {hold}", body.len()));
                break;
            }
        }
    }
    failures.end(300);
}

/// The row of an exchange whose agent left.
fn cut_short(price_provider: &str, facts: &RequestFacts, reading: Reading, hold: Pico, prices: &Prices) -> Row {
    let mut exchange = Exchange::new(Opening {
        account: AccountPath::of_agent("a").unwrap(),
        process: Process::default(),
        provider: price_provider.to_owned(),
        price_provider: price_provider.to_owned(),
        endpoint: "",
        billing: Billing::Metered,
        category: LLM,
        host: String::new(),
        method: String::new(),
        path: String::new(),
        at: AT,
        monotonic_ns: 0,
    });
    exchange.asked(facts.model.clone(), true);
    exchange.admitted(ExchangeId::new(), hold, None);
    exchange.sent();
    exchange.answered(200, None, 0);
    exchange.end(&End::AgentGone, Some(reading), prices, 0)
}

pub(crate) fn is_streamed_usage(case: &Case) -> bool {
    case.streaming && case.is_one_answer() && case.provenance != "C"
}

/// Whether it claims to be exact and is less than was billed.
fn is_short(reading: &Reading, truth: &Usage) -> bool {
    let less = reading.usage.input_tokens < truth.input_tokens || reading.usage.output_tokens < truth.output_tokens;
    reading.quality == Quality::Exact && less
}

pub(crate) fn sampled(ends: Vec<usize>) -> Vec<usize> {
    if exhaustive() {
        return ends;
    }
    let step = (ends.len() / SAMPLED).max(1);
    let last = ends.len().saturating_sub(LAST);
    ends.into_iter().enumerate().filter(|(n, _)| n % step == 0 || *n >= last).map(|(_, end)| end).collect()
}

/// Where events end, without the end of the last one: the frames of binary streams, blank lines, else lines.
pub(crate) fn event_ends(case: &Case, body: &[u8]) -> Vec<usize> {
    let content_type = case.header("content-type").unwrap_or("");
    let mut ends = if content_type.contains("amazon.eventstream") {
        frames(body, |head| Some(u32::from_be_bytes(head.get(..4)?.try_into().ok()?) as usize))
    } else if content_type.contains("grpc") {
        frames(body, |head| Some(5 + u32::from_be_bytes(head.get(1..5)?.try_into().ok()?) as usize))
    } else {
        let blank = |at: usize| body[..at].ends_with(b"\n\n") || body[..at].ends_with(b"\r\n\r\n");
        let at_blank: Vec<usize> = (1..=body.len()).filter(|at| blank(*at)).collect();
        if at_blank.len() > 1 { at_blank } else { (1..=body.len()).filter(|at| body[at - 1] == b'\n').collect() }
    };
    ends.retain(|end| *end < body.len());
    ends
}

fn frames(body: &[u8], length: impl Fn(&[u8]) -> Option<usize>) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(length) = length(&body[at..]).filter(|n| *n > 0 && at + n <= body.len()) {
        at += length;
        ends.push(at);
    }
    ends
}

#[test]
fn a_cut_anywhere_is_never_exact_and_below_the_truth() {
    let table = table();
    let mut failures = Failures::default();
    for case in cases().iter().filter(|c| is_streamed_usage(c)) {
        let found = find(&table, case);
        let Some(facts) = case.facts(&found) else { continue };
        failures.looked();
        let body = case.body();
        let truth = usage_of(case.expected.usage.as_ref().unwrap());
        for tenth in 1..10 {
            let reading = case.read(&found, &facts, &[&body[..body.len() * tenth / 10]], BodyEnd::Cut);
            if is_short(&reading, &truth) {
                failures.add(case, format!("at {tenth}/10: {:?} but {truth:?}", reading.usage));
                break;
            }
        }
    }
    failures.end(300);
}
