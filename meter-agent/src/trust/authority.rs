//! The certificate authorities: one for the built-in hosts and one per added host entry.
//!
//! Each carries critical name constraints, so that a stolen key can impersonate nothing but the hosts it was
//! made for. Keys are readable by root alone. A leaf names one host and lives eight days; it is made when first asked
//! for and kept in memory only.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::{
    clock::{self, Timestamp},
    usage::hosts::HostTable,
};

/// Leaves kept at one time. A wildcard entry lets an agent invent names, so the store is bounded; past it, it starts anew.
const LEAVES_MAX: usize = 4_096;
/// Ten years: the agent's bundle is made anew at each run, so a longer life would buy nothing.
const CA_DAYS: i64 = 3_650;
/// Renewed at half of it.
const LEAF_DAYS: i64 = 8;
const DAY_SECONDS: i64 = 86_400;
/// Clocks of containers and hosts differ by some minutes.
const BACKDATE_DAYS: i64 = 1;

#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    #[error("{path}: {source}; meter needs to keep its certificate authorities there")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not a key or certificate that meter wrote; remove the folder it is in, and new ones are made")]
    Damaged { path: PathBuf },
    #[error("certificate for {name}: {source}")]
    Make { name: String, source: rcgen::Error },
    #[error("no certificate authority is allowed to sign for {0}")]
    NotAllowed(String),
}

/// Signs for metered hosts.
pub struct Authority {
    data_dir: PathBuf,
    cas: RwLock<Vec<Arc<Ca>>>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

/// Certificate authorities that are open and not in use yet.
pub struct Opened(Vec<Arc<Ca>>);

impl Opened {
    /// The certificates that agents must trust, as PEM.
    pub fn pems(&self) -> Vec<String> {
        self.0.iter().map(|ca| ca.pem.clone()).collect()
    }
}

struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at: Timestamp,
}

struct Ca {
    /// Lower-case suffixes or addresses it may sign for.
    scope: Vec<Scope>,
    pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate authority may sign for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// A name and everything below it.
    Dns(String),
    Ip(IpAddr),
}

impl Scope {
    /// The narrowest name constraint that covers a host pattern: a `*` label, or a label with a `*` in it,
    /// leaves what stands to its right.
    fn of_pattern(pattern: &str) -> Self {
        let host = host_of(pattern);
        if let Ok(ip) = host.parse() {
            return Self::Ip(ip);
        }
        match host.rfind('*') {
            Some(star) => {
                let rest = &host[star..];
                Self::Dns(rest.split_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase())
            }
            None => Self::Dns(host.to_ascii_lowercase()),
        }
    }

    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Ip(ip) => host.parse() == Ok(*ip),
            Self::Dns(suffix) => {
                host == suffix || host.strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
            }
        }
    }

    fn subtree(&self) -> GeneralSubtree {
        match self {
            Self::Dns(name) => GeneralSubtree::DnsName(name.clone()),
            Self::Ip(IpAddr::V4(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V4(ip.octets(), [255; 4])),
            Self::Ip(IpAddr::V6(ip)) => GeneralSubtree::IpAddress(CidrSubnet::V6(ip.octets(), [255; 16])),
        }
    }
}

/// `name` of `name:port`, and of a bracketed IPv6 address.
fn host_of(entry: &str) -> &str {
    if let Some(rest) = entry.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match entry.rsplit_once(':') {
        Some((host, _)) if !host.contains(':') => host,
        Some(_) | None => entry,
    }
}

impl Authority {
    /// Opens the certificate authorities kept below `data_dir/ca`, making those that are not there yet. One whose
    /// hosts have changed is replaced.
    pub fn open(data_dir: &Path, hosts: &HostTable) -> Result<Self, TrustError> {
        let Opened(cas) = open(data_dir, hosts)?;
        Ok(Self { data_dir: data_dir.to_owned(), cas: RwLock::new(cas), leaves: Mutex::new(HashMap::new()) })
    }

