//! Where a recorded request went: its URL, as recorders write it.

use serde_json::Value;

/// Schemes of what a browser lists among its requests and never sends to the network.
const NOT_SENT: [&str; 9] =
    ["about", "blob", "chrome", "chrome-extension", "data", "devtools", "file", "javascript", "moz-extension"];

/// The parts of a URL that a call is known by.
#[derive(Debug)]
pub(super) struct Target {
    /// In lower case, without port and user. The scheme and a colon where nothing went to the network.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path_and_query: String,
    /// Whether it is the URL of a WebSocket.
    pub(super) socket: bool,
}

impl Target {
    /// `host` is the request's own header, for a recorder that writes the path alone.
    pub(super) fn read(url: &str, query: &Value, host: Option<&str>) -> Option<Self> {
        let url = url.trim();
        if let Some((scheme, _)) = url.split_once(':')
            && NOT_SENT.iter().any(|known| known.eq_ignore_ascii_case(scheme))
        {
            let host = format!("{}:", scheme.to_ascii_lowercase());
            return Some(Self { host, port: 0, path_and_query: "/".to_owned(), socket: false });
        }
        let (scheme, rest) = match url.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?', '.']) => (scheme, rest.to_owned()),
            Some(_) | None => ("https", without_scheme(url, host)?),
        };
        let (default_port, socket) = match scheme.to_ascii_lowercase().as_str() {
            "https" => (443, false),
            "http" => (80, false),
            "wss" => (443, true),
            "ws" => (80, true),
            _ => return None,
        };
        let rest = rest.split('#').next().unwrap_or(&rest);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit('@').next().unwrap_or(authority);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, "")) => (host, default_port),
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            Some(_) | None => (authority, default_port),
        };
        let mut path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if !path_and_query.contains('?') {
            path_and_query.push_str(&query_of(query));
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        (!host.is_empty()).then_some(Self { host, port, path_and_query, socket })
    }
}

/// Host and path of a URL that leaves out its scheme, or its host too.
fn without_scheme(url: &str, host: Option<&str>) -> Option<String> {
    if let Some(rest) = url.strip_prefix("//") {
        return Some(rest.to_owned());
    }
    if url.starts_with('/') {
        return Some(format!("{}{url}", host?));
    }
    let host = url.split(['/', '?', ':']).next().unwrap_or(url);
    (host.contains('.') || host == "localhost").then(|| url.to_owned())
}

/// The query of a recorder that leaves it out of the URL.
fn query_of(list: &Value) -> String {
    let pair = |member: &Value| Some(format!("{}={}", member["name"].as_str()?, member["value"].as_str()?));
    let pairs: Vec<String> = list.as_array().into_iter().flatten().filter_map(pair).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_from_any_url() {
        for (url, host, port, path) in [
            ("https://api.example.com/v1/x?y=1#z", "api.example.com", 443, "/v1/x?y=1"),
            ("http://localhost:8080", "localhost", 8080, "/"),
            ("wss://u:p@Example.com.?a=b", "example.com", 443, "/?a=b"),
            ("ws://[::1]:9/", "[::1]", 9, "/"),
            ("ws://[::1]/", "[::1]", 80, "/"),
            ("/v1/x", "own.example", 443, "/v1/x"),
            ("//other.example/v1/x", "other.example", 443, "/v1/x"),
            ("other.example:8443/v1/x?to=https://x", "other.example", 8443, "/v1/x?to=https://x"),
            ("data:text/plain,x", "data:", 0, "/"),
            ("chrome-extension://abc/x.js", "chrome-extension:", 0, "/"),
        ] {
            let target = Target::read(url, &Value::Null, Some("own.example")).unwrap();
            assert_eq!((&*target.host, target.port, &*target.path_and_query), (host, port, path), "{url}");
            assert_eq!(target.socket, url.starts_with("ws"), "{url}");
        }
        for bad in ["", "/v1/x", "v1/x", "https://", "https://x:y/", "ftp://x.example/x"] {
            assert!(Target::read(bad, &Value::Null, None).is_none(), "{bad}");
        }
        let query = serde_json::json!([{"name": "a", "value": "b"}, {"name": "c", "value": ""}]);
        assert_eq!(Target::read("https://h/p", &query, None).unwrap().path_and_query, "/p?a=b&c=");
    }
}
