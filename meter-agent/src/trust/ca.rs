//! One certificate authority: its key and certificate on disk, and the leaves that it signs.
//!
//! The key is readable by root alone. It is replaced where it was made for another scope.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{
    authority::{DAY_SECONDS, LEAF_DAYS, TrustError},
    scope::{Scope, constraints},
};
use crate::clock;

/// Ten years: the agent's bundle is made anew at each run, so a longer life would buy nothing.
const CA_DAYS: i64 = 3_650;
/// Clocks of containers and hosts differ by some minutes.
const BACKDATE_DAYS: i64 = 1;

pub(super) struct Ca {
    /// Lower-case suffixes or addresses it may sign for.
    pub(super) scope: Vec<Scope>,
    pub(super) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn open(dir: &Path, file: &str, title: &str, scope: Vec<Scope>) -> Result<Self, TrustError> {
        let cert_path = dir.join(format!("{file}.pem"));
        let key_path = dir.join(format!("{file}.key"));
        let scope_path = dir.join(format!("{file}.scope"));
        let fingerprint = format!("{scope:?}\n");
        let known = fs::read_to_string(&scope_path).is_ok_and(|kept| kept == fingerprint);
        if known && cert_path.exists() && key_path.exists() {
            return Self::load(&cert_path, &key_path, scope);
        }
        let made = Self::make(title, &scope).map_err(|source| TrustError::Make { name: title.to_owned(), source })?;
        let (cert_pem, key_pem) = made;
        // The scope is written last: without it, what came before is made again.
        write(&key_path, key_pem.as_bytes(), 0o600)?;
        write(&cert_path, cert_pem.as_bytes(), 0o644)?;
        write(&scope_path, fingerprint.as_bytes(), 0o644)?;
        Self::load(&cert_path, &key_path, scope)
    }

    fn make(title: &str, scope: &[Scope]) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&format!("meter CA ({title})"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = Some(constraints(scope));
        validity(&mut params, CA_DAYS);
        let cert = params.self_signed(&key)?;
        Ok((cert.pem(), key.serialize_pem()))
    }

    fn load(cert_path: &Path, key_path: &Path, scope: Vec<Scope>) -> Result<Self, TrustError> {
        let read =
            |path: &Path| fs::read_to_string(path).map_err(|source| TrustError::Io { path: path.to_owned(), source });
        let pem = read(cert_path)?;
        let damaged = |path: &Path| TrustError::Damaged { path: path.to_owned() };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| damaged(cert_path))?;
        let key = KeyPair::from_pem(&read(key_path)?).map_err(|_| damaged(key_path))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|_| damaged(cert_path))?;
        Ok(Self { scope, pem, der, issuer })
    }

    pub(super) fn leaf(&self, host: &str) -> Result<CertifiedKey, TrustError> {
        let failed = |source| TrustError::Make { name: host.to_owned(), source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
        // A common name that looks like a host name is held against the name constraints (OpenSSL), so an address is
        // written as something that does not.
        let common = if host.parse::<IpAddr>().is_ok() { format!("address {host}") } else { host.to_owned() };
        params.distinguished_name = name(&common);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        validity(&mut params, LEAF_DAYS);
        let cert = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let signing = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = aws_lc_rs::sign::any_supported_type(&signing)
            .map_err(|_| failed(rcgen::Error::KeyGenerationUnavailable))?;
        Ok(CertifiedKey::new(vec![cert.der().clone(), self.der.clone()], signing))
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut dn = DistinguishedName::new();
    // A common name longer than 64 characters is not valid X.520.
    dn.push(DnType::CommonName, common.chars().take(64).collect::<String>());
    dn.push(DnType::OrganizationName, "meter");
    dn
}

fn validity(params: &mut CertificateParams, days: i64) {
    let now = clock::now().micros() / 1_000_000;
    let at = |unix_seconds| {
        time::OffsetDateTime::from_unix_timestamp(unix_seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(now - BACKDATE_DAYS * DAY_SECONDS);
    params.not_after = at(now + days * DAY_SECONDS);
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TrustError> {
    let failed = |source| TrustError::Io { path: path.to_owned(), source };
    let fresh = path.with_extension("new");
    let _ = fs::remove_file(&fresh);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).map_err(failed)?;
    fs::rename(&fresh, path).map_err(failed)
}
