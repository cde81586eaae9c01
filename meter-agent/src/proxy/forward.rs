//! One exchange on its way: admitted, forwarded, answered.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header,
    request::Parts,
    uri::{self, PathAndQuery, Scheme},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use tracing::info;

use super::{
    admission::{Ready, ReadyBody, Refusal, admit, is_signed},
    answer::{AnswerBody, Framing, Metered, failed_grpc},
    body::{RequestBody, Taken, discard},
    connections::Busy,
    cut::Shape,
    http::{Session, content_length, media_type, remove_hop_by_hop, remove_named_by_connection, takes_trailers},
    live::Live,
    payment, problem, socket,
    source::AnswerSource,
    tap::Tap,
    upstream::SendError,
};
use crate::{
    cashier::{CashierError, Durability, Hold, Refused},
    clock,
    exchange::{End, Opening, REQUEST_IDS},
    ids::Process,
    usage::{
        self, AnswerHead, Billing, Call, Dialect, Endpoint, Reading,
        plan::{is_on_plan, was_billed},
        providers::priced_at,
        strip::UsageStripper,
    },
};

/// As much of an error body is looked at to see whether the provider dislikes being asked for usage: it says so early.
const ERROR_BODY_LOOK: usize = 256 * 1024;

/// Answers one request: with the provider's answer, or with what was wrong.
pub(crate) async fn exchange(session: &Session, request: Request<Incoming>, busy: Busy) -> Response<AnswerBody> {
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    remove_named_by_connection(&mut parts.headers);
    let (dialect, endpoint) = call(session.target.matched.dialect, &parts);
    let opening = opening(session, &parts, endpoint);
    let upgrade = upgrade.filter(|_| endpoint.billing == Billing::Socket && socket::is_asked(&parts.headers));
    // Every turn of a socket is opened as its upgrade was.
    let upgrade = upgrade.map(|agent| (agent, opening.clone()));
    let mut live = Live::new(opening, &session.shared);
    if let Err(refusal) = paid_by(session, &parts, &mut live) {
        discard(body).await;
        return refusal.into_response(dialect, &parts.headers, live);
    }
    if let Some((agent, opening)) = upgrade {
        let asked = tokio::select! {
            biased;
            problem = session.connection.cutting() => Err(Refusal::cut(&problem)),
            asked = socket::ask(session, &parts, (dialect, endpoint), &mut live) => asked,
        };
        return match asked {
            Ok(asked) if asked.is_upgrade() => asked.upgrade(session, opening, live, agent, busy),
            Ok(asked) => asked.refused_by_provider(&mut live).into_response(false, live, busy),
            Err(refusal) => refusal.into_response(dialect, &parts.headers, live),
        };
    }
    let forwarding = async {
        let ready = admit(session, &parts, body, (dialect, endpoint), &mut live).await?;
        let ready = with_path(&mut parts, ready)?;
        forward(session, &parts, ready, &mut live).await
    };
    let forwarded = tokio::select! {
        biased;
        problem = session.connection.cutting() => Err(Refusal::cut(&problem)),
        forwarded = forwarding => forwarded,
    };
    match forwarded {
        Ok(answer) => answer.into_response(parts.method == Method::HEAD, live, busy),
        Err(refusal) => refusal.into_response(dialect, &parts.headers, live),
    }
}

/// The path of the model that takes the other one's place.
fn with_path(parts: &mut Parts, mut ready: Ready) -> Result<Ready, Refusal> {
    if let Some(path) = ready.path.take() {
        let mut uri = parts.uri.clone().into_parts();
        uri.path_and_query = Some(path);
        parts.uri = Uri::from_parts(uri).map_err(|error| Refusal::request(problem::unreadable(&error.to_string())))?;
    }
    Ok(ready)
}

impl Refusal {
    fn into_response(self, dialect: &dyn Dialect, asked: &HeaderMap, live: Live) -> Response<AnswerBody> {
        let Self { problem, end } = self;
        live.end(&end(problem.status, problem.text()));
        problem::response(dialect, &problem, asked)
    }
}

/// Who pays for it, where that is not the account: a subscription, or a payment that it carries.
fn paid_by(session: &Session, parts: &Parts, live: &mut Live) -> Result<(), Refusal> {
    let open = live.open();
    let header = |name: &str| parts.headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    open.on_plan = is_on_plan(&session.target.matched, parts.uri.path(), header);
    open.exchange.plan(open.on_plan);
    open.payment = payment::carried(&parts.headers)?;
    if open.payment.is_some() {
        open.exchange.pays();
    }
    Ok(())
}

