//! The environment variables by which programs are told which certificates to trust.
//!
//! Owns the table and what is read from the variables that the user had already set; writes nothing. Runs as the
//! user, inside `meter run`: what the user can't read is not sent to the daemon.
//!
//! `SSL_CERT_DIR` is read and left as it is: every runtime that knows it reads `SSL_CERT_FILE` as well, and what
//! the directories hold is in the bundle.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::bundle::{self, BUNDLE_BYTES_MAX};

/// What a variable names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A PEM file (or a directory of them, which a few runtimes accept in the same variable); set to the bundle.
    File,
    /// Directories of PEM files, separated by colons; only read.
    Directories,
}

/// One variable and who reads it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    pub names: Names,
}

const fn file(name: &'static str) -> Variable {
    Variable { name, names: Names::File }
}

/// Every variable that the common runtimes read; a runtime more is a line more.
pub const VARIABLES: [Variable; 12] = [
    // OpenSSL, and through it Python's ssl, Ruby, PHP and httpx; Go; rustls-native-certs.
    file("SSL_CERT_FILE"),
    Variable { name: "SSL_CERT_DIR", names: Names::Directories },
    // Python's requests.
    file("REQUESTS_CA_BUNDLE"),
    // curl and libcurl's bindings.
    file("CURL_CA_BUNDLE"),
    // Node.js and Bun: beside the roots they carry.
    file("NODE_EXTRA_CA_CERTS"),
    // git over libcurl.
    file("GIT_SSL_CAINFO"),
    // The AWS SDKs and boto3.
    file("AWS_CA_BUNDLE"),
    file("PIP_CERT"),
    file("DENO_CERT"),
    file("CARGO_HTTP_CAINFO"),
    // gRPC's C core and its bindings, google-genai's transport among them.
    file("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
    // Programs built by Nix look here before SSL_CERT_FILE.
    file("NIX_SSL_CERT_FILE"),
];

/// Files looked at in one directory; a directory of hashed roots has some 300.
const DIRECTORY_FILES_MAX: usize = 4_096;

/// The variables to set for a command, all naming the bundle.
pub fn announce(bundle: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    VARIABLES.iter().filter(|v| v.names == Names::File).map(|v| (v.name, bundle.to_owned()))
}

/// The certificates that the environment already names, as PEM, each once.
///
/// `variable` looks one up (`std::env::var_os`). A file that is missing or can't be read is left out: a program
/// that ignores the variable would not have minded either.
pub fn named_roots(variable: impl Fn(&str) -> Option<OsString>) -> String {
    let mut seen = HashSet::new();
    let mut roots = String::new();
    for entry in VARIABLES {
        let Some(value) = variable(entry.name).filter(|v| !v.is_empty()) else { continue };
        for path in std::env::split_paths(&value) {
            for file in files_at(&path) {
                append(&mut roots, &mut seen, &file);
            }
        }
    }
    roots
}

fn append(roots: &mut String, seen: &mut HashSet<Vec<u8>>, file: &Path) {
    for cert in bundle::certificates(&read_bounded(file)) {
        if seen.insert(cert.to_vec()) {
            let pem = bundle::to_pem(&cert);
            if roots.len() + pem.len() <= BUNDLE_BYTES_MAX {
                roots.push_str(&pem);
            }
        }
    }
}

/// The file itself, or the files of a directory in the order of their names.
fn files_at(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return vec![path.to_owned()] };
    let mut files: Vec<PathBuf> =
        entries.flatten().take(DIRECTORY_FILES_MAX).map(|e| e.path()).filter(|p| p.is_file()).collect();
    files.sort();
    files
}

/// The bytes of a regular file up to the bound; nothing where there are more or it can't be read.
fn read_bounded(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A FIFO or a device would block or never end.
    if !path.is_file() {
        return bytes;
    }
    let limit = BUNDLE_BYTES_MAX as u64 + 1;
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    if read.is_err() || bytes.len() > BUNDLE_BYTES_MAX {
        bytes.clear();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::bundle::tests::{certificate, pem};

    #[test]
    fn every_variable_of_the_common_runtimes_names_the_bundle() {
        let set: Vec<_> = announce(Path::new("/run/meter/trust/a.pem")).collect();
        for name in [
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "NODE_EXTRA_CA_CERTS",
            "GIT_SSL_CAINFO",
            "AWS_CA_BUNDLE",
            "PIP_CERT",
            "DENO_CERT",
            "CARGO_HTTP_CAINFO",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
        ] {
            assert!(set.contains(&(name, PathBuf::from("/run/meter/trust/a.pem"))), "{name}");
        }
        assert!(!set.iter().any(|(name, _)| *name == "SSL_CERT_DIR"));
    }

    #[test]
    fn what_the_environment_named_is_read_from_files_and_directories_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs");
        fs::create_dir(&certs).unwrap();
        fs::write(dir.path().join("one.pem"), pem("one")).unwrap();
        fs::write(certs.join("two.pem"), pem("two")).unwrap();
        fs::write(certs.join("again.pem"), pem("one")).unwrap();
        fs::write(certs.join("key.pem"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        let roots = named_roots(|name| match name {
            "SSL_CERT_FILE" => Some(dir.path().join("one.pem").into()),
            "SSL_CERT_DIR" => Some(certs.clone().into()),
            "PIP_CERT" => Some("/no/such/file".into()),
            _ => None,
        });
        let found = bundle::certificates(roots.as_bytes());
        assert_eq!(found, [certificate("one"), certificate("two")]);
        assert!(!roots.contains("PRIVATE"));
    }
}
