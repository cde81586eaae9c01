//! How a request steers its own answer: `sim:{...}` in its last user text.
//!
//! What a directive does not say follows from the text, so that an ordinary request gets an ordinary answer.

use serde::{Deserialize, Serialize};

/// Content codings that an answer can be sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Gzip,
    Br,
    Zstd,
    Deflate,
}

impl Encoding {
    /// The token in `Content-Encoding`.
    pub fn token(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }
}

/// The directive; also what tests build their prompts from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own, said by its name")]
pub struct Directive {
    /// Input tokens, cached ones and cache writes included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// Input tokens read from the cache.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Input tokens written to the five-minute cache (Anthropic).
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_write: u64,
    /// Output tokens, reasoning included; cut to the request's own ceiling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Do not keep to the request's ceiling.
    #[serde(skip_serializing_if = "is_false")]
    pub past_ceiling: bool,
    /// Output tokens spent on reasoning.
    #[serde(skip_serializing_if = "is_zero")]
    pub reasoning: u64,
    /// Events that carry text, or pieces that a plain body is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks: Option<usize>,
    /// Pause between pieces.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_ms: u64,
    /// Pause before the headers.
    #[serde(skip_serializing_if = "is_zero")]
    pub ttfb_ms: u64,
    /// Write the body one byte at a time.
    #[serde(skip_serializing_if = "is_false")]
    pub bytewise: bool,
    /// Bytes of text in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    /// Compress, if the request accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// Answer with this status; from 400 on with the provider's error body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Break the connection instead of answering.
    #[serde(skip_serializing_if = "is_false")]
    pub cut_head: bool,
    /// What breaks does so by a reset and not by a close. Of a stream of HTTP/2 it always is one.
    #[serde(skip_serializing_if = "is_false")]
    pub reset: bool,
    /// Break the connection after so many pieces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_after: Option<usize>,
    /// Send nothing more after the first piece, and keep the connection open.
    #[serde(skip_serializing_if = "is_false")]
    pub hang: bool,
    /// Write the time of sending into every piece of a stream's text (see [`STAMP`](super::body::STAMP)).
    #[serde(skip_serializing_if = "is_false")]
    pub stamp: bool,
    /// Model that the answer reports, instead of the requested one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Directive {
    /// The directive in `text`; the default where there is none.
    ///
    /// # Errors
    /// A sentence about a directive that is there and does not parse: a test's typing mistake must not pass for an
    /// ordinary prompt.
    pub fn find(text: &str) -> Result<Self, String> {
        let Some((_, rest)) = text.split_once("sim:{") else { return Ok(Self::default()) };
        let json = format!("{{{rest}");
        let mut values = serde_json::Deserializer::from_str(&json).into_iter::<Self>();
        match values.next() {
            Some(Ok(directive)) => Ok(directive),
            Some(Err(error)) => Err(format!("the directive does not parse: {error}")),
            None => Err("the directive is empty".to_owned()),
        }
    }

    /// A prompt that holds this directive.
    pub fn prompt(&self) -> String {
        format!("sim:{}", serde_json::to_string(self).expect("a directive has only plain fields"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directive_survives_its_prompt() {
        let directive =
            Directive { input: Some(120), hang: true, encoding: Some(Encoding::Br), ..Directive::default() };
        assert_eq!(Directive::find(&format!("hello {} and more", directive.prompt())), Ok(directive));
        assert_eq!(Directive::find("nothing to see"), Ok(Directive::default()));
    }

    #[test]
    fn a_typing_mistake_is_not_an_ordinary_prompt() {
        assert!(Directive::find(r#"sim:{"imput":1}"#).is_err());
        assert!(Directive::find("sim:{").is_err());
    }
}
