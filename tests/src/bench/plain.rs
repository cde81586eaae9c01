//! The meter's own HTTP and TLS without the meter: terminates, forwards, looks at nothing.
//!
//! What it costs is what two TLS legs cost with these libraries; what the meter costs beyond it is metering.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use super::proxies::Upstream;

/// The command that runs it: this program again.
pub(super) fn prepare(folder: &Path, port: u16, upstream: &Upstream<'_>) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("plain").arg(folder).arg(port.to_string());
    command.arg(upstream.address.to_string()).arg(upstream.name).arg(upstream.ca);
    Ok(command)
}

/// `bench plain FOLDER PORT ADDRESS NAME CA`: serves until it is ended.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [folder, port, address, name, ca] = arguments else {
        anyhow::bail!("bench plain FOLDER PORT ADDRESS NAME CA");
    };
    let (folder, port, address): (&Path, u16, Ipv4Addr) = (folder.as_ref(), port.parse()?, address.parse()?);
    let dialler = Dialler::new((address, 443).into(), name, ca.as_ref())?;
    let acceptor = acceptor(folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(runtime.spawn(serve(port, acceptor, dialler)))?
}

async fn serve(port: u16, acceptor: TlsAcceptor, dialler: Dialler) -> anyhow::Result<()> {
    let name = dialler.name.to_str().into_owned();
    let client: Client<Dialler, Incoming> = Client::builder(TokioExecutor::new()).build(dialler);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        let (acceptor, client, name) = (acceptor.clone(), client.clone(), name.clone());
        tokio::spawn(async move {
            tcp.set_nodelay(true)?;
            let tls = acceptor.accept(tcp).await?;
            let service = service_fn(|request| forward(&client, &name, request));
            http1::Builder::new().serve_connection(TokioIo::new(tls), service).await?;
            anyhow::Ok(())
        });
    }
}

async fn forward(
    client: &Client<Dialler, Incoming>,
    name: &str,
    mut request: Request<Incoming>,
) -> anyhow::Result<Response<Incoming>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder().scheme("https").authority(name).path_and_query(path).build()?;
    request.headers_mut().remove(header::CONNECTION);
    Ok(client.request(request).await?)
}

fn acceptor(folder: &Path) -> anyhow::Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(folder.join("leaf.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("leaf.key"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

#[derive(Clone)]
struct Dialler {
    address: SocketAddr,
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Dialler {
    fn new(address: SocketAddr, name: &str, ca: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { address, name, connector: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(self) -> std::io::Result<Leg> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(Leg(TokioIo::new(self.connector.connect(self.name, tcp).await?)))
    }
}

impl tower_service::Service<Uri> for Dialler {
    type Response = Leg;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Leg>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// A connection to the upstream.
struct Leg(TokioIo<TlsStream<TcpStream>>);

impl Connection for Leg {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Leg {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Leg {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, slices)
    }
}