    /// Opens those that other hosts need, as [`Self::open`] does; none of them signs yet.
    pub fn prepare(&self, hosts: &HostTable) -> Result<Opened, TrustError> {
        open(&self.data_dir, hosts)
    }

    /// Signs with these from now on.
    pub fn replace(&self, Opened(cas): Opened) {
        *self.cas.write() = cas;
        // What one that is gone has signed is not shown any more.
        self.leaves.lock().clear();
    }

    /// The certificates that agents must trust, as PEM.
    pub fn ca_pems(&self) -> Vec<String> {
        self.cas.read().iter().map(|ca| ca.pem.clone()).collect()
    }

    /// A certificate and key for one host name or address, signed by the narrowest authority that may.
    pub fn certified_key(&self, host: &str) -> Result<Arc<CertifiedKey>, TrustError> {
        let now = clock::now();
        if let Some(leaf) = self.leaves.lock().get(host)
            && now < leaf.renew_at
        {
            return Ok(Arc::clone(&leaf.key));
        }
        let narrowest = self.cas.read().iter().rev().find(|ca| ca.scope.iter().any(|s| s.covers(host))).cloned();
        let ca = narrowest.ok_or_else(|| TrustError::NotAllowed(host.to_owned()))?;
        let key = Arc::new(ca.leaf(host)?);
        let mut leaves = self.leaves.lock();
        if leaves.len() >= LEAVES_MAX {
            leaves.clear();
        }
        let renew_at = Timestamp::from_micros(now.micros() + LEAF_DAYS / 2 * DAY_SECONDS * 1_000_000);
        leaves.insert(host.to_owned(), Leaf { key: Arc::clone(&key), renew_at });
        Ok(key)
    }
}

fn open(data_dir: &Path, hosts: &HostTable) -> Result<Opened, TrustError> {
    let dir = data_dir.join("ca");
    fs::create_dir_all(&dir).map_err(|source| TrustError::Io { path: dir.clone(), source })?;
    let built_in: Vec<Scope> = hosts.built_in_names().iter().map(|name| Scope::of_pattern(name)).collect();
    let mut cas = vec![Arc::new(Ca::open(&dir, "builtin", "built-in hosts", built_in)?)];
    for entry in hosts.added() {
        let file: String = entry
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' })
            .collect();
        let scope = vec![Scope::of_pattern(&entry.name)];
        cas.push(Arc::new(Ca::open(&dir, &format!("host-{file}"), &entry.name, scope)?));
    }
    Ok(Opened(cas))
}

