//! HTTP on the agent's leg: one service per connection, one exchange per request.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Request, Response, Uri, header, uri::Authority};
use hyper::{body::Incoming, server::conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::{
    Shared, answer::AnswerBody, connection::Target, connections::Connection, forward, socket::Socket, upstream::PoolKey,
};
use crate::tasks::Waited;

/// A connection that was told to end is looked at so often,
const LOOK: Duration = Duration::from_secs(1);
/// and closed when it has carried nothing for so many looks.
const LOOKS_AT_END: u32 = 5;
/// The same, by a single look, where its account is shut: nothing that the agent says arrives any more, the end of HTTP/2 among it.
const IDLE_WHEN_CUT: Duration = Duration::from_millis(50);
/// A head that takes longer is not coming.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// As much as the providers' own front ends take.
const HEAD_MAX: usize = 128 * 1024;
const STREAMS_MAX: u32 = 256;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// What every exchange of a connection shares.
pub(crate) struct Session {
    pub(crate) target: Target,
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) http2: bool,
    /// Its requests go upstream by these connections,
    pub(crate) pool: PoolKey,
    /// under this name; or why that is none.
    pub(crate) authority: Result<Authority, String>,
    /// A WebSocket that begins where HTTP ends.
    socket: Mutex<Option<Socket>>,
}

impl Session {
    fn new(target: Target, http2: bool, connection: Arc<Connection>, shared: &Arc<Shared>) -> Self {
        let pool = PoolKey {
            agent: target.peer.path.agent_name().to_owned(),
            netns_cookie: shared.netns_cookie,
            address: target.peer.destination,
            host: target.host.clone(),
            tls: target.tls,
            http2,
        };
        let authority = authority(&target);
        Self { target, shared: Arc::clone(shared), connection, http2, pool, authority, socket: Mutex::default() }
    }

    /// Leaves a socket for the one who serves the connection.
    pub(crate) fn leave_socket(&self, socket: Socket) {
        *self.socket.lock() = Some(socket);
    }
}

/// Serves a connection until either side ends it, or until it is told to end and what was admitted is delivered.
pub(crate) async fn serve<S>(stream: S, http2: bool, target: Target, connection: Arc<Connection>, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if !connection.carry_exchanges() {
        return;
    }
    let session = Arc::new(Session::new(target, http2, connection, shared));
    let service = {
        let session = Arc::clone(&session);
        service_fn(move |request| exchange(Arc::clone(&session), request))
    };
    let io = TokioIo::new(stream);
    let served = if http2 {
        // Each stream is a task, which holds its exchange for a moment longer than the connection lives.
        let serving = conn::http2::Builder::new(Waited::new(&shared.running, "stream"))
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(HEAD_MAX).unwrap_or(u32::MAX))
            .serve_connection(io, service);
        until_ended(serving, conn::http2::Connection::graceful_shutdown, &session).await
    } else {
        let serving = conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .preserve_header_case(true)
            .max_buf_size(HEAD_MAX.max(512 * 1024))
            .serve_connection(io, service)
            .with_upgrades();
        until_ended(serving, conn::http1::UpgradeableConnection::graceful_shutdown, &session).await
    };
    if let Err(error) = served {
        debug!(%error, "HTTP connection ended");
    }
    let socket = session.socket.lock().take();
    if let Some(socket) = socket {
        // Apart, so that a connection without one is no larger for it.
        Box::pin(socket.run(&session.connection, &session.shared.drain)).await;
    }
}

/// The provider as the requests' URIs name it.
fn authority(target: &Target) -> Result<Authority, String> {
    let bracketed = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let authority = match (target.peer.destination.port(), target.tls) {
        (443, true) | (80, false) => bracketed,
        (port, _) => format!("{bracketed}:{port}"),
    };
    Authority::try_from(authority).map_err(|error| error.to_string())
}

