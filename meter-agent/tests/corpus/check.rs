//! What was read against what the case says is true.

use std::collections::BTreeMap;

use meter_agent::{
    exchange::results::{Results, Verdict},
    usage::{Quality, Quantity, Reading, Standing, Usage},
};
use serde_json::Value;

use crate::case::{Case, Expected};

/// Field by field, for a reading.
pub(crate) fn check(case: &Case, reading: &Reading) -> Result<(), String> {
    let expected = &case.expected;
    match expected.kind.as_str() {
        "usage" => {
            let want = usage_of(expected.usage.as_ref().ok_or("no usage in the case")?);
            if reading.usage != want || reading.quality != Quality::Exact {
                return Err(format!("{:?} {:?}, want {want:?}", reading.quality, reading.usage));
            }
            let lines = reading.lines.len().max(1);
            if expected.lines.len() > 1 && lines != expected.lines.len() {
                return Err(format!("{lines} lines, want {}", expected.lines.len()));
            }
            for (line, want) in reading.lines.iter().zip(&expected.lines) {
                let model = line.model.as_deref().or(reading.model.as_deref());
                if line.usage != usage_of(&want["usage"]) || model != want["model"].as_str() {
                    return Err(format!("line {line:?}, want {want}"));
                }
            }
            if reading.model != expected.model && expected.model.is_some() {
                return Err(format!("model {:?}, want {:?}", reading.model, expected.model));
            }
            let tools: BTreeMap<String, u64> =
                reading.server_tools.iter().map(|(name, n)| (name.to_string(), *n)).collect();
            if tools != expected.server_tools {
                return Err(format!("server tools {tools:?}, want {:?}", expected.server_tools));
            }
            let units: BTreeMap<String, Quantity> =
                reading.units.iter().map(|(name, n)| (name.to_string(), *n)).collect();
            let want: BTreeMap<String, Quantity> = expected
                .units
                .iter()
                .map(|(name, n)| (name.clone(), Quantity::from_f64(*n).expect("a quantity")))
                .collect();
            if units != want {
                return Err(format!("units {units:?}, want {want:?}"));
            }
            check_charge(expected, reading)
        }
        "zero" if costs_nothing_again(reading) => Ok(()),
        "zero" if reading.usage != Usage::default() || reading.quality != Quality::Exact => {
            Err(format!("{:?} {:?}, want nothing", reading.quality, reading.usage))
        }
        "absent" if reading.quality == Quality::Exact => Err("exact, but nothing is known".to_owned()),
        "pending" if !reading.result.as_ref().is_some_and(|r| r.standing == Standing::Pending) => {
            Err(format!("not pending: {reading:?}"))
        }
        "zero" | "absent" | "pending" => Ok(()),
        other => Err(format!("a kind that this test does not know: {other}")),
    }
}

/// Whether the answer repeats a result that was billed when it was made.
fn costs_nothing_again(reading: &Reading) -> bool {
    reading.result.as_ref().is_some_and(|result| Results::default().see("any", result) == Verdict::Repeat)
}

/// The charge that the provider states. With a key of one's own it is what the upstream bills.
fn check_charge(expected: &Expected, reading: &Reading) -> Result<(), String> {
    let Some(usd) = expected.provider_cost_usd else { return Ok(()) };
    let own_key = expected.is_byok == Some(true);
    let stated = reading.reported.map(|pico| pico.to_string().parse::<f64>().expect("an amount"));
    match stated {
        Some(stated) if (stated - usd).abs() < 1e-11 || (own_key && stated >= usd) => Ok(()),
        _ => Err(format!("reported {stated:?}, want {usd}")),
    }
}

/// The expected usage as the project writes it.
pub(crate) fn usage_of(value: &Value) -> Usage {
    let n = |key: &str| value[key].as_u64().unwrap_or(0);
    Usage {
        input_tokens: n("input_tokens"),
        input_uncached: n("input_uncached"),
        cache_read: n("cache_read"),
        cache_write_5m: n("cache_write_5m"),
        cache_write_1h: n("cache_write_1h"),
        cache_write_other: n("cache_write_other"),
        input_audio: n("input_audio"),
        input_image: n("input_image"),
        output_tokens: n("output_tokens"),
        reasoning_tokens: n("reasoning_tokens"),
        output_audio: n("output_audio"),
        output_image: n("output_image"),
    }
}
