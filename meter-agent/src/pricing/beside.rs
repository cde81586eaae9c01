//! Models that a provider sells and the catalogue lacks: token prices, each row with where it was read and when.
//!
//! Asked after the catalogue and an imported list, so that a row is dead once they have the model. Rows are of
//! models that are met in practice; whatever is not here is charged at its provider's dearest price. Not here because
//! no price per token is published: Ollama's cloud (by subscription), Snowflake (by credits of a contract), Cohere's
//! Command A Reasoning and Command A+, embeddings at GitHub Copilot.

use std::sync::LazyLock;

use super::card::{Card, TokenRates};
use crate::money::Pico;

/// One model of one provider.
struct Row {
    /// The catalogue's id of the provider, or its own where the catalogue has nothing of it.
    provider: &'static str,
    /// The model's name without its maker, region and version.
    model: &'static str,
    card: Card,
    source: &'static str,
}

/// Input and output, in thousandths of a cent per million tokens.
fn row(provider: &'static str, model: &'static str, [input, output]: [i64; 2], source: &'static str) -> Row {
    let card = Card { tokens: Some(rates([input, output])), ..Card::default() };
    Row { provider, model, card, source }
}

/// The same, with other rates above some inputs.
fn tiered(row: Row, tiers: &[(u64, [i64; 2])]) -> Row {
    let tiers = tiers.iter().map(|(start, prices)| (*start, rates(*prices))).collect();
    Row { card: Card { tiers, ..row.card }, ..row }
}

fn rates([input, output]: [i64; 2]) -> TokenRates {
    const UNIT: i64 = Pico::USD / 100_000;
    TokenRates { input: Pico::new(input * UNIT), output: Pico::new(output * UNIT), ..TokenRates::default() }
}

const AWS: &str = "aws.amazon.com/bedrock/pricing as in LiteLLM's price file, 2026-11";
/// AWS's page shows no figure to a reader; others' copies of it agree.
const AWS_OLD: &str = "aws.amazon.com/bedrock/pricing as copied by others, 2025-01";
const DATABRICKS: &str =
    "databricks.com/product/pricing/proprietary-foundation-model-serving as in LiteLLM's price file, 2026-11";
