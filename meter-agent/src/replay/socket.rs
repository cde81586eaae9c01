//! WebSockets: a row per turn, from the recorded messages.

use super::meter::{Meter, NOT_METERED, Subject};
use crate::{
    clock::Timestamp,
    exchange::{End, Exchange},
    ids::ExchangeId,
    usage::{Billing, Reading, RequestFacts, SocketReader},
};

/// Meters the turns of one WebSocket.
pub(super) fn turns(meter: &mut Meter<'_>, subject: &Subject<'_>) {
    let recorded = subject.recorded;
    if recorded.status != 0 && recorded.status != 101 && recorded.frames.is_empty() {
        return alone(meter, subject, Billing::Free, "the provider did not open the WebSocket");
    }
    let socket =
        if subject.call.endpoint.billing == Billing::Socket { subject.dialect.socket(&subject.call) } else { None };
    let Some(mut socket) = socket else {
        if subject.party.is_listed() {
            return alone(meter, subject, Billing::Unknown, "a WebSocket that this version can't read");
        }
        return alone(meter, subject, Billing::Free, NOT_METERED);
    };
    if recorded.frames.is_empty() {
        let why = "the recording does not hold the WebSocket's messages; record it with contents";
        return alone(meter, subject, Billing::Unknown, why);
    }
    let mut turns = Turns { meter, subject, since: recorded.at, any: false };
    for frame in &recorded.frames {
        if frame.sent {
            socket.sent(&frame.data);
        } else if let Some(reading) = socket.received(&frame.data) {
            turns.turn(socket.as_ref(), &End::Complete, reading, frame.at);
        }
    }
    let last = recorded.frames.last().map_or(recorded.at, |frame| frame.at);
    if let Some(reading) = socket.finish() {
        turns.turn(socket.as_ref(), &End::ProviderCut("the WebSocket ended within a turn".to_owned()), reading, last);
    }
    if !turns.any {
        alone(meter, subject, Billing::Free, "nothing was asked on this WebSocket");
    }
}

struct Turns<'m, 'a, 's> {
    meter: &'m mut Meter<'a>,
    subject: &'s Subject<'s>,
    /// When the last turn ended.
    since: Timestamp,
    any: bool,
}

impl Turns<'_, '_, '_> {
    fn turn(&mut self, socket: &dyn SocketReader, end: &End, reading: Reading, at: Timestamp) {
        self.any = true;
        let facts = socket.facts();
        let worst = self.meter.worst(self.subject, &facts, self.since);
        let mut exchange = opened(self.subject, Billing::Socket, self.since);
        exchange.asked(facts.model, true);
        exchange.admitted(ExchangeId::new(), worst, None);
        let took_ns = u64::try_from(at.micros() - self.since.micros()).unwrap_or(0).saturating_mul(1_000);
        let row = exchange.end(end, Some(reading), self.meter.setting.prices, took_ns);
        self.meter.push(self.subject, row);
        self.since = at;
    }
}

/// The one row of a WebSocket that has no turns.
fn alone(meter: &mut Meter<'_>, subject: &Subject<'_>, billing: Billing, why: &str) {
    let mut exchange = opened(subject, billing, subject.recorded.at);
    exchange.asked(None, true);
    if billing == Billing::Unknown {
        // Nothing is known of it but that it costs: one turn of anything.
        let facts = RequestFacts { input_unbounded: true, hidden_output: true, choices: 1, ..RequestFacts::default() };
        exchange.admitted(ExchangeId::new(), meter.worst(subject, &facts, subject.recorded.at), None);
    }
    let mut row = exchange.end(&End::Complete, None, meter.setting.prices, 0);
    row.reason = Some(why.to_owned());
    meter.push(subject, row);
}

fn opened(subject: &Subject<'_>, billing: Billing, at: Timestamp) -> Exchange {
    let mut exchange = subject.open(billing, at);
    exchange.sent();
    if subject.recorded.status > 0 || !subject.recorded.frames.is_empty() {
        exchange.answered(if subject.recorded.status > 0 { subject.recorded.status } else { 101 }, None, 0);
    }
    exchange
}