impl Ca {
    fn open(dir: &Path, file: &str, title: &str, scope: Vec<Scope>) -> Result<Self, TrustError> {
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

    fn leaf(&self, host: &str) -> Result<CertifiedKey, TrustError> {
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

/// Permits the scope and excludes every kind of name that the scope does not speak of: a constraint on DNS names
/// alone would leave addresses free.
fn constraints(scope: &[Scope]) -> NameConstraints {
    let any_v4 = GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4]));
    let any_v6 = GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16]));
    let permitted: Vec<GeneralSubtree> = scope.iter().map(Scope::subtree).collect();
    let names_address = scope.iter().any(|s| matches!(s, Scope::Ip(_)));
    let names_dns = scope.iter().any(|s| matches!(s, Scope::Dns(_)));
    let mut excluded = Vec::new();
    if !names_address {
        excluded.extend([any_v4, any_v6]);
    }
    if !names_dns {
        excluded.push(GeneralSubtree::DnsName(String::new()));
    }
    NameConstraints { permitted_subtrees: permitted, excluded_subtrees: excluded }
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls_pki_types::CertificateDer;

    use super::*;
    use crate::usage::hosts::HostEntry;

    fn hosts(names: &[&str]) -> HostTable {
        let entries: Vec<HostEntry> = names.iter().map(|n| HostEntry::new(*n, "openai")).collect();
        HostTable::new(&entries).unwrap()
    }

    fn pem(der: &CertificateDer<'_>) -> String {
        let out = Command::new("openssl")
            .args(["x509", "-inform", "DER", "-outform", "PEM"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .and_then(|mut child| {
                child.stdin.take().unwrap().write_all(der)?;
                child.wait_with_output()
            })
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    }

    /// What OpenSSL, at its strictest, says of a chain.
    fn strictly_verified(dir: &Path, ca: &str, leaf: &str, host: &str) -> bool {
        let (ca_path, leaf_path) = (dir.join("ca-under-test.pem"), dir.join("leaf-under-test.pem"));
        fs::write(&ca_path, ca).unwrap();
        fs::write(&leaf_path, leaf).unwrap();
        let kind = if host.parse::<IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
        let out = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", kind, host, "-CAfile"])
            .args([&ca_path, &leaf_path])
            .output()
            .unwrap();
        out.status.success()
    }

    #[test]
    fn chains_pass_the_strictest_verification() {
        let dir = tempfile::tempdir().unwrap();
        let authority =
            Authority::open(dir.path(), &hosts(&["*.openai.azure.com", "localhost:11434", "10.1.2.3"])).unwrap();
        for (host, ca) in [
            ("api.openai.com", 0),
            ("api.anthropic.com", 0),
            ("generativelanguage.googleapis.com", 0),
            ("mine.openai.azure.com", 1),
            ("localhost", 2),
            ("10.1.2.3", 3),
        ] {
            let key = authority.certified_key(host).unwrap();
            assert!(strictly_verified(dir.path(), &authority.ca_pems()[ca], &pem(&key.cert[0]), host), "{host}");
        }
    }

    #[test]
    fn no_authority_signs_beyond_its_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), &hosts(&["gateway.example.com"])).unwrap();
        for host in ["example.com", "evilapi.openai.com.example", "notgateway.example.com", "1.1.1.1"] {
            assert!(authority.certified_key(host).is_err(), "{host}");
        }
        // A stolen key is no use either: the constraint is in the certificate.
        for (host, ca) in [("bank.example.org", 0), ("9.9.9.9", 0), ("api.openai.com", 1)] {
            let forged = authority.cas.read()[ca].leaf(host).unwrap();
            assert!(!strictly_verified(dir.path(), &authority.ca_pems()[ca], &pem(&forged.cert[0]), host), "{host}");
        }
    }

    #[test]
    fn authorities_are_kept_their_keys_private_and_replaced_when_their_hosts_change() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), &hosts(&[])).unwrap().ca_pems();
        assert_eq!(Authority::open(dir.path(), &hosts(&[])).unwrap().ca_pems(), first);
        for entry in fs::read_dir(dir.path().join("ca")).unwrap() {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|e| e == "key") {
                assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        fs::write(dir.path().join("ca/builtin.scope"), "other hosts").unwrap();
        assert_ne!(Authority::open(dir.path(), &hosts(&[])).unwrap().ca_pems(), first);
        fs::write(dir.path().join("ca/builtin.key"), "garbage").unwrap();
        assert!(matches!(Authority::open(dir.path(), &hosts(&[])), Err(TrustError::Damaged { .. })));
    }

    #[test]
    fn a_host_that_comes_later_is_signed_for_once_it_is_put_into_use() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), &hosts(&[])).unwrap();
        assert!(authority.certified_key("llm.example.com").is_err());
        let more = authority.prepare(&hosts(&["llm.example.com"])).unwrap();
        assert!(authority.certified_key("llm.example.com").is_err());
        let (before, pems) = (authority.ca_pems(), more.pems());
        authority.replace(more);
        assert!(authority.certified_key("llm.example.com").is_ok());
        assert_eq!((&authority.ca_pems(), &pems[..1]), (&pems, &before[..]));
        authority.replace(authority.prepare(&hosts(&[])).unwrap());
        assert!(authority.certified_key("llm.example.com").is_err());
    }
}
