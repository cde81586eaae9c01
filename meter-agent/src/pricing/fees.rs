//! What the catalogue has no price for: calls of tools, and units that are not tokens.
//!
//! A dated table of list prices, each row with the page that it is from and the month in which the figure was last
//! seen there or in a dated copy of it. `unconfirmed` says that no copy showed the figure: it is then the dearest
//! plausible one. The longest fit of model and variant wins, the latest row in force first. What fits no row costs
//! [`DEAREST`], and is flagged by whoever asks.

use crate::{clock::Timestamp, money::Pico};

/// One price per call or per unit.
pub(super) struct Fee {
    /// The catalogue's id of the provider.
    provider: &'static str,
    /// How the model's name starts; empty for every model.
    model: &'static str,
    /// A tool's or a unit's name.
    pub(super) what: &'static str,
    /// Words of the variant that select the row (`hd/1024x1792`); empty for any.
    variant: &'static str,
    pub(super) price: Pico,
    /// How often it is charged within one exchange.
    pub(super) per: Per,
    /// In force from here on.
    since: Timestamp,
    pub(super) source: &'static str,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Per {
    /// Every call or unit.
    Each,
    /// An exchange that has any. A session that serves several exchanges is charged in each of them: an upper bound.
    Exchange,
}

/// 2025-01-01, before anything that is metered.
const ALWAYS: Timestamp = Timestamp::from_micros(1_735_689_600_000_000);
/// 2026-10-07, the first day on which Perplexity's new prices were seen.
const PERPLEXITY_SINCE: Timestamp = Timestamp::from_micros(1_791_331_200_000_000);

const OPENAI: &str = "developers.openai.com/api/docs/pricing, 2026-03";
/// Tools and sounds that no dated copy of the page shows.
const OPENAI_UNCONFIRMED: &str = "developers.openai.com/api/docs/pricing, unconfirmed";
const OPENAI_COPIED: &str = "developers.openai.com/api/docs/pricing as in LiteLLM's price file, 2026-11";
const SORA: &str = "developers.openai.com/api/docs/pricing, 2026-07 (withdrawn on 2026-09-24)";
/// The page fills its figures in by region, so that no copy shows them.
const AZURE: &str = "azure.microsoft.com/pricing/details/azure-openai, unconfirmed";
const GEMINI: &str = "ai.google.dev/gemini-api/docs/pricing, 2026-09";
const GEMINI_4: &str = "ai.google.dev/gemini-api/docs/pricing, 2026-10";
const GEMINI_UNCONFIRMED: &str = "ai.google.dev/gemini-api/docs/pricing, unconfirmed";
const VERTEX: &str = "cloud.google.com/vertex-ai/generative-ai/pricing, unconfirmed";
const ANTHROPIC: &str = "platform.claude.com/docs/en/about-claude/pricing, 2026-11";
const XAI: &str = "docs.x.ai/developers/pricing, 2026-11";
const XAI_UNCONFIRMED: &str = "docs.x.ai/developers/models, unconfirmed";
const COHERE: &str = "cohere.com/pricing, 2026-06";
const MISTRAL: &str = "mistral.ai/pricing, unconfirmed";
const GROQ: &str = "groq.com/pricing, unconfirmed";
const DEEPGRAM: &str = "deepgram.com/pricing, 2026-08";
const DEEPGRAM_UNCONFIRMED: &str = "deepgram.com/pricing, unconfirmed";
const ELEVENLABS: &str = "elevenlabs.io/pricing/api, unconfirmed";
const PERPLEXITY: &str = "docs.perplexity.ai/guides/pricing, 2026-09";
const PERPLEXITY_NOW: &str = "docs.perplexity.ai/docs/getting-started/pricing, 2026-10";
const MOONSHOT: &str = "platform.kimi.ai/docs/pricing/tools, 2026";

/// Pico-dollars of so many micro-dollars.
const fn micro(usd: i64) -> Pico {
    Pico::new(usd * 1_000_000)
}

