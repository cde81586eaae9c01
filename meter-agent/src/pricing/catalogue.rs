//! The `genai-prices` catalogue as this project asks it: usage translated to its units, one price per line.
//!
//! Its units form a tree: `input_tokens` is everything, `cache_write_tokens` all writes with the two
//! times to live below it, and a model that has no rate for a part charges the part as the whole. A part that
//! overlaps another (cached audio) must be stated once the model prices the overlap, so it is, as little as it must be.

use genai_prices::{Calculator, PriceRequest, Usage as Units, UsageKey};

use super::round::count;
use crate::{
    clock::Timestamp,
    usage::{Line, Quantity, Usage},
};

/// What selects a price.
#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    /// The price data that is asked.
    pub(super) from: &'a Calculator,
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    /// `None` for the standard tier.
    pub(super) tier: Option<&'a str>,
    /// Processed as a batch.
    pub(super) batch: bool,
    pub(super) at: Timestamp,
}

/// Dollars, split as the catalogue splits them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dollars {
    pub(super) input: f64,
    pub(super) output: f64,
    pub(super) total: f64,
}

/// Why there is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPrice {
    UnknownModel,
    /// The catalogue refuses the numbers (parts larger than their whole).
    BadUsage,
}

/// A price, and what it is the price of.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) dollars: Dollars,
    pub(super) provider: String,
    pub(super) model: String,
}

/// The price of `units`. An empty provider stands for the one whose model names begin like this one.
pub(super) fn price(selector: Selector<'_>, units: &Units) -> Result<Found, NoPrice> {
    let mut request = PriceRequest::new(selector.model, units).with_timestamp(selector.at.system_time());
    if !selector.provider.is_empty() {
        request = request.with_provider_id(selector.provider);
    }
    if let Some(tier) = selector.tier {
        request = request.with_price_context("service_tier", tier);
    }
    if selector.batch {
        request = request.with_price_context("processing", "batch");
    }
    match selector.from.calculate(&request) {
        Ok(p) => Ok(Found {
            dollars: Dollars { input: p.input_price, output: p.output_price, total: p.total_price },
            provider: p.provider_id,
            model: p.model_id,
        }),
        Err(e) if e.kind() == genai_prices::ErrorKind::InvalidUsage => Err(NoPrice::BadUsage),
        Err(_) => Err(NoPrice::UnknownModel),
    }
}

/// Tiers that have rates of their own. Any other is priced as the standard one, as the catalogue itself does;
/// naming them here keeps made-up ones out of the cache of rates.
const TIERS: [&str; 3] = ["flex", "priority", "fast"];

/// Whether a reported tier is the one of batches.
pub(super) fn is_batch(reported: Option<&str>) -> bool {
    reported.is_some_and(|tier| tier.eq_ignore_ascii_case("batch"))
}

/// The tier as the catalogue names it; `None` for the standard one and for one not decided yet.
pub(super) fn tier(reported: Option<&str>) -> Option<&'static str> {
    const PREFIX: &str = "service_tier_";
    let name = reported?;
    let has_prefix = name.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX));
    let name = if has_prefix { &name[PREFIX.len()..] } else { name };
    TIERS.into_iter().find(|tier| tier.eq_ignore_ascii_case(name))
}

/// Whether the catalogue has prices of that provider.
pub(super) fn sells(from: &Calculator, provider: &str) -> bool {
    provider.eq_ignore_ascii_case("litellm") || from.find_provider(Some(provider), None).is_ok_and(|p| p.is_some())
}

/// Calls of a tool in the catalogue's units, where it has one for them.
pub(super) fn calls(tool: &str, n: u64) -> Option<Units> {
    let key = match tool {
        "web_search" | "google_search" => UsageKey::WEB_SEARCHES,
        "file_search" => UsageKey::STORAGE_SEARCHES,
        "x_search" => UsageKey::SOCIAL_SEARCHES,
        "code_interpreter" => UsageKey::CODE_EXECUTIONS,
        _ => return None,
    };
    Some(Units::from([(key, count(n))]))
}