/// What the request is, with the method that the provider will take it for.
fn call(hint: &'static dyn Dialect, parts: &Parts) -> (&'static dyn Dialect, Endpoint) {
    let (dialect, endpoint) = usage::detect(Some(hint), parts.method.as_str(), parts.uri.path());
    let path_and_query = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    (dialect, endpoint.unless_overridden(path_and_query, |name| parts.headers.contains_key(name)))
}

/// The call as its dialect is asked about it.
pub(super) fn call_of<'a>(session: &Session, parts: &'a Parts, endpoint: Endpoint) -> Call<'a> {
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let path_and_query = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Call { endpoint, path_and_query, content_type, quirks: session.target.matched.quirks }
}

fn opening(session: &Session, parts: &Parts, endpoint: Endpoint) -> Opening {
    let target = &session.target;
    Opening {
        account: target.peer.path.clone(),
        process: Process::clone(&target.peer.process),
        provider: target.matched.provider_id.to_string(),
        price_provider: priced_at(target.matched.price_provider, parts.uri.path()).to_string(),
        endpoint: endpoint.name,
        billing: endpoint.billing,
        category: target.matched.category,
        host: target.host.clone(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        at: clock::now(),
        monotonic_ns: clock::monotonic_ns(),
    }
}

async fn forward(session: &Session, parts: &Parts, ready: Ready, live: &mut Live) -> Result<Answer, Refusal> {
    let shared = &session.shared;
    let open = live.open();
    if shared.cashier.durability() == Durability::Strict {
        durable(&mut open.hold).await?;
    }
    let sent = open.sent.clone();
    let (body, keeps_encoding) = match ready.body {
        ReadyBody::Original(bytes) => (RequestBody::whole(bytes, sent.clone()), true),
        ReadyBody::Rewritten(bytes) => (RequestBody::whole(bytes, sent.clone()), false),
        ReadyBody::Streamed(body) => (RequestBody::streamed(body, sent.clone()), true),
    };
    let head = Head { parts, session, identity: asks_identity(ready.facts.stream, &parts.headers), websocket: false };
    // The request is on its way while its hold is being written; the answer waits for both.
    let (response, ()) = tokio::try_join!(head.send(body, keeps_encoding), durable(&mut open.hold))?;
    let (mut answered, body) = response.into_parts();
    let mut body = AnswerSource::new(body, answered.version);
    let mut strip = ready.asked.is_some();
    if let (Some(original), 400 | 422) = (ready.asked, answered.status.as_u16()) {
        if minds_being_asked(&body.look(ERROR_BODY_LOOK).await) {
            let again = head.send(RequestBody::whole(original, sent), false).await?;
            let (parts, streamed) = again.into_parts();
            body = AnswerSource::new(streamed, parts.version);
            answered = parts;
        }
        strip = false;
    }
    let request_id = REQUEST_IDS.iter().find_map(|name| answered.headers.get(*name)?.to_str().ok()).map(str::to_owned);
    // It has left, and a stream may go on for long.
    open.body = Taken::default();
    open.exchange.answered(answered.status.as_u16(), request_id, clock::monotonic_ns());
    if open.on_plan && was_billed(&session.target.matched, answered.headers.keys().map(HeaderName::as_str)) {
        open.exchange.plan(false);
    }
    payment::settled(open, &parts.headers, &answered.headers, answered.status.as_u16());
    if failed_grpc(&answered.headers).is_some() {
        open.reading = Some(Reading::free("the call failed"));
    } else if matches!(ready.endpoint.billing, Billing::Metered | Billing::Result) {
        let text = |name: &str| answered.headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
        let owned = |name: &str| text(name).map(str::to_owned);
        let head = AnswerHead {
            status: answered.status.as_u16(),
            content_type: text("content-type").unwrap_or_default(),
            header: &owned,
        };
        let call = call_of(session, parts, ready.endpoint);
        let reader = ready.dialect.reader(&call, &ready.facts, head);
        open.tap = Some(Tap::new(text("content-encoding"), reader));
    }
    let encoded = answered.headers.contains_key(header::CONTENT_ENCODING);
    let strip = strip && is_event_stream(&answered.headers) && !encoded;
    if strip {
        answered.headers.remove(header::CONTENT_LENGTH);
    }
    let shape = Shape::of(ready.dialect, ready.endpoint, &answered.headers, session.http2);
    Ok(Answer { head: answered, body, strip, shape, version: parts.version })
}

pub(super) async fn durable(hold: &mut Option<Hold>) -> Result<(), Refusal> {
    let Some(hold) = hold else { return Ok(()) };
    hold.durable().await.map_err(|error: CashierError| Refusal {
        problem: Box::new(problem::refused(Refused::Ledger(error.to_string()))),
        end: |status, why| End::LedgerFault { status, why },
    })
}

/// Whether to ask for an uncompressed answer. Of a signed request the signature may cover its headers, so that it
/// keeps them; nothing is taken out of its answer, and what reads it undoes the encoding.
fn asks_identity(stream: bool, headers: &HeaderMap) -> bool {
    stream && !is_signed(headers)
}

/// Whether an error answer is about the field by which the meter asked for usage.
fn minds_being_asked(body: &[u8]) -> bool {
    ["stream_options", "include_usage"].iter().any(|field| memchr::memmem::find(body, field.as_bytes()).is_some())
}

/// The request's head as the provider gets it.
pub(super) struct Head<'a> {
    pub(super) parts: &'a Parts,
    pub(super) session: &'a Session,
    /// Ask for an uncompressed answer: a compressed stream can't be read event by event by everyone.
    pub(super) identity: bool,
    /// Ask for a WebSocket.
    pub(super) websocket: bool,
}

