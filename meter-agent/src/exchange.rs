//! The life of one exchange as a state machine: from the request's head to exactly one ledger row.
//!
//! Pure: it is told what happened and when, and returns the row. Money is decided in one place,
//! [`Exchange::end`]: what left the machine and was never answered consumes its hold, because nobody can
//! say what it cost; what never left costs nothing; what was answered costs what the answer says.

mod row;

pub use row::{Outcome, RequestLine, Row, UnknownOutcome};

use crate::{
    clock::Timestamp,
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    pricing::{Charge, PriceKind, Prices},
    usage::{Billing, BodyEnd, Quality, Reading, Usage},
};

/// What is known of an exchange from its request's head.
#[derive(Clone, Debug)]
pub struct Opening {
    pub account: AccountPath,
    pub process: Process,
    pub provider: String,
    /// The catalogue's id of the provider.
    pub price_provider: String,
    pub endpoint: &'static str,
    pub billing: Billing,
    pub host: String,
    pub method: String,
    /// Without its query.
    pub path: String,
    pub at: Timestamp,
    pub monotonic_ns: u64,
}

/// How far an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has left the machine.
    Received,
    /// Bytes of the request may have reached the provider.
    Sent,
    /// The answer's head has arrived.
    Answered { status: u16, ttfb_ms: u64 },
}

/// How an exchange ends. Exactly one, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer's body ended as its framing says.
    Complete,
    /// The provider ended it, or the connection to it broke.
    ProviderCut(String),
    /// The agent left.
    AgentGone,
    /// The provider was not reached, or not verified.
    Unreachable { status: u16, why: String },
    /// The hold's row could not be written.
    LedgerFault { status: u16, why: String },
    /// Refused because a limit does not allow it.
    RefusedBudget { status: u16, why: String },
    /// Refused for what the request is.
    RefusedRequest { status: u16, why: String },
}

/// One exchange under way. Consumed by [`Exchange::end`].
#[derive(Debug)]
pub struct Exchange {
    id: ExchangeId,
    opening: Opening,
    stage: Stage,
    held: Pico,
    clamped: Option<u64>,
    requested_model: Option<String>,
    stream: bool,
    request_id: Option<String>,
}

impl Exchange {
    pub fn new(opening: Opening) -> Self {
        Self {
            id: ExchangeId::new(),
            opening,
            stage: Stage::Received,
            held: Pico::ZERO,
            clamped: None,
            requested_model: None,
            stream: false,
            request_id: None,
        }
    }

    pub fn started_at(&self) -> Timestamp {
        self.opening.at
    }

    pub fn account(&self) -> &AccountPath {
        &self.opening.account
    }

    /// What the hold's row says of the request, should the exchange never be resolved.
    pub fn request_line(&self) -> RequestLine {
        RequestLine {
            provider: self.opening.provider.clone(),
            endpoint: self.opening.endpoint.to_owned(),
            host: self.opening.host.clone(),
            method: self.opening.method.clone(),
            path: self.opening.path.clone(),
            requested_model: self.requested_model.clone(),
            stream: self.stream,
        }
    }

    /// The request's body was read.
    pub fn asked(&mut self, model: Option<String>, stream: bool) {
        self.requested_model = model;
        self.stream = stream;
    }

    /// The worst case is set aside; the exchange takes the hold's id.
    pub fn admitted(&mut self, hold: ExchangeId, held: Pico, clamped: Option<u64>) {
        self.id = hold;
        self.held = held;
        self.clamped = clamped;
    }

    /// The first byte of the request is about to leave.
    pub fn sent(&mut self) {
        if self.stage == Stage::Received {
            self.stage = Stage::Sent;
        }
    }

    /// The answer's head arrived.
    pub fn answered(&mut self, status: u16, request_id: Option<String>, monotonic_ns: u64) {
        self.stage = Stage::Answered { status, ttfb_ms: self.elapsed_ms(monotonic_ns) };
        self.request_id = request_id;
    }

    /// Ends the exchange: its row, with what it costs.
    ///
    /// `reading` is what the answer said, where there was one. The price is that of the exchange's start.
    pub fn end(self, end: &End, reading: Option<Reading>, prices: &Prices, monotonic_ns: u64) -> Row {
        let (outcome, status, reason) = self.outcome(end);
        let reading = self.settled(reading);
        let charge = self.charge(&reading, prices);
        let ttfb_ms = match self.stage {
            Stage::Answered { ttfb_ms, .. } => Some(ttfb_ms),
            Stage::Received | Stage::Sent => None,
        };
        let duration_ms = self.elapsed_ms(monotonic_ns);
        Row {
            id: self.id,
            time: self.opening.at,
            account: self.opening.account,
            process: self.opening.process,
            provider: self.opening.provider,
            endpoint: self.opening.endpoint.to_owned(),
            host: self.opening.host,
            method: self.opening.method,
            path: self.opening.path,
            model: reading.model,
            requested_model: self.requested_model,
            status,
            stream: self.stream,
            usage: reading.usage,
            usage_quality: reading.quality,
            held_usd: self.held,
            cost_usd: charge.cost,
            price: charge.kind,
            clamped: self.clamped,
            outcome,
            ttfb_ms,
            duration_ms,
            request_id: self.request_id,
            reason,
            count: 1,
        }
    }

