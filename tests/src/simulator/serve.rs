//! Connections and requests: TLS or plain, HTTP/1.1 or HTTP/2, kept alive, each exchange in the log.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::{
    apis::{self, Api},
    background,
    body::{self, Answer},
    directive::{Directive, Encoding},
    extreme, grpc, grpc_chat,
    log::{End, Entry, Exchange, Log, now_ms},
    paid, plain, realtime, recorded,
    turn::{Asked, Turn},
};

/// Numbers turns, so that ids in answers are unique and short.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Serves TLS connections; those for `echo_names` get their bytes back.
pub async fn tls(listener: TcpListener, acceptor: TlsAcceptor, echo_names: Vec<String>, log: Arc<Log>) {
    let echo_names = Arc::new(echo_names);
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        if let Ok(local) = stream.local_addr() {
            log.connection(local, peer);
        }
        let _ = stream.set_nodelay(true);
        let (acceptor, echo_names, log) = (acceptor.clone(), echo_names.clone(), log.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let name = stream.get_ref().1.server_name().unwrap_or_default();
            if echo_names.iter().any(|echo| echo == name) {
                plain::echo(stream).await;
            } else {
                let socket = stream.get_ref().0.as_fd().try_clone_to_owned();
                connection(stream, socket, peer, true, log).await;
            }
        });
    }
}

/// Serves plain HTTP connections.
pub async fn http(listener: TcpListener, log: Arc<Log>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        if let Ok(local) = stream.local_addr() {
            log.connection(local, peer);
        }
        let _ = stream.set_nodelay(true);
        let socket = stream.as_fd().try_clone_to_owned();
        tokio::spawn(connection(stream, socket, peer, false, log.clone()));
    }
}

tokio::task_local! {
    /// The connection's own socket, for an exchange that ends it by a reset. HTTP/2 has tasks of its own for its
    /// streams, and resets those.
    static SOCKET: OwnedFd;
}

/// From here on the connection ends by a reset.
fn end_by_reset() {
    let _ = SOCKET.try_with(|socket| set_socket_linger(socket, Some(Duration::ZERO)));
}

async fn connection<S>(stream: S, socket: io::Result<OwnedFd>, peer: SocketAddr, tls: bool, log: Arc<Log>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let log = log.clone();
        async move { exchange(request, peer, tls, log).await.ok_or_else(|| io::Error::other("cut by its directive")) }
    });
    // A connection that breaks has been logged by the exchange it broke.
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving = async { drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await) };
    match socket {
        Ok(socket) => SOCKET.scope(socket, serving).await,
        Err(_) => serving.await,
    }
}

/// Answers one request; or nothing, where the connection is to break.
async fn exchange(request: Request<Incoming>, peer: SocketAddr, tls: bool, log: Arc<Log>) -> Option<Response<Answer>> {
    let (mut parts, incoming) = request.into_parts();
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    let body = incoming.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let parsed: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let record = Exchange {
        time_ms: now_ms(),
        host: host(&parts.uri, &parts.headers),
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        requested_model: String::new(),
        model: String::new(),
        version: format!("{:?}", parts.version),
        tls,
        peer,
        request_bytes: body.len(),
        request: parsed.clone(),
        authorized: ["authorization", "x-api-key", "x-goog-api-key"].iter().any(|n| parts.headers.contains_key(*n)),
        accept_encoding: parts.headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).map(str::to_owned),
        stream: false,
        status: 200,
        encoding: None,
        billed: super::turn::Billed::default(),
        usage_sent: false,
        response_bytes: 0,
        request_id: format!("req_sim{id:08}"),
        end: End::ClientGone,
    };
    if let Some(case) = parts.headers.get(recorded::CASE_HEADER).and_then(|v| v.to_str().ok()) {
        return Some(recorded::answer(&crate::recorded::folder(), case, record, log));
    }
    if let Some(name) = parts.headers.get(extreme::EXTREME_HEADER).and_then(|v| v.to_str().ok()) {
        return Some(extreme::answer(name, record, log).await);
    }
    if realtime::is_asked(&parts) {
        return Some(realtime::upgrade(&mut parts, record, log));
    }
    if path == grpc_chat::PATH {
        return Some(grpc_chat::answer(&body, id, record, log));
    }
    if grpc::is_asked(&parts.headers) {
        return Some(grpc::answer(&parts.headers, &body, record, log));
    }
    if path == paid::PATH {
        return Some(paid::answer(&parts.headers, record, log));
    }
    if let Some(response) = background::find(&parts.method, &path) {
        return Some(stored(response, record, log));
    }
    if parts.method == "POST"
        && let Some(api) = apis::find(&path)
    {
        if let Err(message) = api.admits(&parts, &body) {
            return Some(refuse(api, 403, &message, &Directive::default(), record, log));
        }
        return match understand(api, &path, &query, &parsed) {
            Ok((asked, directive)) => answer(api, &asked, &directive, id, record, log).await,
            Err(message) => Some(refuse(api, 400, &message, &Directive::default(), record, log)),
        };
    }
    Some(other(&path, record, log))
}

fn understand(api: &dyn Api, path: &str, query: &str, body: &Value) -> Result<(Asked, Directive), String> {
    let asked = api.read(path, query, body)?;
    let directive = Directive::find(&asked.last_text)?;
    Ok((asked, directive))
}

