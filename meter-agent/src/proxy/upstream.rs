//! The providers' side: dialling, verified TLS, and a pool per agent, address, name and protocol.
//!
//! Agents share no connection, so no provider can tie two of them together by one and no answer can reach another.
//! Nothing that may have left is ever sent twice: only a request that a pooled connection refused untouched
//! is given to another.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use dashmap::DashMap;
use http::{Request, Response, Uri};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::RootCertStore;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{body::RequestBody, stream, tls};
use crate::clock;

/// As long as Linux tries by itself before it calls a host unreachable would be two minutes; no agent waits for that.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// After this long the name's other addresses are tried beside the one that the agent asked for (RFC 8305, section 5).
const FALLBACK_AFTER: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 8;
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A provider that takes no byte for so long is gone. By itself Linux tries for a quarter of an hour (`tcp_retries2`).
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(90);
/// Shorter than the idle time of the providers' front ends, so that a pooled connection is seldom found closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Idle connections kept per pool.
const IDLE_PER_POOL: usize = 32;
/// Pools kept at one time; those that have been idle the longest go first.
const POOLS_MAX: usize = 4_096;
/// Flow-control windows: a long answer must not wait for a round trip every 64 KiB.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Which upstream connections a request may use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) agent: String,
    pub(crate) netns_cookie: u64,
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) tls: bool,
    /// HTTP/2 is offered, because the agent speaks it.
    pub(crate) http2: bool,
}

pub(crate) struct Pools {
    roots: Arc<RootCertStore>,
    pools: DashMap<PoolKey, Pool>,
}

struct Pool {
    client: Client<Dialler, RequestBody>,
    used_ns: AtomicU64,
}

impl Pools {
    pub(crate) fn new(roots: Arc<RootCertStore>) -> Self {
        Self { roots, pools: DashMap::new() }
    }

    /// Sends a request, whose URI is absolute, over a pooled or a new connection.
    pub(crate) async fn send(
        &self,
        key: &PoolKey,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, SendError> {
        let client = self.client(key)?;
        client.request(request).await.map_err(SendError::Http)
    }

    fn client(&self, key: &PoolKey) -> Result<Client<Dialler, RequestBody>, SendError> {
        let now = clock::monotonic_ns();
        if let Some(pool) = self.pools.get(key) {
            pool.used_ns.store(now, Ordering::Relaxed);
            return Ok(pool.client.clone());
        }
        if self.pools.len() >= POOLS_MAX {
            self.evict(now);
        }
        let dialler = Dialler::new(key, &self.roots).map_err(SendError::Setup)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_POOL)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(key.http2 && !key.tls)
            .http1_preserve_header_case(true)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build(dialler);
        let pool = Pool { client: client.clone(), used_ns: AtomicU64::new(now) };
        self.pools.insert(key.clone(), pool);
        Ok(client)
    }

    /// Drops the pools that hold no connection worth keeping, and the oldest half where that is not enough.
    fn evict(&self, now: u64) {
        let idle = u64::try_from(IDLE_MAX.as_nanos()).unwrap_or(u64::MAX);
        self.pools.retain(|_, pool| now.saturating_sub(pool.used_ns.load(Ordering::Relaxed)) < idle);
        if self.pools.len() >= POOLS_MAX {
            let mut used: Vec<u64> = self.pools.iter().map(|p| p.used_ns.load(Ordering::Relaxed)).collect();
            used.sort_unstable();
            let median = used[used.len() / 2];
            self.pools.retain(|_, pool| pool.used_ns.load(Ordering::Relaxed) > median);
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("TLS set-up: {0}")]
    Setup(io::Error),
    #[error(transparent)]
    Http(Error),
}

impl SendError {
    /// Text for people: the innermost cause says most.
    pub(crate) fn cause(&self) -> String {
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            error = source;
        }
        error.to_string()
    }
}

/// Connects to the address that the agent asked for. What the agent set on its own socket against a peer that vanishes
/// ends at the sidecar, so that the sidecar looks after the peer in its place.
pub(crate) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = tokio::time::timeout(DIAL_MAX, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))))?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_keepalive(&stream::keepalive())?;
    Ok(tcp)
}

/// Makes the connections of one pool. The client takes a clone of it for every request.
#[derive(Clone)]
struct Dialler(Arc<Way>);

