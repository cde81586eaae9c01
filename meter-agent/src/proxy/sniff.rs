//! What does a connection speak? Decided from its first bytes, without taking them. Pure.
//!
//! Biased towards the tunnel: what is not surely TLS or HTTP/1 is passed on as it is. What surely is one of them but
//! odd (a hello that rustls would not take, a head beyond every bound) still names its host, so that no oddity
//! makes a tunnel of a metered connection: its handshake or its request then fails.

use std::net::IpAddr;

use rustls::server::Acceptor;

use super::hello;

/// A ClientHello with post-quantum shares and many extensions is about 2 KiB; a record may carry 16 KiB, and
/// the message may span several. What is longer is not a hello of any client known.
pub(crate) const HELLO_MAX: usize = 64 * 1024;
/// As the common servers' limit for a request's head.
pub(crate) const HEAD_MAX: usize = 32 * 1024;

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// Not enough bytes to say.
    More,
    /// A TLS ClientHello, with the name it asks for, in lower case.
    Tls { sni: Option<String> },
    /// The head of an HTTP/1 request, with its host as it stands there.
    Http1 { host: Option<String> },
    /// The HTTP/2 preface in the clear: its host comes later.
    Http2,
    /// Something else.
    Other,
}

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Long enough for any method in use; a longer first word is not HTTP.
const METHOD_MAX: usize = 20;

pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes.first() {
        None => Sniffed::More,
        // A TLS record of type handshake.
        Some(0x16) => sniff_tls(bytes),
        Some(b) if b.is_ascii_uppercase() => sniff_http(bytes),
        // Empty lines before a request are passed over (RFC 9112, section 2.2).
        Some(b'\r' | b'\n') if bytes.len() < HEAD_MAX => {
            sniff(bytes.iter().position(|b| !matches!(b, b'\r' | b'\n')).map_or(&[], |start| &bytes[start..]))
        }
        Some(_) => Sniffed::Other,
    }
}

fn sniff_tls(bytes: &[u8]) -> Sniffed {
    if bytes.len() >= 2 && bytes[1] != 3 {
        return Sniffed::Other;
    }
    let odd = || match hello::server_name(bytes) {
        Some(name) => Sniffed::Tls { sni: Some(name) },
        None => Sniffed::Other,
    };
    let mut acceptor = Acceptor::default();
    let mut unread = bytes;
    while !unread.is_empty() {
        match acceptor.read_tls(&mut unread) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return odd(),
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let sni = accepted.client_hello().server_name().map(str::to_ascii_lowercase);
                // An address is no server name (RFC 6066, section 3): as good as none.
                let odd = || hello::server_name(bytes).filter(|name| name.parse::<IpAddr>().is_err());
                return Sniffed::Tls { sni: sni.or_else(odd) };
            }
            Ok(None) => {}
            Err(_) => return odd(),
        }
    }
    if bytes.len() >= HELLO_MAX { odd() } else { Sniffed::More }
}

fn sniff_http(bytes: &[u8]) -> Sniffed {
    if bytes.starts_with(HTTP2_PREFACE) {
        return Sniffed::Http2;
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return Sniffed::More;
    }
    let word = &bytes[..bytes.len().min(METHOD_MAX)];
    match word.iter().position(|b| !b.is_ascii_uppercase()) {
        None if word.len() == METHOD_MAX => return Sniffed::Other,
        None => return Sniffed::More,
        Some(end) if word[end] != b' ' => return Sniffed::Other,
        Some(_) => {}
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {
            let host = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("host"));
            Sniffed::Http1 { host: host.map(|h| String::from_utf8_lossy(h.value).trim().to_ascii_lowercase()) }
        }
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => Sniffed::More,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            Sniffed::Http1 { host: host_line(bytes) }
        }
        // Some servers mind less than this parser.
        Err(_) if has_request_line(bytes) => Sniffed::Http1 { host: host_line(bytes) },
        Err(_) => Sniffed::Other,
    }
}

fn has_request_line(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default().trim_ascii_end();
    // There are servers that take any version of HTTP/1 for the last.
    line.split_last().is_some_and(|(minor, rest)| minor.is_ascii_digit() && rest.ends_with(b" HTTP/1."))
}

/// The host of a head that can't be parsed.
fn host_line(bytes: &[u8]) -> Option<String> {
    let mut lines = bytes.split(|b| *b == b'\n').skip(1);
    let value = lines.find_map(|line| {
        let at = line.iter().position(|b| *b == b':')?;
        line[..at].eq_ignore_ascii_case(b"host").then(|| &line[at + 1..])
    })?;
    Some(String::from_utf8_lossy(value).trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn hello(name: &str) -> Vec<u8> {
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_prefix_of_a_hello_asks_for_more_and_the_whole_names_its_host() {
        let bytes = hello("Api.OpenAI.com");
        for end in 0..bytes.len() {
            assert_eq!(sniff(&bytes[..end]), Sniffed::More, "{end}");
        }
        assert_eq!(sniff(&bytes), Sniffed::Tls { sni: Some("api.openai.com".to_owned()) });
    }

    #[test]
    fn every_prefix_of_a_request_asks_for_more_and_the_whole_names_its_host() {
        let bytes = b"POST /v1/chat/completions HTTP/1.1\r\nAccept: */*\r\nhost: LocalHost:11434\r\n\r\n{}";
        let head = bytes.len() - 2;
        for end in 0..head {
            assert_eq!(sniff(&bytes[..end]), Sniffed::More, "{end}");
        }
        assert_eq!(sniff(bytes), Sniffed::Http1 { host: Some("localhost:11434".to_owned()) });
    }

    #[test]
    fn a_hello_that_rustls_would_not_take_still_names_its_host() {
        let mut bytes = hello("api.openai.com");
        // No DNS name, for rustls.
        let name = bytes.windows(14).position(|w| w == b"api.openai.com").unwrap();
        bytes[name] = b'_';
        bytes[name + 3] = b'.';
        bytes[name + 4] = b'.';
        assert_eq!(sniff(&bytes), Sniffed::Tls { sni: Some("_pi..penai.com".to_owned()) });
    }

    #[test]
    fn an_odd_head_still_names_its_host() {
        let many = format!("POST / HTTP/1.1\r\n{}host: LLM.internal\r\n\r\n", "x: y\r\n".repeat(200));
        let long = format!("POST / HTTP/1.1\r\nHost: llm.internal\r\nx: {}", "y".repeat(HEAD_MAX));
        let bad = "\r\nPOST / HTTP/1.1\r\nx y: z\r\nhost:llm.internal\r\n\r\n".to_owned();
        let version = "POST / HTTP/1.9\r\nhost: llm.internal\r\n\r\n".to_owned();
        for head in [many, long, bad, version] {
            assert_eq!(sniff(head.as_bytes()), Sniffed::Http1 { host: Some("llm.internal".to_owned()) });
        }
    }

    #[test]
    fn what_is_neither_is_something_else() {
        for other in [
            &b"\x00\x00\x00\x08\x04\xd2\x16\x2f"[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"EHLO-\r\n",
            b"\x16\x01",
            b"ABCDEFGHIJKLMNOPQRSTUVWX",
        ] {
            assert_eq!(sniff(other), Sniffed::Other, "{other:?}");
        }
        assert_eq!(sniff(HTTP2_PREFACE), Sniffed::Http2);
        assert_eq!(sniff(b"PRI * HT"), Sniffed::More);
    }
}
