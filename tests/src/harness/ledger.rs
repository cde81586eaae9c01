//! The ledger as `meter ledger --json` shows it, and its comparison with what the simulator really sent.

use serde::Deserialize;

use super::{cost, pico};
use crate::simulator::{log::Exchange, turn::Billed};

/// One line. Fields are named as the contract names them; amounts stay the decimal strings they are.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    pub id: String,
    pub time: String,
    pub account: String,
    pub process: Process,
    pub provider: String,
    pub endpoint: String,
    pub host: String,
    pub method: String,
    pub path: String,
    pub model: Option<String>,
    pub requested_model: Option<String>,
    pub status: Option<u16>,
    pub stream: bool,
    pub usage: Usage,
    pub usage_quality: String,
    pub held_usd: String,
    pub cost_usd: String,
    pub price: String,
    pub clamped: serde_json::Value,
    pub outcome: String,
    pub ttfb_ms: Option<f64>,
    pub duration_ms: f64,
    pub request_id: Option<String>,
    pub reason: Option<String>,
    pub count: u64,
    pub category: String,
    pub notional_usd: Option<String>,
    pub corrects: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub exe: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub input_uncached: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    pub cache_write_other: u64,
    pub input_audio: u64,
    pub input_image: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub output_audio: u64,
    pub output_image: u64,
}

impl Row {
    /// Pico-dollars charged.
    pub fn cost(&self) -> i128 {
        pico(&self.cost_usd)
    }

    /// Refused by the sidecar or the kernel: nothing was sent to a provider.
    pub fn is_refusal(&self) -> bool {
        self.outcome.starts_with("refused")
    }

    /// The meter set the request's output ceiling.
    pub fn is_clamped(&self) -> bool {
        self.clamped.as_u64().is_some() || self.clamped == true
    }
}

impl Usage {
    /// The usage that bills these tokens and nothing else.
    pub fn of(billed: &Billed) -> Self {
        Self {
            input_tokens: billed.input_tokens,
            input_uncached: billed.input_tokens - billed.cache_read - billed.cache_write_5m,
            cache_read: billed.cache_read,
            cache_write_5m: billed.cache_write_5m,
            cache_write_1h: 0,
            cache_write_other: 0,
            input_audio: 0,
            input_image: 0,
            output_tokens: billed.output_tokens,
            reasoning_tokens: billed.reasoning_tokens,
            output_audio: 0,
            output_image: 0,
        }
    }
}

/// Asserts that the rows that are not refusals are these exchanges, equal to the token and to the pico-dollar.
///
/// A row is compared with the exchange whose id it names, and one that names none with the one at its place in order.
pub fn assert_rows_match(rows: &[Row], exchanges: &[Exchange]) {
    let mut forwarded: Vec<&Row> = rows.iter().filter(|row| !row.is_refusal()).collect();
    forwarded.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(forwarded.len(), exchanges.len(), "rows and exchanges\n{forwarded:#?}\n{exchanges:#?}");
    let mut seen = std::collections::BTreeSet::new();
    for (row, in_order) in forwarded.into_iter().zip(exchanges) {
        let named = exchanges.iter().find(|exchange| row.request_id.as_ref() == Some(&exchange.request_id));
        let exchange = named.unwrap_or(in_order);
        assert!(seen.insert(&exchange.request_id), "two rows for one exchange: {row:#?}");
        assert_row_matches(row, exchange);
    }
}

fn assert_row_matches(row: &Row, exchange: &Exchange) {
    let at = format!("\nrow: {row:#?}\nexchange: {exchange:#?}");
    let path = exchange.path.split('?').next().unwrap_or_default();
    assert_eq!((row.host.as_str(), row.method.as_str(), row.path.as_str()), (&*exchange.host, "POST", path), "{at}");
    assert_eq!(row.status, Some(exchange.status), "status{at}");
    assert_eq!(row.stream, exchange.stream, "stream{at}");
    assert_eq!(row.requested_model.as_deref(), Some(exchange.requested_model.as_str()), "requested model{at}");
    if exchange.status != 200 {
        assert_eq!(row.cost(), 0, "an error is not billed{at}");
        return;
    }
    assert!(exchange.usage_sent, "usage was not asked for on the agent's behalf{at}");
    assert_eq!(row.model.as_deref(), Some(exchange.model.as_str()), "model{at}");
    assert_eq!(row.usage, Usage::of(&exchange.billed), "usage{at}");
    assert_eq!(row.usage_quality, "exact", "quality{at}");
    assert_eq!(row.price, "priced", "price{at}");
    assert_eq!(row.cost(), cost(&exchange.model, &exchange.billed), "cost{at}");
    assert!(pico(&row.held_usd) >= row.cost(), "held less than it cost{at}");
}
