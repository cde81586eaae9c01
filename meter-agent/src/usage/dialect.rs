//! The contract of a wire dialect, and the search for the one that a request speaks.
//!
//! Detection is by method and path; the host's own dialect is asked first, then every other one, since gateways
//! and self-hosted servers answer the paths of many.

use bytes::Bytes;

use super::{
    DIALECTS, Problem, Reading, Renamed, RequestFacts, Rewrite, Unreadable, openai::OpenAi, providers::Quirks, renamed,
    sse,
};

/// What kind of call a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// Costs by what its answer says; is priced, held and settled. The body must be read.
    Metered,
    /// Costs nothing (model lists, token counting).
    Free,
    /// Reads a result that was ordered before: its answer is read, and billed at most once per result.
    Result,
    /// Opens a WebSocket whose every turn is an exchange.
    Socket,
    /// May cost something that this version can't read. Held by a rough upper bound, settled as absent.
    Unknown,
}

/// One API call of a dialect: a name for the ledger (`chat_completions`, `messages`, ...) and its billing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub name: &'static str,
    pub billing: Billing,
}

/// One call as its dialect is asked about it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub endpoint: Endpoint,
    /// Some APIs name the model and the streaming there.
    pub path_and_query: &'a str,
    /// Of the request's body; empty where it says none.
    pub content_type: &'a str,
    /// How the provider departs from the dialect.
    pub quirks: Quirks,
}

/// Headers by which a request asks to be taken for another method than its own.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method-override", "x-http-method", "x-method-override"];
/// The same in a query; Google's APIs take the first.
const METHOD_PARAMETERS: [&str; 4] = ["$httpmethod", "%24httpmethod", "_method", "x-http-method-override"];

impl Endpoint {
    /// The call, where its request may ask to be taken for one by another method: it may be another than it looks, and
    /// is not free.
    #[must_use]
    pub fn unless_overridden(self, path_and_query: &str, has_header: impl Fn(&str) -> bool) -> Self {
        let query = path_and_query.split_once('?').map_or("", |(_, query)| query);
        let names = || query.split('&').map(|pair| pair.split('=').next().unwrap_or(""));
        let by_query = || names().any(|name| METHOD_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name)));
        if !METHOD_OVERRIDES.into_iter().any(has_header) && !by_query() {
            return self;
        }
        let billing = match self.billing {
            Billing::Free | Billing::Result | Billing::Socket => Billing::Unknown,
            Billing::Metered | Billing::Unknown => self.billing,
        };
        Self { billing, ..self }
    }
}

impl<'a> Call<'a> {
    /// A call without quirks whose body is JSON.
    pub const fn new(endpoint: Endpoint, path_and_query: &'a str) -> Self {
        Self { endpoint, path_and_query, content_type: "application/json", quirks: Quirks::PLAIN }
    }

    /// Without its query.
    pub fn path(&self) -> &'a str {
        self.path_and_query.split('?').next().unwrap_or("")
    }
}

/// How the answer's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// As its framing says.
    Complete,
    /// Cut: by the provider, by the agent leaving, or by us.
    Cut,
}

/// Reads one answer's body, already decoded, as it passes. `feed` may be called with any split of the bytes.
pub trait Reader: Send {
    fn feed(&mut self, chunk: &[u8]);
    /// What the answer has used so far and is still going to be billed, as far as its bytes say: what was reported, or
    /// a bound from below of what was delivered, whatever ceiling the request states. `None` where a part of the answer
    /// says nothing. Asked now and then while the answer passes, never for every chunk.
    fn so_far(&self) -> Option<Reading> {
        None
    }
    fn finish(&mut self, end: BodyEnd) -> Reading;
}

