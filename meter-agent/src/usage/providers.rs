//! The providers built in: one row each.
//!
//! A row names hosts, the catalogue's id and how the provider departs from its dialect; everything else about the
//! wire is the dialect's.

use super::{
    Dialect, anthropic::Anthropic, bedrock::Bedrock, cohere::Cohere, gemini::Gemini, ollama::Ollama, openai::OpenAi,
    others::Others, xai::Xai,
};

/// One provider.
pub struct Provider {
    /// As in the ledger.
    pub id: &'static str,
    /// Its id in the `genai-prices` catalogue, or its own where the catalogue has nothing of it: such a provider's models
    /// are priced by the table beside the catalogue, else as other sellers' and flagged.
    pub price_provider: &'static str,
    /// The dialect that is asked first; the host may speak others too.
    pub dialect: &'static dyn Dialect,
    /// Host names, lower case; a `*` takes one label or a part of one.
    pub hosts: &'static [&'static str],
    pub quirks: Quirks,
}

/// How a provider departs from the dialect that it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact about a provider by itself")]
pub struct Quirks {
    /// Takes `stream_options.include_usage` in Chat Completions and Completions.
    pub understands_stream_options: bool,
    /// `completion_tokens` leaves reasoning out (xAI's chat, Vercel's gateway).
    pub reasoning_excluded: bool,
    /// `completion_tokens` leaves out hidden thinking, which only the total shows (Gemini's compatible endpoint).
    pub thinking_in_total: bool,
    /// Most tokens that the provider puts before a chat's own messages, and bills with them (Venice's system prompt).
    pub preamble_tokens: u64,
    /// Runs on the user's own machines: costs nothing by itself.
    pub local: bool,
}

impl Quirks {
    /// The dialect as it is written down.
    pub const PLAIN: Self = Self {
        understands_stream_options: false,
        reasoning_excluded: false,
        thinking_in_total: false,
        preamble_tokens: 0,
        local: false,
    };
}

const PLAIN: Quirks = Quirks::PLAIN;
/// Plain, and can be asked for usage in streams.
const ASKED: Quirks = Quirks { understands_stream_options: true, ..PLAIN };
const LOCAL: Quirks = Quirks { local: true, ..ASKED };

/// A provider that speaks OpenAI's dialect and can be asked for usage.
const fn compatible(id: &'static str, price_provider: &'static str, hosts: &'static [&'static str]) -> Provider {
    Provider { id, price_provider, dialect: &OpenAi, hosts, quirks: ASKED }
}

