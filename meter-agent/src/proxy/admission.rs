//! Everything before the first byte leaves: is the request for this host, what is it, what may it cost, does that fit.

use bytes::Bytes;
use http::{HeaderMap, Method, header, request::Parts, uri::PathAndQuery};
use hyper::body::{Body, Incoming};

use super::{
    aside::IN_PLACE_MAX,
    body::{self, ReadError},
    http::{Session, media_type, request_host, same_host},
    live::Live,
    payment, problem,
};
use crate::{
    cashier::Refused,
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

    pub(crate) fn budget(refused: Refused) -> Self {
        Self { problem: Box::new(problem::refused(refused)), end: |status, why| End::RefusedBudget { status, why } }
    }
}

/// A request that may be forwarded.
pub(crate) struct Ready {
    pub(crate) facts: RequestFacts,
    pub(crate) dialect: &'static dyn Dialect,
    pub(crate) endpoint: Endpoint,
    pub(crate) body: ReadyBody,
    /// The meter asked for usage: its event is taken out again, and a provider that minds gets the original.
    pub(crate) asked: Option<Bytes>,
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
    right_host(session, parts)?;
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
        match endpoint.billing {
            Billing::Free | Billing::Result | Billing::Socket if live.open().payment.is_none() => {
                open_account(session)?;
            }
            Billing::Free | Billing::Result | Billing::Socket | Billing::Metered | Billing::Unknown => {
                hold(session, live, &facts)?;
            }
        }
        return Ok(Ready { facts, dialect, endpoint, body: ReadyBody::Streamed(body), asked: None });
    }
    let read = body::read_whole(body, body::REQUEST_MAX, &session.shared.bodies).await;
    let (original, taken) = read.map_err(|error| match error {
        ReadError::TooLarge => Refusal::request(problem::too_large()),
        ReadError::NoRoom => Refusal::request(problem::no_room()),
        ReadError::Gone => Refusal::request(problem::unreadable("the request's body ended early")),
    })?;
    live.open().body = taken;
    let coding = parts.headers.get(header::CONTENT_ENCODING).and_then(|v| v.to_str().ok());
    let coding = coding.map(str::to_owned);
    let path = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (content_type, quirks) = (content_type.to_owned(), session.target.matched.quirks);
    let (body, heavy) = (original.clone(), coding.is_some() || original.len() > IN_PLACE_MAX);
    let (mut facts, decoded) = aside(session, heavy, move || {
        let call = Call { endpoint, path_and_query: &path, content_type: &content_type, quirks };
        understood(dialect, &call, coding.as_deref(), body)
    })
    .await?;
    let signed = is_signed(&parts.headers);
    facts.can_clamp &= !signed;
    live.open().exchange.asked(facts.model.clone(), facts.stream);
    hold(session, live, &facts)?;
    let rewrite = Rewrite {
        ask_usage: facts.must_ask_usage && quirks.understands_stream_options && !signed,
        ceiling: live.open().hold.as_ref().and_then(|h| h.clamp),
    };
    let heavy = decoded.len() > IN_PLACE_MAX && rewrite != Rewrite::default();
    aside(session, heavy, move || rewritten(dialect, endpoint, facts, rewrite, &original, &decoded)).await
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
async fn aside<T: Send + 'static>(
    session: &Session,
    heavy: bool,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |_| Refusal::request(problem::unreadable("the request's body could not be looked at"));
    session.shared.aside.run(heavy, work).await.map_err(failed)?
}

/// What a request says, and its body as it says it.
fn understood(
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
    facts: RequestFacts,
    rewrite: Rewrite,
    original: &Bytes,
    decoded: &Bytes,
) -> Result<Ready, Refusal> {
    if rewrite == Rewrite::default() {
        return Ok(Ready { facts, dialect, endpoint, body: ReadyBody::Original(original.clone()), asked: None });
    }
    let change = |rewrite| {
        dialect
            .rewrite(endpoint, decoded, rewrite)
            .map(Bytes::from)
            .map_err(|error| Refusal::request(problem::unreadable(&error.to_string())))
    };
    let asked = if rewrite.ask_usage {
        // The ceiling stays even where the question for usage is taken back: the hold depends on it.
        Some(change(Rewrite { ask_usage: false, ..rewrite })?)
    } else {
        None
    };
    Ok(Ready { facts, dialect, endpoint, body: ReadyBody::Rewritten(change(rewrite)?), asked })
}

fn open_account(session: &Session) -> Result<(), Refusal> {
    let peer = &session.target.peer;
    if session.shared.cashier.is_open(peer.account) {
        return Ok(());
    }
    Err(Refusal::budget(Refused::NotOpen { account: peer.path.to_string(), state: "stopped", budget: None }))
}

pub(super) fn hold(session: &Session, live: &mut Live, facts: &RequestFacts) -> Result<(), Refusal> {
    let (target, shared) = (&session.target, &session.shared);
    let open = live.open();
    let at = open.exchange.started_at();
    let quote = match open.payment {
        Some(amount) if open.exchange.billing() != Billing::Metered => payment::quote(amount, None),
        paid => {
            let quote = shared.prices.admit(&target.matched, facts, at, open.on_plan);
            let quote = quote.map_err(|error| Refusal::request(problem::no_price(&error.to_string())))?;
            paid.map_or(quote, |amount| payment::quote(amount, Some(quote)))
        }
    };
    let hold = shared
        .cashier
        .admit(target.peer.account, &target.peer.process, open.exchange.request_line(), &quote, at)
        .map_err(Refusal::budget)?;
    open.exchange.admitted(hold.id, hold.amount, hold.clamp);
    open.hold = Some(hold);
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.eq_ignore_ascii_case("application/json") || t.ends_with("+json"))
}

/// A signed request may not be changed: the provider would refuse it (AWS SigV4; RFC 9530; RFC 9421).
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    let sigv4 =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).is_some_and(|v| v.starts_with("AWS4-"));
    sigv4 || ["content-digest", "digest", "signature", "x-amz-content-sha256"].iter().any(|n| headers.contains_key(*n))
}
