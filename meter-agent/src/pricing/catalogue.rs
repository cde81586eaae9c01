//! The `genai-prices` catalogue as this project asks it: usage translated to its units, one price per line.
//!
//! Its units form a tree: `input_tokens` is everything, `cache_write_tokens` all writes with the two
//! times to live below it, and a model that has no rate for a part charges the part as the whole. A part that
//! overlaps another (cached audio) must be stated once the model prices the overlap, so it is, as zero if need be.

use genai_prices::{Calculator, PriceRequest, Usage as Units, UsageKey};

use super::round::count;
use crate::{clock::Timestamp, usage::Line};

/// What selects a price.
#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    /// `None` for the standard tier.
    pub(super) tier: Option<&'a str>,
    pub(super) at: Timestamp,
}

/// Dollars, split as the catalogue splits them.
#[derive(Clone, Copy)]
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

/// The price of `units`, and the id of the model that was matched.
pub(super) fn price(selector: Selector<'_>, units: &Units) -> Result<(Dollars, String), NoPrice> {
    let mut request = PriceRequest::new(selector.model, units)
        .with_provider_id(selector.provider)
        .with_timestamp(selector.at.system_time());
    if let Some(tier) = selector.tier {
        request = request.with_price_context("service_tier", tier);
    }
    match Calculator::bundled().calculate(&request) {
        Ok(p) => Ok((Dollars { input: p.input_price, output: p.output_price, total: p.total_price }, p.model_id)),
        Err(e) if e.kind() == genai_prices::ErrorKind::InvalidUsage => Err(NoPrice::BadUsage),
        Err(_) => Err(NoPrice::UnknownModel),
    }
}

/// Tiers that have rates of their own. Any other is priced as the standard one, as the catalogue itself does;
/// naming them here keeps made-up ones out of the cache of rates.
const TIERS: [&str; 3] = ["flex", "priority", "fast"];

/// The tier as the catalogue names it; `None` for the standard one and for one not decided yet.
pub(super) fn tier(reported: Option<&str>) -> Option<&'static str> {
    const PREFIX: &str = "service_tier_";
    let name = reported?;
    let has_prefix = name.get(..PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(PREFIX));
    let name = if has_prefix { &name[PREFIX.len()..] } else { name };
    TIERS.into_iter().find(|tier| tier.eq_ignore_ascii_case(name))
}

/// A line in the catalogue's units.
pub(super) fn units(line: &Line) -> Units {
    let u = &line.usage;
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
    put(UsageKey::WEB_SEARCHES, line.web_searches);
    if u.cache_read > 0 {
        if u.input_audio > 0 {
            units.insert(UsageKey::CACHE_AUDIO_READ_TOKENS, count(line.cache_read_audio));
        }
        if u.input_image > 0 {
            units.insert(UsageKey::CACHE_IMAGE_READ_TOKENS, count(line.cache_read_image));
        }
        if line.input_video > 0 {
            units.insert(UsageKey::CACHE_VIDEO_READ_TOKENS, 0.0);
        }
    }
    units
}