/// Every provider built in. Adding one that speaks a dialect we have is a row here and nothing else; the
/// first row of a dialect is the one that hosts added by the config are priced as.
pub static PROVIDERS: &[Provider] = &[
    compatible("openai", "openai", &["api.openai.com", "eu.api.openai.com", "us.api.openai.com", "*.api.openai.com"]),
    Provider {
        id: "anthropic",
        price_provider: "anthropic",
        dialect: &Anthropic,
        hosts: &["api.anthropic.com"],
        quirks: ASKED,
    },
    Provider {
        id: "gemini",
        price_provider: "google",
        dialect: &Gemini,
        hosts: &["generativelanguage.googleapis.com"],
        quirks: Quirks { thinking_in_total: true, ..ASKED },
    },
    Provider {
        id: "vertex",
        price_provider: "google",
        dialect: &Gemini,
        hosts: &["aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com"],
        quirks: Quirks { thinking_in_total: true, ..ASKED },
    },
    compatible(
        "azure",
        "azure",
        &[
            "*.openai.azure.com",
            "*.cognitiveservices.azure.com",
            "*.services.ai.azure.com",
            "*.models.ai.azure.com",
            "*.*.models.ai.azure.com",
            "*.*.inference.ai.azure.com",
            "*.*.inference.ml.azure.com",
            "*.api.cognitive.microsoft.com",
            "*.openai.azure.us",
            "*.cognitiveservices.azure.us",
            "*.services.ai.azure.us",
            "*.openai.azure.cn",
            "*.cognitiveservices.azure.cn",
        ],
    ),
    Provider {
        id: "bedrock",
        price_provider: "aws",
        dialect: &Bedrock,
        hosts: &[
            "bedrock-runtime.*.amazonaws.com",
            "bedrock-runtime-fips.*.amazonaws.com",
            "bedrock-runtime.*.amazonaws.com.cn",
            "bedrock-runtime.*.api.aws",
            "bedrock-runtime-fips.*.api.aws",
            "*.bedrock-runtime.*.vpce.amazonaws.com",
        ],
        quirks: ASKED,
    },
    Provider {
        id: "bedrock-agent",
        price_provider: "aws",
        dialect: &Bedrock,
        hosts: &[
            "bedrock-agent-runtime.*.amazonaws.com",
            "bedrock-agent-runtime-fips.*.amazonaws.com",
            "bedrock-agent-runtime.*.api.aws",
            "*.bedrock-agent-runtime.*.vpce.amazonaws.com",
        ],
        quirks: PLAIN,
    },
    Provider {
        id: "bedrock-control",
        price_provider: "aws",
        dialect: &Bedrock,
        hosts: &["bedrock.*.amazonaws.com", "bedrock-fips.*.amazonaws.com", "bedrock.*.api.aws"],
        quirks: PLAIN,
    },
    // Speaks OpenAI's dialect and Anthropic's, on paths that are found whatever is asked first.
    Provider {
        id: "bedrock-mantle",
        price_provider: "aws",
        dialect: &Bedrock,
        hosts: &["bedrock-mantle.*.api.aws"],
        quirks: ASKED,
    },
    Provider {
        id: "sagemaker",
        price_provider: "aws",
        dialect: &Others,
        hosts: &["runtime.sagemaker.*.amazonaws.com", "runtime-fips.sagemaker.*.amazonaws.com"],
        quirks: PLAIN,
    },
    Provider {
        id: "xai",
        price_provider: "x-ai",
        dialect: &Xai,
        hosts: &["api.x.ai", "*.api.x.ai"],
        quirks: Quirks { reasoning_excluded: true, ..ASKED },
    },
    compatible("openrouter", "openrouter", &["openrouter.ai", "api.openrouter.ai", "eu.openrouter.ai"]),
    Provider {
        id: "vercel-gateway",
        price_provider: "vercel",
        dialect: &OpenAi,
        hosts: &["ai-gateway.vercel.sh"],
        quirks: Quirks { reasoning_excluded: true, ..ASKED },
    },
    Provider {
        id: "cohere",
        price_provider: "cohere",
        dialect: &Cohere,
        hosts: &["api.cohere.com", "api.cohere.ai"],
        quirks: ASKED,
    },
    Provider { id: "ollama", price_provider: "ollama", dialect: &Ollama, hosts: &[], quirks: LOCAL },
    Provider { id: "ollama-cloud", price_provider: "ollama", dialect: &Ollama, hosts: &["ollama.com"], quirks: ASKED },
    compatible("deepseek", "deepseek", &["api.deepseek.com"]),
    compatible("mistral", "mistral", &["api.mistral.ai", "codestral.mistral.ai"]),
    compatible("groq", "groq", &["api.groq.com"]),
    Provider {
        id: "perplexity",
        price_provider: "perplexity",
        dialect: &OpenAi,
        hosts: &["api.perplexity.ai"],
        quirks: PLAIN,
    },
    compatible("together", "together", &["api.together.ai", "api.together.xyz"]),
    compatible("fireworks", "fireworks", &["api.fireworks.ai"]),
    compatible("cerebras", "cerebras", &["api.cerebras.ai"]),
    compatible(
        "alibaba",
        "alibaba",
        &[
            "dashscope.aliyuncs.com",
            "dashscope-intl.aliyuncs.com",
            "dashscope-us.aliyuncs.com",
            "dashscope-finance.aliyuncs.com",
            "*.dashscope.aliyuncs.com",
        ],
    ),
    compatible("zai", "zai", &["api.z.ai"]),
    compatible("zhipuai", "zhipuai", &["open.bigmodel.cn"]),
    compatible("moonshotai", "moonshotai", &["api.moonshot.ai", "api.moonshot.cn"]),
    compatible("minimax", "minimax", &["api.minimax.io", "api.minimaxi.com"]),
    Provider {
        id: "venice",
        price_provider: "venice",
        dialect: &OpenAi,
        hosts: &["api.venice.ai"],
        quirks: Quirks { preamble_tokens: 2_048, ..ASKED },
    },
    compatible("doubleword", "doubleword", &["api.doubleword.ai"]),
    compatible("avian", "avian", &["api.avian.io"]),
    compatible("arcee", "arcee", &["api.arcee.ai"]),
    compatible("baseten", "baseten", &["inference.baseten.co"]),
    compatible("novita", "novita", &["api.novita.ai"]),
    compatible(
        "nebius",
        "huggingface_nebius",
        &[
            "api.studio.nebius.com",
            "api.studio.nebius.ai",
            "api.tokenfactory.nebius.com",
            "api.tokenfactory.*.nebius.com",
        ],
    ),
    compatible("deepinfra", "deepinfra", &["api.deepinfra.com"]),
    compatible("sambanova", "huggingface_sambanova", &["api.sambanova.ai"]),
    compatible("hyperbolic", "huggingface_hyperbolic", &["api.hyperbolic.xyz"]),
    compatible("nvidia", "nvidia", &["integrate.api.nvidia.com"]),
    compatible("ovhcloud", "ovhcloud", &["oai.endpoints.kepler.ai.cloud.ovh.net"]),
    compatible("crusoe", "crusoe", &["api.inference.crusoecloud.com"]),
    compatible("meta", "meta", &["api.meta.ai"]),
    compatible("quicksilverpro", "quicksilverpro", &["api.quicksilverpro.io"]),
    compatible("typesafe", "typesafe", &["api.typesafe.ai"]),
    // Speech and agents by paths of their own, which no dialect reads: held by a bound, settled as absent.
    Provider {
        id: "elevenlabs",
        price_provider: "elevenlabs",
        dialect: &OpenAi,
        hosts: &["api.elevenlabs.io", "api.us.elevenlabs.io", "api.*.residency.elevenlabs.io"],
        quirks: PLAIN,
    },
    Provider { id: "cursor", price_provider: "cursor", dialect: &OpenAi, hosts: &["api.cursor.com"], quirks: PLAIN },
    compatible("heroku", "heroku", &["us.inference.heroku.com", "eu.inference.heroku.com", "*.inference.heroku.com"]),
    compatible("huggingface-router", "huggingface", &["router.huggingface.co"]),
    Provider {
        id: "huggingface-inference",
        price_provider: "huggingface",
        dialect: &Others,
        hosts: &["api-inference.huggingface.co", "*.*.*.endpoints.huggingface.cloud"],
        quirks: PLAIN,
    },
    compatible(
        "github-copilot",
        "github-copilot",
        &["api.githubcopilot.com", "api.*.githubcopilot.com", "copilot-api.*.ghe.com"],
    ),
    compatible("github-models", "github-models", &["models.github.ai", "models.inference.ai.azure.com"]),
    compatible("chatgpt-codex", "openai", &["chatgpt.com"]),
    compatible(
        "databricks",
        "databricks",
        &[
            "*.azuredatabricks.net",
            "*.*.azuredatabricks.net",
            "*.cloud.databricks.com",
            "*.*.cloud.databricks.com",
            "*.gcp.databricks.com",
            "*.*.gcp.databricks.com",
            "*.*.databricks.azure.us",
            "*.*.databricks.azure.cn",
        ],
    ),
    compatible(
        "snowflake-cortex",
        "snowflake",
        &[
            "*.snowflakecomputing.com",
            "*.*.snowflakecomputing.com",
            "*.*.*.snowflakecomputing.com",
            "*.*.*.*.snowflakecomputing.com",
        ],
    ),
    Provider {
        id: "watsonx",
        price_provider: "watsonx",
        dialect: &Others,
        hosts: &["*.ml.cloud.ibm.com", "private.*.ml.cloud.ibm.com", "*.aws.wxai.ibm.com"],
        quirks: ASKED,
    },
    Provider {
        id: "cloudflare-workers-ai",
        price_provider: "cloudflare",
        dialect: &OpenAi,
        hosts: &["api.cloudflare.com"],
        quirks: PLAIN,
    },
    Provider {
        id: "voyage",
        price_provider: "voyageai",
        dialect: &OpenAi,
        hosts: &["api.voyageai.com"],
        quirks: PLAIN,
    },
    Provider { id: "writer", price_provider: "writer", dialect: &Others, hosts: &["api.writer.com"], quirks: ASKED },
    // Its paths go on as those of the providers behind it.
    compatible("cloudflare-gateway", "cloudflare-gateway", &["gateway.ai.cloudflare.com"]),
    compatible("portkey", "portkey", &["api.portkey.ai"]),
    compatible(
        "pydantic-gateway",
        "pydantic-gateway",
        &["gateway.pydantic.dev", "gateway-us.pydantic.dev", "gateway-eu.pydantic.dev"],
    ),
    Provider {
        id: "replicate",
        price_provider: "replicate",
        dialect: &Others,
        hosts: &["api.replicate.com", "streaming-api.svc.*.c.replicate.net"],
        quirks: PLAIN,
    },
    Provider {
        id: "deepgram",
        price_provider: "deepgram",
        dialect: &Others,
        hosts: &["api.deepgram.com", "api.eu.deepgram.com"],
        quirks: PLAIN,
    },
    Provider {
        id: "aleph-alpha",
        price_provider: "aleph-alpha",
        dialect: &Others,
        hosts: &["api.aleph-alpha.com"],
        quirks: PLAIN,
    },
    Provider { quirks: LOCAL, ..compatible("vllm", "vllm", &[]) },
    Provider { quirks: LOCAL, ..compatible("llama.cpp", "llama.cpp", &[]) },
    compatible("litellm-proxy", "litellm", &[]),
];

