//! Everything before the first byte leaves: is the request for this host, what is it, what may it cost, does that fit.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header, request::Parts, uri::PathAndQuery};
use hyper::body::{Body, Incoming};

use super::{
    aside::IN_PLACE_MAX,
    body::{self, ReadError},
    degrade,
    forward::call_of,
    http::{Session, media_type, request_host, same_host},
    live::Live,
    payment, problem,
};
use crate::{
    cashier::{Asked, Refused},
    clock,
    coding::decode_whole,
    exchange::End,
    usage::{Billing, Call, Dialect, Endpoint, Problem, RequestFacts, Rewrite},
};

/// A request that is not forwarded: what the agent is told, and how its exchange ends.
pub(crate) struct Refusal {
    pub(crate) problem: Box<Problem>,
    pub(crate) end: fn(u16, String) -> End,
}

impl Refusal {
    pub(crate) fn request(problem: Problem) -> Self {
        Self { problem: Box::new(problem), end: |status, why| End::RefusedRequest { status, why } }
    }

    /// Its account was shut while it was on its way.
    pub(crate) fn cut(problem: &Problem) -> Self {
        Self { problem: Box::new(problem.clone()), end: |status, why| End::Cut { status: Some(status), why } }
    }

    pub(crate) fn budget(refused: Refused) -> Self {
        if matches!(refused, Refused::Model { .. } | Refused::Crowded) {
            return Self::request(problem::refused(refused));
        }
        Self { problem: Box::new(problem::refused(refused)), end: |status, why| End::RefusedBudget { status, why } }
    }
}

/// A request that may be forwarded.
pub(crate) struct Ready {
    pub(crate) facts: RequestFacts,
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) endpoint: Endpoint,
    pub(crate) body: ReadyBody,
    /// Where a cheaper model took the place of the path's.
    pub(crate) path: Option<PathAndQuery>,
    /// The meter asked for usage: its event is taken out again, and a provider that minds gets the original.
    pub(crate) asked: Option<Bytes>,
}

/// What a request says, and its body as it says it.
pub(super) struct Said {
    pub(super) facts: RequestFacts,
    pub(super) decoded: Bytes,
    /// Where a cheaper model took the place of the path's.
    pub(super) path: Option<PathAndQuery>,
    /// A cheaper model took the place of its own: the body that came is not the one to send.
    pub(super) renamed: bool,
}

/// How a request asks to be admitted, beside what it says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manner {
    pub(super) degraded: bool,
    pub(super) fingerprint: Option<u64>,
}

/// Why nothing is held for a request.
pub(super) enum NotHeld {
    Refused(Box<Refused>),
    /// Nobody knows what it can cost.
    Priceless(Box<Problem>),
}

impl From<NotHeld> for Refusal {
    fn from(not: NotHeld) -> Self {
        match not {
            NotHeld::Refused(refused) => Self::budget(*refused),
            NotHeld::Priceless(problem) => Self::request(*problem),
        }
    }
}

pub(crate) enum ReadyBody {
    Original(Bytes),
    /// Decoded and changed: the original's encoding does not apply.
    Rewritten(Bytes),
    Streamed(Incoming),
}

