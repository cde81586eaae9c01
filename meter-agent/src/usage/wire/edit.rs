//! Changing members of a JSON object and nothing else: every other member keeps its bytes and its place.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::json::Count;
use crate::usage::Unreadable;

/// An object as its members' raw text, in order. A repeated member stays repeated.
#[derive(Default)]
pub(crate) struct RawObject<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> RawObject<'a> {
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(text).map_err(|e| Unreadable(format!("the request body is not a JSON object: {e}")))
    }

    /// The member's raw text; of a repeated one the last, as JSON parsers take it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// Whether the member is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "null")
    }

    /// The member as a string.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?).ok()
    }

    /// The member as a count; what is not a number is `None`, and the provider's to refuse.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        serde_json::from_str::<Count>(self.get(name)?).ok()?.0
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// Replaces the member (of a repeated one the last, which is the one that counts), or appends it.
    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        match self.0.iter_mut().rev().find(|(key, _)| key == name) {
            Some((_, old)) => *old = Cow::Owned(value),
            None => self.0.push((Cow::Borrowed(name), Cow::Owned(value))),
        }
    }

    /// Removes the member, however often it is there.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    pub(crate) fn write(&self) -> String {
        let size = self.0.iter().map(|(k, v)| k.len() + v.len() + 4).sum::<usize>() + 2;
        let mut out = String::with_capacity(size);
        out.push('{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&serde_json::Value::from(key.as_ref()).to_string());
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        out
    }
}

impl<'de> Deserialize<'de> for RawObject<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = RawObject<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            members.push((key, Cow::Borrowed(value.get())));
        }
        Ok(RawObject(members))
    }
}

/// A key as it stands in the text, where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_member_asked_for_changes() {
        let body = br#"{"a": 1.50, "max":  7,"b":{"z":1e400, "a":[ 1 ,2]},"k\u0022\n":"\u00e9"}"#;
        let mut object = RawObject::parse(body).unwrap();
        object.set("max", "9".to_owned());
        object.set("new", "true".to_owned());
        assert_eq!(object.write(), r#"{"a":1.50,"max":9,"b":{"z":1e400, "a":[ 1 ,2]},"k\"\n":"\u00e9","new":true}"#);
    }

    #[test]
    fn of_a_repeated_member_the_one_that_counts_changes() {
        let mut object = RawObject::parse(br#"{"n":1,"n":2}"#).unwrap();
        object.set("n", "3".to_owned());
        assert_eq!(object.get("n"), Some("3"));
        assert_eq!(object.write(), r#"{"n":1,"n":3}"#);
    }

    #[test]
    fn what_is_not_an_object_is_refused_with_a_reason() {
        assert!(RawObject::parse(b"[1]").is_err_and(|e| e.0.contains("not a JSON object")));
        assert!(RawObject::parse(b"{\"a\":").is_err());
    }
}