/// Adds a quantity of a unit in the catalogue's, and says whether it has one. A whole is stated with its part.
pub(super) fn put_unit(units: &mut Units, name: &str, quantity: Quantity) -> bool {
    let keys: &[UsageKey] = match name {
        "audio_seconds" | "transcription_seconds" => &[UsageKey::AUDIO_SECONDS, UsageKey::INPUT_AUDIO_SECONDS],
        "billable_audio_seconds" => &[UsageKey::AUDIO_SECONDS],
        "billable_characters" => &[UsageKey::INPUT_CHARACTERS],
        "ocr_pages" => &[UsageKey::INPUT_DOCUMENT_PAGES],
        "annotated_pages" => &[UsageKey::INPUT_ANNOTATED_DOCUMENT_PAGES],
        "search_units" => &[UsageKey::RERANK_SEARCHES],
        _ => return false,
    };
    for key in keys {
        units.insert(key.clone(), quantity.as_f64());
    }
    true
}

/// Tokens in the catalogue's units, with the parts that a line states of them.
pub(super) fn units(line: &Line, u: &Usage) -> Units {
    let mut units = Units::new();
    let mut put = |key: UsageKey, n: u64| {
        if n > 0 {
            units.insert(key, count(n));
        }
    };
    put(UsageKey::INPUT_TOKENS, u.input_tokens);
    put(UsageKey::CACHE_READ_TOKENS, u.cache_read);
    put(UsageKey::CACHE_WRITE_TOKENS, u.cache_write_5m + u.cache_write_1h + u.cache_write_other);
    put(UsageKey::CACHE_WRITE_5M_TOKENS, u.cache_write_5m);
    put(UsageKey::CACHE_WRITE_1H_TOKENS, u.cache_write_1h);
    put(UsageKey::INPUT_AUDIO_TOKENS, u.input_audio);
    put(UsageKey::INPUT_IMAGE_TOKENS, u.input_image);
    put(UsageKey::INPUT_VIDEO_TOKENS, line.input_video);
    put(UsageKey::OUTPUT_TOKENS, u.output_tokens);
    put(UsageKey::OUTPUT_AUDIO_TOKENS, u.output_audio);
    put(UsageKey::OUTPUT_IMAGE_TOKENS, u.output_image);
    put(UsageKey::OUTPUT_VIDEO_TOKENS, line.output_video);
    if u.cache_read > 0 {
        let [image, video, audio] = cached_parts(line, u);
        if u.input_audio > 0 {
            units.insert(UsageKey::CACHE_AUDIO_READ_TOKENS, count(audio));
        }
        if u.input_image > 0 {
            units.insert(UsageKey::CACHE_IMAGE_READ_TOKENS, count(image));
        }
        if line.input_video > 0 {
            units.insert(UsageKey::CACHE_VIDEO_READ_TOKENS, count(video));
        }
    }
    units
}

/// How much of the pictures, the film and the sound came out of the cache: what the line states, and beyond it only what
/// has no room beside the cached tokens, since what is not cached is dearer. Of sound, the dearest, last.
fn cached_parts(line: &Line, u: &Usage) -> [u64; 3] {
    let parts = [u.input_image, line.input_video, u.input_audio];
    let mut cached = [line.cache_read_image, 0, line.cache_read_audio];
    let sum = |all: &[u64]| all.iter().copied().fold(0, u64::saturating_add);
    let mut room = u.cache_read.saturating_sub(sum(&cached));
    let fresh = sum(&parts).saturating_sub(sum(&cached));
    let mut beyond = fresh.saturating_sub(u.input_tokens.saturating_sub(u.cache_read));
    for (part, cached) in parts.into_iter().zip(&mut cached) {
        let more = part.saturating_sub(*cached).min(beyond).min(room);
        (*cached, beyond, room) = (*cached + more, beyond - more, room - more);
    }
    cached
}