    /// What is charged for: the answer's own word, or what its absence means.
    fn settled(&self, reading: Option<Reading>) -> Reading {
        match (self.opening.billing, self.stage, reading) {
            (Billing::Free, ..) | (_, Stage::Received, _) => unknown(Quality::Exact),
            (_, Stage::Answered { .. }, Some(reading)) if is_plausible(&reading) => reading,
            (_, Stage::Answered { status, .. }, None) if status >= 400 => unknown(Quality::Exact),
            // It left and nobody can say what it used, or what was said can't be.
            (_, Stage::Sent | Stage::Answered { .. }, _) => unknown(Quality::Absent),
        }
    }

    fn outcome(&self, end: &End) -> (Outcome, Option<u16>, Option<String>) {
        let answered = match self.stage {
            Stage::Answered { status, .. } => Some(status),
            Stage::Received | Stage::Sent => None,
        };
        match end {
            End::Complete if answered.is_some_and(|s| s >= 400) => (Outcome::UpstreamError, answered, None),
            End::Complete => (Outcome::Complete, answered, None),
            End::ProviderCut(why) => (Outcome::Cut, answered, Some(why.clone())),
            End::AgentGone => (Outcome::ClientGone, answered, None),
            End::Unreachable { status, why } => (Outcome::UpstreamUnreachable, Some(*status), Some(why.clone())),
            End::LedgerFault { status, why } => (Outcome::Cut, Some(*status), Some(why.clone())),
            End::RefusedBudget { status, why } => (Outcome::RefusedBudget, Some(*status), Some(why.clone())),
            End::RefusedRequest { status, why } => (Outcome::RefusedRequest, Some(*status), Some(why.clone())),
        }
    }

    fn charge(&self, reading: &Reading, prices: &Prices) -> Charge {
        match reading.quality {
            Quality::Absent => Charge { cost: self.held, kind: PriceKind::Unpriced },
            Quality::Exact | Quality::Estimated if reading.usage == Usage::default() => {
                Charge { cost: Pico::ZERO, kind: PriceKind::Priced }
            }
            Quality::Exact | Quality::Estimated => {
                prices.charge(&self.opening.price_provider, self.requested_model.as_deref(), reading, self.opening.at)
            }
        }
    }

    fn elapsed_ms(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.opening.monotonic_ns) / 1_000_000
    }
}

/// The body end that a reader is told for an end of the exchange.
pub fn body_end(end: &End) -> BodyEnd {
    match end {
        End::Complete => BodyEnd::Complete,
        End::ProviderCut(_)
        | End::AgentGone
        | End::Unreachable { .. }
        | End::LedgerFault { .. }
        | End::RefusedBudget { .. }
        | End::RefusedRequest { .. } => BodyEnd::Cut,
    }
}

/// No exchange uses that many tokens; an answer that claims it comes from a host that says what it likes.
const TOKENS_MAX: u64 = 1 << 30;

fn is_plausible(reading: &Reading) -> bool {
    let fits = |usage: &Usage| usage.input_tokens.max(usage.output_tokens) <= TOKENS_MAX;
    fits(&reading.usage) && reading.lines.iter().all(|line| fits(&line.usage) && line.web_searches <= TOKENS_MAX)
}

fn unknown(quality: Quality) -> Reading {
    Reading { model: None, usage: Usage::default(), quality, service_tier: None, lines: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: Pico = Pico::new(7_000_000);

    fn exchange(billing: Billing) -> Exchange {
        Exchange::new(Opening {
            account: AccountPath::of_agent("research").unwrap(),
            process: Process::default(),
            provider: "openai".to_owned(),
            price_provider: "openai".to_owned(),
            endpoint: "chat_completions",
            billing,
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
            let row = end(held(Billing::Tokens), &how);
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
            let mut exchange = held(Billing::Tokens);
            exchange.sent();
            let row = end(exchange, &how);
            assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Absent), "{how:?}");
        }
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
        let mut exchange = held(Billing::Tokens);
        exchange.sent();
        let reading = Reading {
            model: None,
            usage: Usage::default(),
            quality: Quality::Exact,
            service_tier: None,
            lines: Vec::new(),
        };
        let row = exchange.end(&End::AgentGone, Some(reading), &Prices::embedded(), 0);
        assert_eq!(row.cost_usd, HELD);
    }

    #[test]
    fn a_usage_that_cannot_be_is_as_good_as_none() {
        let mut exchange = held(Billing::Tokens);
        exchange.sent();
        exchange.answered(200, None, 0);
        let usage = Usage { output_tokens: u64::MAX, ..Usage::default() };
        let reading = Reading { usage, ..Reading::nothing() };
        let row = exchange.end(&End::Complete, Some(reading), &Prices::embedded(), 0);
        assert_eq!((row.cost_usd, row.usage_quality), (HELD, Quality::Absent));
    }
}
