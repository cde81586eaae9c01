//! LiteLLM's price file: a JSON object with one entry per model, prices in dollars per token.
//!
//! Only for what the catalogue lacks. Prices are read from the digits of the file, never through a float.
//! Source: docs.litellm.ai/docs/proxy/custom_pricing and model_prices_and_context_window.json.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use serde_json::value::RawValue;

use super::{
    Seller,
    card::{Card, TokenRates, decimal},
    imports::BadPrices,
};
use crate::money::Pico;

/// Dollars per token to pico-dollars per million tokens.
const PER_TOKEN: i32 = 18;
/// Dollars per unit to pico-dollars per unit.
const PER_UNIT: i32 = 12;

/// Its providers by the catalogue's ids, where they differ, by how they start.
const PROVIDERS: &[(&str, &str)] = &[
    ("azure", "azure"),
    ("bedrock", "aws"),
    ("cohere", "cohere"),
    ("fireworks", "fireworks"),
    ("gemini", "google"),
    ("github_copilot", "github-copilot"),
    ("jina", "jina"),
    ("sagemaker", "aws"),
    ("together", "together"),
    ("vercel", "vercel"),
    ("vertex", "google"),
    ("voyage", "voyageai"),
    ("xai", "x-ai"),
    ("moonshot", "moonshotai"),
    ("dashscope", "alibaba"),
];

/// Long inputs, and what their prices end in.
const LONG: &[(u64, &str)] = &[
    (128_000, "_above_128k_tokens"),
    (200_000, "_above_200k_tokens"),
    (256_000, "_above_256k_tokens"),
    (272_000, "_above_272k_tokens"),
    (512_000, "_above_512k_tokens"),
];

/// Prices per unit: the file's key, the unit.
const UNITS: &[(&str, &str)] = &[
    ("output_cost_per_image", "images"),
    ("input_cost_per_character", "billable_characters"),
    ("input_cost_per_second", "audio_seconds"),
    ("input_cost_per_second", "transcription_seconds"),
    ("input_cost_per_query", "search_units"),
    ("ocr_cost_per_page", "ocr_pages"),
    ("annotation_cost_per_page", "annotated_pages"),
    ("output_cost_per_video_per_second", "video_seconds"),
    ("file_search_cost_per_1k_calls", "file_search"),
    ("code_interpreter_cost_per_session", "code_interpreter"),
];

/// The file's models.
#[derive(Debug, Default)]
pub struct LiteLlm {
    cards: HashMap<(String, String), Card>,
}

type Fields<'a> = BTreeMap<String, &'a RawValue>;

impl LiteLlm {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BadPrices> {
        let models: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(|_| BadPrices::NeitherKind)?;
        let mut list = Self::default();
        for (key, raw) in models {
            // The entry that explains the others.
            if key == "sample_spec" {
                continue;
            }
            let Ok(entry) = serde_json::from_str::<Fields<'_>>(raw.get()) else { continue };
            let Some(provider) = text(&entry, "litellm_provider") else { continue };
            let Some(card) = card(&key, &entry)? else { continue };
            let provider = catalogue_id(&provider);
            let model = key.split_once('/').map_or(key.as_str(), |(_, rest)| rest).to_ascii_lowercase();
            list.keep((provider.clone(), key.to_ascii_lowercase()), card.clone());
            list.keep((provider, model), card);
        }
        if list.cards.is_empty() { Err(BadPrices::NeitherKind) } else { Ok(list) }
    }

    /// Regions and resellers share a name here: the dearest counts, so that one that is free makes no other free.
    fn keep(&mut self, key: (String, String), card: Card) {
        let per_token = |card: &Card| card.tokens.map(|t| t.input.saturating_add(t.output));
        match self.cards.entry(key) {
            Entry::Occupied(mut known) if per_token(known.get()) < per_token(&card) => drop(known.insert(card)),
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(card)),
        }
    }

    /// The price list of a model at a provider.
    pub(super) fn card(&self, seller: Seller<'_>, model: &str) -> Option<&Card> {
        let model = model.to_ascii_lowercase();
        let of = |provider: &str| self.cards.get(&(provider.to_owned(), model.clone()));
        of(seller.catalogue).or_else(|| of(seller.id))
    }

    pub(super) fn len(&self) -> usize {
        self.cards.len()
    }

    /// Provider, model and what a million tokens of input and output cost.
    pub(super) fn prices(&self) -> impl Iterator<Item = (&str, &str, Pico, Pico)> {
        self.cards
            .iter()
            .filter_map(|(key, card)| Some((key, card.tokens?)))
            .map(|((provider, model), tokens)| (provider.as_str(), model.as_str(), tokens.input, tokens.output))
    }
}

fn catalogue_id(provider: &str) -> String {
    let known = PROVIDERS.iter().find(|(start, _)| provider.starts_with(start));
    known.map_or_else(|| provider.replace('_', "-"), |(_, id)| (*id).to_owned())
}

