//! The life of one exchange as a state machine: from the request's head to exactly one ledger row.
//!
//! Pure: it is told what happened and when, and returns the row. Money is decided in one place,
//! [`Exchange::end`]: what left the machine and was never answered consumes its hold, because nobody can
//! say what it cost; what never left costs nothing; what was answered costs what the answer says.

mod end;
pub mod results;
mod row;

pub use self::{
    end::{End, body_end},
    row::{Detail, LLM, Outcome, RequestLine, Row, RowLine, UnknownOutcome},
};

use crate::{
    clock::Timestamp,
    ids::{AccountPath, ExchangeId, Process},
    money::Pico,
    pricing::{Prices, Seller},
    usage::{Billing, Reading, x402},
};

/// Headers in which providers put their own id of a request, the likeliest first.
pub const REQUEST_IDS: [&str; 4] = ["x-request-id", "request-id", "x-goog-request-id", "x-amzn-requestid"];

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
    /// The limit category that its cost falls under.
    pub category: &'static str,
    pub host: String,
    pub method: String,
    /// Without its query.
    pub path: String,
    pub at: Timestamp,
    pub monotonic_ns: u64,
}

impl Opening {
    /// Whose prices count.
    pub fn seller(&self) -> Seller<'_> {
        Seller { id: &self.provider, catalogue: &self.price_provider }
    }
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

/// One exchange under way. Consumed by [`Exchange::end`].
#[derive(Debug)]
pub struct Exchange {
    /// Its hold's. One without a hold gets an id with its row.
    id: Option<ExchangeId>,
    opening: Opening,
    stage: Stage,
    /// It has a hold, and be it of nothing.
    admitted: bool,
    held: Pico,
    clamped: Option<u64>,
    requested_model: Option<String>,
    degraded_from: Option<String>,
    stream: bool,
    request_id: Option<String>,
    /// A subscription pays for it.
    on_plan: bool,
    /// It was paid by x402.
    paid: Option<x402::Payment>,
}

impl Exchange {
    pub fn new(opening: Opening) -> Self {
        Self {
            id: None,
            opening,
            stage: Stage::Received,
            admitted: false,
            held: Pico::ZERO,
            clamped: None,
            requested_model: None,
            degraded_from: None,
            stream: false,
            request_id: None,
            on_plan: false,
            paid: None,
        }
    }

    pub fn started_at(&self) -> Timestamp {
        self.opening.at
    }

    pub fn account(&self) -> &AccountPath {
        &self.opening.account
    }

    /// Who answers.
    pub fn host(&self) -> &str {
        &self.opening.host
    }

    pub fn billing(&self) -> Billing {
        self.opening.billing
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
            category: self.opening.category.to_owned(),
        }
    }

    /// The request's body was read.
    pub fn asked(&mut self, model: Option<String>, stream: bool) {
        self.requested_model = model.map(shortened);
        self.stream = stream;
    }

    /// A cheaper model takes the place of the one that was asked for.
    pub fn degraded(&mut self, to: String) {
        self.degraded_from = self.requested_model.replace(shortened(to));
    }

    /// It is refused as it was asked for after all.
    pub fn degraded_in_vain(&mut self) {
        self.requested_model = self.degraded_from.take().or_else(|| self.requested_model.take());
    }

    /// A subscription pays for it, or does not.
    pub fn plan(&mut self, on_plan: bool) {
        self.on_plan = on_plan;
    }

    /// It carries a payment by x402: what it costs falls under that category.
    pub fn pays(&mut self) {
        self.opening.category = x402::CATEGORY;
    }

    /// A payment by x402 was settled for it: that is its charge, whatever else its answer says. An amount that is
    /// not known consumes the hold.
    pub fn paid(&mut self, payment: x402::Payment) {
        self.paid = Some(payment);
        self.pays();
    }

    /// The worst case is set aside; the exchange takes the hold's id.
    pub fn admitted(&mut self, hold: ExchangeId, held: Pico, clamped: Option<u64>) {
        self.id = Some(hold);
        self.admitted = true;
        self.held = held;
        self.clamped = clamped;
    }

    /// More is set aside, since it costs more than its worst case.
    pub fn grown(&mut self, held: Pico) {
        self.held = held;
    }

    /// What counts against limits if it ends with this reading, past what is held too.
    pub fn cost_of(&self, reading: &Reading, prices: &Prices) -> Pico {
        if self.paid.is_some() || (self.on_plan && !prices.counts_plans()) {
            return Pico::ZERO;
        }
        prices.charge(self.opening.seller(), self.requested_model.as_deref(), reading, self.opening.at).cost
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

    fn elapsed_ms(&self, monotonic_ns: u64) -> u64 {
        monotonic_ns.saturating_sub(self.opening.monotonic_ns) / 1_000_000
    }
}

/// Longest name of a model that a row has: beyond every real one, and beyond the longest that is looked up, so that what
/// is cut here is nobody's.
const NAME_BYTES_MAX: usize = 512;

fn shortened(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
    name
}

#[cfg(test)]
mod tests;
