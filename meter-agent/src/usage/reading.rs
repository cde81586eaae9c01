//! What an answer said about usage: tokens by price bucket, calls of tools, other units, the provider's own charge.
//!
//! Values alone. How they are read is the dialects', what they cost is pricing's.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::money::Pico;

/// Tokens of one exchange by price bucket.
///
/// `input_tokens` is the sum of `input_uncached`, `cache_read` and the cache writes; `input_audio` and
/// `input_image` are parts of it. `output_tokens` includes `reasoning_tokens`, `output_audio` and `output_image`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input_tokens: u64,
    pub input_uncached: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub cache_write_1h: u64,
    /// Cache writes that have no time-to-live class.
    pub cache_write_other: u64,
    pub input_audio: u64,
    pub input_image: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    pub output_audio: u64,
    pub output_image: u64,
}

impl Usage {
    /// Every number in it.
    pub fn parts(&self) -> [u64; 12] {
        [
            self.input_tokens,
            self.input_uncached,
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.cache_write_other,
            self.input_audio,
            self.input_image,
            self.output_tokens,
            self.reasoning_tokens,
            self.output_audio,
            self.output_image,
        ]
    }

    /// The sum, bucket by bucket.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            input_uncached: self.input_uncached.saturating_add(other.input_uncached),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            cache_write_other: self.cache_write_other.saturating_add(other.cache_write_other),
            input_audio: self.input_audio.saturating_add(other.input_audio),
            input_image: self.input_image.saturating_add(other.input_image),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            output_audio: self.output_audio.saturating_add(other.output_audio),
            output_image: self.output_image.saturating_add(other.output_image),
        }
    }
}

/// How far a usage is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// The provider's own final numbers, or nothing was billable.
    Exact,
    /// Counted from the request and the bytes seen; by construction not below what can have been billed.
    Estimated,
    /// Billable, and nothing is known.
    Absent,
}

/// Calls of tools that ran at the provider, by name: `web_search`, `web_fetch`, `file_search`, `code_interpreter`,
/// `x_search`, `google_search`, `mcp`, `image_generation`, `shell`, `attachment_search`.
pub type Tools = BTreeMap<Cow<'static, str>, u64>;

/// What is priced by something else than tokens, by name: `images`, `audio_seconds`, `transcription_seconds`,
/// `billable_audio_seconds`, `billable_characters`, `search_units`, `ocr_pages`, `requests`, ...
pub type Units = BTreeMap<Cow<'static, str>, Quantity>;

/// A quantity of units in millionths: seconds and minutes come in fractions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(u64);

impl Quantity {
    pub const ZERO: Self = Self(0);
    const ONE: u64 = 1_000_000;

    pub const fn whole(n: u64) -> Self {
        Self(n.saturating_mul(Self::ONE))
    }

    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The nearest quantity; `None` for what is none (negative, not finite, too large).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the range is checked first"
    )]
    pub fn from_f64(n: f64) -> Option<Self> {
        let micros = (n * Self::ONE as f64).round();
        (micros.is_finite() && (0.0..1e18).contains(&micros)).then_some(Self(micros as u64))
    }

    #[expect(clippy::cast_precision_loss, reason = "quantities are far below 2^53 millionths")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / Self::ONE as f64
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / Self::ONE, self.0 % Self::ONE);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{rest:06}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(Self::ONE) {
            s.serialize_u64(self.0 / Self::ONE)
        } else {
            s.serialize_f64(self.as_f64())
        }
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::from_f64(f64::deserialize(d)?).ok_or_else(|| serde::de::Error::custom("not a quantity"))
    }
}

