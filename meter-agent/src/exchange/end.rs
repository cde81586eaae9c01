//! How an exchange ends: its outcome, what it is charged, its row.
//!
//! What left the machine and was never answered consumes its hold; what never left costs nothing; what was answered
//! costs what the answer says, unless no answer can say that.

use std::borrow::Cow;

use super::{Detail, Exchange, Outcome, Row, RowLine, Stage, shortened};
use crate::{
    ids::ExchangeId,
    money::Pico,
    pricing::{Charge, PriceKind, Prices},
    usage::{Billing, BodyEnd, Line, Quality, Quantity, Reading, Usage, x402},
};

/// In the row of an exchange that was charged more than was held for it.
const OVERRUN: &str = "overrun: the provider charged more than was held for the request";

/// How an exchange ends. Exactly one, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer's body ended as its framing says.
    Complete,
    /// The provider ended it, or the connection to it broke.
    ProviderCut(String),
    /// The meter ended it: its money, or people who shut its account. `status` is that of a refusal in the answer's
    /// place, where its head had not been passed on.
    Cut { status: Option<u16>, why: String },
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

impl Exchange {
    /// Ends the exchange: its row, with what it costs.
    ///
    /// `reading` is what the answer said, where there was one. The price is that of the exchange's start.
    pub fn end(self, end: &End, reading: Option<Reading>, prices: &Prices, monotonic_ns: u64) -> Row {
        let (outcome, status, reason) = self.outcome(end);
        let reading = self.settled(reading);
        let (charge, notional_usd) = self.charge(&reading, prices);
        let ttfb_ms = match self.stage {
            Stage::Answered { ttfb_ms, .. } => Some(ttfb_ms),
            Stage::Received | Stage::Sent => None,
        };
        let duration_ms = self.elapsed_ms(monotonic_ns);
        let why_nothing = self.why_nothing(&reading);
        let overrun = self.is_overrun(charge.cost).then(|| OVERRUN.to_owned());
        let lines = row_lines(reading.lines, reading.model.as_deref(), &charge.lines);
        Row {
            id: self.id.unwrap_or_else(ExchangeId::new),
            time: self.opening.at,
            account: self.opening.account,
            process: self.opening.process,
            provider: self.opening.provider,
            endpoint: self.opening.endpoint.to_owned(),
            host: self.opening.host,
            method: self.opening.method,
            path: self.opening.path,
            model: reading.model.map(shortened),
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
            reason: reasons([reason, reading.reason.map(str::to_owned), charge.reason.map(Cow::into_owned), overrun])
                .or(why_nothing.map(str::to_owned)),
            count: 1,
            category: self.opening.category.to_owned(),
            notional_usd,
            detail: Detail {
                lines,
                server_tools: reading.server_tools,
                units: reading.units,
                degraded_from: self.degraded_from,
                ..Detail::default()
            },
            corrects: None,
        }
    }

    /// What is charged for: the answer's own word, or what its absence means.
    fn settled(&self, reading: Option<Reading>) -> Reading {
        match (self.opening.billing, self.stage, reading) {
            // To read a result that was never shown costs nothing: its order is what costs.
            (Billing::Free, ..) | (_, Stage::Received, _) | (Billing::Result, Stage::Sent, _) => {
                unknown(Quality::Exact)
            }
            (_, Stage::Answered { .. }, Some(reading)) if is_plausible(&reading) => reading,
            (_, Stage::Answered { status, .. }, None) if status >= 400 => unknown(Quality::Exact),
            // It left and nobody can say what it used, or what was said can't be.
            (_, Stage::Sent | Stage::Answered { .. }, _) => unknown(Quality::Absent),
        }
    }