/// Reads the messages of a WebSocket, whole and in their order in each direction. Every turn is an exchange.
pub trait SocketReader: Send {
    /// What a turn can cost at most, as far as the messages so far say.
    fn facts(&self) -> RequestFacts;
    /// A message from the agent.
    fn sent(&mut self, message: &[u8]);
    /// A message from the provider; the reading of the turn that it ends, if it ends one.
    fn received(&mut self, message: &[u8]) -> Option<Reading>;
    /// Whether a turn has begun whose usage was not stated yet.
    fn is_under_way(&self) -> bool;
    /// The message by which the provider says on such a socket that something is refused; `None` where it says nothing
    /// but why it closes.
    fn refusal(&self, _: &Problem) -> Option<Vec<u8>> {
        None
    }
    /// The socket is closed: what an unfinished turn, if there is one, is taken to have used.
    fn finish(&mut self) -> Option<Reading>;
}

/// What the reader needs to know about the answer's head.
#[derive(Clone, Copy)]
pub struct AnswerHead<'a> {
    pub status: u16,
    pub content_type: &'a str,
    /// Any other header, by its name in lower case.
    pub header: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> AnswerHead<'a> {
    /// A head with no other header of interest.
    pub const fn new(status: u16, content_type: &'a str) -> Self {
        Self { status, content_type, header: &no_header }
    }
}

const fn no_header(_: &str) -> Option<String> {
    None
}

/// One provider API on the wire.
pub trait Dialect: Sync {
    /// As in the config's `[[host]] dialect`: `openai`, `anthropic`, `gemini`.
    fn name(&self) -> &'static str;
    /// The call that a request makes; `None` where the path is not one of this dialect's. `path` has no query.
    fn endpoint(&self, method: &str, path: &str) -> Option<Endpoint>;
    /// Facts of a billable request; `body` is decoded.
    fn request(&self, call: &Call<'_>, body: &Bytes) -> Result<RequestFacts, Unreadable>;
    /// The body with the changes made and every other byte of meaning kept.
    fn rewrite(&self, endpoint: Endpoint, body: &[u8], rewrite: Rewrite) -> Result<Vec<u8>, Unreadable>;
    /// The request with another model in the place of its own, for a call that has one.
    fn renamed(&self, _: &Call<'_>, body: &[u8], model: &str) -> Result<Renamed, Unreadable> {
        renamed::in_body(body, "model", model)
    }
    fn reader(&self, call: &Call<'_>, facts: &RequestFacts, head: AnswerHead<'_>) -> Box<dyn Reader>;
    /// The reader of a call whose billing is [`Billing::Socket`].
    fn socket(&self, _: &Call<'_>) -> Option<Box<dyn SocketReader>> {
        None
    }
    /// The JSON body of an error in the provider's own shape.
    fn error_body(&self, problem: &Problem) -> Vec<u8>;
    /// The last event of a stream of server-sent events that the meter cuts: the one by which the provider says that an
    /// answer failed half-way, and which its SDKs raise. The stream has come to the end of an event.
    fn cut_event(&self, _: Endpoint, problem: &Problem) -> Vec<u8> {
        sse::error_event("error", &self.error_body(problem))
    }
    /// The same for an AWS event stream; `None` where the dialect has none.
    fn cut_frame(&self, _: &Problem) -> Option<Vec<u8>> {
        None
    }
}

/// The dialect of that name.
pub fn dialect(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|d| d.name() == name)
}

