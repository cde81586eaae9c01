//! Payments by x402 on metered hosts: what a request pays is held before it leaves, and what was settled is its cost.
//!
//! Fail-closed: a payment whose worth can't be read is not forwarded, and one that was taken without a word about its
//! settlement counts as settled.

use http::HeaderMap;

use super::{admission::Refusal, live::Open, problem};
use crate::{
    money::Pico,
    pricing::Quote,
    usage::{Billing, x402},
};

/// What a request pays.
pub(super) fn carried(headers: &HeaderMap) -> Result<Option<Pico>, Refusal> {
    match x402::PAYMENT_HEADERS.iter().map(|name| headers.get_all(*name).iter().count()).sum::<usize>() {
        0 => Ok(None),
        1 => match x402::payment(named(headers)) {
            Some(x402::Payment { amount: Some(amount) }) => Ok(Some(amount)),
            Some(x402::Payment { amount: None }) | None => Err(Refusal::request(problem::unreadable_payment())),
        },
        // The provider may take any of them.
        _ => Err(Refusal::request(problem::unreadable_payment())),
    }
}

/// What a request that pays can cost; `otherwise` is what it can cost beside that.
pub(super) fn quote(amount: Pico, otherwise: Option<Quote>) -> Quote {
    match otherwise {
        // One or the other is charged.
        Some(quote) => Quote { input: quote.input.max(amount), ..quote },
        None => Quote::fixed(amount),
    }
}

/// Takes notice of what an answer says about a payment.
pub(super) fn settled(open: &mut Open, asked: &HeaderMap, answer: &HeaderMap, status: u16) {
    let paid = match x402::settled(named(answer), named(asked)) {
        Some(settled) => settled.success.then_some(settled.payment.amount.or(open.payment)),
        // An API that is paid for by usage takes no notice of a payment; any other that serves it has taken it.
        None if open.exchange.billing() == Billing::Metered || !(200..300).contains(&status) => None,
        None => open.payment.map(Some),
    };
    if let Some(amount) = paid {
        open.exchange.paid(x402::Payment { amount });
    }
}

fn named<'h>(headers: &'h HeaderMap) -> impl Fn(&str) -> Option<&'h str> {
    |name| headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// `{"payload":{"authorization":{"value":"10000"}}}`: a cent.
    const CENT: &str = "eyJwYXlsb2FkIjp7ImF1dGhvcml6YXRpb24iOnsidmFsdWUiOiIxMDAwMCJ9fX0=";

    fn found(all: &[(&'static str, &[u8])]) -> Result<Option<Pico>, ()> {
        let header = |(name, value): &(&'static str, &[u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        carried(&all.iter().map(header).collect()).map_err(|_| ())
    }

    #[test]
    fn one_payment_is_read_and_any_doubt_about_it_is_refused() {
        let cent = CENT.as_bytes();
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[("x-payment", cent)]), Ok(Some("0.01".parse().unwrap())));
        assert_eq!(found(&[("x-payment", cent), ("payment-signature", cent)]), Err(()));
        assert_eq!(found(&[("x-payment", cent), ("x-payment", cent)]), Err(()));
        // Lenient decoders leave out what is no base64.
        assert_eq!(found(&[("x-payment", &[cent, b"\xff"].concat())]), Err(()));
        assert_eq!(found(&[("payment-signature", b"")]), Err(()));
    }
}