const fn each(
    provider: &'static str,
    model: &'static str,
    what: &'static str,
    variant: &'static str,
    price: Pico,
    source: &'static str,
) -> Fee {
    Fee { provider, model, what, variant, price, per: Per::Each, since: ALWAYS, source }
}

const fn session(provider: &'static str, what: &'static str, price: Pico, source: &'static str) -> Fee {
    Fee { provider, model: "", what, variant: "", price, per: Per::Exchange, since: ALWAYS, source }
}

/// Every row, without an order that matters.
static FEES: &[Fee] = &[
    // Tools that run at the provider.
    each("openai", "", "web_search", "", micro(10_000), OPENAI),
    each("openai", "gpt-4o-search", "web_search", "", micro(25_000), OPENAI),
    each("openai", "gpt-4o-mini-search", "web_search", "", micro(25_000), OPENAI),
    each("openai", "", "file_search", "", micro(2_500), OPENAI),
    // Of a container of 1 GB, the default; the larger ones cost more.
    session("openai", "code_interpreter", micro(30_000), OPENAI_COPIED),
    session("openai", "shell", micro(30_000), OPENAI_COPIED),
    // Its tokens are on no answer, so that the dearest image (high, 1024x1536) bounds each.
    each("openai", "", "image_generation", "", micro(250_000), OPENAI_UNCONFIRMED),
    each("azure", "", "web_search", "", micro(14_000), AZURE),
    each("azure", "", "file_search", "", micro(2_500), AZURE),
    session("azure", "code_interpreter", micro(33_000), AZURE),
    session("azure", "shell", micro(33_000), AZURE),
    each("azure", "", "image_generation", "", micro(250_000), AZURE),
    each("aws", "openai.", "web_search", "", micro(10_000), OPENAI),
    each("anthropic", "", "web_search", "", micro(10_000), ANTHROPIC),
    // By the hour of a container beyond 1,550 free ones a month, at least five minutes.
    session("anthropic", "code_interpreter", Pico::ZERO, ANTHROPIC),
    session("anthropic", "code_execution", Pico::ZERO, ANTHROPIC),
    each("google", "", "google_search", "", micro(35_000), GEMINI),
    each("google", "gemini-3", "google_search", "", micro(14_000), GEMINI),
    each("google", "gemini-4", "google_search", "", micro(14_000), GEMINI_4),
    each("google", "", "web_search", "", micro(35_000), VERTEX),
    each("google", "claude", "web_search", "", micro(10_000), VERTEX),
    each("google", "", "google_maps", "", micro(25_000), GEMINI_4),
    each("google", "gemini-3", "google_maps", "", micro(14_000), GEMINI_4),
    each("google", "gemini-4", "google_maps", "", micro(14_000), GEMINI_4),
    each("google", "", "file_search", "", Pico::ZERO, GEMINI),
    session("google", "code_interpreter", Pico::ZERO, GEMINI),
    session("google", "code_execution", Pico::ZERO, GEMINI),
    each("x-ai", "", "web_search", "", micro(5_000), XAI),
    each("x-ai", "", "x_search", "", micro(5_000), XAI),
    each("x-ai", "", "code_interpreter", "", micro(5_000), XAI),
    each("x-ai", "", "code_execution", "", micro(5_000), XAI),
    each("x-ai", "", "collections_search", "", micro(2_500), XAI),
    each("x-ai", "", "attachment_search", "", micro(10_000), XAI),
    each("x-ai", "", "file_search", "", micro(2_500), XAI),
    each("mistral", "", "web_search", "", micro(30_000), MISTRAL),
    each("mistral", "", "code_interpreter", "", micro(30_000), MISTRAL),
    each("mistral", "", "image_generation", "", micro(100_000), MISTRAL),
    each("mistral", "", "file_search", "", micro(10_000), MISTRAL),
    each("groq", "", "web_search", "", micro(8_000), GROQ),
    session("groq", "code_interpreter", micro(15_000), GROQ),
    each("perplexity", "", "web_search", "", micro(5_000), PERPLEXITY),
    Fee { since: PERPLEXITY_SINCE, ..each("perplexity", "", "web_search", "", micro(2_500), PERPLEXITY_NOW) },
    each("perplexity", "", "image_search", "", micro(2_500), PERPLEXITY_NOW),
    each("perplexity", "", "people_search", "", micro(5_000), PERPLEXITY_NOW),
    each("perplexity", "", "finance_search", "", micro(5_000), PERPLEXITY_NOW),
    each("perplexity", "", "fetch_url", "", micro(500), PERPLEXITY_NOW),
    session("perplexity", "code_interpreter", micro(30_000), PERPLEXITY),
    session("perplexity", "sandbox", micro(30_000), PERPLEXITY),
    each("moonshotai", "", "web_search", "", micro(5_000), MOONSHOT),
    // Images, by model and variant.
    each("openai", "dall-e-3", "images", "", micro(40_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-3", "images", "1024x1792", micro(80_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-3", "images", "1792x1024", micro(80_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-3", "images", "hd", micro(80_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-3", "images", "hd/1024x1792", micro(120_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-3", "images", "hd/1792x1024", micro(120_000), OPENAI_UNCONFIRMED),
    each("openai", "dall-e-2", "images", "", micro(20_000), OPENAI_COPIED),
    each("openai", "dall-e-2", "images", "512x512", micro(18_000), OPENAI_COPIED),
    each("openai", "dall-e-2", "images", "256x256", micro(16_000), OPENAI_COPIED),
    each("openai", "gpt-image-1", "images", "", micro(250_000), OPENAI_UNCONFIRMED),
    each("openai", "gpt-image-1", "images", "medium", micro(63_000), OPENAI_UNCONFIRMED),
    each("openai", "gpt-image-1", "images", "low", micro(16_000), OPENAI_UNCONFIRMED),
    each("openai", "gpt-image-1-mini", "images", "", micro(52_000), OPENAI_UNCONFIRMED),
    each("openai", "gpt-image", "images", "", micro(250_000), OPENAI_UNCONFIRMED),
    each("x-ai", "", "images", "", micro(70_000), XAI_UNCONFIRMED),
    each("x-ai", "grok-imagine-image", "images", "", micro(20_000), XAI_UNCONFIRMED),
    each("x-ai", "grok-imagine-image-pro", "images", "", micro(70_000), XAI_UNCONFIRMED),
    each("x-ai", "grok-imagine-image-quality", "images", "", micro(70_000), XAI_UNCONFIRMED),
    each("google", "imagen", "images", "", micro(60_000), VERTEX),
    each("google", "imagen-3.0-generate", "images", "", micro(40_000), VERTEX),
    each("google", "imagen-3.0-fast", "images", "", micro(20_000), VERTEX),
    each("google", "imagen-4.0-generate", "images", "", micro(40_000), VERTEX),
    each("google", "imagen-4.0-fast", "images", "", micro(20_000), VERTEX),
    each("google", "imagegeneration", "images", "", micro(20_000), VERTEX),
    each("google", "gemini", "images", "", micro(240_000), GEMINI),
    // Speech and sound, video.
    each("openai", "gpt-4o-mini-tts", "billable_characters", "", micro(30), OPENAI_UNCONFIRMED),
    each("openai", "", "billable_characters", "", micro(30), OPENAI_UNCONFIRMED),
    each("openai", "", "audio_seconds", "", micro(100), OPENAI_COPIED),
    each("openai", "", "transcription_seconds", "", micro(100), OPENAI_COPIED),
    each("openai", "sora-2", "video_seconds", "", micro(100_000), SORA),
    // 0.30 at 720p and 0.50 at 1024p; the figure of 1080p is unconfirmed.
    each("openai", "sora-2-pro", "video_seconds", "", micro(700_000), SORA),
    each("azure", "", "billable_characters", "", micro(30), AZURE),
    each("azure", "", "audio_seconds", "", micro(100), AZURE),
    each("azure", "", "transcription_seconds", "", micro(100), AZURE),
    each("google", "veo-2", "video_seconds", "", micro(500_000), VERTEX),
    each("google", "veo-3", "video_seconds", "", micro(600_000), GEMINI),
    // The hour of $4.80 that the catalogue has for its voice models.
    each("x-ai", "", "billable_audio_seconds", "", Pico::new(1_333_333_334), XAI_UNCONFIRMED),
    // $4.20 per million characters in 2026-04; resellers' prices since then stand for $15.
    each("x-ai", "", "billable_characters", "", micro(15), XAI_UNCONFIRMED),
    // The old "enhanced" models are the dearest.
    each("deepgram", "", "audio_seconds", "", micro(275), DEEPGRAM_UNCONFIRMED),
    // Several languages, recorded before: $0.0092 a minute.
    each("deepgram", "nova", "audio_seconds", "", Pico::new(153_333_334), DEEPGRAM),
    each("deepgram", "flux", "audio_seconds", "", micro(130), DEEPGRAM),
    each("deepgram", "", "billable_characters", "", micro(30), DEEPGRAM),
    each("deepgram", "aura-", "billable_characters", "", micro(15), DEEPGRAM),
    each("deepgram", "aura-2", "billable_characters", "", micro(30), DEEPGRAM),
    each("elevenlabs", "", "billable_characters", "", micro(300), ELEVENLABS),
    // Cohere's reranking, by the search of up to 100 documents.
    each("cohere", "", "search_units", "", micro(2_500), COHERE),
    each("cohere", "rerank-v3", "search_units", "", micro(2_000), COHERE),
    each("cohere", "rerank-english", "search_units", "", micro(2_000), COHERE),
    each("cohere", "rerank-multilingual", "search_units", "", micro(2_000), COHERE),
    each("cohere", "", "images", "", micro(100), "cohere.com/pricing, unconfirmed"),
    // Cached input by the token and hour, for the hour that is the default.
    each("google", "", "cache_storage_tokens", "", Pico::new(4_500_000), GEMINI_UNCONFIRMED),
    each("google", "gemini-2.5-flash", "cache_storage_tokens", "", micro(1), GEMINI_UNCONFIRMED),
    each("google", "gemini-2.0-flash", "cache_storage_tokens", "", micro(1), GEMINI_UNCONFIRMED),
    each("google", "gemini-3-flash", "cache_storage_tokens", "", micro(1), GEMINI_UNCONFIRMED),
];

/// Tools that cost no more than the tokens they bring along, wherever they run.
const FREE_TOOLS: &[&str] = &["web_fetch", "mcp", "url_context", "tool_search", "memory", "computer"];

/// Dearest price on any list for a thing of that name; the last row is for every other.
const DEAREST: &[(&str, Pico)] = &[
    ("images", micro(250_000)),
    ("audio_seconds", micro(1_000)),
    ("transcription_seconds", micro(1_000)),
    ("billable_audio_seconds", micro(1_500)),
    ("video_seconds", micro(750_000)),
    ("billable_characters", micro(300)),
    ("ocr_pages", micro(10_000)),
    ("annotated_pages", micro(10_000)),
    ("search_units", micro(2_500)),
    ("cache_storage_tokens", Pico::new(4_500_000)),
    ("image_generation", micro(250_000)),
    ("", micro(35_000)),
];

/// The row for a tool or unit, if there is one.
pub(super) fn fee(
    provider: &str,
    model: &str,
    what: &str,
    variant: Option<&str>,
    at: Timestamp,
) -> Option<&'static Fee> {
    let asked: Vec<&str> = variant.unwrap_or("").split('/').collect();
    let fits = |fee: &&Fee| {
        fee.provider == provider
            && fee.what == what
            && model.starts_with(fee.model)
            && (fee.variant.is_empty() || fee.variant.split('/').all(|word| asked.contains(&word)))
            // What is older than the table has its first prices.
            && (fee.since <= at || fee.since == ALWAYS)
    };
    // A variant that is not known may be any: the dearest of the model's rows.
    let rows = FEES.iter().filter(fits);
    rows.max_by_key(|fee| (fee.model.len(), fee.variant.len(), fee.since))
}

/// Whether a tool costs nothing by itself.
pub(super) fn is_free_tool(name: &str) -> bool {
    FREE_TOOLS.contains(&name)
}

/// The dearest price of such a thing anywhere.
pub(super) fn dearest(what: &str) -> Pico {
    let row = DEAREST.iter().find(|(name, _)| *name == what).or(DEAREST.last());
    row.map_or(Pico::ZERO, |(_, price)| *price)
}

/// The rows of a provider and model, for people.
pub(super) fn of_model(provider: &str, model: &str) -> impl Iterator<Item = &'static Fee> {
    FEES.iter().filter(move |fee| {
        fee.provider == provider && model.starts_with(fee.model) && fee_is_best(fee, provider, model)
    })
}

fn fee_is_best(row: &Fee, provider: &str, model: &str) -> bool {
    let longest = FEES
        .iter()
        .filter(|f| f.provider == provider && f.what == row.what && model.starts_with(f.model))
        .map(|f| f.model.len())
        .max();
    longest == Some(row.model.len())
}

impl Fee {
    /// What it comes with: `hd/1024x1792`, or nothing.
    pub(super) fn variant(&self) -> Option<&'static str> {
        (!self.variant.is_empty()).then_some(self.variant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);

    fn price(provider: &str, model: &str, what: &str, variant: Option<&str>) -> Option<Pico> {
        fee(provider, model, what, variant, AT).map(|f| f.price)
    }

    #[test]
    fn the_longest_fit_of_model_and_variant_wins() {
        assert_eq!(price("openai", "dall-e-3", "images", Some("standard/1024x1024")), Some(micro(40_000)));
        assert_eq!(price("openai", "dall-e-3", "images", Some("hd/1024x1792")), Some(micro(120_000)));
        assert_eq!(price("openai", "dall-e-3", "images", Some("hd/1024x1024")), Some(micro(80_000)));
        assert_eq!(price("openai", "dall-e-2", "images", Some("256x256")), Some(micro(16_000)));
        assert_eq!(price("cohere", "rerank-v3.5", "search_units", None), Some(micro(2_000)));
        assert_eq!(price("google", "gemini-3-pro", "google_maps", None), Some(micro(14_000)));
        assert_eq!(price("deepgram", "aura-asteria-en", "billable_characters", None), Some(micro(15)));
        assert_eq!(price("deepgram", "aura-2-thalia-en", "billable_characters", None), Some(micro(30)));
        assert_eq!(price("nobody", "x", "images", None), None);
    }

    #[test]
    fn the_latest_row_in_force_counts() {
        let at = |micros| fee("perplexity", "sonar", "web_search", None, Timestamp::from_micros(micros)).unwrap().price;
        let since = PERPLEXITY_SINCE.micros();
        assert_eq!((at(since - 1), at(since)), (micro(5_000), micro(2_500)));
        assert_eq!(PERPLEXITY_SINCE.rfc3339().get(..10), Some("2026-10-07"));
    }

    #[test]
    fn every_row_says_when_it_was_seen_or_that_it_was_not() {
        for row in FEES {
            let dated = row.source.contains(", 20") || row.source.ends_with(", unconfirmed");
            assert!(dated, "{} {} {}: {}", row.provider, row.model, row.what, row.source);
        }
    }

    #[test]
    fn no_default_is_below_a_row_of_its_name() {
        for row in FEES {
            assert!(dearest(row.what) >= row.price, "{} {} {}", row.provider, row.model, row.what);
        }
    }
}
