//! A row as an ordinary chat completion leaves it, for the measurements that need no proxy.

use meter_agent::{
    clock::Timestamp,
    exchange::{Detail, LLM, Outcome, RequestLine, Row},
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    pricing::PriceKind,
    usage::{Quality, Usage},
};

pub fn row(account: AccountPath, time: Timestamp) -> Row {
    let RequestLine { provider, endpoint, host, method, path, requested_model, stream, .. } = line();
    Row {
        id: ExchangeId::new(),
        time,
        account,
        process: process(),
        provider,
        endpoint,
        host,
        method,
        path,
        model: Some("gpt-4o-2024-08-06".to_owned()),
        requested_model,
        status: Some(200),
        stream,
        usage: Usage { input_tokens: 300, input_uncached: 300, output_tokens: 200, ..Usage::default() },
        usage_quality: Quality::Exact,
        held_usd: Pico::new(5_000_000_000),
        cost_usd: Pico::new(2_750_000_000),
        price: PriceKind::Priced,
        clamped: None,
        outcome: Outcome::Complete,
        ttfb_ms: Some(300),
        duration_ms: 2_000,
        request_id: Some("req_0a1b2c3d4e5f60718293a4b5c6d7e8f9".to_owned()),
        reason: None,
        count: 1,
        category: LLM.to_owned(),
        notional_usd: None,
        detail: Detail::default(),
        corrects: None,
    }
}

/// What is known of the same request when it is admitted.
pub fn line() -> RequestLine {
    RequestLine {
        provider: "openai".to_owned(),
        endpoint: "chat_completions".to_owned(),
        host: "api.openai.com".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        requested_model: Some("gpt-4o".to_owned()),
        stream: true,
        category: LLM.to_owned(),
    }
}

pub fn process() -> Process {
    Process { pid: 4_242, start_ticks: 77, exe: "/usr/bin/python3.12".to_owned() }
}
