//! One pass over a request body that finds what is not plain text: images, audio, files, tools, cache marks.
//!
//! Knows no provider: it reports every object with the few members that providers use to say such things, and
//! the dialect decides. What is only text stays counted by its bytes.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use smallvec::SmallVec;

use super::{RequestFacts, Unreadable};

/// Members whose values are reported, and keys that are reported as an object's parent.
const KEYS: &[&str] = &[
    "type",
    "mimeType",
    "mime_type",
    "media_type",
    "data",
    "url",
    "image_url",
    "input_audio",
    "file",
    "file_id",
    "file_url",
    "file_data",
    "fileData",
    "fileUri",
    "file_uri",
    "inlineData",
    "inline_data",
    "source",
    "cache_control",
    "ttl",
    "tools",
    "max_uses",
    "item_reference",
    "googleSearch",
    "google_search",
    "googleSearchRetrieval",
    "google_search_retrieval",
    "urlContext",
    "url_context",
    "codeExecution",
    "code_execution",
    "fileSearch",
    "file_search",
    "googleMaps",
    "google_maps",
    "computerUse",
    "computer_use",
    "enterpriseWebSearch",
];

/// Bytes of a string member that are kept to look at.
const HEAD_BYTES: usize = 48;

/// A string member: its length in bytes and how it starts.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) len: u64,
    pub(crate) head: String,
}

/// One object of the body.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The key under which it stands (for an array's elements, the array's); empty if it is of no interest.
    pub(crate) parent: &'static str,
    texts: SmallVec<[(&'static str, Text); 4]>,
    counts: SmallVec<[(&'static str, u64); 1]>,
    objects: SmallVec<[&'static str; 2]>,
}

impl Node {
    pub(crate) fn text(&self, key: &str) -> Option<&Text> {
        self.texts.iter().find(|(k, _)| *k == key).map(|(_, text)| text)
    }

    pub(crate) fn count(&self, key: &str) -> Option<u64> {
        self.counts.iter().find(|(k, _)| *k == key).map(|(_, n)| *n)
    }

    /// Whether the member is there and an object or array.
    pub(crate) fn holds(&self, key: &str) -> bool {
        self.objects.contains(&key)
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("type").map_or("", |t| &t.head)
    }

    /// The media type, in any of the spellings.
    pub(crate) fn mime(&self) -> &str {
        ["mimeType", "mime_type", "media_type"].iter().find_map(|k| self.text(k)).map_or("", |t| &t.head)
    }
}

/// Text at one token per byte, and what the dialect made of everything else.
#[derive(Debug, Default)]
pub(crate) struct InputBound {
    text_bytes: u64,
    extra_tokens: u64,
}

impl InputBound {
    pub(crate) fn new(body: &[u8]) -> Self {
        Self { text_bytes: body.len() as u64, extra_tokens: 0 }
    }

    /// The blob is not text: `tokens` bounds it instead of its bytes.
    pub(crate) fn replace(&mut self, blob: &Text, tokens: u64) {
        self.text_bytes = self.text_bytes.saturating_sub(blob.len);
        self.add(tokens);
    }

    pub(crate) fn add(&mut self, tokens: u64) {
        self.extra_tokens = self.extra_tokens.saturating_add(tokens);
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.text_bytes.saturating_add(self.extra_tokens)
    }
}

/// Sound needs at least this many base64 characters per token: the fastest count is 32 tokens a second
/// (Gemini), and 6 kbit/s, the lowest rate of the speech codecs accepted, is 1,000 characters a second.
const AUDIO_CHARS_PER_TOKEN: u64 = 4;

/// Replaces a base64 sound by the tokens it can become.
pub(crate) fn count_audio(bound: &mut InputBound, blob: &Text, facts: &mut RequestFacts) {
    facts.input_audio = true;
    bound.replace(blob, blob.len / AUDIO_CHARS_PER_TOKEN + 64);
}

/// Calls `visit` for every object of the body.
pub(crate) fn scan(body: &[u8], visit: &mut dyn FnMut(&Node)) -> Result<(), Unreadable> {
    let mut json = serde_json::Deserializer::from_slice(body);
    Walk { key: "", node: None, visit }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|e| Unreadable(format!("the request body is not JSON: {e}")))
}

struct Walk<'w> {
    key: &'static str,
    node: Option<&'w mut Node>,
    visit: &'w mut dyn FnMut(&Node),
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if let (Some(node), false) = (self.node, self.key.is_empty()) {
            let mut end = text.len().min(HEAD_BYTES);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            node.texts.push((self.key, Text { len: text.len() as u64, head: text[..end].to_owned() }));
        }
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        if let (Some(node), false) = (self.node, self.key.is_empty()) {
            node.counts.push((self.key, n));
        }
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let (Some(node), false) = (self.node, self.key.is_empty()) {
            node.objects.push(self.key);
        }
        while seq.next_element_seed(Walk { key: self.key, node: None, visit: &mut *self.visit })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let (Some(node), false) = (self.node, self.key.is_empty()) {
            node.objects.push(self.key);
        }
        let mut inner = Node { parent: self.key, ..Node::default() };
        while let Some(key) = map.next_key_seed(Key)? {
            map.next_value_seed(Walk { key, node: Some(&mut inner), visit: &mut *self.visit })?;
        }
        (self.visit)(&inner);
        Ok(())
    }
}

struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<&'static str, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<&'static str, E> {
        Ok(KEYS.iter().copied().find(|k| *k == key).unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_seen_with_their_parents_and_members() {
        let body = br#"{"messages":[{"content":[{"type":"image","source":{"media_type":"image/png","data":"AAAA"}}]}],
            "tools":[{"type":"web_search","max_uses":3,"googleSearch":{}}]}"#;
        let mut seen = Vec::new();
        scan(body, &mut |n| {
            seen.push((
                n.parent,
                n.kind().to_owned(),
                n.mime().to_owned(),
                n.text("data").map(|t| t.len),
                n.count("max_uses"),
                n.holds("googleSearch"),
            ));
        })
        .unwrap();
        assert!(seen.contains(&("source", String::new(), "image/png".to_owned(), Some(4), None, false)));
        assert!(seen.contains(&("tools", "web_search".to_owned(), String::new(), None, Some(3), true)));
        assert!(scan(b"{\"a\":", &mut |_| {}).is_err());
    }
}