/// What an answer said about usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The model as the answer reports it; the one to price.
    pub model: Option<String>,
    pub usage: Usage,
    pub quality: Quality,
    /// The tier that the answer reports (`priority`, `flex`, ...).
    pub service_tier: Option<String>,
    /// Priced as a batch.
    pub batch: bool,
    /// What to price where that is more than `usage` and `units` at `model`: several models, surcharges.
    /// Empty otherwise. `usage` and `units` are the lines' sums.
    pub lines: Vec<Line>,
    pub server_tools: Tools,
    pub units: Units,
    /// What selects among prices per unit, such as an image's `hd/1024x1792`.
    pub variant: Option<String>,
    /// The charge that the answer itself states.
    pub reported: Option<Pico>,
    /// Under which id the same result can be read again.
    pub result: Option<ResultRef>,
    /// Why it costs nothing, or why it is no more than an estimate.
    pub reason: Option<&'static str>,
}

/// The result that an answer holds or announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultRef {
    /// The provider's id of the response, run or batch.
    pub id: String,
    pub standing: Standing,
}

/// What an answer has to do with a result that can be read more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being worked on; its hold stays until it is seen.
    Pending,
    /// It is here, and is billed once per id, whoever reads it first.
    Final,
    /// It was billed when it was made, unless that left it pending.
    Repeat,
}

/// One priced part of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `None`: the reading's model.
    pub model: Option<String>,
    pub usage: Usage,
    pub units: Units,
    /// Parts of `usage.cache_read`.
    pub cache_read_audio: u64,
    pub cache_read_image: u64,
    /// Parts of `usage.input_tokens` and `usage.output_tokens`.
    pub input_video: u64,
    pub output_video: u64,
    /// Percent of the list price; 0 for the list price itself.
    pub surcharge_percent: u32,
}

impl Line {
    /// Whether it says more than the usage alone.
    pub fn is_plain(&self) -> bool {
        *self == Self { usage: self.usage, ..Self::default() }
    }
}

impl Reading {
    /// Nothing was billable.
    pub fn nothing() -> Self {
        Self::of(Quality::Exact, Usage::default())
    }

    /// Nothing was billable, and why.
    pub fn free(reason: &'static str) -> Self {
        Self { reason: Some(reason), ..Self::nothing() }
    }

    /// Billable, and nothing is known.
    pub fn absent() -> Self {
        Self::of(Quality::Absent, Usage::default())
    }

    /// Whether anything was used at all.
    pub fn is_empty(&self) -> bool {
        self.usage == Usage::default() && self.units.is_empty() && self.server_tools.is_empty() && self.lines.is_empty()
    }

    /// An estimate is not below what was seen; a provider's own word stands.
    pub(crate) fn raise_output(&mut self, seen: u64) {
        if self.quality == Quality::Estimated && self.lines.is_empty() {
            self.usage.output_tokens = self.usage.output_tokens.max(seen);
        }
    }

    /// Of one line at the reading's model.
    pub(crate) fn of_line(quality: Quality, line: Line) -> Self {
        let (usage, units) = (line.usage, line.units.clone());
        let lines = if line.is_plain() { Vec::new() } else { vec![line] };
        Self { lines, units, ..Self::of(quality, usage) }
    }

    pub(crate) fn of(quality: Quality, usage: Usage) -> Self {
        Self {
            model: None,
            usage,
            quality,
            service_tier: None,
            batch: false,
            lines: Vec::new(),
            server_tools: Tools::new(),
            units: Units::new(),
            variant: None,
            reported: None,
            result: None,
            reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_written_as_the_number_it_is() {
        for (n, text) in [(25.933_313, "25.933313"), (6.0, "6"), (5.495_999_8, "5.496"), (0.0, "0")] {
            let quantity = Quantity::from_f64(n).unwrap();
            assert_eq!(quantity.to_string(), text);
            assert_eq!(serde_json::to_string(&quantity).unwrap(), text);
            assert_eq!(serde_json::from_str::<Quantity>(text).unwrap(), quantity);
        }
        assert!(Quantity::from_f64(-1.0).is_none() && Quantity::from_f64(f64::NAN).is_none());
    }
}
