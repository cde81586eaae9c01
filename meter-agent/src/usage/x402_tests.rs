//! Offers and settlements in the shapes of the specification's two versions.

use super::*;

const BASE_USDC: &str = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913";

fn encode(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, b| (bits << 8) | u32::from(*b)) << (8 * (3 - chunk.len()));
        for n in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * n) & 63) as usize]));
        }
        out.push_str(&"=".repeat(3 - chunk.len()));
    }
    out
}

fn headers<'a>(all: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
    move |name| all.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
}

#[test]
fn an_offer_is_in_the_body_of_version_1_and_in_a_header_of_version_2() {
    let one = format!(
        r#"{{"x402Version":1,"accepts":[{{"scheme":"exact","network":"base","maxAmountRequired":"10000","asset":"{BASE_USDC}"}}]}}"#
    );
    assert_eq!(offer(headers(&[]), one.as_bytes()), Some(Offer { price: Some("0.01".parse().unwrap()) }));
    let two = format!(
        r#"{{"x402Version":2,"accepts":[{{"scheme":"exact","network":"eip155:8453","amount":"3000000","asset":"{BASE_USDC}"}},
        {{"scheme":"exact","network":"eip155:1","amount":"1","asset":"usdc"}}]}}"#
    );
    let two = encode(&two);
    let found = offer(headers(&[("payment-required", &two)]), b"{}");
    assert_eq!(found, Some(Offer { price: Some("3".parse().unwrap()) }));
}

#[test]
fn what_is_no_dollar_coin_has_no_price_and_what_is_no_offer_is_none() {
    let body = r#"{"x402Version":1,"accepts":[{"maxAmountRequired":"1","asset":"0xdead"}]}"#;
    assert_eq!(offer(headers(&[]), body.as_bytes()), Some(Offer { price: None }));
    for body in ["{}", "not json", r#"{"x402Version":1,"accepts":[]}"#, r#"{"error":{"code":402}}"#] {
        assert_eq!(offer(headers(&[]), body.as_bytes()), None, "{body}");
    }
}

#[test]
fn a_settlement_has_the_amount_that_was_sent() {
    let sent = encode(r#"{"x402Version":1,"payload":{"authorization":{"value":"10000"}}}"#);
    let answer = encode(r#"{"success":true,"transaction":"0x1","network":"base"}"#);
    let got = settled(headers(&[("x-payment-response", &answer)]), headers(&[("x-payment", &sent)]));
    assert_eq!(got, Some(Settled { success: true, payment: Payment { amount: Some("0.01".parse().unwrap()) } }));
    let sent = encode(&format!(r#"{{"x402Version":2,"accepted":{{"amount":"25","asset":"{BASE_USDC}"}}}}"#));
    let request = [("payment-signature", sent.as_str())];
    assert_eq!(payment(headers(&request)), Some(Payment { amount: Some(Pico::new(25_000_000)) }));
    let failed = encode(r#"{"success":false,"errorReason":"insufficient_funds"}"#);
    let got = settled(headers(&[("payment-response", &failed)]), headers(&request));
    assert_eq!(got, Some(Settled { success: false, payment: Payment { amount: Some(Pico::new(25_000_000)) } }));
    let own = encode(r#"{"success":true,"amount":"7"}"#);
    let got = settled(headers(&[("payment-response", &own)]), headers(&request));
    assert_eq!(got.unwrap().payment.amount, Some(Pico::new(7_000_000)));
}

#[test]
fn what_can_not_be_decoded_is_no_settlement() {
    for header in ["", "***", "e30=", "bm90IGpzb24="] {
        assert_eq!(settled(headers(&[("payment-response", header)]), headers(&[])), None, "{header}");
    }
    assert_eq!(payment(headers(&[])), None);
    assert_eq!(payment(headers(&[("x-payment", "***")])), Some(Payment { amount: None }));
}

#[test]
fn a_payment_is_worth_what_is_signed_whatever_is_said_beside_it() {
    let sent = |accepted: &str, signed: &str| {
        let text = format!(
            r#"{{"x402Version":2,"accepted":{{"amount":"{accepted}","asset":"{BASE_USDC}"}},"payload":{{"authorization":{{"value":"{signed}"}}}}}}"#
        );
        payment(headers(&[("payment-signature", &encode(&text))])).unwrap().amount
    };
    assert_eq!(sent("1", "5000000"), Some("5".parse().unwrap()));
    assert_eq!(sent("5000000", "1"), Some("5".parse().unwrap()));
    assert_eq!(sent("1", "-1"), None);
}
