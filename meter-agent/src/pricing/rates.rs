//! Rates per token that bound what the catalogue can charge, for quotes and for models it does not know.
//!
//! The catalogue gives prices, not rates, so they are found by asking for the price of a whole input in one
//! bucket. Its long-context tiers depend on the size of the input alone; sizes are put into classes whose upper
//! edges are where its tiers begin, so a rate of a class holds for every input in it, and a class takes the
//! dearest of itself and the ones below. An edge that the catalogue moves makes quotes higher, never lower.

use genai_prices::Calculator;

use super::{
    catalogue::{Dollars, NoPrice, Selector, calls, price, units},
    ceilings,
    round::{count, up},
};
use crate::{
    money::Pico,
    usage::{Line, Usage},
};

/// Upper edges of the classes of input sizes.
pub(super) const EDGES: &[u64] = &[32_000, 100_000, 128_000, 200_000, 272_000, 512_000, 1_000_000, 10_000_000];

/// Output tokens of a probe.
const PROBE_OUTPUT: u64 = 1_000_000;

/// The largest input of a class.
pub(super) fn edge(class: u8) -> u64 {
    EDGES[usize::from(class).min(EDGES.len() - 1)]
}

/// The class of an input of `tokens`.
pub(super) fn class(tokens: u64) -> u8 {
    let at = EDGES.iter().position(|edge| tokens <= *edge).unwrap_or(EDGES.len() - 1);
    u8::try_from(at).unwrap_or(u8::MAX)
}

/// Pico-dollars per token, each rounded up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    pub(super) input: Pico,
    pub(super) cache_write_5m: Pico,
    pub(super) cache_write_1h: Pico,
    pub(super) cache_write_other: Pico,
    /// Dearest of audio and video.
    pub(super) input_audio: Pico,
    pub(super) input_image: Pico,
    /// Dearest kind of output.
    pub(super) output: Pico,
    /// Whatever the usage.
    pub(super) request: Pico,
    /// From the catalogue; with what it rounds away.
    pub(super) context_window: Option<u64>,
    pub(super) maximum_output: Option<u64>,
}

impl Rates {
    /// The rates of one model for inputs up to the class's edge; `None` if the catalogue does not know it.
    pub(super) fn of_model(selector: Selector<'_>, class: u8) -> Option<Self> {
        let (fee, id, provider) = match price(selector, &units(&Line::default(), &Usage::default())) {
            Ok(found) => (found.dollars.total, found.model, found.provider),
            Err(NoPrice::UnknownModel | NoPrice::BadUsage) => return None,
        };
        let context_window = context_window(selector.from, &provider, &id);
        let mut rates = Self {
            request: up(fee)?,
            context_window,
            maximum_output: ceilings::maximum(&provider, selector.model).or_else(|| ceilings::maximum(&provider, &id)),
            ..Self::default()
        };
        for size in &EDGES[..=usize::from(class).min(EDGES.len() - 1)] {
            rates = rates.dearest(Self::at_size(selector, *size));
        }
        Some(rates)
    }

    /// The dearest rate of each kind among all of the provider's models.
    pub(super) fn of_provider(selector: Selector<'_>, class: u8) -> Self {
        let provider = selector.from.find_provider(Some(selector.provider), None).ok().flatten();
        let models = provider.into_iter().flat_map(genai_prices::ProviderInfo::models);
        let of = |model: genai_prices::ModelInfo<'_>| Self::of_model(Selector { model: model.id(), ..selector }, class);
        let dearest = models.filter_map(of).fold(Self::default(), Self::dearest);
        Self { context_window: None, maximum_output: None, ..dearest }
    }

