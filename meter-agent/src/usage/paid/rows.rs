//! The paid APIs built in: one row each, with where its prices were read.

use super::{Api, ApiCall, WEB_SEARCH};
use crate::money::Pico;

/// Pico-dollars of so many micro-dollars.
const fn micro(usd: i64) -> Pico {
    Pico::new(usd * 1_000_000)
}

/// A call at a fixed price.
const fn call(
    name: &'static str,
    path: &'static str,
    unit: &'static str,
    price: Pico,
    source: &'static str,
) -> ApiCall {
    ApiCall {
        name,
        path,
        by_get: false,
        unit,
        price,
        each: 1,
        most: 1,
        pointers: &[],
        charge: None,
        more: &[],
        limit: None,
        source,
    }
}

const TAVILY: &str = "docs.tavily.com/documentation/api-credits, 2026-11";
const EXA: &str = "exa.ai/docs/reference/pricing, 2026-11";
const BRAVE: &str = "api-dashboard.search.brave.com/app/plans, 2026-11";
const SERPER: &str = "serper.dev (50,000 credits for $50), 2026-08";
const SERPAPI: &str = "serpapi.com/pricing ($25 for 1,000 searches, the dearest plan), 2026";
const FIRECRAWL: &str = "firecrawl.dev/pricing ($16 for 3,000 credits), 2026";
const JINA: &str = "jina.ai/reader ($50 for a billion tokens), unconfirmed";

/// A credit of Tavily, pay as you go.
const TAVILY_CREDIT: Pico = micro(8_000);
const TAVILY_CREDITS: &[&str] = &["/usage/credits"];
/// A credit of Firecrawl's smallest plan.
const FIRECRAWL_CREDIT: Pico = Pico::new(5_333_333_334);
const FIRECRAWL_CREDITS: &[&str] = &["/creditsUsed", "/data/metadata/creditsUsed", "/metadata/creditsUsed"];
/// A token of Jina's.
const JINA_TOKEN: Pico = Pico::new(50_000);
const JINA_TOKENS: &[&str] = &["/usage/total_tokens", "/data/usage/tokens", "/usage/tokens", "/meta/usage/tokens"];

const fn exa(name: &'static str, path: &'static str, unit: &'static str, price: Pico) -> ApiCall {
    ApiCall { charge: Some("/costDollars/total"), ..call(name, path, unit, price, EXA) }
}

const fn firecrawl(name: &'static str, path: &'static str, each: u64, most: u64) -> ApiCall {
    let plain = call(name, path, "credits", FIRECRAWL_CREDIT, FIRECRAWL);
    ApiCall { each, most, pointers: FIRECRAWL_CREDITS, ..plain }
}

const fn jina(name: &'static str, path: &'static str, most: u64) -> ApiCall {
    let plain = call(name, path, "tokens", JINA_TOKEN, JINA);
    ApiCall { by_get: true, each: most, most, pointers: JINA_TOKENS, ..plain }
}

/// Every paid API built in. Adding one is a row here.
pub static APIS: &[Api] = &[
    Api {
        id: "tavily",
        hosts: &["api.tavily.com"],
        category: WEB_SEARCH,
        calls: &[
            ApiCall {
                most: 2,
                pointers: TAVILY_CREDITS,
                more: &[("/search_depth", "advanced", 2), ("/auto_parameters", "true", 2)],
                ..call("search", "*/search", "credits", TAVILY_CREDIT, TAVILY)
            },
            ApiCall {
                each: 8,
                most: 8,
                pointers: TAVILY_CREDITS,
                ..call("extract", "*/extract", "credits", TAVILY_CREDIT, TAVILY)
            },
            ApiCall {
                each: 60,
                most: 250,
                pointers: TAVILY_CREDITS,
                ..call("crawl", "*/crawl", "credits", TAVILY_CREDIT, TAVILY)
            },
            ApiCall {
                each: 20,
                most: 100,
                pointers: TAVILY_CREDITS,
                ..call("map", "*/map", "credits", TAVILY_CREDIT, TAVILY)
            },
            ApiCall {
                each: 250,
                most: 250,
                pointers: TAVILY_CREDITS,
                ..call("research", "*/research", "credits", TAVILY_CREDIT, TAVILY)
            },
        ],
    },
    Api {
        id: "exa",
        hosts: &["api.exa.ai"],
        category: WEB_SEARCH,
        calls: &[
            ApiCall { most: 15, each: 3, ..exa("search", "*/search", "searches", micro(7_000)) },
            ApiCall { most: 100, each: 10, ..exa("contents", "*/contents", "pages", micro(1_000)) },
            ApiCall { most: 15, each: 3, ..exa("find_similar", "*/findSimilar", "searches", micro(7_000)) },
            ApiCall { most: 3, ..exa("answer", "*/answer", "answers", micro(5_000)) },
            ApiCall { ..exa("agent_run", "*/agent/runs", "runs", micro(5_000_000)) },
            ApiCall { ..exa("research", "*/research*", "runs", micro(5_000_000)) },
        ],
    },
    Api {
        id: "brave",
        hosts: &["api.search.brave.com"],
        category: WEB_SEARCH,
        calls: &[
            // $4 for a thousand and $5 for a million tokens, of which the answer states nothing that is read here:
            // those of 10,000 are taken.
            call("answer", "*/chat/completions", "answers", micro(54_000), BRAVE),
            ApiCall { by_get: true, ..call("suggest", "/res/v1/suggest*", "suggestions", micro(500), BRAVE) },
            ApiCall { by_get: true, ..call("spellcheck", "/res/v1/spellcheck*", "spellings", micro(500), BRAVE) },
            ApiCall { by_get: true, ..call("search", "/res/v1/*", "searches", micro(5_000), BRAVE) },
        ],
    },
    Api {
        id: "serper",
        hosts: &["google.serper.dev", "scrape.serper.dev"],
        category: WEB_SEARCH,
        calls: &[ApiCall {
            by_get: true,
            most: 10,
            pointers: &["/credits"],
            ..call("search", "*", "credits", micro(1_000), SERPER)
        }],
    },
    Api {
        id: "serpapi",
        hosts: &["serpapi.com"],
        category: WEB_SEARCH,
        calls: &[ApiCall { by_get: true, ..call("search", "/search*", "searches", micro(25_000), SERPAPI) }],
    },
    Api {
        id: "firecrawl",
        hosts: &["api.firecrawl.dev"],
        category: WEB_SEARCH,
        calls: &[
            firecrawl("scrape", "*/scrape", 1, 9),
            firecrawl("search", "*/search", 2, 100),
            firecrawl("map", "*/map", 1, 1),
            firecrawl("batch_scrape", "*/batch/scrape", 1_000, 1_000),
            ApiCall { limit: Some("/limit"), ..firecrawl("crawl", "*/crawl", 1_000, 10_000) },
            firecrawl("extract", "*/extract", 1_000, 1_000),
            firecrawl("agent", "*/agent", 1_000, 2_500),
        ],
    },
    Api {
        id: "jina",
        hosts: &["r.jina.ai", "s.jina.ai", "api.jina.ai", "deepsearch.jina.ai"],
        category: WEB_SEARCH,
        calls: &[
            ApiCall { by_get: false, ..jina("embeddings", "/v1/embeddings", 1_000_000) },
            ApiCall { by_get: false, ..jina("rerank", "/v1/rerank", 1_000_000) },
            ApiCall { by_get: false, ..jina("deepsearch", "/v1/chat/completions", 2_000_000) },
            // Everything else is the address of a page to read, or a search.
            jina("read", "/*", 100_000),
        ],
    },
];
