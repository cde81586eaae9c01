//! WebSockets on metered hosts: the way of one, from its upgrade to its end. Every turn is an exchange.
//!
//! The upgrade is forwarded without extensions, so that frames can be read; from then on [`pump`] copies both
//! directions as they come, and [`turns`] takes a hold for each turn before it can begin: as a request's, it may have to
//! wait for others, and is slowed down where they are. Fail-closed: what can't be read is not upgraded.

mod leaving;
mod pump;
mod refusal;
mod turns;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::turns::Turns;
use super::{
    admission::{Manner, Refusal, hold, open_account, right_host},
    answer::AnswerBody,
    body::RequestBody,
    connections::{Busy, Connection},
    forward::{Answer, Head, call_of, durable},
    http::{Session, remove_hop_by_hop},
    live::Live,
    problem,
};
use crate::{
    exchange::{End, Opening},
    usage::{Dialect, Endpoint, Reading, RequestFacts, SocketReader},
};

/// Names of what may be done to frames. None of it is asked for: a compressed frame can't be read beside the way.
const EXTENSIONS: &str = "sec-websocket-extensions";

/// A provider's answer to an upgrade.
pub(super) struct Asked {
    response: Response<Incoming>,
    reader: Box<dyn SocketReader>,
    facts: RequestFacts,
}

/// An upgrade that both sides agreed on. Run by the one who serves the agent's connection, when that is done with HTTP.
pub(crate) struct Socket {
    agent: OnUpgrade,
    provider: OnUpgrade,
    turns: Turns,
    _busy: Busy,
}

/// Whether a request asks for a WebSocket (RFC 6455, section 4.1).
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Holds the first turn's worst case, where its model is named by now, and forwards the upgrade.
pub(super) async fn ask(
    session: &Session,
    parts: &Parts,
    (dialect, endpoint): (&'static dyn Dialect, Endpoint),
    live: &mut Live,
) -> Result<Asked, Refusal> {
    right_host(session, parts)?;
    if live.open().payment.is_some() {
        // A payment is one exchange's, and a socket has many.
        return Err(Refusal::request(problem::unreadable_payment()));
    }
    let reader = dialect.socket(&call_of(session, parts, endpoint));
    let reader = reader.ok_or_else(|| Refusal::request(problem::upgrade()))?;
    let facts = turns::facts(reader.as_ref());
    live.open().exchange.asked(facts.model.clone(), true);
    if facts.model.is_some() {
        hold(session, live, &facts, &Manner::default()).await?;
    } else {
        // The first message is held with the model that it names.
        open_account(session)?;
    }
    let open = live.open();
    if session.shared.cashier.durability() == crate::cashier::Durability::Strict {
        durable(&mut open.hold).await?;
    }
    let head = Head { parts, session, identity: false, websocket: true };
    let body = RequestBody::whole(Bytes::new(), open.sent.clone());
    let (response, ()) = tokio::try_join!(head.send(body, true), durable(&mut open.hold))?;
    if response.headers().contains_key(EXTENSIONS) && response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal {
            problem: Box::new(problem::unreachable(
                &session.target.host,
                "it compresses a WebSocket without being asked",
            )),
            end: |status, why| End::Unreachable { status, why },
        });
    }
    open.exchange.answered(response.status().as_u16(), None, crate::clock::monotonic_ns());
    Ok(Asked { response, reader, facts })
}

impl Asked {
    pub(super) fn is_upgrade(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// The provider did not upgrade: its answer is passed on, and costs nothing.
    pub(super) fn refused_by_provider(self, live: &mut Live) -> Answer {
        live.open().reading = Some(Reading::free("the provider opened no WebSocket"));
        Answer::plain(self.response)
    }

    /// Tells the agent, and leaves the socket for when its connection has done so.
    pub(super) fn upgrade(
        mut self,
        session: &Session,
        opening: Opening,
        live: Live,
        agent: OnUpgrade,
        busy: Busy,
    ) -> Response<AnswerBody> {
        let provider = hyper::upgrade::on(&mut self.response);
        let turns = Turns::new(session, opening, self.reader, self.facts, live);
        session.leave_socket(Socket { agent, provider, turns, _busy: busy });
        let (mut head, _) = self.response.into_parts();
        remove_hop_by_hop(&mut head.headers);
        name_upgrade(&mut head.headers);
        let mut response = Response::new(AnswerBody::nothing());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        response
    }
}

impl Socket {
    /// Copies until either side ends it, the money does, or the connection is told to end.
    pub(crate) async fn run(self, connection: &Connection, drain: &CancellationToken) {
        let Self { agent, provider, turns, _busy } = self;
        let (agent, provider): (Upgraded, Upgraded) = match tokio::try_join!(agent, provider) {
            Ok(both) => both,
            // The turns end as they are dropped.
            Err(error) => return debug!(%error, "a WebSocket was not upgraded"),
        };
        let told = async {
            tokio::select! {
                () = connection.ending() => {}
                () = drain.cancelled() => {}
            }
        };
        pump::run(TokioIo::new(agent), TokioIo::new(provider), turns, told, connection.cutting()).await;
    }
}

/// What [`remove_hop_by_hop`] takes away, for the one message that means it.
pub(super) fn name_upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.remove(EXTENSIONS);
}