/// The entry's price list; nothing where it states no price at all.
fn card(model: &str, entry: &Fields<'_>) -> Result<Option<Card>, BadPrices> {
    let number = |key: &str, scale: i32| match entry.get(key).map(|raw| raw.get()) {
        None | Some("null") => Ok(None),
        Some(raw) => decimal(raw.trim_matches('"'), scale).map(Some).ok_or_else(|| BadPrices::BadNumber {
            model: model.to_owned(),
            key: key.to_owned(),
            value: raw.chars().take(40).collect(),
        }),
    };
    let rates = |suffix: &str, base: Option<TokenRates>| -> Result<Option<TokenRates>, BadPrices> {
        let token = |key: &str| number(&format!("{key}{suffix}"), PER_TOKEN);
        let (input, output) = (token("input_cost_per_token")?, token("output_cost_per_token")?);
        if input.is_none() && output.is_none() {
            return Ok(None);
        }
        // A rate that is missing is not zero: the other stands in for it.
        let (one, two) = (input.unwrap_or_default(), output.unwrap_or_default());
        let base = base.unwrap_or(TokenRates { input: two, output: one, ..TokenRates::default() });
        Ok(Some(TokenRates {
            input: input.unwrap_or(base.input),
            output: output.unwrap_or(base.output),
            cache_read: token("cache_read_input_token_cost")?.or(base.cache_read),
            cache_write: token("cache_creation_input_token_cost")?.or(base.cache_write),
            cache_write_1h: token("cache_creation_input_token_cost_above_1hr")?.or(base.cache_write_1h),
            input_audio: token("input_cost_per_audio_token")?.or(base.input_audio),
            output_audio: token("output_cost_per_audio_token")?.or(base.output_audio),
            output_image: token("output_cost_per_image_token")?.or(base.output_image),
        }))
    };
    let tokens = rates("", None)?;
    let mut tiers = Vec::new();
    for (start, suffix) in LONG {
        if let Some(long) = rates(suffix, tokens)? {
            tiers.push((*start, long));
        }
    }
    let mut per_unit = BTreeMap::new();
    for (key, unit) in UNITS {
        if let Some(price) = number(key, if key.ends_with("1k_calls") { PER_UNIT - 3 } else { PER_UNIT })? {
            per_unit.insert((*unit).to_owned(), price);
        }
    }
    let request = number("input_cost_per_request", PER_UNIT)?.unwrap_or_default();
    if tokens.is_none() && per_unit.is_empty() && request == Pico::ZERO {
        return Ok(None);
    }
    let count = |key: &str| entry.get(key).and_then(|raw| raw.get().trim_matches('"').parse::<u64>().ok());
    Ok(Some(Card {
        tokens,
        tiers,
        request,
        per_unit,
        context_window: count("max_input_tokens"),
        maximum_output: count("max_output_tokens"),
    }))
}

fn text(entry: &Fields<'_>, key: &str) -> Option<String> {
    serde_json::from_str(entry.get(key)?.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{Line, Usage};

    const FILE: &str = r#"{
        "sample_spec": {"litellm_provider": "one of", "input_cost_per_token": "text"},
        "venice/llama-9": {"litellm_provider": "venice", "mode": "chat", "max_input_tokens": 131072,
            "input_cost_per_token": 7e-07, "output_cost_per_token": 0.0000028,
            "input_cost_per_token_above_128k_tokens": 1.4e-06, "cache_read_input_token_cost": 7e-08},
        "xai/picture": {"litellm_provider": "xai", "output_cost_per_image": 0.07},
        "free/of-prices": {"litellm_provider": "free"}
    }"#;

    #[test]
    fn prices_keep_the_files_digits() {
        let list = LiteLlm::read(FILE.as_bytes()).unwrap();
        let card = list.card(Seller::from("venice"), "Llama-9").unwrap();
        assert_eq!(
            (card.tokens.unwrap().input.to_string(), card.tokens.unwrap().output.to_string()),
            ("0.7".into(), "2.8".into())
        );
        assert_eq!(card.tokens(128_001).unwrap().input.to_string(), "1.4");
        assert_eq!(card.tokens(128_001).unwrap().output.to_string(), "2.8");
        let usage = Usage { input_tokens: 3, input_uncached: 1, cache_read: 2, output_tokens: 1, ..Usage::default() };
        let line = Line { usage, ..Line::default() };
        assert_eq!(card.cost(&line).0, Pico::new(700_000 + 140_000 + 2_800_000));
        let picture = list.card(Seller { id: "xai", catalogue: "x-ai" }, "picture").unwrap();
        assert_eq!(picture.per_unit["images"].to_string(), "0.07");
        assert!(list.card(Seller::from("free"), "of-prices").is_none());
    }

    #[test]
    fn a_rate_that_is_missing_and_one_that_is_elsewhere_free_are_not_zero() {
        let file = r#"{
            "half": {"litellm_provider": "x", "input_cost_per_token": 2e-6},
            "m": {"litellm_provider": "vertex_ai", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6},
            "gemini/m": {"litellm_provider": "gemini", "input_cost_per_token": 0, "output_cost_per_token": 0}
        }"#;
        let list = LiteLlm::read(file.as_bytes()).unwrap();
        let output = |provider: &str, model| list.card(Seller::from(provider), model).unwrap().tokens.unwrap().output;
        assert_eq!(output("x", "half").to_string(), "2");
        assert_eq!(output("google", "m").to_string(), "4");
    }

    #[test]
    fn a_price_that_is_none_names_its_model() {
        for bad in ["-1e-6", "\"free\"", "1e9", "[1]"] {
            let file = format!(r#"{{"x/y": {{"litellm_provider": "x", "input_cost_per_token": {bad}}}}}"#);
            let error = LiteLlm::read(file.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("`input_cost_per_token` of x/y"), "{error}");
        }
    }
}