impl Head<'_> {
    pub(super) async fn send(&self, body: RequestBody, keeps_encoding: bool) -> Result<Response<Incoming>, Refusal> {
        let target = &self.session.target;
        let request = self.request(body, keeps_encoding)?;
        self.session.shared.upstream.send(&self.session.pool, request).await.map_err(|error: SendError| {
            let why = error.cause();
            info!(host = %target.host, %why, "provider not reached");
            Refusal {
                problem: Box::new(problem::unreachable(&target.host, &why)),
                end: |status, why| End::Unreachable { status, why },
            }
        })
    }

    fn request(&self, body: RequestBody, keeps_encoding: bool) -> Result<Request<RequestBody>, Refusal> {
        let parts = self.parts;
        let unreadable = |error: String| Refusal::request(problem::unreadable(&error));
        let mut uri = uri::Parts::default();
        uri.scheme = Some(if self.session.target.tls { Scheme::HTTPS } else { Scheme::HTTP });
        uri.authority = Some(self.session.authority.clone().map_err(unreadable)?);
        let path = parts.uri.path_and_query().cloned();
        uri.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        let uri = Uri::from_parts(uri).map_err(|error| unreadable(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        // Header case, where the agent's side recorded it.
        *request.extensions_mut() = parts.extensions.clone();
        let headers = request.headers_mut();
        // gRPC does without its answer's trailers where this is not asked for.
        let trailers = self.session.http2 && takes_trailers(headers);
        remove_hop_by_hop(headers);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if self.websocket {
            socket::name_upgrade(headers);
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::EXPECT);
        if self.session.http2 {
            headers.remove(header::HOST);
        }
        if !keeps_encoding {
            headers.remove(header::CONTENT_ENCODING);
        }
        if self.identity {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        Ok(request)
    }
}

/// A provider's answer whose body has not been passed on yet.
pub(super) struct Answer {
    head: http::response::Parts,
    body: AnswerSource,
    /// Take out the usage event that the meter asked for.
    strip: bool,
    shape: Shape,
    /// Of the request.
    version: Version,
}

impl Answer {
    /// Passed on as it is.
    pub(super) fn plain(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = AnswerSource::new(body, head.version);
        Self { head, body, strip: false, shape: Shape::default(), version: Version::HTTP_11 }
    }

    fn into_response(self, head_only: bool, live: Live, busy: Busy) -> Response<AnswerBody> {
        let Self { mut head, body, strip, shape, version } = self;
        let headers = &mut head.headers;
        let length = if head_only { None } else { content_length(headers) };
        remove_hop_by_hop(headers);
        // It invites the agent to QUIC, which is refused.
        headers.remove(header::ALT_SVC);
        let framing = Framing {
            shape,
            stripper: strip.then(UsageStripper::default),
            content_length: length,
            ends_with_connection: version == Version::HTTP_10 && length.is_none(),
        };
        let mut response = Response::new(AnswerBody::Metered(Box::new(Metered::new(body, live, framing, busy))));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        *response.extensions_mut() = head.extensions;
        response
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|t| t.eq_ignore_ascii_case("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_request_keeps_the_encodings_it_accepts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer key"));
        assert!(asks_identity(true, &headers) && !asks_identity(false, &headers));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256 Credential=x"));
        assert!(!asks_identity(true, &headers));
    }
}
