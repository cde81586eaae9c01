//! One pass over a request body that finds what is not plain text: images, audio, files, tools, cache marks.
//!
//! Knows no provider: it reports every object with the few members that providers use to say such things, and
//! the dialect decides. What is only text is counted on the way, as `envelope` says.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use smallvec::SmallVec;

use super::envelope::{Envelope, Role};
use crate::usage::{RequestFacts, Unreadable};

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
    "bytes",
    "image",
    "document",
    "video",
    "audio",
    "cachePoint",
    "systemTool",
];

/// Bytes of a string member that are kept to look at.
const HEAD_BYTES: usize = 48;

/// A string member: its length in bytes and how it starts.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) len: u64,
    /// What it was counted as. Nothing where it is written out with what is around it, which stays counted: what
    /// looks like an image there may be a text of the agent's.
    counted: u64,
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

/// What the dialect makes of everything that is not text, and, of that, what was counted as text.
#[derive(Debug, Default)]
pub(crate) struct InputBound {
    replaced: u64,
    extra_tokens: u64,
}

impl InputBound {
    /// The blob is not text: `tokens` bounds it instead of its bytes.
    pub(crate) fn replace(&mut self, blob: &Text, tokens: u64) {
        self.replaced = self.replaced.saturating_add(blob.counted);
        self.add(tokens);
    }

    pub(crate) fn add(&mut self, tokens: u64) {
        self.extra_tokens = self.extra_tokens.saturating_add(tokens);
    }

    /// With the text, as [`scan`] counted it.
    pub(crate) fn tokens(&self, text: u64) -> u64 {
        text.saturating_sub(self.replaced).saturating_add(self.extra_tokens)
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

/// Calls `visit` for every object of the body that may be more than text, and counts the text: an upper bound of the
/// tokens that it becomes.
pub(crate) fn scan(body: &[u8], envelope: &Envelope, visit: &mut dyn FnMut(&Node)) -> Result<u64, Unreadable> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut count = Count { envelope: *envelope, tokens: 0, visit };
    Walk { member: Member::ROOT, listed: false, node: None, count: &mut count }
        .deserialize(&mut json)
        .and_then(|()| json.end())
        .map_err(|e| Unreadable(format!("the request body is not JSON: {e}")))?;
    Ok(count.tokens)
}

struct Count<'w> {
    envelope: Envelope,
    tokens: u64,
    visit: &'w mut dyn FnMut(&Node),
}

impl Count<'_> {
    fn add(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_add(tokens);
    }
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Member {
    /// Of [`KEYS`], or empty.
    key: &'static str,
    role: Role,
    is_root: bool,
}

impl Member {
    const ROOT: Self = Self { key: "", role: Role::Content, is_root: true };
}

struct Walk<'c, 'w> {
    member: Member,
    /// It is an element of a list.
    listed: bool,
    node: Option<&'c mut Node>,
    count: &'c mut Count<'w>,
}

impl Walk<'_, '_> {
    /// The node that this value is a member of, if it is of interest there.
    fn reported(&mut self) -> Option<&mut Node> {
        self.node.as_deref_mut().filter(|_| !self.member.key.is_empty())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        let Member { key, role, .. } = self.member;
        let tokens = role.of_text(text, self.listed);
        self.count.add(tokens);
        if let Some(node) = self.reported() {
            let head = text[..text.floor_char_boundary(HEAD_BYTES)].to_owned();
            let counted = if role == Role::Content { tokens } else { 0 };
            node.texts.push((key, Text { len: text.len() as u64, counted, head }));
        }
        Ok(())
    }

    fn visit_u64<E>(mut self, n: u64) -> Result<(), E> {
        let Member { key, role, .. } = self.member;
        self.count.add(role.of_integer(n));
        if let Some(node) = self.reported() {
            node.counts.push((key, n));
        }
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        self.count.add(self.member.role.of_integer(n.unsigned_abs()));
        Ok(())
    }

    fn visit_f64<E>(self, n: f64) -> Result<(), E> {
        self.count.add(self.member.role.of_fraction(n));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.count.add(self.member.role.of_word());
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.count.add(self.member.role.of_word());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let key = self.member.key;
        if let Some(node) = self.reported() {
            node.objects.push(key);
        }
        self.count.add(self.member.role.of_list());
        let member = Member { is_root: false, ..self.member };
        while seq.next_element_seed(Walk { member, listed: true, node: None, count: &mut *self.count })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let Member { key, role, is_root } = self.member;
        if let Some(node) = self.reported() {
            node.objects.push(key);
        }
        self.count.add(role.of_object(&self.count.envelope));
        let mut inner = Node { parent: key, ..Node::default() };
        while let Some((member, tokens)) = map.next_key_seed(Key { role, is_root, envelope: &self.count.envelope })? {
            self.count.add(tokens);
            map.next_value_seed(Walk { member, listed: false, node: Some(&mut inner), count: &mut *self.count })?;
        }
        if role.may_hold_media() {
            (self.count.visit)(&inner);
        }
        Ok(())
    }
}

/// Reads a key: where its value stands, and what the key itself counts.
struct Key<'e> {
    role: Role,
    is_root: bool,
    envelope: &'e Envelope,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (Member, u64);

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (Member, u64);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let (role, tokens) = self.role.of_member(key, self.is_root, self.envelope);
        let key = KEYS.iter().copied().find(|k| *k == key).unwrap_or("");
        Ok((Member { key, role, is_root: false }, tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVELOPE: Envelope = Envelope { steering: &["model"], object: 6 };

    #[test]
    fn objects_are_seen_with_their_parents_and_members() {
        let body = br#"{"messages":[{"content":[{"type":"image","source":{"media_type":"image/png","data":"AAAA"}}]}],
            "tools":[{"type":"web_search","max_uses":3,"googleSearch":{}}]}"#;
        let mut seen = Vec::new();
        scan(body, &ENVELOPE, &mut |n| {
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
        assert!(scan(b"{\"a\":", &ENVELOPE, &mut |_| {}).is_err());
    }
}