    /// Why an answer costs nothing, where it does not say so itself.
    fn why_nothing(&self, reading: &Reading) -> Option<&'static str> {
        match (self.stage, self.opening.billing) {
            _ if reading.quality != Quality::Exact || !reading.is_empty() => None,
            (Stage::Answered { status: 400.., .. }, _) => Some("the provider answered with an error"),
            (Stage::Answered { .. }, Billing::Free) => Some("a call that costs nothing"),
            (Stage::Received | Stage::Sent | Stage::Answered { .. }, _) => None,
        }
    }

    /// Whether more is charged than was set aside for it. Nothing was for the result of an earlier order.
    fn is_overrun(&self, cost: Pico) -> bool {
        self.admitted && cost > self.held
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
            // Nothing had left: that is a refusal.
            End::Cut { status, why } if self.stage == Stage::Received => {
                (Outcome::RefusedBudget, *status, Some(why.clone()))
            }
            End::Cut { status, why } => (Outcome::Cut, status.or(answered), Some(why.clone())),
            End::AgentGone => (Outcome::ClientGone, answered, None),
            End::Unreachable { status, why } => (Outcome::UpstreamUnreachable, Some(*status), Some(why.clone())),
            End::LedgerFault { status, why } => (Outcome::Cut, Some(*status), Some(why.clone())),
            End::RefusedBudget { status, why } => (Outcome::RefusedBudget, Some(*status), Some(why.clone())),
            End::RefusedRequest { status, why } => (Outcome::RefusedRequest, Some(*status), Some(why.clone())),
        }
    }

    /// What is charged, and the list price where a subscription pays it.
    fn charge(&self, reading: &Reading, prices: &Prices) -> (Charge, Option<Pico>) {
        if let Some(x402::Payment { amount }) = self.paid {
            let charge = Charge {
                cost: amount.unwrap_or(self.held),
                kind: if amount.is_some() { PriceKind::Provider } else { PriceKind::Unpriced },
                ..Charge::nothing(Some("paid by x402"))
            };
            return (charge, None);
        }
        let listed = match reading.quality {
            Quality::Absent => Charge { cost: self.held, kind: PriceKind::Unpriced, ..Charge::nothing(None) },
            Quality::Exact | Quality::Estimated => {
                let charge =
                    prices.charge(self.opening.seller(), self.requested_model.as_deref(), reading, self.opening.at);
                self.within_hold(reading.quality, charge)
            }
        };
        if !self.on_plan || self.stage == Stage::Received || self.opening.billing == Billing::Free {
            return (listed, None);
        }
        let notional = (reading.quality != Quality::Absent).then_some(listed.cost);
        let cost = if prices.counts_plans() { listed.cost } else { Pico::ZERO };
        (Charge { cost, kind: PriceKind::Plan, ..listed }, notional)
    }

    /// What was set aside is an upper bound of the charge, and an estimate is another one: the smaller of them counts.
    fn within_hold(&self, quality: Quality, charge: Charge) -> Charge {
        if quality == Quality::Estimated && self.held.is_positive() {
            return Charge { cost: charge.cost.min(self.held), ..charge };
        }
        charge
    }
}

/// All that there is to say, in one text.
fn reasons(all: [Option<String>; 4]) -> Option<String> {
    let said: Vec<String> = all.into_iter().flatten().collect();
    (!said.is_empty()).then(|| said.join("; "))
}

/// One per line where there are several.
fn row_lines(lines: Vec<Line>, model: Option<&str>, costs: &[Pico]) -> Vec<RowLine> {
    if lines.len() < 2 {
        return Vec::new();
    }
    let row = |(line, cost): (Line, &Pico)| RowLine {
        model: line.model.or_else(|| model.map(str::to_owned)),
        usage: line.usage,
        units: line.units,
        cost_usd: *cost,
    };
    lines.into_iter().zip(costs).map(row).collect()
}

/// The body end that a reader is told for an end of the exchange.
pub fn body_end(end: &End) -> BodyEnd {
    match end {
        End::Complete => BodyEnd::Complete,
        End::ProviderCut(_)
        | End::Cut { .. }
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
    let fits = |usage: &Usage| usage.parts().into_iter().all(|tokens| tokens <= TOKENS_MAX);
    fits(&reading.usage)
        && reading.lines.iter().all(|line| fits(&line.usage))
        && reading.server_tools.values().all(|calls| *calls <= TOKENS_MAX)
        && reading.units.values().chain(reading.lines.iter().flat_map(|line| line.units.values())).copied().all(is_fit)
}

/// As many units as tokens: the price of one is far above that of a token.
fn is_fit(quantity: Quantity) -> bool {
    quantity <= Quantity::whole(TOKENS_MAX)
}

fn unknown(quality: Quality) -> Reading {
    Reading { quality, ..Reading::nothing() }
}