/// Drives a connection; told to end, it takes no more requests, and is given up when it has been idle for some
/// time, since an agent that does not read can't keep it.
async fn until_ended<C>(serving: C, shut_down: impl FnOnce(Pin<&mut C>), session: &Session) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        served = &mut serving => return served,
        () = session.shared.drain.cancelled() => {}
        () = session.connection.ending() => {}
    }
    shut_down(serving.as_mut());
    let look = async || {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => LOOKS_AT_END,
            _ = session.connection.cutting() => {
                tokio::time::sleep(IDLE_WHEN_CUT).await;
                1
            }
        }
    };
    let mut idle_looks = 0;
    loop {
        // Idle from the beginning of a look to its end, so that its last words have been written within it.
        let was_idle = session.connection.is_idle();
        let enough = match until(look(), &mut serving).await {
            Ok(served) => return served,
            Err(enough) => enough,
        };
        idle_looks = if was_idle && session.connection.is_idle() { idle_looks + 1 } else { 0 };
        if idle_looks >= enough {
            return Ok(());
        }
    }
}

/// What a future comes to, or what a time does that is over before.
async fn until<T, U>(time: impl Future<Output = U>, future: impl Future<Output = T>) -> Result<T, U> {
    tokio::select! {
        biased;
        done = future => Ok(done),
        over = time => Err(over),
    }
}

async fn exchange(session: Arc<Session>, request: Request<Incoming>) -> Result<Response<AnswerBody>, Infallible> {
    let busy = session.connection.busy();
    Ok(forward::exchange(&session, request, busy).await)
}

/// The host that a request is for, without its port: `:authority` and `Host` must agree where both stand.
pub(crate) fn request_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, String> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|h| h.to_str().unwrap_or(""));
    if let Some(second) = hosts.next() {
        return Err(String::from_utf8_lossy(second.as_bytes()).into_owned());
    }
    match (authority, host) {
        (Some(a), Some(h)) if !same_host(without_port(a), without_port(h)) => Err(h.to_owned()),
        (Some(a), _) => Ok(Some(without_port(a))),
        (None, host) => Ok(host.map(without_port)),
    }
}

/// `example.com` of `example.com:443`; brackets of an IPv6 address are taken off.
pub(crate) fn without_port(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// Whether two names are one host's: in any case, with or without the dot of a full name.
pub(crate) fn same_host(a: &str, b: &str) -> bool {
    let trimmed = |name| str::strip_suffix(name, ".").unwrap_or(name);
    trimmed(a).eq_ignore_ascii_case(trimmed(b))
}

/// Names made once: one given as text is parsed anew at every look.
static HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
];

/// Headers that speak of one connection, not of the message (RFC 9110, section 7.6.1), those named by `Connection`
/// included.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Those that `Connection` names beside the ones that always speak of a connection. Of a request they go before it is
/// looked at: what is judged is what the provider gets.
pub(crate) fn remove_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty() && !HOP_BY_HOP.iter().any(|known| v.eq_ignore_ascii_case(known.as_str())))
        .map(str::to_owned)
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
}

/// Whether the sender takes trailers: the one word that `TE` may say over HTTP/2 (RFC 9113, section 8.2.2).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let words = headers.get_all(header::TE).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    words.map(str::trim).any(|word| word.eq_ignore_ascii_case("trailers"))
}

pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// `application/json` of `application/json; charset=utf-8`.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split(';').next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn authority_and_host_must_agree() {
        let mut headers = HeaderMap::new();
        let uri: Uri = "https://api.openai.com/v1/models".parse().unwrap();
        assert_eq!(request_host(&uri, &headers), Ok(Some("api.openai.com")));
        headers.insert(header::HOST, HeaderValue::from_static("API.openai.com:443"));
        assert_eq!(request_host(&uri, &headers), Ok(Some("api.openai.com")));
        headers.insert(header::HOST, HeaderValue::from_static("api.anthropic.com"));
        assert_eq!(request_host(&uri, &headers), Err("api.anthropic.com".to_owned()));
        let path: Uri = "/v1/models".parse().unwrap();
        assert_eq!(request_host(&path, &headers), Ok(Some("api.anthropic.com")));
        headers.append(header::HOST, HeaderValue::from_static("api.openai.com"));
        assert!(request_host(&path, &headers).is_err(), "two Host headers");
        assert!(same_host("api.openai.com.", "API.openai.com") && !same_host("api.openai.com", "openai.com"));
    }

    #[test]
    fn ports_and_brackets_are_taken_off() {
        for (authority, host) in
            [("a.com", "a.com"), ("a.com:1", "a.com"), ("[::1]:443", "::1"), ("[::1]", "::1"), ("u:p@a.com:1", "a.com")]
        {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn what_connection_names_goes_too() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, X-Secret"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("x-other", HeaderValue::from_static("2"));
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key("x-other"));
    }
}
