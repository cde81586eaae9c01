//! Charges for the recorded usage against an independent sum in exact decimals, and against what providers charged.
//!
//! The rates are read from the price data's own file, as text and into integers, by nothing that the meter uses.

use std::{collections::BTreeMap, path::Path, process::Command};

use meter_agent::{
    clock::Timestamp,
    money::Pico,
    pricing::{PriceKind, Prices, Seller},
    usage::{
        Line, Quality, Quantity, Reading, Usage,
        hosts::LOCAL,
        providers::{Provider, priced_at, provider},
    },
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{case::files, check::usage_of};

#[derive(Deserialize)]
struct Case {
    id: String,
    provider: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    recorded_at: Option<String>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    kind: String,
    #[serde(default)]
    confidence: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    request_model: Option<String>,
    #[serde(default)]
    service_tier: Value,
    #[serde(default)]
    inference_geo: Value,
    #[serde(default)]
    speed: Value,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    lines: Vec<Value>,
    #[serde(default)]
    server_tools: BTreeMap<String, u64>,
    #[serde(default)]
    units: BTreeMap<String, f64>,
    #[serde(default)]
    provider_cost_usd: Option<f64>,
    #[serde(default)]
    reference_cost: Option<Value>,
}

#[derive(Deserialize)]
struct ProviderPrices {
    id: String,
    #[serde(default)]
    fallback_model_providers: Option<Vec<String>>,
    models: Vec<ModelPrices>,
}

#[derive(Deserialize)]
struct ModelPrices {
    id: String,
    prices: Box<RawValue>,
    #[serde(default)]
    price_variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    when: BTreeMap<String, String>,
    prices: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    constraint: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct Conditional {
    #[serde(default)]
    constraint: Option<BTreeMap<String, String>>,
    prices: BTreeMap<String, Box<RawValue>>,
}

#[derive(Deserialize)]
struct Tiered {
    base: Box<RawValue>,
    tiers: Vec<Tier>,
}

#[derive(Deserialize)]
struct Tier {
    start: u64,
    price: Box<RawValue>,
}

#[test]
fn charges_equal_an_independent_sum_in_exact_decimals() {
    let data = price_data();
    let prices = Prices::embedded();
    let (mut same, mut failures, mut other_list) = (0, Vec::new(), 0);
    for case in cases() {
        let expected = &case.expected;
        let Some(row) = provider(&case.provider).filter(|_| expected.kind == "usage" && expected.lines.len() < 2)
        else {
            continue;
        };
        let (Some(reference), Some(usage)) = (&expected.reference_cost, &expected.usage) else { continue };
        let usage = usage_of(usage);
        // Surcharges and modalities are other tests'.
        let plain = usage.input_audio + usage.input_image + usage.output_audio + usage.output_image == 0
            && expected.inference_geo.as_str() != Some("us")
            && expected.speed.as_str() != Some("fast")
            && expected.units.is_empty();
        let Some(matched) = reference["matched_models"][0].as_str().filter(|_| plain) else { continue };
        let at = case.at();
        let want = find(&data, row.price_provider, matched)
            .and_then(|(model, own)| model.cost(&usage, at, expected.service_tier.as_str().filter(|_| own)));
        let Some(want) = want else { continue };
        let reading = Reading {
            model: expected.model.clone(),
            usage,
            service_tier: expected.service_tier.as_str().map(str::to_owned),
            ..Reading::nothing()
        };
        let got = prices.charge(Seller { id: row.id, catalogue: row.price_provider }, None, &reading, at);
        if got.kind != PriceKind::Priced {
            // The reference took the model's own list for a provider or a name that this catalogue does not have.
            other_list += 1;
        } else if got.cost == want {
            same += 1;
        } else {
            failures.push(format!("{}: charged {} but the sum is {want} ({matched})", case.id, got.cost));
        }
    }
    eprintln!("{same} charges are the exact sums; {other_list} are priced by another list");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), same + failures.len(), failures.join("\n"));
    assert!(same > 300, "only {same} charges were compared");
}