/// The dialect and the call of a request: of the host's own dialect if it knows the path, else of the first that does.
/// What nobody knows is free if it only reads, and unknown otherwise.
///
/// A path that the provider may read as another one (an encoded letter, a dot segment) is never free: it would be
/// a paid call in the clothes of a free one.
pub fn detect(hint: Option<&'static dyn Dialect>, method: &str, path: &str) -> (&'static dyn Dialect, Endpoint) {
    let of = |d: &'static dyn Dialect| d.endpoint(method, path).map(|endpoint| (d, endpoint));
    let read = |billing| matches!(billing, Billing::Metered | Billing::Result | Billing::Socket);
    let all = || DIALECTS.iter().copied().filter_map(of);
    let own = hint.and_then(of);
    // What its own dialect can't read, another one may: read it can be then, but not made free. Nor is a call that
    // does more than read free by its own dialect, where another one would bill it.
    let is_own = |billing| read(billing) || (billing == Billing::Free && only_reads(method));
    let known = own
        .filter(|(_, endpoint)| is_own(endpoint.billing))
        .or_else(|| all().find(|(_, endpoint)| read(endpoint.billing)))
        .or(own)
        .or_else(|| all().next());
    let (dialect, endpoint) = known.unwrap_or_else(|| {
        let billing = if only_reads(method) { Billing::Free } else { Billing::Unknown };
        (hint.unwrap_or(&OpenAi), Endpoint { name: "other", billing })
    });
    let costs_nothing_itself = matches!(endpoint.billing, Billing::Free | Billing::Result);
    if costs_nothing_itself && !only_reads(method) && !is_plain(path) {
        return (dialect, Endpoint { billing: Billing::Unknown, ..endpoint });
    }
    (dialect, endpoint)
}

/// Whether a call by this method changes nothing at the provider that could cost.
pub(crate) fn only_reads(method: &str) -> bool {
    ["GET", "HEAD", "OPTIONS", "DELETE"].iter().any(|m| method.eq_ignore_ascii_case(m))
}

/// Whether a path means the same to everyone who reads it. Some clients encode the colon before a verb, the colons and
/// slashes of an ARN, and what no path can hold.
fn is_plain(path: &str) -> bool {
    let strange = path.bytes().any(|b| matches!(b, b'\\' | b';'));
    !strange && path.split('/').all(is_plain_segment)
}

fn is_plain_segment(segment: &str) -> bool {
    let is_arn = segment.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("arn"));
    let known = |code: &str| match u8::from_str_radix(code, 16) {
        Ok(b'/') => is_arn,
        Ok(byte) => b" \"#<>?:[]{}|^`@!$&'()*+,=".contains(&byte),
        Err(_) => false,
    };
    let plain = segment.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(known));
    plain && segment != "." && !segment.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_some_dialect_reads_is_its_on_any_host() {
        let path = "/gateway/v1beta/models/m:generateContent";
        for hint in [None, dialect("openai"), dialect("gemini")] {
            let (found, endpoint) = detect(hint, "POST", path);
            assert_eq!((found.name(), endpoint.billing), ("gemini", Billing::Metered));
        }
        // A free part of one dialect's API is no cover for a paid call of another's.
        let (found, endpoint) = detect(dialect("anthropic"), "POST", "/v1/models/m:generateContent");
        assert_eq!((found.name(), endpoint.billing), ("gemini", Billing::Metered));
    }

    #[test]
    fn a_call_that_asks_for_another_method_is_not_free() {
        let free = Endpoint { name: "models", billing: Billing::Free };
        let billing = |path: &str, header: &str| free.unless_overridden(path, |name| name == header).billing;
        assert_eq!(billing("/v1/models?a=_method", "accept"), Billing::Free);
        assert_eq!(billing("/v1/models", "x-http-method-override"), Billing::Unknown);
        for query in ["$httpMethod=POST", "a=1&%24httpMethod=POST", "_method=post"] {
            assert_eq!(billing(&format!("/v1/models?{query}"), "accept"), Billing::Unknown, "{query}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_never_free() {
        let billing = |name: &str, method, path: &str| detect(dialect(name), method, path).1.billing;
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
        let arn = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.nova/count-tokens";
        assert_eq!(billing("bedrock", "POST", arn), Billing::Free);
        assert_eq!(billing("bedrock", "POST", &arn.replace("us.nova", "..%2Fx")), Billing::Unknown);
        assert_eq!(billing("bedrock", "POST", "/model/x%2Fy/count-tokens"), Billing::Unknown);
    }
}
