//! TLS on both legs: certificates made for the agent's side, verified certificates on the provider's.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::ProxyError;
use crate::trust::Authority;

/// TLS sessions kept for resumption per upstream pool: one provider hands out a few at a time.
const SESSIONS_PER_POOL: usize = 8;

/// Signs for the name that the agent asks for, as far as an authority may.
struct Minted {
    authority: Arc<Authority>,
    /// For an agent that asks for none: the address it dialled.
    unnamed: Option<String>,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted").field("unnamed", &self.unnamed).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Minted {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let name = named.or_else(|| self.unnamed.clone())?;
        self.authority
            .certified_key(&name)
            .inspect_err(|error| warn!(%name, %error, "no certificate for a metered host"))
            .ok()
    }
}

/// The agent's leg: HTTP/2 or HTTP/1.1, as the agent wants.
pub(crate) struct AgentTls {
    config: Arc<ServerConfig>,
    authority: Arc<Authority>,
}

impl AgentTls {
    pub(crate) fn new(authority: Arc<Authority>) -> Result<Self, ProxyError> {
        let resolver = Minted { authority: Arc::clone(&authority), unnamed: None };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self { config: Arc::new(config), authority })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// For a hello without a name: the certificate is for `address`.
    pub(crate) fn acceptor_for(&self, address: String) -> TlsAcceptor {
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(Minted { authority: Arc::clone(&self.authority), unnamed: Some(address) });
        TlsAcceptor::from(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The roots that a provider's certificate is verified against: the system's and the configured ones.
pub(crate) fn client_roots(extra: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, ProxyError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(extra.iter().cloned());
    if roots.is_empty() { Err(ProxyError::NoRoots) } else { Ok(Arc::new(roots)) }
}

/// The provider's leg, for one pool. Sessions are resumed within the pool only, since agents share nothing.
pub(crate) fn client_config(roots: Arc<RootCertStore>, http2: bool) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    config.resumption = Resumption::in_memory_sessions(SESSIONS_PER_POOL);
    Ok(Arc::new(config))
}