#[test]
fn what_providers_charged_is_reproduced_where_tokens_explain_it() {
    let prices = Prices::embedded();
    let mut by_provider: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for case in cases() {
        let expected = &case.expected;
        let (Some(row), Some(stated)) = (provider(&case.provider), expected.provider_cost_usd) else { continue };
        let Some(usage) = expected.usage.as_ref().filter(|_| stated > 0.0 && expected.kind == "usage") else {
            continue;
        };
        let reading = Reading {
            model: expected.model.clone(),
            usage: usage_of(usage),
            service_tier: expected.service_tier.as_str().map(str::to_owned),
            server_tools: expected.server_tools.iter().map(|(name, n)| (name.clone().into(), *n)).collect(),
            units: expected
                .units
                .iter()
                .map(|(name, n)| (name.clone().into(), Quantity::from_f64(*n).unwrap()))
                .collect(),
            quality: Quality::Exact,
            ..Reading::nothing()
        };
        let seller = Seller { id: row.id, catalogue: row.price_provider };
        let charge = prices.charge(seller, None, &reading, case.at());
        let ratio = charge.cost.to_string().parse::<f64>().unwrap() / stated;
        if std::env::var_os("METER_CORPUS_RATIOS").is_some() {
            eprintln!("{} {:?} {} / {stated} = {ratio:.3}", case.id, charge.kind, charge.cost);
        }
        by_provider.entry(case.provider.clone()).or_default().push(ratio);
    }
    let (mut close, mut all) = (0, 0);
    for (provider, mut ratios) in by_provider {
        ratios.sort_by(f64::total_cmp);
        let near = ratios.iter().filter(|r| (0.99..=1.01).contains(*r)).count();
        eprintln!("{provider}: {near} of {} within 1 %, median {:.3}", ratios.len(), ratios[ratios.len() / 2]);
        close += near;
        all += ratios.len();
    }
    eprintln!("{close} of {all} charges of providers are explained by tokens and fees within 1 %");
    assert!(all > 50 && close * 2 > all, "{close} of {all}");
}

/// How the price of a case was found.
#[derive(Default)]
struct Found {
    priced: usize,
    provider: usize,
    unpriced: usize,
}

#[test]
fn most_recorded_models_have_a_price_of_their_own() {
    let prices = Prices::embedded();
    let mut table: BTreeMap<String, Found> = BTreeMap::new();
    let mut missing: BTreeMap<String, usize> = BTreeMap::new();
    let mut apart: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for case in cases() {
        let expected = &case.expected;
        let Some(row) = provider(&case.provider).filter(|_| expected.kind == "usage" && expected.confidence == "high")
        else {
            continue;
        };
        let reading = case.reading();
        let charge = prices.charge(case.seller(row), expected.request_model.as_deref(), &reading, case.at());
        let model = expected.model.as_deref().or(expected.request_model.as_deref()).unwrap_or("(none)");
        let found = table.entry(case.provider.clone()).or_default();
        match charge.kind {
            PriceKind::Priced | PriceKind::Plan => found.priced += 1,
            PriceKind::Provider => found.provider += 1,
            PriceKind::Unpriced => {
                found.unpriced += 1;
                let why = charge.reason.as_deref().unwrap_or("");
                *missing.entry(format!("{} {model}: {why}", case.provider)).or_default() += 1;
            }
        }
        // The reference has tokens alone.
        let plain = Reading { server_tools: BTreeMap::new(), units: BTreeMap::new(), reported: None, ..reading };
        let listed = prices.charge(case.seller(row), expected.request_model.as_deref(), &plain, case.at());
        let reference = expected.reference_cost.as_ref().and_then(|cost| cost["usd"].as_f64()).filter(|usd| *usd > 0.0);
        if let Some(reference) = reference {
            let ratio = listed.cost.to_string().parse::<f64>().unwrap() / reference;
            if (ratio - 1.0).abs() > 0.02 {
                apart.entry(format!("{} {model} ({:?})", case.provider, listed.kind)).or_default().push(ratio);
            }
        }
    }
    let (mut known, mut all) = (0, 0);
    eprintln!("{:24} {:>7} {:>8} {:>8}", "provider", "priced", "provider", "unpriced");
    for (provider, found) in &table {
        eprintln!("{provider:24} {:7} {:8} {:8}", found.priced, found.provider, found.unpriced);
        known += found.priced + found.provider;
        all += found.priced + found.provider + found.unpriced;
    }
    if std::env::var_os("METER_CORPUS_RATIOS").is_some() {
        for (what, n) in &missing {
            eprintln!("unpriced {n:3} {what}");
        }
        for (what, ratios) in &apart {
            eprintln!("apart {:3} {what}: {:.3}", ratios.len(), ratios[0]);
        }
    }
    eprintln!("{known} of {all} are charged by a price list or the provider; {} groups are not", missing.len());
    assert!(known * 100 >= all * MATCHED_PERCENT, "{known} of {all}");
}

