//! Paid APIs that are no model's: web search and the like, by the call or by units that the answer states.
//!
//! A row names hosts, calls and prices; a config adds rows of its own. What a unit is stays with the provider
//! (`searches`, `credits`, `tokens`); its price stands in the same row, since no catalogue has it.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;

use super::{
    AnswerHead, BodyEnd, Call, Dialect, Endpoint, Problem, Quality, Quantity, Reader, Reading, Renamed, RequestFacts,
    Rewrite, Unreadable, Usage,
    dialect::Billing,
    json::parse,
    like::is_like,
    openai,
    read::{JsonReader, NothingReader, is_success},
};
use crate::money::Pico;

/// The category of searches and of what reads the web.
pub const WEB_SEARCH: &str = "web-search";

/// One paid API.
#[derive(Debug, PartialEq, Eq)]
pub struct Api {
    /// As in the ledger.
    pub id: &'static str,
    /// Host names, lower case; none for an API of the config, whose host is an entry of its own.
    pub hosts: &'static [&'static str],
    /// The limit category that it falls under.
    pub category: &'static str,
    /// The first whose path fits is the call.
    pub calls: &'static [ApiCall],
}

/// One priced call of an API.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiCall {
    /// As in the ledger.
    pub name: &'static str,
    /// A pattern of the path, without its query.
    pub path: &'static str,
    /// Whether a GET is charged too.
    pub by_get: bool,
    pub unit: &'static str,
    /// Of one unit.
    pub price: Pico,
    /// Units of a call whose answer does not state them.
    pub each: u64,
    /// Most units of a call.
    pub most: u64,
    /// Where the answer states its units.
    pub pointers: &'static [&'static str],
    /// Where the answer states the charge itself, in dollars.
    pub charge: Option<&'static str>,
    /// What the request says that makes it more units: where, what, how many.
    pub more: &'static [(&'static str, &'static str, u64)],
    /// Where the request states how many units it is for at most.
    pub limit: Option<&'static str>,
    /// Where the price was read.
    pub source: &'static str,
}

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

/// The API of that id.
pub fn api(id: &str) -> Option<&'static Api> {
    APIS.iter().find(|api| api.id == id)
}

/// A call of an API that the config adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCall {
    pub path: String,
    pub unit: String,
    pub price: Pico,
    /// Where the answer states its units; `None`: each call is one.
    pub pointer: Option<String>,
    /// Most units of a call.
    pub most: u64,
}

impl Api {
    /// An API of the config. It lives as long as the program; a config that says the same again, as most reloads do,
    /// gets the one that was made before.
    pub fn of_config(host: &str, category: &str, calls: &[OwnCall]) -> &'static Self {
        static MADE: Mutex<Vec<&'static Api>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let says_so = |api: &&&Self| {
            let same = api.calls.len() == calls.len() && api.calls.iter().zip(calls).all(|(row, own)| row.says(own));
            same && (api.id, api.category) == (host, category)
        };
        if let Some(known) = made.iter().find(says_so) {
            return known;
        }
        let calls = Box::leak(calls.iter().map(ApiCall::of_config).collect());
        let api = Box::leak(Box::new(Self { id: kept(host), hosts: &[], category: kept(category), calls }));
        made.push(api);
        api
    }

    /// The call of a path.
    fn call(&self, method: &str, path: &str) -> Option<&'static ApiCall> {
        let calls = self.calls;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let charged = |call: &&ApiCall| call.by_get || !super::dialect::only_reads(method);
        let like = |path: &str| calls.iter().filter(charged).find(|call| is_like(path, call.path));
        like(path).or_else(|| like(&plain(path)))
    }

    /// The price of a unit of the call of that name, or of the dearest call where none is named.
    pub fn price_of(&self, call: Option<&str>, unit: &str) -> Option<Pico> {
        let of_unit = self.calls.iter().filter(|c| c.unit == unit);
        of_unit.filter(|c| call.is_none_or(|name| c.name == name)).map(|c| c.price).max()
    }

    /// The most that any call costs.
    pub fn worst(&self) -> Pico {
        self.calls.iter().map(|call| call.price.saturating_mul(call.most)).max().unwrap_or(Pico::ZERO)
    }
}

/// The path as a lenient server reads it: decoded, without parameters, empty and dot segments. A call in another
/// spelling is not free.
fn plain(path: &str) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let code = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| byte == b'%');
        let known = code.and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        decoded.push(known.unwrap_or(byte));
        at += if known.is_some() { 3 } else { 1 };
    }
    let decoded = String::from_utf8_lossy(&decoded).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').map(|segment| segment.split(';').next().unwrap_or("")) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

