//! JSON as providers write it: numbers that may be null, fractions, strings or missing; lists and members of
//! no interest skipped without building them.
//!
//! Nothing here fails because of one odd number: an answer's other numbers would be lost with it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Decodes a whole document; leading blank lines (keep-alives) and a byte order mark are fine.
///
/// What follows the document is left alone, unless it is another one: then the first is not the whole answer.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let mut documents = serde_json::Deserializer::from_slice(body).into_iter::<T>();
    let first = documents.next()?.ok()?;
    let rest = body[documents.byte_offset()..].trim_ascii_start();
    (!matches!(rest.first(), Some(b'{' | b'['))).then_some(first)
}

/// What some servers put before text in UTF-8.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Decodes the value at the start of `text` and ignores what follows it.
pub(crate) fn parse_prefix<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(text).into_iter::<T>().next()?.ok()
}

/// A count of tokens or calls. Absent, null, negative and non-numeric values are `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<u64>);

impl Count {
    pub(crate) fn get(self) -> u64 {
        self.0.unwrap_or(0)
    }

    /// Takes the later value where it has one.
    pub(crate) fn replace(&mut self, later: Self) {
        self.0 = later.0.or(self.0);
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, n: u64) -> Result<Count, E> {
        Ok(Count(Some(n)))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Count, E> {
        Ok(Count(u64::try_from(n).ok()))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the cast saturates, and the sign is checked first"
    )]
    fn visit_f64<E>(self, n: f64) -> Result<Count, E> {
        Ok(Count((n.is_finite() && n >= 0.0).then(|| n.ceil() as u64)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Count, E> {
        let text = text.trim();
        match text.parse() {
            Ok(n) => Ok(Count(Some(n))),
            Err(_) => text.parse().map_or(Ok(Count(None)), |n: f64| self.visit_f64(n)),
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

/// For `#[serde(deserialize_with)]`: a member whose null is its default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

/// For `#[serde(deserialize_with)]`: a member that is `None` when it is of another shape, so that the rest is read.
/// Not for members of what is flattened into another object.
pub(crate) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Option<T>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(d)?;
    // An object alone has members; a list is not one with its names left out.
    let raw = raw.filter(|raw| !raw.get().starts_with('['));
    Ok(raw.and_then(|raw| serde_json::from_str(raw.get()).ok()))
}

/// As [`lenient`], for a list; what is no list is an empty one, and an item of another shape is left out.
pub(crate) fn items<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<Vec<T>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(d)?;
    let all: Vec<&RawValue> = raw.as_ref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    Ok(all.into_iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect())
}

/// For `#[serde(deserialize_with)]`: a string, and `None` for anything that is not one.
pub(crate) fn text<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    struct TextVisitor;

    impl<'de> Visitor<'de> for TextVisitor {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    d.deserialize_any(TextVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Probe {
        #[serde(default)]
        n: Count,
        #[serde(default, deserialize_with = "text")]
        t: Option<String>,
    }

    #[test]
    fn odd_numbers_cost_only_themselves() {
        for (json, want) in [
            ("{\"n\":7}", Some(7)),
            ("{\"n\":7.0}", Some(7)),
            ("{\"n\":6.2}", Some(7)),
            ("{\"n\":\"7\"}", Some(7)),
            ("{\"n\":null}", None),
            ("{\"n\":-3}", None),
            ("{\"n\":[1,{}]}", None),
            ("{\"n\":{\"a\":1}}", None),
            ("{\"n\":true,\"t\":4}", None),
            ("\n\n  {}", None),
        ] {
            let probe: Probe = parse(json.as_bytes()).unwrap();
            assert_eq!(probe.n.0, want, "{json}");
            assert_eq!(probe.t, None);
        }
    }
}