impl Case {
    /// Who sells it, as the sidecar takes it from the host.
    fn seller(&self, row: &'static Provider) -> Seller<'static> {
        let catalogue = if row.quirks.local { LOCAL } else { priced_at(row.price_provider, &self.path) };
        Seller { id: row.id, catalogue }
    }

    fn reading(&self) -> Reading {
        let expected = &self.expected;
        let usage = expected.usage.as_ref().map_or_else(Usage::default, usage_of);
        let lines = expected.lines.iter().map(|line| Line {
            model: line["model"].as_str().map(str::to_owned),
            usage: usage_of(&line["usage"]),
            ..Line::default()
        });
        let units = expected.units.iter().map(|(name, n)| (name.clone().into(), Quantity::from_f64(*n).unwrap()));
        Reading {
            model: expected.model.clone(),
            usage,
            service_tier: expected.service_tier.as_str().map(str::to_owned),
            server_tools: expected.server_tools.iter().map(|(name, n)| (name.clone().into(), *n)).collect(),
            units: units.collect(),
            lines: if expected.lines.len() > 1 { lines.collect() } else { Vec::new() },
            reported: expected.provider_cost_usd.and_then(|usd| usd.to_string().parse().ok()),
            quality: Quality::Exact,
            ..Reading::nothing()
        }
    }

    fn at(&self) -> Timestamp {
        let text = self.recorded_at.as_deref().unwrap_or("");
        let stamp = Timestamp::parse(text).or_else(|| Timestamp::parse(text.get(..10)?));
        stamp.unwrap_or(Timestamp::from_micros(1_795_219_200_000_000))
    }
}

/// The model's own list, and whether it is the provider's (a borrowed list has no tiers).
fn find<'d>(data: &'d [ProviderPrices], provider: &str, model: &str) -> Option<(&'d ModelPrices, bool)> {
    let of = |id: &str| data.iter().find(|p| p.id == id);
    let own = of(provider)?;
    let in_list = |list: &'d ProviderPrices| list.models.iter().find(|m| m.id == model);
    if let Some(found) = in_list(own) {
        return Some((found, true));
    }
    let others = own.fallback_model_providers.as_ref()?;
    others.iter().find_map(|id| in_list(of(id)?)).map(|found| (found, false))
}

/// Of a hundred recorded exchanges, as many have a price of their own at least.
const MATCHED_PERCENT: usize = 94;

/// Keys that the sum takes or that no case here needs.
const KNOWN: [&str; 8] = [
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "requests_kcount",
    "web_searches_kcount",
    "storage_searches_kcount",
];