pub(crate) async fn admit(
    session: &Session,
    parts: &Parts,
    body: Incoming,
    (dialect, endpoint): (&'static dyn Dialect, Endpoint),
    live: &mut Live,
) -> Result<Ready, Refusal> {
    if let Err(refusal) = right_host(session, parts) {
        body::discard(body).await;
        return Err(refusal);
    }
    if parts.headers.contains_key(header::UPGRADE) || parts.method == Method::CONNECT {
        return Err(Refusal::request(problem::upgrade()));
    }
    let streamed = match endpoint.billing {
        Billing::Metered => false,
        Billing::Free | Billing::Result => true,
        Billing::Socket => return Err(Refusal::request(problem::upgrade())),
        Billing::Unknown => !is_json(&parts.headers),
    };
    if streamed {
        let facts = RequestFacts {
            input_bound: body.size_hint().upper().unwrap_or(body::REQUEST_MAX as u64),
            choices: 1,
            ..RequestFacts::default()
        };
        let admitted = match endpoint.billing {
            Billing::Free | Billing::Result | Billing::Socket if live.open().payment.is_none() => open_account(session),
            Billing::Free | Billing::Result | Billing::Socket | Billing::Metered | Billing::Unknown => {
                hold(session, live, &facts, &Manner::default()).await.map_err(Refusal::from)
            }
        };
        if let Err(refusal) = admitted {
            body::discard(body).await;
            return Err(refusal);
        }
        return Ok(Ready { facts, dialect, endpoint, body: ReadyBody::Streamed(body), path: None, asked: None });
    }
    let read = body::read_whole(body, body::REQUEST_MAX, &session.shared.bodies).await;
    let (original, taken) = read.map_err(|error| match error {
        ReadError::TooLarge => Refusal::request(problem::too_large()),
        ReadError::NoRoom => Refusal::request(problem::no_room()),
        ReadError::Gone => Refusal::request(problem::unreadable("the request's body ended early")),
    })?;
    live.open().body = taken;
    let coding = parts.headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    let (call, body) = (call_of(session, parts, endpoint), original.clone());
    let watched = session.shared.cashier.watches_repeats(session.target.peer.account);
    let (mut said, fingerprint) = if coding.is_some() || original.len() > IN_PLACE_MAX {
        let coding = coding.map(str::to_owned);
        let (path, content_type) = (call.path_and_query.to_owned(), call.content_type.to_owned());
        let quirks = call.quirks;
        aside(session, true, move || {
            let call = Call { endpoint, path_and_query: &path, content_type: &content_type, quirks };
            said(dialect, &call, coding.as_deref(), body, watched)
        })
        .await?
    } else {
        said(dialect, &call, None, body, watched)?
    };
    let signed = is_signed(&parts.headers);
    said.facts.can_clamp &= !signed;
    live.open().exchange.asked(said.facts.model.clone(), said.facts.stream);
    let manner = Manner { fingerprint, ..Manner::default() };
    match hold(session, live, &said.facts, &manner).await {
        Ok(()) => {}
        Err(NotHeld::Refused(refused)) => match *refused {
            Refused::Degrade { by, facts, status } => {
                let refused = Refused::Budget { facts, status };
                said = degrade::go_on(session, parts, (dialect, endpoint), live, said, (&by, refused)).await?;
            }
            refused => return Err(Refusal::budget(refused)),
        },
        Err(other @ NotHeld::Priceless(_)) => return Err(other.into()),
    }
    let rewrite = Rewrite {
        ask_usage: said.facts.must_ask_usage && call.quirks.understands_stream_options && !signed,
        ceiling: live.open().hold.as_ref().and_then(|h| h.clamp),
    };
    let heavy = said.decoded.len() > IN_PLACE_MAX && rewrite != Rewrite::default();
    aside(session, heavy, move || rewritten(dialect, endpoint, said, rewrite, original)).await
}

/// Refuses a request that is for another host than its connection.
pub(super) fn right_host(session: &Session, parts: &Parts) -> Result<(), Refusal> {
    let target = &session.target;
    match request_host(&parts.uri, &parts.headers) {
        Ok(Some(host)) if same_host(host, &target.host) => Ok(()),
        // In the clear and without a name there is nothing to agree with.
        Ok(_) if !target.tls && !target.named => Ok(()),
        Ok(host) => Err(Refusal::request(problem::misdirected(&target.host, host.unwrap_or("no host")))),
        Err(other) => Err(Refusal::request(problem::misdirected(&target.host, &other))),
    }
}

/// Runs work on a body; one that can't be looked at is not forwarded.
pub(super) async fn aside<T: Send + 'static>(
    session: &Session,
    heavy: bool,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |_| Refusal::request(problem::unreadable("the request's body could not be looked at"));
    session.shared.aside.run(heavy, work).await.map_err(failed)?
}

/// What a request says, with a mark of it where the account's repeats are watched.
fn said(
    dialect: &dyn Dialect,
    call: &Call<'_>,
    coding: Option<&str>,
    body: Bytes,
    watched: bool,
) -> Result<(Said, Option<u64>), Refusal> {
    let (facts, decoded) = understood(dialect, call, coding, body)?;
    let fingerprint = watched.then(|| fingerprint(call.path_and_query, &decoded));
    Ok((Said { facts, decoded, path: None, renamed: false }, fingerprint))
}

