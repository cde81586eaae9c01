//! One TLS connection to a provider, as HTTP/1.1 or HTTP/2, and one request over it.

use std::sync::{Arc, OnceLock};

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A connection that carries requests.
#[derive(Clone)]
pub enum Leg {
    Http1(Arc<tokio::sync::Mutex<http1::SendRequest<Full<Bytes>>>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A POST of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Post {
    pub host: String,
    pub path: String,
    pub body: String,
    /// Beside the content type and a key.
    pub headers: Vec<(String, String)>,
}

impl Post {
    /// A chat completion.
    pub fn chat(body: String) -> Self {
        Self { host: "api.openai.com".to_owned(), path: "/v1/chat/completions".to_owned(), body, headers: Vec::new() }
    }
}

impl Leg {
    /// Connects by name.
    pub async fn open(host: &str, http2: bool) -> anyhow::Result<Self> {
        let io = TokioIo::new(tls(host, http2).await?);
        if http2 {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            return Ok(Self::Http2(sender));
        }
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(Arc::new(tokio::sync::Mutex::new(sender))))
    }

    /// Sends a request and returns the answer's head with its body; over HTTP/1.1 one at a time.
    pub async fn send(&mut self, post: &Post) -> anyhow::Result<Response<Incoming>> {
        let version_2 = matches!(self, Self::Http2(_));
        let request = request(post, version_2)?;
        Ok(match self {
            Self::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }

    /// Sends a request and reads its answer to the end.
    pub async fn ask(&mut self, post: &Post) -> anyhow::Result<(u16, Bytes)> {
        let response = self.send(post).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Whether another request can be sent.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.try_lock().is_ok_and(|sender| !sender.is_closed()),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }
}

fn request(post: &Post, version_2: bool) -> anyhow::Result<Request<Full<Bytes>>> {
    let uri = if version_2 { format!("https://{}{}", post.host, post.path) } else { post.path.clone() };
    let mut request = Request::post(uri)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer test-key")
        .body(Full::new(Bytes::from(post.body.clone())))?;
    let headers = request.headers_mut();
    if !version_2 {
        headers.insert(header::HOST, HeaderValue::from_str(&post.host)?);
    }
    for (name, value) in &post.headers {
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?);
    }
    Ok(request)
}

/// A TLS connection by name.
pub async fn tls(host: &str, http2: bool) -> anyhow::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((host, 443)).await?;
    tcp.set_nodelay(true)?;
    let mut config = configuration()?.as_ref().clone();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    let name = ServerName::try_from(host.to_owned())?;
    Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
}

/// Read once: a bundle of all the system's roots takes milliseconds.
fn configuration() -> anyhow::Result<Arc<ClientConfig>> {
    static CONFIGURATION: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(known) = CONFIGURATION.get() {
        return Ok(Arc::clone(known));
    }
    let path = std::env::var("SSL_CERT_FILE").context("SSL_CERT_FILE names the roots")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path)? {
        // A system's bundle may hold roots that are no longer valid.
        let _ = roots.add(certificate?);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIGURATION.get_or_init(|| Arc::new(config))))
}