struct Way {
    address: SocketAddr,
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dialler {
    fn new(key: &PoolKey, roots: &Arc<RootCertStore>) -> io::Result<Self> {
        let tls = if key.tls {
            let config = tls::client_config(Arc::clone(roots), key.http2).map_err(io::Error::other)?;
            let name = ServerName::try_from(key.host.clone()).map_err(io::Error::other)?;
            Some((TlsConnector::from(config), name))
        } else {
            None
        };
        Ok(Self(Arc::new(Way { address: key.address, host: key.host.clone(), tls })))
    }

    async fn connect(self) -> io::Result<Upstream> {
        let Way { address, host, tls } = &*self.0;
        let tcp = dial_any(*address, host).await?;
        SockRef::from(&tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
        let Some((connector, name)) = tls else {
            return Ok(Upstream::Plain(TokioIo::new(tcp)));
        };
        let tls = tokio::time::timeout(HANDSHAKE_MAX, connector.connect(name.clone(), tcp))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long")))?;
        Ok(Upstream::Tls(Box::new(TokioIo::new(tls))))
    }
}

/// The address that the agent asked for, and the name's other addresses where that one fails or is slow: a
/// redirected connect always succeeds, so the agent's own fallback never starts.
async fn dial_any(asked: SocketAddr, host: &str) -> io::Result<TcpStream> {
    let others = async {
        let resolved = tokio::net::lookup_host((host, asked.port())).await;
        resolved.into_iter().flatten().filter(|a| *a != asked).take(ADDRESSES_MAX).collect()
    };
    first_of(dial(asked), others).await
}

/// The asked one has a start of [`FALLBACK_AFTER`]. Nothing keeps it waiting, not even a name server that does not answer.
async fn first_of(
    asked: impl Future<Output = io::Result<TcpStream>>,
    others: impl Future<Output = Vec<SocketAddr>>,
) -> io::Result<TcpStream> {
    tokio::pin!(asked);
    let asked_error = match tokio::time::timeout(FALLBACK_AFTER, &mut asked).await {
        Ok(Ok(tcp)) => return Ok(tcp),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let fallback = async {
        let mut dialled = JoinSet::new();
        for address in others.await {
            dialled.spawn(dial(address));
        }
        while let Some(done) = dialled.join_next().await {
            if let Ok(Ok(tcp)) = done {
                return Some(tcp);
            }
        }
        None
    };
    tokio::pin!(fallback);
    if let Some(error) = asked_error {
        return fallback.await.ok_or(error);
    }
    tokio::select! {
        tcp = &mut asked => match tcp {
            Ok(tcp) => Ok(tcp),
            Err(error) => fallback.await.ok_or(error),
        },
        tcp = &mut fallback => match tcp {
            Some(tcp) => Ok(tcp),
            None => asked.await,
        },
    }
}

impl tower_service::Service<Uri> for Dialler {
    type Response = Upstream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Upstream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection to a provider.
pub(crate) enum Upstream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Upstream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tls(io) if io.inner().get_ref().1.alpn_protocol() == Some(b"h2") => Connected::new().negotiated_h2(),
            Self::Plain(_) | Self::Tls(_) => Connected::new(),
        }
    }
}

impl Read for Upstream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl Write for Upstream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::net::TcpListener;

    use super::*;

    async fn slow(address: SocketAddr) -> io::Result<TcpStream> {
        tokio::time::sleep(FALLBACK_AFTER * 2).await;
        dial(address).await
    }

    #[tokio::test]
    async fn an_address_that_is_slow_waits_for_no_name_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let reached = tokio::time::timeout(DIAL_MAX, first_of(slow(address), pending())).await;
        assert_eq!(reached.unwrap().unwrap().peer_addr().unwrap(), address);
    }

    #[tokio::test]
    async fn an_address_that_is_dead_or_silent_is_replaced_by_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for silent in [false, true] {
            let asked = async { if silent { pending().await } else { Err(io::ErrorKind::ConnectionRefused.into()) } };
            let reached = first_of(asked, ready(vec![address])).await.unwrap();
            assert_eq!(reached.peer_addr().unwrap(), address);
        }
        let refused = first_of(ready(Err(io::ErrorKind::ConnectionRefused.into())), ready(Vec::new())).await;
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
