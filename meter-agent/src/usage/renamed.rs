//! A request with another model in the place of its own: in the body's member, or in the path.
//!
//! Nothing else changes. Where a request has its model in neither, there is none to change.

use std::{fmt::Write, ops::Range};

use super::{Unreadable, edit::RawObject, fallbacks};

/// A request that names another model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// With its query; `None` where it stays.
    pub path_and_query: Option<String>,
    pub body: Vec<u8>,
}

/// Puts the model into the body's member, which must be there.
pub(super) fn in_body(body: &[u8], member: &'static str, model: &str) -> Result<Renamed, Unreadable> {
    let mut object = RawObject::parse(body)?;
    if !object.has(member) {
        return Err(Unreadable(format!("the request has no `{member}` that could be another one")));
    }
    object.set(member, serde_json::Value::from(model).to_string());
    // Whoever is to answer by a cheaper model does not fall back to a dearer one.
    for list in fallbacks::LISTS {
        object.remove(list);
    }
    Ok(Renamed { path_and_query: None, body: object.write().into_bytes() })
}

/// Puts the model into the path in the place of what it has there.
pub(super) fn in_path(path_and_query: &str, place: Range<usize>, model: &str) -> String {
    let (before, after) = (&path_and_query[..place.start], &path_and_query[place.end..]);
    format!("{before}{}{after}", encoded(model))
}

/// All but what a path's segment may hold as it is, as `%XX` (RFC 3986, section 3.3).
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte);
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::usage::{Call, detect, dialect};

    /// The request of that dialect with another model, and the model that it says then.
    fn renamed(name: &str, path: &str, body: &str, model: &str) -> Option<(String, String, Option<String>)> {
        let (dialect, endpoint) = detect(dialect(name), "POST", path.split('?').next().unwrap());
        let done = dialect.renamed(&Call::new(endpoint, path), body.as_bytes(), model).ok()?;
        let path = done.path_and_query.unwrap_or_else(|| path.to_owned());
        let facts = dialect.request(&Call::new(endpoint, &path), &Bytes::from(done.body.clone())).unwrap();
        Some((path, String::from_utf8(done.body).unwrap(), facts.model))
    }

    #[test]
    fn each_dialect_has_its_own_place_for_the_model() {
        let contents = r#"{"contents":[{"parts":[{"text":"model"}]}]}"#;
        let gemini = "/v1beta/models/gemini-2.5-pro:generateContent?key=models/gemini-2.5-pro";
        let vertex = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-opus-4:rawPredict";
        for (name, path, body, to, path_then, body_then) in [
            (
                "openai",
                "/v1/chat/completions",
                r#"{"a":1,"model":"gpt-5","n":1}"#,
                "gpt-5-mini",
                None,
                r#"{"a":1,"model":"gpt-5-mini","n":1}"#,
            ),
            (
                "openai",
                "/v1/responses",
                r#"{"model":"gpt-5","input":"hi"}"#,
                "gpt-5-mini",
                None,
                r#"{"model":"gpt-5-mini","input":"hi"}"#,
            ),
            (
                "openai",
                "/openai/deployments/dear/chat/completions?api-version=1",
                r#"{"messages":[]}"#,
                "cheap",
                Some("/openai/deployments/cheap/chat/completions?api-version=1"),
                r#"{"messages":[]}"#,
            ),
            (
                "anthropic",
                "/v1/messages",
                r#"{"model":"claude-opus-4","messages":[]}"#,
                "claude-haiku-4",
                None,
                r#"{"model":"claude-haiku-4","messages":[]}"#,
            ),
            (
                "gemini",
                gemini,
                contents,
                "gemini-2.5-flash",
                Some("/v1beta/models/gemini-2.5-flash:generateContent?key=models/gemini-2.5-pro"),
                contents,
            ),
            (
                "gemini",
                "/v1beta/models/gemini%2D2.5%2Dpro%3AgenerateContent",
                contents,
                "gemini-2.5-flash",
                Some("/v1beta/models/gemini-2.5-flash%3AgenerateContent"),
                contents,
            ),
            (
                "gemini",
                vertex,
                r#"{"anthropic_version":"v","messages":[]}"#,
                "claude-haiku-4",
                Some("/v1/projects/p/locations/l/publishers/anthropic/models/claude-haiku-4:rawPredict"),
                r#"{"anthropic_version":"v","messages":[]}"#,
            ),
            (
                "bedrock",
                "/model/us.amazon.nova-pro-v1%3A0/converse",
                r#"{"messages":[]}"#,
                "us.amazon.nova-micro-v1:0",
                Some("/model/us.amazon.nova-micro-v1%3A0/converse"),
                r#"{"messages":[]}"#,
            ),
            (
                "cohere",
                "/v2/chat",
                r#"{"model":"command-a","messages":[]}"#,
                "command-r7b",
                None,
                r#"{"model":"command-r7b","messages":[]}"#,
            ),
            ("ollama", "/api/chat", r#"{"model":"a","messages":[]}"#, "b", None, r#"{"model":"b","messages":[]}"#),
        ] {
            let got = renamed(name, path, body, to);
            let want = (path_then.unwrap_or(path).to_owned(), body_then.to_owned(), Some(to.to_owned()));
            assert_eq!(got, Some(want), "{name} {path}");
        }
    }

    #[test]
    fn a_cheaper_model_does_not_fall_back_to_a_dearer_one() {
        let body = r#"{"models":["gpt-5","o3"],"model":"gpt-5","fallbacks":[{"model":"o3"}],"n":1}"#;
        let (_, now, _) = renamed("openai", "/v1/chat/completions", body, "gpt-5-mini").unwrap();
        assert_eq!(now, r#"{"model":"gpt-5-mini","n":1}"#);
    }

    #[test]
    fn a_request_without_a_model_has_none_to_change() {
        assert_eq!(renamed("openai", "/v1/chat/completions", r#"{"messages":[]}"#, "m"), None);
        assert_eq!(renamed("openai", "/v1/images/edits", "--b\r\n", "m"), None);
    }
}