/// What a request says, and its body as it says it.
pub(super) fn understood(
    dialect: &dyn Dialect,
    call: &Call<'_>,
    coding: Option<&str>,
    body: Bytes,
) -> Result<(RequestFacts, Bytes), Refusal> {
    let unreadable = |why: String| Refusal::request(problem::unreadable(&why));
    let decoded = match coding {
        None => body,
        Some(coding) => decode_whole(Some(coding), &body, body::REQUEST_MAX)
            .map_err(|error| unreadable(format!("the request's body can't be decoded: {error}")))?
            .into(),
    };
    if decoded.is_empty() {
        // It asks for nothing, and what is wrong with it is the provider's to say.
        let facts = RequestFacts { input_unbounded: true, choices: 1, hidden_output: true, ..RequestFacts::default() };
        return Ok((facts, decoded));
    }
    let facts = dialect.request(call, &decoded).map_err(|error| unreadable(error.to_string()))?;
    Ok((facts, decoded))
}

fn rewritten(
    dialect: &'static dyn Dialect,
    endpoint: Endpoint,
    said: Said,
    rewrite: Rewrite,
    original: Bytes,
) -> Result<Ready, Refusal> {
    let Said { facts, decoded, path, renamed } = said;
    if rewrite == Rewrite::default() {
        let body = if renamed { ReadyBody::Rewritten(decoded) } else { ReadyBody::Original(original) };
        return Ok(Ready { facts, dialect, endpoint, body, path, asked: None });
    }
    let change = |rewrite| {
        dialect
            .rewrite(endpoint, &decoded, rewrite)
            .map(Bytes::from)
            .map_err(|error| Refusal::request(problem::unreadable(&error.to_string())))
    };
    let asked = if rewrite.ask_usage {
        // The ceiling stays even where the question for usage is taken back: the hold depends on it.
        Some(change(Rewrite { ask_usage: false, ..rewrite })?)
    } else {
        None
    };
    Ok(Ready { facts, dialect, endpoint, body: ReadyBody::Rewritten(change(rewrite)?), path, asked })
}

pub(super) fn open_account(session: &Session) -> Result<(), Refusal> {
    let peer = &session.target.peer;
    session.shared.cashier.shut(peer.account).map_or(Ok(()), |refused| Err(Refusal::budget(refused)))
}

pub(super) async fn hold(
    session: &Session,
    live: &mut Live,
    facts: &RequestFacts,
    manner: &Manner,
) -> Result<(), NotHeld> {
    let (target, shared) = (&session.target, &session.shared);
    let open = live.open();
    let at = open.exchange.started_at();
    let quote = match open.payment {
        Some(amount) if open.exchange.billing() != Billing::Metered => payment::quote(amount, None),
        paid => {
            let quote = open.prices.admit(&target.matched, facts, at, open.on_plan);
            let quote = quote.map_err(|error| NotHeld::Priceless(Box::new(problem::no_price(&error.to_string()))))?;
            paid.map_or(quote, |amount| payment::quote(amount, Some(quote)))
        }
    };
    let asked = Asked {
        account: target.peer.account,
        process: Arc::clone(&target.peer.process),
        request: Arc::new(open.exchange.request_line()),
        quote,
        fallbacks: facts.fallbacks.clone(),
        degraded: manner.degraded,
        fingerprint: manner.fingerprint,
    };
    let admitted = shared.cashier.admit(asked, clock::now()).await;
    let hold = admitted.map_err(|refused| NotHeld::Refused(Box::new(refused)))?;
    open.exchange.admitted(hold.id, hold.amount, hold.clamp);
    open.hold = Some(hold);
    Ok(())
}

/// The same for requests that say the same to the same path.
fn fingerprint(path: &str, decoded: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, decoded).hash(&mut hasher);
    hasher.finish()
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.eq_ignore_ascii_case("application/json") || t.ends_with("+json"))
}

/// Headers of which one alone says that a request is signed. Names made once: text is parsed anew at every look.
static SIGNATURES: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("signature"),
    HeaderName::from_static("x-amz-content-sha256"),
];

/// A signed request may not be changed: the provider would refuse it (AWS SigV4; RFC 9530; RFC 9421).
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    let sigv4 =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).is_some_and(|v| v.starts_with("AWS4-"));
    sigv4 || SIGNATURES.iter().any(|name| headers.contains_key(name))
}