/// Gateways that name whom they ask in the path: the gateway's price list, the part of the path, whose prices count.
const ROUTES: &[(&str, &str, &str)] = &[
    ("huggingface", "cerebras", "huggingface_cerebras"),
    ("huggingface", "fireworks-ai", "huggingface_fireworks-ai"),
    ("huggingface", "groq", "huggingface_groq"),
    ("huggingface", "hyperbolic", "huggingface_hyperbolic"),
    ("huggingface", "nebius", "huggingface_nebius"),
    ("huggingface", "novita", "huggingface_novita"),
    ("huggingface", "nscale", "huggingface_nscale"),
    ("huggingface", "ovhcloud", "huggingface_ovhcloud"),
    ("huggingface", "publicai", "huggingface_publicai"),
    ("huggingface", "sambanova", "huggingface_sambanova"),
    ("huggingface", "together", "huggingface_together"),
    ("pydantic-gateway", "openai", "openai"),
    ("pydantic-gateway", "anthropic", "anthropic"),
    ("pydantic-gateway", "bedrock", "aws"),
    ("pydantic-gateway", "google-vertex", "google"),
    ("pydantic-gateway", "groq", "groq"),
];

/// Whose prices count for a call of that path.
pub fn priced_at<'p>(price_provider: &'p str, path: &str) -> &'p str {
    let mut parts = path.split('/').filter(|part| !part.is_empty() && *part != "proxy");
    let section = parts.next().unwrap_or("");
    let route = ROUTES.iter().find(|(gateway, part, _)| *gateway == price_provider && *part == section);
    route.map_or(price_provider, |(_, _, priced)| priced)
}

