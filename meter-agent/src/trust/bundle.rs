//! The file of certificates that an account's programs trust: the system's roots, those that the user's
//! environment named, and meter's own authorities.
//!
//! Owns making and removing the file. It is public by nature (certificates only, mode 0644), written whole or not
//! at all, and lives as long as the account's cgroup.

use std::{
    collections::HashSet,
    fs, io,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::ids::AccountPath;

/// The largest set of extra roots and the largest file read for them. A full set of public roots has some 300 KB.
pub const BUNDLE_BYTES_MAX: usize = 2 << 20;

/// Where distributions keep their roots as one file; the first that exists is taken.
const SYSTEM_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Columns of a PEM body (RFC 7468, section 2).
const PEM_COLUMNS: usize = 64;

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
#[error("the trust bundle {path} can't be written ({source}); make room or permissions there")]
pub struct BundleError {
    path: PathBuf,
    source: io::Error,
}

/// The bundle's place: `research/nightly-7` is `research+nightly-7.pem`, and `+` occurs in no name.
pub fn path_of(trust_dir: &Path, account: &AccountPath) -> PathBuf {
    trust_dir.join(format!("{}.pem", account.as_str().replace('/', "+")))
}

/// Writes the account's bundle: the system's roots, `extra_roots_pem`, `authority_pems`; each certificate once.
pub fn write(
    trust_dir: &Path,
    account: &AccountPath,
    extra_roots_pem: &str,
    authority_pems: &[String],
) -> Result<PathBuf, BundleError> {
    let path = path_of(trust_dir, account);
    let authorities = authority_pems.iter().flat_map(|pem| certificates(pem.as_bytes()));
    let all = system_roots().into_iter().chain(certificates(extra_roots_pem.as_bytes())).chain(authorities);
    let failed = |source| BundleError { path: path.clone(), source };
    make_dir(trust_dir).map_err(failed)?;
    replace(&path, merged(all).as_bytes()).map_err(failed)?;
    Ok(path)
}

/// Adds authorities to every bundle there is that lacks one of them, for programs that start from now on.
pub fn add(trust_dir: &Path, authority_pems: &[String]) -> Result<(), BundleError> {
    let authorities: Vec<_> = authority_pems.iter().flat_map(|pem| certificates(pem.as_bytes())).collect();
    let files = fs::read_dir(trust_dir).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "pem")) {
        let failed = |source| BundleError { path: path.clone(), source };
        let known = certificates(&fs::read(&path).map_err(failed)?);
        if !authorities.iter().all(|authority| known.contains(authority)) {
            let all = known.into_iter().chain(authorities.iter().cloned());
            replace(&path, merged(all).as_bytes()).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes the account's bundle; one that is not there is fine.
pub fn remove(trust_dir: &Path, account: &AccountPath) {
    // A bundle left behind holds certificates and nothing else; the next run replaces it.
    let _ = fs::remove_file(path_of(trust_dir, account));
}

/// The certificates of a PEM text; whatever else it holds (keys, comments, damaged entries) is passed over.
pub fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).flatten().collect()
}

/// One certificate as PEM, in lines of 64 characters.
pub fn to_pem(cert: &CertificateDer<'_>) -> String {
    let body = base64(cert);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(PEM_COLUMNS) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The distribution's own roots. The environment of the daemon is not asked, because it is not the agent's.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    let from_file = SYSTEM_FILES.iter().find_map(|file| fs::read(file).ok());
    match from_file {
        Some(pem) => certificates(&pem),
        None => rustls_native_certs::load_native_certs().certs,
    }
}

fn merged(all: impl Iterator<Item = CertificateDer<'static>>) -> String {
    let mut seen = HashSet::new();
    let mut pem = String::new();
    for cert in all {
        let text = to_pem(&cert);
        if seen.insert(cert) {
            pem.push_str(&text);
        }
    }
    pem
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    // The daemon's umask must not hide the bundles from the users that read them.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&fresh)?;
    file.write_all(bytes)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    fs::rename(&fresh, path)
}

/// RFC 4648, section 4, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let sextet = (bits >> (18 - 6 * place)) & 63;
            text.push(if place > group.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A certificate's bytes are not looked into here, so any will do.
    pub(crate) fn certificate(word: &str) -> CertificateDer<'static> {
        CertificateDer::from(format!("certificate {word} {}", "x".repeat(100)).into_bytes())
    }

    pub(crate) fn pem(word: &str) -> String {
        to_pem(&certificate(word))
    }

    #[test]
    fn bundles_of_running_tasks_get_an_authority_that_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let account: AccountPath = "a/t".parse().unwrap();
        let path = write(dir.path(), &account, &pem("own"), &[pem("first")]).unwrap();
        add(dir.path(), &[pem("first"), pem("second")]).unwrap();
        let found = certificates(&fs::read(&path).unwrap());
        for name in ["own", "first", "second"] {
            let wanted = certificates(pem(name).as_bytes()).remove(0);
            assert_eq!(found.iter().filter(|cert| **cert == wanted).count(), 1, "{name}");
        }
        add(&dir.path().join("none"), &[pem("first")]).unwrap();
    }

    #[test]
    fn base64_pads_as_the_rfc_says() {
        let vectors = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, encoded) in vectors {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn a_certificate_survives_the_round_trip_through_pem() {
        assert_eq!(certificates(pem("a").as_bytes()), [certificate("a")]);
        assert!(pem("a").lines().all(|line| line.len() <= PEM_COLUMNS));
    }

    #[test]
    fn the_bundle_holds_every_source_once_and_is_readable_by_all() {
        let dir = tempfile::tempdir().unwrap();
        let account: AccountPath = "research/nightly-7".parse().unwrap();
        let extra = format!("{}{}", pem("user"), pem("user"));
        let path = write(dir.path(), &account, &extra, &[pem("authority"), pem("user")]).unwrap();
        assert_eq!(path, dir.path().join("research+nightly-7.pem"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        let found = certificates(&fs::read(&path).unwrap());
        let system = system_roots();
        for cert in [certificate("user"), certificate("authority")] {
            assert_eq!(found.iter().filter(|c| **c == cert).count(), 1);
        }
        assert!(system.iter().all(|c| found.contains(c)));
        remove(dir.path(), &account);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn keys_and_damage_in_the_users_file_are_passed_over() {
        let text = format!(
            "# note\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n{}-----BEGIN CERTIFICATE-----\nAA",
            pem("good")
        );
        assert_eq!(certificates(text.as_bytes()), [certificate("good")]);
    }
}