const VENICE: &str = "docs.venice.ai/overview/pricing, 2026-11";
const ZAI: &str = "docs.z.ai/guides/overview/pricing as in LiteLLM's price file, 2026-11";
const QWEN: &str = "alibabacloud.com/help/en/model-studio/models (international), 2026-05";
const VOYAGE: &str = "docs.voyageai.com/docs/pricing as in LiteLLM's price file, 2026-11";
const WATSONX: &str = "ibm.com/products/watsonx-ai/pricing as in LiteLLM's price file, 2026-11";
const WRITER: &str = "Palmyra X4 as AWS lists it, 2026-11; unconfirmed for Writer's own API";

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    vec![
        row("aws", "claude-v2", [800_000, 2_400_000], AWS_OLD),
        row("aws", "claude-v1", [800_000, 2_400_000], AWS_OLD),
        row("aws", "claude-instant-v1", [80_000, 240_000], AWS_OLD),
        row("aws", "command-text-v14", [150_000, 200_000], AWS_OLD),
        row("aws", "command-light-text-v14", [30_000, 60_000], AWS_OLD),
        row("aws", "llama2-13b-chat-v1", [75_000, 100_000], AWS_OLD),
        row("aws", "llama2-70b-chat-v1", [195_000, 256_000], AWS_OLD),
        row("aws", "command-r-v1", [50_000, 150_000], AWS),
        row("aws", "jamba-1-5-mini-v1", [20_000, 40_000], AWS),
        row("aws", "jamba-1-5-large-v1", [200_000, 800_000], AWS),
        row("aws", "palmyra-x4-v1", [250_000, 1_000_000], AWS),
        row("aws", "palmyra-x5-v1", [60_000, 600_000], AWS),
        row("aws", "gpt-oss-20b", [7_500, 30_000], AWS),
        row("writer", "palmyra-x4", [250_000, 1_000_000], WRITER),
        tiered(
            row("alibaba", "qwen3-max", [120_000, 600_000], QWEN),
            &[(32_000, [240_000, 1_200_000]), (128_000, [300_000, 1_500_000])],
        ),
        // Billed in units of $0.07, which are not whole cents of a million tokens.
        row("databricks", "databricks-claude-3-7-sonnet", [299_999, 1_500_002], DATABRICKS),
        row("databricks", "databricks-claude-sonnet-4", [299_999, 1_500_002], DATABRICKS),
        row("databricks", "databricks-claude-sonnet-4-1", [299_999, 1_500_002], DATABRICKS),
        row("databricks", "databricks-claude-sonnet-4-5", [299_999, 1_500_002], DATABRICKS),
        row("voyageai", "rerank-2", [5_000, 0], VOYAGE),
        row("voyageai", "rerank-2-lite", [2_000, 0], VOYAGE),
        row("voyageai", "rerank-2.5", [5_000, 0], VOYAGE),
        row("voyageai", "rerank-2.5-lite", [2_000, 0], VOYAGE),
        row("watsonx", "llama-3-3-70b-instruct", [71_000, 71_000], WATSONX),
        row("watsonx", "llama-3-2-11b-vision-instruct", [35_000, 35_000], WATSONX),
        row("watsonx", "llama-3-2-90b-vision-instruct", [200_000, 200_000], WATSONX),
        row("watsonx", "granite-3-3-8b-instruct", [20_000, 20_000], WATSONX),
        row("watsonx", "granite-3-8b-instruct", [20_000, 20_000], WATSONX),
        row("watsonx", "granite-4-h-small", [6_000, 25_000], WATSONX),
        row("watsonx", "mistral-medium-2505", [300_000, 1_000_000], WATSONX),
        row("watsonx", "mistral-large", [300_000, 1_000_000], WATSONX),
        row("watsonx", "gpt-oss-120b", [15_000, 60_000], WATSONX),
        row("zai", "glm-4.7-flash", [0, 0], ZAI),
        row("zai", "glm-4.5-flash", [0, 0], ZAI),
        // The page rounds to cents; a quarter above $0.075, as its other prices are above their makers'.
        row("venice", "mistral-small-3-2-24b-instruct", [9_375, 25_000], VENICE),
        row("venice", "qwen3-5-9b", [10_000, 15_000], VENICE),
        row("venice", "text-embedding-qwen3-0-6b", [1_250, 0], VENICE),
    ]
});

/// The card of a model and where it was read.
pub(super) fn card(provider: &str, model: &str) -> Option<(&'static Card, &'static str)> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let fits = |row: &&Row| row.provider == provider && is_of(name, row.model);
    ROWS.iter().filter(fits).max_by_key(|row| row.model.len()).map(|row| (&row.card, row.source))
}

/// Whether `name` is `model`, perhaps with makers and regions before it and a version behind.
fn is_of(name: &str, model: &str) -> bool {
    let Some(at) = name.to_ascii_lowercase().find(model) else { return false };
    let starts = at == 0 || name.as_bytes()[at - 1] == b'.';
    let rest = &name[at + model.len()..];
    starts && (rest.is_empty() || rest.starts_with([':', '@']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_behind_regions_and_before_versions_only() {
        for name in ["anthropic.claude-v2", "anthropic.claude-v2:1", "us.anthropic.claude-v2:1:200k", "claude-v2"] {
            assert_eq!(card("aws", name).unwrap().0.tokens.unwrap().output, Pico::new(24 * Pico::USD), "{name}");
        }
        assert!(card("aws", "anthropic.claude-v2-5").is_none() && card("aws", "not-claude-v2").is_none());
        assert!(card("zai", "glm-4.7-flashx").is_none() && card("openai", "glm-4.7-flash").is_none());
    }
}
