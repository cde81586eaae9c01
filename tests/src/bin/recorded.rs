//! `recorded CASES.json`: an agent that sends recorded requests, each to its own host, and prints what differs from the
//! recorded answers.
//!
//! The file is a list of `[host, case id]`. Trusts what `SSL_CERT_FILE` names, as programs do. A case's line is its id,
//! the status, and `same` or `differs`.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use meter_agent::usage::strip::UsageStripper;
use meter_tests::{
    recorded::{Case, folder},
    simulator::recorded::CASE_HEADER,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let list = std::env::args().nth(1).context("usage: recorded CASES.json")?;
    let list: Vec<(String, String)> = serde_json::from_slice(&fs::read(&list).context(list)?)?;
    let folder = folder();
    for (host, id) in list {
        let case = Case::load(&folder, &id);
        let (status, body) = exchange(&host, &case).await.with_context(|| id.clone())?;
        let recorded = case.response_bytes();
        // Some providers tell usage unasked; where the meter asked, that event is taken for the answer to it.
        let same = body == recorded || (case.streaming && body == without_usage(recorded));
        println!("{id} {status} {}", if same { "same" } else { "differs" });
    }
    Ok(())
}

/// A stream as the agent sees it where the meter asked for usage on its behalf.
fn without_usage(stream: Vec<u8>) -> Bytes {
    let mut stripper = UsageStripper::new();
    let mut left = stripper.push(stream.into()).concat();
    left.extend(stripper.finish().unwrap_or_default());
    left.into()
}

/// Headers that are this connection's own.
const OWN: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "accept-encoding", "te"];

#[expect(clippy::disallowed_methods, reason = "the ban is the product's: these tasks end with their connection")]
async fn exchange(host: &str, case: &Case) -> anyhow::Result<(u16, Bytes)> {
    let grpc = case.transport == "grpc";
    let stream = TcpStream::connect((host, 443)).await?;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = connector(if grpc { b"h2" } else { b"http/1.1" })?.connect(name, stream).await?;
    let request = request(host, case, grpc)?;
    let answer = if grpc {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(request).await?
    };
    let status = answer.status().as_u16();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}

fn request(host: &str, case: &Case, grpc: bool) -> anyhow::Result<Request<Full<Bytes>>> {
    // Recorders put names of their own in angle brackets into some paths.
    let path = case.path.replace('<', "%3C").replace('>', "%3E").replace(' ', "%20");
    let uri = if grpc { format!("https://{host}{path}") } else { path };
    let mut builder = Request::builder().method(case.method.as_str()).uri(uri).header(CASE_HEADER, &case.id);
    if !grpc {
        builder = builder.header(header::HOST, host);
    }
    for (name, value) in &case.request_headers {
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        if !OWN.iter().any(|own| name.eq_ignore_ascii_case(own)) && !name.starts_with(':') {
            builder = builder.header(name, value);
        }
    }
    Ok(builder.body(Full::new(Bytes::from(case.request_bytes())))?)
}

fn connector(alpn: &[u8]) -> anyhow::Result<TlsConnector> {
    let file = std::env::var_os("SSL_CERT_FILE").context("SSL_CERT_FILE names no roots")?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(Path::new(&file))? {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        bail!("SSL_CERT_FILE has no roots");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
