//! AWS Signature Version 4, checked as the service checks it: a request of which anything signed was changed on its way,
//! a byte of the body or of the path, is refused
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).

use std::fmt::Write;

use aws_lc_rs::{digest, hmac};
use http::{HeaderMap, Uri, header, request::Parts};

/// The secret of every access key.
pub const SECRET: &str = "test-key";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Whether a request is signed with [`SECRET`], or has a key of the service's own instead.
///
/// # Errors
/// A sentence for the service's own 403.
pub fn check(parts: &Parts, body: &[u8]) -> Result<(), String> {
    let said = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let said = said.ok_or("Missing Authentication Token")?;
    if said.starts_with("Bearer ") {
        return Ok(());
    }
    let fields = said.strip_prefix(ALGORITHM).ok_or("the authorization is of no known kind")?;
    let field = |name: &str| {
        let of = |field: &'_ str| field.trim().strip_prefix(name).map(str::to_owned);
        fields.split(',').find_map(of).ok_or(format!("the authorization has no {name}"))
    };
    let (credential, names, signature) = (field("Credential=")?, field("SignedHeaders=")?, field("Signature=")?);
    let (_, scope) = credential.split_once('/').ok_or("the credential has no scope")?;
    let time = parts.headers.get("x-amz-date").and_then(|value| value.to_str().ok()).ok_or("there is no x-amz-date")?;
    let request = canonical(parts, &names, body)?;
    let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(digest::digest(&digest::SHA256, request.as_bytes())));
    if hex(sign(key(scope).as_ref(), &text)) == signature {
        return Ok(());
    }
    Err("The request signature we calculated does not match the signature you provided.".to_owned())
}

/// The key of a scope: `20261122/us-east-1/bedrock/aws4_request`.
fn key(scope: &str) -> hmac::Tag {
    let mut parts = scope.split('/');
    let first = sign(format!("AWS4{SECRET}").as_bytes(), parts.next().unwrap_or_default());
    parts.fold(first, |key, part| sign(key.as_ref(), part))
}

fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn canonical(parts: &Parts, names: &str, body: &[u8]) -> Result<String, String> {
    let mut headers = String::new();
    for name in names.split(';') {
        let value = value(&parts.headers, &parts.uri, name).ok_or(format!("the signed header {name} is missing"))?;
        let _ = writeln!(headers, "{name}:{value}");
    }
    let mut query: Vec<&str> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let (path, query) = (encoded(parts.uri.path()), query.join("&"));
    let body = hex(digest::digest(&digest::SHA256, body));
    Ok(format!("{}\n{path}\n{query}\n{headers}\n{names}\n{body}", parts.method))
}

fn value(headers: &HeaderMap, uri: &Uri, name: &str) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    if values.is_empty() {
        return uri.authority().filter(|_| name == "host").map(ToString::to_string);
    }
    let plain = values.into_iter().map(|value| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    Some(plain.collect::<Vec<_>>().join(","))
}

/// A path as it is signed: what it was sent as, encoded once more.
fn encoded(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            _ => drop(write!(out, "%{byte:02X}")),
        }
        out
    })
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
