//! What the providers' APIs say about usage: bytes in, facts out.
//!
//! Pure: no I/O, no clock, no tokio. Each wire dialect is one file and one line in [`DIALECTS`]; each
//! provider is one row in [`providers`]. If a new provider needs a change anywhere else, [`Dialect`] is wrong.
//!
//! Missing is not zero: a [`Reading`] says how far its numbers are to be trusted.

pub mod anthropic;
mod edit;
mod estimate;
pub mod gemini;
pub mod hosts;
mod json;
mod media;
pub mod openai;
pub mod providers;
mod read;
mod sse;
pub mod strip;

use serde::{Deserialize, Serialize};

use crate::money::Pico;

/// Every wire dialect, by the name that a `[[host]]` entry of the config gives it.
///
/// Adding one:
/// 1. A file here with a unit struct that implements [`Dialect`]; readers use `read::JsonReader` and
///    `read::SseReader`, which bound memory and see every split of the bytes.
/// 2. One line in this list, and a row in [`providers::PROVIDERS`] for each host that speaks it.
/// 3. `endpoint`: what is known to be free is named; any other call that can cost is `Unknown`, never free.
/// 4. `request`: an input bound that holds for text, images, audio and files, or `input_unbounded`.
/// 5. `finish(Cut)`: an estimate that is not below what can have been billed, or `Absent`.
/// 6. `error_body`: what the provider's own SDK shows as its exception, with the budget facts in it.
/// 7. The maximum outputs of its models in `pricing/ceilings.rs`, and its cases in `tests/corpus.rs`.
pub static DIALECTS: &[&dyn Dialect] = &[&openai::OpenAi, &anthropic::Anthropic, &gemini::Gemini];

/// The dialect of that name.
pub fn dialect(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.name() == name)
}

/// The call that a request makes. A path that the provider may read as another one (an encoded letter, a dot
/// segment) is never free: it would be a paid call in the clothes of a free one.
pub fn endpoint(dialect: &dyn Dialect, method: &str, path: &str) -> Endpoint {
    let endpoint = dialect.endpoint(method, path);
    let reads = ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m));
    if endpoint.billing == Billing::Free && !reads && !is_plain(path) {
        return Endpoint { billing: Billing::Unknown, ..endpoint };
    }
    endpoint
}

/// Whether a path means the same to everyone who reads it. Some clients encode the colon before a verb.
fn is_plain(path: &str) -> bool {
    let encoded = path.split('%').skip(1).any(|rest| !rest.get(..2).is_some_and(|c| c.eq_ignore_ascii_case("3a")));
    let strange = path.bytes().any(|b| matches!(b, b'\\' | b';'));
    !encoded && !strange && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}

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

/// What kind of call a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// Uses tokens; is priced, held and settled. The body must be read.
    Tokens,
    /// Costs nothing (model lists, token counting, reads of what was paid for).
    Free,
    /// May cost something that this version can't read. Held by a rough upper bound, settled as absent.
    Unknown,
}

/// One API call of a dialect: a name for the ledger (`chat_completions`, `messages`, ...) and its billing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: &'static str,
    pub billing: Billing,
}

/// What a request says about its cost before it is forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a request states each of them by itself")]
pub struct RequestFacts {
    pub model: Option<String>,
    pub stream: bool,
    /// Upper bound of input tokens that the bytes of the request can become (text: one token per byte at
    /// most; images and files: the provider's published bound each).
    pub input_bound: u64,
    /// The request names state that its bytes do not contain (earlier responses, files, server tools):
    /// the model's context window is the bound.
    pub input_unbounded: bool,
    /// Output ceiling that the request states, per choice.
    pub ceiling: Option<u64>,
    /// Answers asked for (`n`, `candidateCount`): each can use the whole ceiling.
    pub choices: u64,
    /// Output tokens are not a thing here (embeddings).
    pub no_output: bool,
    /// Whether a 1 h cache write is asked for: the dearest input bucket.
    pub cache_1h: bool,
    /// Whether a 5 m cache write is asked for.
    pub cache_5m: bool,
    pub service_tier: Option<String>,
    /// The stream will carry no usage unless the meter asks for it.
    pub must_ask_usage: bool,
    /// The dialect has a field for an output ceiling, so one can be given.
    pub can_clamp: bool,
    /// Tools that run at the provider and feed their results back as input, or other models' work.
    pub server_tools: bool,
    /// Upper bound of web searches that the provider may run and bill for.
    pub web_searches: u64,
    /// Whether audio is among the input, which may have a dearer rate.
    pub input_audio: bool,
    /// Whether images are among the input, which may have a dearer rate.
    pub input_image: bool,
    /// Percent of the list price that the request's options make of it; 0 when they change nothing.
    pub surcharge_percent: u32,
    /// The output's tokens can be more than its visible text: hidden reasoning, audio, images.
    pub hidden_output: bool,
}