    fn at_size(selector: Selector<'_>, size: u64) -> Self {
        let input = |fill: &dyn Fn(&mut Line)| {
            let mut line = Line { usage: Usage { input_tokens: size, ..Usage::default() }, ..Line::default() };
            fill(&mut line);
            rate(selector, &line, |d| d.input, size)
        };
        let output = |fill: &dyn Fn(&mut Line)| {
            let usage = Usage { input_tokens: size, output_tokens: PROBE_OUTPUT, ..Usage::default() };
            let mut line = Line { usage, ..Line::default() };
            fill(&mut line);
            rate(selector, &line, |d| d.output, PROBE_OUTPUT)
        };
        Self {
            input: input(&|_| {}),
            cache_write_5m: input(&|l| l.usage.cache_write_5m = size),
            cache_write_1h: input(&|l| l.usage.cache_write_1h = size),
            cache_write_other: input(&|l| l.usage.cache_write_other = size),
            input_audio: input(&|l| l.usage.input_audio = size).max(input(&|l| l.input_video = size)),
            input_image: input(&|l| l.usage.input_image = size),
            output: output(&|_| {})
                .max(output(&|l| l.usage.output_audio = PROBE_OUTPUT))
                .max(output(&|l| l.usage.output_image = PROBE_OUTPUT))
                .max(output(&|l| l.output_video = PROBE_OUTPUT)),
            ..Self::default()
        }
    }

    pub(super) fn dearest(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cache_write_5m: self.cache_write_5m.max(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.max(other.cache_write_1h),
            cache_write_other: self.cache_write_other.max(other.cache_write_other),
            input_audio: self.input_audio.max(other.input_audio),
            input_image: self.input_image.max(other.input_image),
            output: self.output.max(other.output),
            request: self.request.max(other.request),
            context_window: self.context_window.max(other.context_window),
            maximum_output: self.maximum_output.max(other.maximum_output),
        }
    }

    /// The dearest rate of any input.
    pub(super) fn dearest_input(&self) -> Pico {
        self.input
            .max(self.cache_write_5m)
            .max(self.cache_write_1h)
            .max(self.cache_write_other)
            .max(self.input_audio)
            .max(self.input_image)
    }

    /// What a line costs at these rates: an upper bound of every split of its parts that it does not state.
    pub(super) fn charge(&self, line: &Line) -> Pico {
        let u = &line.usage;
        let writes = u.cache_write_5m + u.cache_write_1h + u.cache_write_other;
        let special = u.input_audio + u.input_image + line.input_video;
        let rate = if writes + special > 0 { self.dearest_input() } else { self.input };
        rate.saturating_mul(u.input_tokens)
            .saturating_add(self.output.saturating_mul(u.output_tokens))
            .saturating_add(self.request)
    }
}

/// What one call of a tool costs by the catalogue; `None` where it has no price for it.
pub(super) fn per_call(selector: Selector<'_>, tool: &str) -> Option<Pico> {
    // A price per thousand, as the lists have it, comes out of the floats without a remainder. What a request costs
    // whatever it uses is in both and taken out again.
    let with = price(selector, &calls(tool, 1_000)?).ok()?.dollars.total;
    let without = price(selector, &units(&Line::default(), &Usage::default())).ok()?.dollars.total;
    up((with - without) / 1_000.0).filter(|fee| fee.is_positive())
}

/// The price of the line per `n`, rounded up; zero where the catalogue has none.
fn rate(selector: Selector<'_>, line: &Line, part: fn(Dollars) -> f64, n: u64) -> Pico {
    match price(selector, &units(line, &line.usage)) {
        Ok(found) => up(part(found.dollars) / count(n)).unwrap_or(Pico::MAX),
        Err(NoPrice::UnknownModel | NoPrice::BadUsage) => Pico::ZERO,
    }
}

/// The catalogue rounds windows of a million (1,048,576 and 1,050,000 to 1,000,000), so 6 % are added.
fn context_window(from: &Calculator, provider: &str, model: &str) -> Option<u64> {
    let provider = from.find_provider(Some(provider), None).ok()??;
    let window = provider.models().find(|m| m.id() == model)?.context_window()?;
    Some(window + window * 6 / 100)
}
