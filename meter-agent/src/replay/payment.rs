//! Payments by x402 in a recording: what the live meter would have held for a request, and what was settled.

use super::entry::Recorded;
use crate::{
    exchange::Exchange,
    money::Pico,
    usage::{
        Billing,
        x402::{self, Payment},
    },
};

/// What the request pays; nothing where it pays something that can't be read.
pub(super) fn held(recorded: &Recorded) -> Option<Pico> {
    x402::payment(|name| recorded.request.header(name)).map(|payment| payment.amount.unwrap_or_default())
}

/// Takes notice of what the answer says about a payment.
pub(super) fn settled(exchange: &mut Exchange, recorded: &Recorded) {
    let (asked, answer) = (&recorded.request, &recorded.answer);
    let paid = match x402::settled(|name| answer.header(name), |name| asked.header(name)) {
        Some(settled) => settled.success.then_some(settled.payment),
        // An API that is paid for by usage takes no notice of a payment; any other that serves it has taken it.
        None if exchange.billing() == Billing::Metered || !(200..300).contains(&recorded.status) => None,
        None => held(recorded).map(|amount| Payment { amount: Some(amount).filter(|amount| amount.is_positive()) }),
    };
    if let Some(payment) = paid {
        exchange.paid(payment);
    }
}
