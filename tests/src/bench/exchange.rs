//! What one exchange costs apart from its wires and its bookkeeping: its request understood, its worst case priced, its
//! answer read, its charge found. One core, no runtime: the figures do not depend on what else the proxy does.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::Bytes;
use meter_agent::{
    clock,
    exchange::{End, Exchange, Opening},
    ids::{AccountPath, ExchangeId, Process},
    pricing::Prices,
    usage::{
        AnswerHead, BodyEnd, Call,
        hosts::{HostMatch, HostTable},
    },
};

use super::reader::allocations;

const EXCHANGES: u32 = 4_000;
/// Of so many turns the fastest counts: the one that the host disturbed least.
const TURNS: u32 = 15;
const HOST: &str = "api.openai.com";
const PATH: &str = "/v1/chat/completions";
/// As the load of the comparison sends it, and as the simulator answers it.
const REQUEST: &str =
    r#"{"model":"gpt-4o","max_completion_tokens":20,"messages":[{"role":"user","content":"Hello!"}]}"#;
const ANSWER: &str = r#"{"id":"chatcmpl-sim1","object":"chat.completion","created":1795219200,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"one two three four five six seven eight nine ten"},"finish_reason":"stop"}],"usage":{"prompt_tokens":8,"completion_tokens":12,"total_tokens":20}}"#;

/// What of the work is done; each stage includes those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Request,
    Quote,
    Answer,
    Row,
}

const STAGES: [(&str, Stage); 5] = [
    ("its head: which call it is", Stage::Head),
    ("its request read", Stage::Request),
    ("its worst case", Stage::Quote),
    ("its answer read", Stage::Answer),
    ("its charge and row", Stage::Row),
];

/// Prints the stages' figures.
pub fn run() -> anyhow::Result<()> {
    let hosts = HostTable::new(&[])?;
    let host = hosts.find(HOST, 443).expect("it is built in");
    let (prices, body) = (Prices::embedded(), Bytes::from_static(REQUEST.as_bytes()));
    println!("\nOne exchange without wires and bookkeeping, the fastest of {TURNS} turns of {EXCHANGES}:");
    println!("  {:<34}{:>10}{:>14}", "", "us", "allocations");
    let turn = |stage| {
        let start = Instant::now();
        let allocated = allocations(|| (0..EXCHANGES).for_each(|_| exchange(&host, &prices, &body, stage)));
        (start.elapsed(), allocated)
    };
    let mut fastest = STAGES.map(|_| (Duration::MAX, 0));
    for _ in 0..TURNS {
        for (best, (_, stage)) in fastest.iter_mut().zip(STAGES) {
            *best = turn(stage).min(*best);
        }
    }
    let mut before = (Duration::ZERO, 0);
    for ((name, _), all) in STAGES.into_iter().zip(fastest) {
        let took = all.0.saturating_sub(before.0).as_secs_f64() * 1e6 / f64::from(EXCHANGES);
        let made = all.1.saturating_sub(before.1) / u64::from(EXCHANGES);
        println!("  {name:<34}{took:>10.2}{made:>14}");
        before = all;
    }
    println!("  {:<34}{:>10.2}", "all of it", before.0.as_secs_f64() * 1e6 / f64::from(EXCHANGES));
    Ok(())
}

fn exchange(host: &HostMatch, prices: &Prices, body: &Bytes, until: Stage) {
    let (dialect, endpoint) = meter_agent::usage::detect(Some(host.dialect), "POST", PATH);
    let opening = Opening {
        account: AccountPath::host(),
        process: Process { pid: 4_242, start_ticks: 7, exe: "/usr/bin/python3.12".to_owned() },
        provider: host.provider_id.to_string(),
        price_provider: host.price_provider.to_string(),
        endpoint: endpoint.name,
        billing: endpoint.billing,
        category: host.category,
        host: HOST.to_owned(),
        method: "POST".to_owned(),
        path: PATH.to_owned(),
        at: clock::now(),
        monotonic_ns: 0,
    };
    let mut exchange = Exchange::new(opening);
    if until == Stage::Head {
        black_box(exchange);
        return;
    }
    let call = Call { endpoint, path_and_query: PATH, content_type: "application/json", quirks: host.quirks };
    let facts = dialect.request(&call, body).expect("the request is a good one");
    if until == Stage::Request {
        black_box((exchange, facts));
        return;
    }
    let quote = prices.admit(host, &facts, exchange.started_at(), false).expect("the model has a price");
    exchange.asked(facts.model.clone(), facts.stream);
    exchange.admitted(ExchangeId::new(), quote.worst(), None);
    black_box(exchange.request_line());
    if until == Stage::Quote {
        black_box((exchange, facts));
        return;
    }
    exchange.sent();
    exchange.answered(200, Some("req_1".to_owned()), 1_000_000);
    let mut reader = dialect.reader(&call, &facts, AnswerHead::new(200, "application/json"));
    reader.feed(ANSWER.as_bytes());
    let reading = reader.finish(BodyEnd::Complete);
    if until == Stage::Answer {
        black_box((exchange, facts, reading));
        return;
    }
    let row = exchange.end(&End::Complete, Some(reading), prices, 2_000_000);
    assert!(row.cost_usd.is_positive(), "it was priced");
    black_box((row, facts));
}