/// A request that the dialect can't read; the text tells the agent's author what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// How the answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// As its framing says.
    Complete,
    /// Cut: by the provider, by the agent leaving, or by us.
    Cut,
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
    /// What to price where that is more than `usage` at `model`: several models, tool fees, surcharges.
    /// Empty otherwise. `usage` is the lines' sum.
    pub lines: Vec<Line>,
}

/// One priced part of a reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// `None`: the reading's model.
    pub model: Option<String>,
    pub usage: Usage,
    /// Parts of `usage.cache_read`.
    pub cache_read_audio: u64,
    pub cache_read_image: u64,
    /// Parts of `usage.input_tokens` and `usage.output_tokens`.
    pub input_video: u64,
    pub output_video: u64,
    /// Billable searches that the provider ran.
    pub web_searches: u64,
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

    /// Billable, and nothing is known.
    pub fn absent() -> Self {
        Self::of(Quality::Absent, Usage::default())
    }

    fn of(quality: Quality, usage: Usage) -> Self {
        Self { model: None, usage, quality, service_tier: None, lines: Vec::new() }
    }
}

/// Reads one answer's body, already decoded, as it passes. `feed` may be called with any split of the bytes.
pub trait Reader: Send {
    fn feed(&mut self, chunk: &[u8]);
    fn finish(&mut self, end: BodyEnd) -> Reading;
}

/// What the reader needs to know about the answer's head.
#[derive(Clone, Copy, Debug)]
pub struct AnswerHead<'a> {
    pub status: u16,
    pub content_type: &'a str,
}

/// What a change to a request body is for. A body is changed only for these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Ask for usage in the stream.
    pub ask_usage: bool,
    /// Output ceiling to set.
    pub ceiling: Option<u64>,
}

/// What is told to the agent when a request is refused or can't be served; the dialect puts it in its own shape.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    pub status: u16,
    /// Machine-readable: `budget_exceeded`, `request_too_large`, `misdirected_request`, `ledger_unavailable`, `bad_gateway`, ...
    pub code: &'static str,
    pub message: String,
    /// Present on a 402.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetFacts>,
}

impl Problem {
    /// What an SDK's exception shows: the message and, on a 402, how the limit stands.
    pub fn text(&self) -> String {
        match &self.budget {
            Some(budget) => format!("{} {}", self.message, budget.sentence()),
            None => self.message.clone(),
        }
    }
}

impl BudgetFacts {
    /// For example: `Account research, limit total $0.5 (any): $0.4 spent, $0 held, $0.2 needed; it does not reset.`
    fn sentence(&self) -> String {
        let reset = self.reset.as_deref().map_or("it does not reset".to_owned(), |at| format!("it resets at {at}"));
        format!(
            "Account {}, limit {} ({}): ${} spent, ${} held, ${} needed; {reset}.",
            self.account, self.limit, self.category, self.spent_usd, self.held_usd, self.needed_usd
        )
    }
}

/// Which limit refused, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BudgetFacts {
    pub account: String,
    /// For example `total $0.5`.
    pub limit: String,
    pub category: &'static str,
    pub spent_usd: Pico,
    pub held_usd: Pico,
    pub needed_usd: Pico,
    /// When the window resets, RFC 3339; `None` for a total.
    pub reset: Option<String>,
}

/// One provider API on the wire.
pub trait Dialect: Sync {
    /// As in the config's `[[host]] dialect`: `openai`, `anthropic`, `gemini`.
    fn name(&self) -> &'static str;
    /// `path` has no query.
    fn endpoint(&self, method: &str, path: &str) -> Endpoint;
    /// Facts of a billable request; `body` is decoded. `path_and_query` because some APIs name the model and
    /// the streaming there.
    fn request(&self, endpoint: Endpoint, path_and_query: &str, body: &[u8]) -> Result<RequestFacts, Unreadable>;
    /// The body with the changes made and every other byte of meaning kept.
    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable>;
    fn reader(&self, endpoint: Endpoint, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader>;
    /// The JSON body of an error in the provider's own shape.
    fn error_body(&self, problem: &Problem) -> Vec<u8>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_never_free() {
        let billing = |name: &str, method, path| endpoint(dialect(name).unwrap(), method, path).billing;
        for path in [
            "/v1/images/generations/../../files",
            "/v1/images/generations/%2e%2e/%2E%2E/files",
            "/v1/images/generations\\..\\..\\files/files",
            "/v1/images/generations;/files",
        ] {
            assert_eq!(billing("openai", "POST", path), Billing::Unknown, "{path}");
        }
        assert_eq!(billing("anthropic", "POST", "/v1/files/%2e%2e/mess%61ges"), Billing::Unknown);
        assert_eq!(billing("anthropic", "POST", "/v1/files/../complete"), Billing::Unknown);
        assert_eq!(billing("gemini", "POST", "/v1beta/models/openai/../m:generateContent"), Billing::Unknown);
        assert_eq!(billing("gemini", "POST", "/v1beta/models/m%3AcountTokens"), Billing::Free);
        assert_eq!(billing("openai", "DELETE", "/v1/models/ft%3Agpt%2Dx"), Billing::Free);
    }
}