impl Dialect for Api {
    fn name(&self) -> &'static str {
        self.id
    }

    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint> {
        self.call(method, path).map(|call| Endpoint { name: call.name, billing: Billing::Metered })
    }

    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable> {
        let facts = RequestFacts { no_output: true, choices: 1, ..RequestFacts::default() };
        let Some(row) = self.row(call) else { return Ok(facts) };
        let most = if row.pointers.is_empty() { row.each } else { row.most.max(row.asked(body)) };
        let most = if row.charge.is_some() { row.most } else { most };
        Ok(RequestFacts {
            units: [(row.unit.into(), Quantity::whole(most))].into(),
            variant: Some(row.name.to_owned()),
            text: row.is_sized_by_request().then(|| body.clone()),
            ..facts
        })
    }

    fn rewrite(&self, _: Endpoint, body: &[u8], _: Rewrite) -> Result<Vec<u8>, Unreadable> {
        Ok(body.to_vec())
    }

    /// Not for these calls.
    fn renamed(&self, _: &Call<'_>, _: &[u8], _: &str) -> Result<Renamed, Unreadable> {
        Err(Unreadable("the model of this call can't be another one".to_owned()))
    }

    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader> {
        let Some(row) = self.row(call).filter(|_| is_success(head)) else { return Box::new(NothingReader) };
        let each = facts.text.as_ref().map_or(row.each, |body| row.asked(body));
        if row.pointers.is_empty() && row.charge.is_none() {
            return Box::new(JsonReader::new(move |_: Option<&[u8]>, _| row.reading(Quality::Exact, each)));
        }
        Box::new(JsonReader::new(move |body: Option<&[u8]>, _: BodyEnd| row.read(body, each)))
    }

    fn error_body(&self, problem: &Problem) -> Vec<u8> {
        openai::error_body(problem)
    }
}

impl Api {
    fn row(&self, call: &Call<'_>) -> Option<&'static ApiCall> {
        let calls = self.calls;
        calls.iter().find(|row| row.name == call.endpoint.name)
    }
}

fn kept(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

impl ApiCall {
    fn of_config(own: &OwnCall) -> Self {
        Self {
            name: kept(&own.path),
            path: kept(&own.path),
            by_get: true,
            unit: kept(&own.unit),
            price: own.price,
            each: own.most,
            most: own.most,
            pointers: own.pointer.as_deref().map_or(&[], |pointer| Box::leak(Box::new([kept(pointer)]))),
            charge: None,
            more: &[],
            limit: None,
            source: "the config",
        }
    }

    /// Whether it was made of the same as this one of the config.
    fn says(&self, own: &OwnCall) -> bool {
        (self.path, self.unit, self.price, self.most) == (&*own.path, &*own.unit, own.price, own.most)
            && self.pointers.first().copied() == own.pointer.as_deref()
    }

    fn is_sized_by_request(&self) -> bool {
        !self.more.is_empty() || self.limit.is_some()
    }

    /// Units of a call, as far as its request says.
    fn asked(&self, body: &[u8]) -> u64 {
        if !self.is_sized_by_request() {
            return self.each;
        }
        let Some(body) = parse::<Value>(body) else { return self.most };
        if let Some(limit) = self.limit.and_then(|at| body.pointer(at)).and_then(Value::as_u64) {
            return limit.clamp(1, self.most);
        }
        let says = |pointer: &str, value: &str| match body.pointer(pointer) {
            Some(Value::String(text)) => text == value,
            Some(Value::Bool(flag)) => flag.to_string() == value,
            _ => false,
        };
        let more = self.more.iter().filter(|(pointer, value, _)| says(pointer, value)).map(|(_, _, units)| *units);
        more.max().unwrap_or(self.each)
    }

    /// What the answer states, else what the request does. A row whose answers always state it is only estimated
    /// without.
    fn read(&self, body: Option<&[u8]>, each: u64) -> Reading {
        let document = body.and_then(parse::<Value>);
        let at = |pointer: &str| document.as_ref().and_then(|d| d.pointer(pointer));
        let number = |value: &Value| Quantity::from_f64(value.as_f64().or_else(|| value.as_str()?.parse().ok())?);
        let units = self.pointers.iter().find_map(|p| at(p).and_then(number));
        let charge = self.charge.and_then(at).and_then(dollars);
        let stated =
            units.map(|units| Reading { units: [(self.unit.into(), units)].into(), ..self.reading(Quality::Exact, 0) });
        let found = match (stated, &charge) {
            (Some(reading), _) => reading,
            (None, Some(_)) => self.reading(Quality::Exact, each),
            // What decides between a few units is in the request, which was read.
            (None, None) if !self.more.is_empty() => self.reading(Quality::Exact, each),
            (None, None) => Reading {
                reason: Some("the answer does not state its units"),
                ..self.reading(Quality::Estimated, each)
            },
        };
        Reading { reported: charge, ..found }
    }

    fn reading(&self, quality: Quality, units: u64) -> Reading {
        Reading {
            units: [(self.unit.into(), Quantity::whole(units))].into(),
            variant: Some(self.name.to_owned()),
            ..Reading::of(quality, Usage::default())
        }
    }
}

/// A charge in dollars; `None` for what can be none.
fn dollars(value: &Value) -> Option<Pico> {
    // In millionths of a micro-dollar a quantity is a pico-dollar.
    let micros = Quantity::from_f64(value.as_f64()? * 1e6)?;
    i64::try_from(micros.micros()).ok().map(Pico::new).filter(|p| *p <= Pico::CAP)
}

#[cfg(test)]
#[path = "paid_tests.rs"]
mod tests;
