//! x402: what a `402 Payment Required` asks for, and what a settled payment came to.
//!
//! Pure. Version 1 offers in the body and answers in `X-PAYMENT-RESPONSE`; version 2 offers in `PAYMENT-REQUIRED`
//! and answers in `PAYMENT-RESPONSE`; every header is base64 of JSON. An amount is money only where the asset is a
//! dollar coin that is known here: of anything else nobody can say what it is worth.
//!
//! Source: github.com/x402-foundation/x402, specs/x402-specification-v1.md, specs/transports-v1/http.md and
//! specs/transports-v2/http.md.

use serde_json::Value;

use super::json::parse;
use crate::money::Pico;

/// The category of such payments.
pub const CATEGORY: &str = "x402";

/// Headers, in lower case, of each version: the offer, the agent's payment, its settlement.
pub const OFFER_HEADERS: [&str; 1] = ["payment-required"];
pub const PAYMENT_HEADERS: [&str; 2] = ["x-payment", "payment-signature"];
pub const SETTLED_HEADERS: [&str; 2] = ["x-payment-response", "payment-response"];

/// The longest header that is decoded.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Pico-dollars in a millionth of a coin: all the coins have six decimals.
const PICO_PER_UNIT: i64 = 1_000_000;

/// Dollar coins of six decimals: USDC by chain, and its test coins, whose amounts are counted all the same.
/// Source: developers.circle.com/stablecoins/usdc-contract-addresses.
const DOLLAR_COINS: &[&str] = &[
    // Base, and its test chain.
    "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    "0x036cbd53842c5426634e7929541ec2318f3dcf7e",
    // Ethereum, Polygon, Arbitrum, OP, Avalanche and its test chain.
    "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
    "0x3c499c542cef5e3811e1192ce70d8cc03d5c3359",
    "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
    "0x0b2c639c533813f4aa9d7837caf62653d097ff85",
    "0xb97ef9ef8734c71904d8002f8b6bc66dd9c48a6e",
    "0x5425890298aed601595a70ab815c96711a31bc65",
    // Solana, and its test chain.
    "epjfwdd5aufqssqem2qn1xzybapc8g4weggkzwytdt1v",
    "4zmmc9srt5ri5x14gagxhahii3gnpaeerypjgzjdncdu",
    "usdc",
    "usd",
];

/// What a 402 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The dearest of what may be paid, since the agent chooses; `None` where one of them is no dollar coin.
    pub price: Option<Pico>,
}

/// What an agent pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// `None` where nothing says how much, or it is no dollar coin.
    pub amount: Option<Pico>,
}

/// How a payment went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    pub success: bool,
    pub payment: Payment,
}

/// The offer of a 402: its `PAYMENT-REQUIRED` header if it has one, else its body; `None` where it is none.
pub fn offer<'h>(header: impl Fn(&str) -> Option<&'h str>, body: &[u8]) -> Option<Offer> {
    let from_header = OFFER_HEADERS.iter().find_map(|name| header(name)).and_then(decoded);
    let document = from_header.or_else(|| parse::<Value>(body))?;
    document.get("x402Version")?.as_u64()?;
    let accepts = document.get("accepts")?.as_array().filter(|all| !all.is_empty())?;
    let prices: Option<Vec<Pico>> = accepts.iter().map(price).collect();
    Some(Offer { price: prices.and_then(|all| all.into_iter().max()) })
}

/// The payment that a request carries, which the agent is willing to make; `None` where it pays nothing. A request with
/// several such headers is not to be asked about: nobody can say which of them is taken.
pub fn payment<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<Payment> {
    let value = PAYMENT_HEADERS.iter().find_map(|name| header(name))?;
    Some(Payment { amount: decoded(value).as_ref().and_then(paid) })
}

/// The settlement that an answer states; the amount from the request's payment where the answer has none. `None`
/// where it states none.
pub fn settled<'h>(
    answer: impl Fn(&str) -> Option<&'h str>,
    request: impl Fn(&str) -> Option<&'h str>,
) -> Option<Settled> {
    let document = decoded(SETTLED_HEADERS.iter().find_map(|name| answer(name))?)?;
    let success = document.get("success").and_then(Value::as_bool)?;
    // A settlement that names its amount may leave the asset out: it is the one that was paid with.
    let own = document.get("amount").or_else(|| document.pointer("/payment/amount")).and_then(units);
    let sent = PAYMENT_HEADERS.iter().find_map(|name| request(name)).and_then(decoded);
    let amount = match (own, sent.as_ref().map(paid)) {
        (Some(units), Some(Some(_)) | None) => Some(units),
        (Some(_), Some(None)) => None,
        (None, sent) => sent.flatten(),
    };
    Some(Settled { success, payment: Payment { amount } })
}

/// The dollars of a payment requirement.
fn price(requirement: &Value) -> Option<Pico> {
    requirement.get("asset").and_then(Value::as_str).filter(|asset| is_dollar_coin(asset))?;
    units(requirement.get("amount").or_else(|| requirement.get("maxAmountRequired"))?)
}

/// The dollars of a payment: version 2 repeats what it accepts, version 1 signs a transfer of the network's coin.
fn paid(payment: &Value) -> Option<Pico> {
    let accepted = payment.get("accepted").map(price);
    let payload = payment.get("payload");
    let asset = payload.and_then(|p| p.get("asset").or_else(|| p.pointer("/authorization/asset")));
    let is_known = asset.is_none_or(|asset| asset.as_str().is_some_and(is_dollar_coin));
    let signed = payload.and_then(|p| p.pointer("/authorization/value").or_else(|| p.get("amount")));
    let signed = signed.filter(|_| is_known).map(units);
    match (accepted, signed) {
        (Some(accepted), None) => accepted,
        (None, signed) => signed?,
        // What is signed can be taken, whatever is said beside it.
        (Some(accepted), Some(signed)) => Some(accepted?.max(signed?)),
    }
}

fn is_dollar_coin(asset: &str) -> bool {
    // Version 2 writes some assets with their chain: `eip155:8453/erc20:0x...`.
    let name = asset.rsplit([':', '/']).next().unwrap_or(asset);
    DOLLAR_COINS.iter().any(|coin| coin.eq_ignore_ascii_case(name))
}

/// Millionths of a coin, as a string of digits or a number.
fn units(value: &Value) -> Option<Pico> {
    let n = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    i64::try_from(n).ok()?.checked_mul(PICO_PER_UNIT).map(Pico::new).filter(|p| *p <= Pico::CAP)
}

fn decoded(header: &str) -> Option<Value> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    parse::<Value>(&base64(header.trim())?)
}

/// Base64 of either alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut have) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from((bits >> have) & 0xff).unwrap_or_default());
            bits &= (1 << have) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
#[path = "x402_tests.rs"]
mod tests;