impl ModelPrices {
    /// Half-up; nothing where the list has parts that this sum leaves out.
    fn cost(&self, usage: &Usage, at: Timestamp, tier: Option<&str>) -> Option<Pico> {
        let mut rates = self.standard(at)?;
        if let Some(tier) = tier {
            for variant in self.price_variants.iter().filter(|v| active(v.constraint.as_ref(), at)) {
                if variant.when.len() == 1 && variant.when.get("service_tier").is_some_and(|t| t == tier) {
                    rates.extend(variant.prices.clone());
                }
            }
        }
        let others = ["audio", "image", "video"];
        if rates.keys().any(|key| !KNOWN.contains(&key.as_str()) && !others.iter().any(|o| key.contains(o))) {
            return None;
        }
        let rate = |keys: &[&str]| {
            let found = keys.iter().find_map(|key| rates.get(*key));
            found.map_or(Some(0), |raw| at_size(raw, usage.input_tokens))
        };
        let read = rate(&["cache_read_mtok", "input_mtok"])?;
        let write = rate(&["cache_write_mtok", "input_mtok"])?;
        let hour = rate(&["cache_write_1h_mtok", "cache_write_mtok", "input_mtok"])?;
        // Rates are in millionths of a pico-dollar per million tokens, that is per token in 10^-18 dollars.
        let sum = rate(&["input_mtok"])? * i128::from(usage.input_uncached)
            + read * i128::from(usage.cache_read)
            + write * i128::from(usage.cache_write_5m + usage.cache_write_other)
            + hour * i128::from(usage.cache_write_1h)
            + rate(&["output_mtok"])? * i128::from(usage.output_tokens)
            + rate(&["requests_kcount"])? * 1_000;
        Some(Pico::new(i64::try_from((sum + 500_000_000_000) / 1_000_000_000_000).ok()?))
    }

    fn standard(&self, at: Timestamp) -> Option<BTreeMap<String, Box<RawValue>>> {
        if let Ok(direct) = serde_json::from_str(self.prices.get()) {
            return Some(direct);
        }
        let all: Vec<Conditional> = serde_json::from_str(self.prices.get()).ok()?;
        all.into_iter().rev().find(|one| active(one.constraint.as_ref(), at)).map(|one| one.prices)
    }
}

fn active(constraint: Option<&BTreeMap<String, String>>, at: Timestamp) -> bool {
    let Some(constraint) = constraint else { return true };
    let now = at.rfc3339();
    if let Some(start) = constraint.get("start_date") {
        return now.get(..10) >= Some(start.as_str());
    }
    let time = now.get(11..19).unwrap();
    let bound = |key: &str| constraint[key].get(..8).unwrap().to_owned();
    let (start, end) = (bound("start_time"), bound("end_time"));
    if end < start {
        time >= start.as_str() || time < end.as_str()
    } else {
        time >= start.as_str() && time < end.as_str()
    }
}

/// A rate, or that of the long input's tier, times 10^18.
fn at_size(raw: &RawValue, input: u64) -> Option<i128> {
    let Ok(tiered) = serde_json::from_str::<Tiered>(raw.get()) else { return digits(raw.get()) };
    let tier = tiered.tiers.iter().filter(|tier| input > tier.start).max_by_key(|tier| tier.start);
    digits(tier.map_or(tiered.base.get(), |tier| tier.price.get()))
}

/// Decimal digits times 10^18.
fn digits(text: &str) -> Option<i128> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let shift = 18 + exponent.parse::<i32>().ok()? - i32::try_from(part.len()).ok()?;
    Some(format!("{whole}{part}").parse::<i128>().ok()? * 10_i128.pow(u32::try_from(shift).ok()?))
}

/// The price data, as the crate's package has it.
fn price_data() -> Vec<ProviderPrices> {
    let asked = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|p| p["name"] == "genai-prices").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let file = manifest.with_file_name("data").join("prices.json");
    serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap()
}

/// Every case, whatever part of them the other tests are to look at.
fn cases() -> Vec<Case> {
    files().iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect()
}
