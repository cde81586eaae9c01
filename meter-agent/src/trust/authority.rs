//! The certificate authorities: one for the built-in hosts and one per added host entry.
//!
//! Each carries critical name constraints (`scope.rs`), so that a stolen key can impersonate nothing but the hosts it
//! was made for. Its key is readable by root alone (`ca.rs`). A leaf names one host and lives eight days; it is made when
//! first asked for and kept in memory only.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use rustls::sign::CertifiedKey;

use super::{ca::Ca, scope::Scope};
use crate::{
    clock::{self, Timestamp},
    usage::hosts::HostTable,
};

/// Leaves kept at one time. A wildcard entry lets an agent invent names, so the store is bounded; past it, it starts anew.
const LEAVES_MAX: usize = 4_096;
/// Renewed at half of it.
pub(super) const LEAF_DAYS: i64 = 8;
pub(super) const DAY_SECONDS: i64 = 86_400;

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

#[cfg(test)]
mod tests {
    use std::{io::Write, net::IpAddr, os::unix::fs::PermissionsExt, process::Command};

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
