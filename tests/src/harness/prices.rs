//! What exchanges must cost, computed here from the providers' published prices and never by meter's own code.
//!
//! All prices in pico-dollars per token, which are millionths of the published dollars per million tokens:
//! <https://openai.com/api/pricing>, <https://www.anthropic.com/pricing>, <https://ai.google.dev/pricing>,
//! <https://aws.amazon.com/bedrock/pricing>, <https://docs.x.ai/docs/models>.

use crate::simulator::turn::Billed;

/// Pico-dollars in a dollar.
const USD: i128 = 1_000_000_000_000;

struct Price {
    model: &'static str,
    input: i128,
    cache_read: i128,
    cache_write_5m: i128,
    output: i128,
}

const PRICES: [Price; 9] = [
    Price { model: "gpt-4o-mini", input: 150_000, cache_read: 75_000, cache_write_5m: 0, output: 600_000 },
    Price { model: "gpt-4o", input: 2_500_000, cache_read: 1_250_000, cache_write_5m: 0, output: 10_000_000 },
    Price { model: "text-embedding-3-small", input: 20_000, cache_read: 0, cache_write_5m: 0, output: 0 },
    Price {
        model: "claude-haiku-4-5",
        input: 1_000_000,
        cache_read: 100_000,
        cache_write_5m: 1_250_000,
        output: 5_000_000,
    },
    Price { model: "gemini-2.0-flash", input: 100_000, cache_read: 25_000, cache_write_5m: 0, output: 400_000 },
    Price {
        model: "global.anthropic.claude-haiku-4-5",
        input: 1_000_000,
        cache_read: 100_000,
        cache_write_5m: 1_250_000,
        output: 5_000_000,
    },
    Price { model: "amazon.nova-lite", input: 60_000, cache_read: 15_000, cache_write_5m: 0, output: 240_000 },
    Price { model: "grok-3", input: 3_000_000, cache_read: 750_000, cache_write_5m: 0, output: 15_000_000 },
    Price { model: "gemini-2.5-flash", input: 300_000, cache_read: 30_000, cache_write_5m: 0, output: 2_500_000 },
];

/// What the tokens cost, in pico-dollars.
pub fn cost(model: &str, billed: &Billed) -> i128 {
    let price = PRICES.iter().find(|price| model.starts_with(price.model));
    let price = price.unwrap_or_else(|| panic!("the tests have no price for {model}"));
    let uncached = billed.input_tokens - billed.cache_read - billed.cache_write_5m;
    i128::from(uncached) * price.input
        + i128::from(billed.cache_read) * price.cache_read
        + i128::from(billed.cache_write_5m) * price.cache_write_5m
        + i128::from(billed.output_tokens) * price.output
}

/// Pico-dollars of an amount as it stands in JSON: a decimal string of dollars.
pub fn pico(text: &str) -> i128 {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    assert!(fraction.len() <= 12, "`{text}` is finer than a pico-dollar");
    let parse = |digits: &str| digits.parse::<i128>().unwrap_or_else(|_| panic!("`{text}` is not an amount"));
    let amount = parse(whole) * USD + parse(&format!("{fraction:0<12}"));
    if negative { -amount } else { amount }
}

/// Pico-dollars as a decimal string of dollars, for a command line.
pub fn usd(pico: i128) -> String {
    format!("{}.{:012}", pico / USD, pico % USD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_exactly() {
        for (text, amount) in
            [("0.02", 20_000_000_000), ("-1", -USD), ("0.000000000001", 1), ("12.5", 12 * USD + USD / 2)]
        {
            assert_eq!(pico(text), amount);
        }
        assert_eq!(pico(&usd(123_456_789)), 123_456_789);
    }

    #[test]
    fn a_cost_adds_its_buckets() {
        let billed = Billed { input_tokens: 1200, cache_read: 200, output_tokens: 30, ..Billed::default() };
        assert_eq!(cost("gpt-4o-2024-08-06", &billed), 1000 * 2_500_000 + 200 * 1_250_000 + 30 * 10_000_000);
    }
}