/// An API's answer, as the directive wants it.
async fn answer(
    api: &dyn Api,
    asked: &Asked,
    directive: &Directive,
    id: u64,
    mut record: Exchange,
    log: Arc<Log>,
) -> Option<Response<Answer>> {
    if directive.reset {
        end_by_reset();
    }
    if directive.ttfb_ms > 0 {
        tokio::time::sleep(Duration::from_millis(directive.ttfb_ms)).await;
    }
    record.requested_model.clone_from(&asked.model);
    if let Some(status @ 400..) = directive.status {
        return Some(refuse(api, status, "refused by its directive", directive, record, log));
    }
    let turn = Turn::new(asked, directive, id, record.time_ms / 1000);
    record.model.clone_from(&turn.model);
    record.billed = turn.billed;
    record.stream = asked.stream;
    record.usage_sent = !asked.stream || api.stream_tells_usage(&turn);
    record.status = directive.status.unwrap_or(200);
    if directive.cut_head {
        record.end = End::Cut;
        log.write(&Entry::Exchange(Box::new(record)));
        return None;
    }
    if asked.background {
        record.billed = super::turn::Billed::default();
        let queued = background::order(&turn, api.whole(&turn));
        return Some(stored(queued, record, log));
    }
    let pieces = if asked.stream {
        api.events(&turn).into_iter().map(Bytes::from).collect()
    } else {
        split(api.whole(&turn).to_string(), directive)
    };
    let kind = if asked.stream { api.stream_type() } else { "application/json" };
    let head = Head { kind, id_header: api.request_id_header(), more: api.headers(&turn, asked.stream) };
    Some(respond(pieces, &head, directive, record, log).await)
}

/// A plain body in as many pieces as the directive counts; in two where it is to break or hang.
fn split(body: String, directive: &Directive) -> Vec<Bytes> {
    let default = if directive.hang || directive.cut_after.is_some() { 2 } else { 1 };
    let count = directive.chunks.unwrap_or(default).max(1);
    let length = body.len().div_ceil(count).max(1);
    let body = Bytes::from(body);
    (0..body.len()).step_by(length).map(|at| body.slice(at..body.len().min(at + length))).collect()
}

fn refuse(
    api: &dyn Api,
    status: u16,
    message: &str,
    directive: &Directive,
    mut record: Exchange,
    log: Arc<Log>,
) -> Response<Answer> {
    record.status = status;
    let body = Bytes::from(api.error(status, message).to_string());
    let head = Head { kind: "application/json", id_header: api.request_id_header(), more: api.error_headers(status) };
    response(vec![body], &head, directive, record, log)
}

/// A response as it stands now.
fn stored(found: background::Found, mut record: Exchange, log: Arc<Log>) -> Response<Answer> {
    record.model = found.model;
    record.billed = found.billed;
    record.usage_sent = found.done;
    let body = Bytes::from(found.body.to_string());
    response(vec![body], &Head::plain("application/json"), &Directive::default(), record, log)
}

/// What is no model's: the list of models, a paid search or lookup, a download of a given size, or a greeting.
fn other(path: &str, record: Exchange, log: Arc<Log>) -> Response<Answer> {
    let (kind, body) = if path == "/v1/models" {
        let model = json!({"id": "gpt-4o", "object": "model", "created": 1_715_367_049, "owned_by": "system"});
        ("application/json", json!({"object": "list", "data": [model]}).to_string())
    } else if let Some(stated) = paid::stated(path) {
        ("application/json", stated.to_string())
    } else if let Some(size) = path.strip_prefix("/size/").and_then(|size| size.parse().ok()) {
        ("application/octet-stream", "x".repeat(size))
    } else {
        ("text/plain", "simulator\n".to_owned())
    };
    response(vec![Bytes::from(body)], &Head::plain(kind), &Directive::default(), record, log)
}

/// What an answer's headers say beside what its record knows.
struct Head {
    kind: &'static str,
    /// Name of the header with the exchange's id.
    id_header: &'static str,
    more: Vec<(&'static str, String)>,
}

impl Head {
    fn plain(kind: &'static str) -> Self {
        Self { kind, id_header: "x-request-id", more: Vec::new() }
    }
}

async fn respond(
    mut pieces: Vec<Bytes>,
    head: &Head,
    directive: &Directive,
    mut record: Exchange,
    log: Arc<Log>,
) -> Response<Answer> {
    if let Some(encoding) = directive.encoding.filter(|encoding| accepts(&record, *encoding)) {
        pieces = body::compress(pieces, encoding).await.expect("compressing into memory does not fail");
        record.encoding = Some(encoding.token().to_owned());
    }
    response(pieces, head, directive, record, log)
}

fn response(
    pieces: Vec<Bytes>,
    head: &Head,
    directive: &Directive,
    record: Exchange,
    log: Arc<Log>,
) -> Response<Answer> {
    let mut builder = Response::builder()
        .status(StatusCode::from_u16(record.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header(header::CONTENT_TYPE, head.kind)
        .header(head.id_header, &record.request_id)
        .header(header::SERVER, "simulator");
    for (name, value) in &head.more {
        builder = builder.header(*name, value);
    }
    if let Some(encoding) = &record.encoding {
        builder = builder.header(header::CONTENT_ENCODING, encoding).header(header::VARY, "Accept-Encoding");
    }
    if !record.stream {
        builder = builder.header(header::CONTENT_LENGTH, pieces.iter().map(Bytes::len).sum::<usize>());
    }
    let answer = Answer::start(pieces, directive, record, log);
    builder.body(answer).expect("every header above is a valid one")
}

fn accepts(record: &Exchange, encoding: Encoding) -> bool {
    let accepted = record.accept_encoding.as_deref().unwrap_or_default();
    accepted.split(',').any(|item| item.trim().split(';').next() == Some(encoding.token()))
}

fn host(uri: &http::Uri, headers: &HeaderMap) -> String {
    let header = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.host().or(header).unwrap_or_default().to_owned()
}