/// The provider of that id.
pub fn provider(id: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().find(|p| p.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Providers whose prices the catalogue does not have.
    const BESIDE_THE_CATALOGUE: &[&str] = &[
        "vercel",
        "ollama",
        "alibaba",
        "venice",
        "deepinfra",
        "nvidia",
        "crusoe",
        "heroku",
        "huggingface",
        "github-models",
        "snowflake",
        "watsonx",
        "writer",
        "portkey",
        "cloudflare-gateway",
        "pydantic-gateway",
        "replicate",
        "deepgram",
        "aleph-alpha",
        "vllm",
        "llama.cpp",
        "litellm",
    ];
    /// In the catalogue for the same host as another, which is asked; or for hosts that serve whatever their users
    /// deploy, which a config lists.
    const WITHOUT_A_ROW: &[&str] = &["openai-decisions", "modal"];

    #[test]
    fn every_price_list_is_the_catalogues_or_known_to_be_none() {
        let catalogue = genai_prices::Calculator::bundled();
        let listed: Vec<&str> = catalogue.providers().map(genai_prices::ProviderInfo::id).collect();
        for row in PROVIDERS {
            let beside = BESIDE_THE_CATALOGUE.contains(&row.price_provider);
            assert_ne!(beside, listed.contains(&row.price_provider), "{} as {}", row.id, row.price_provider);
        }
        for (_, _, priced) in ROUTES {
            assert!(listed.contains(priced), "{priced}");
        }
    }

    #[test]
    fn every_provider_of_the_catalogue_has_a_row_or_a_route() {
        for provider in genai_prices::Calculator::bundled().providers() {
            let id = provider.id();
            let has_row = PROVIDERS.iter().any(|row| row.price_provider == id);
            assert!(
                has_row || ROUTES.iter().any(|(_, _, priced)| *priced == id) || WITHOUT_A_ROW.contains(&id),
                "{id}"
            );
        }
    }

    #[test]
    fn a_gateways_path_says_whose_prices_count() {
        assert_eq!(priced_at("huggingface", "/together/v1/chat/completions"), "huggingface_together");
        assert_eq!(priced_at("huggingface", "/v1/chat/completions"), "huggingface");
        assert_eq!(priced_at("pydantic-gateway", "/proxy/openai/responses"), "openai");
        assert_eq!(priced_at("pydantic-gateway", "/bedrock/model/amazon.nova-micro-v1%3A0/converse"), "aws");
        assert_eq!(priced_at("openai", "/together/v1/chat/completions"), "openai");
    }
}
