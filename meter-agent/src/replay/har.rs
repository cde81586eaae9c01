//! The frame of a HAR file: `log.entries`, one after the other, without the file in memory.
//!
//! What an entry holds is [`super::entry`]'s. A file that breaks off has given the entries before the break.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufReader, Read},
    rc::Rc,
};

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The largest entry that is read, in bytes of JSON: an answer of 256 MiB in base64, and its request.
pub(super) const ENTRY_MAX: usize = 512 * 1024 * 1024;

const READ_AHEAD: usize = 64 * 1024;

/// Why a file gives no entries, or no more of them.
#[derive(Debug, thiserror::Error)]
pub enum HarError {
    #[error("it is not JSON ({0}); save the recording as a HAR 1.2 file")]
    NotJson(serde_json::Error),
    #[error("it has no list `log.entries`; save the recording as a HAR 1.2 file")]
    NoEntries,
    #[error("it breaks off or is damaged behind entry {last} ({source}); the entries up to there were metered")]
    Damaged { last: usize, source: serde_json::Error },
    #[error("something follows the recording's end ({0}) and was not read; save each recording as a file of its own")]
    Trailing(serde_json::Error),
    #[error("entry {index} is larger than {} MiB; take it out of the file", ENTRY_MAX / 1024 / 1024)]
    TooLarge { index: usize },
    #[error("it can't be read ({0}); make it a readable file")]
    Unreadable(io::Error),
}

/// Calls `each` with the number and the text of every entry.
pub(super) fn entries(file: impl Read, each: &mut dyn FnMut(usize, &str)) -> Result<(), HarError> {
    within(ENTRY_MAX, file, each)
}

fn within(max: usize, file: impl Read, each: &mut dyn FnMut(usize, &str)) -> Result<(), HarError> {
    let left = Rc::new(Cell::new(max));
    let limited = Limited { inner: WithoutMark::new(file), left: Rc::clone(&left) };
    let mut seen = 0;
    let mut found = false;
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(READ_AHEAD, limited));
    let mut list = |entry: &RawValue| {
        left.set(max);
        each(seen, entry.get());
        seen += 1;
    };
    let entries = Entries { each: &mut list, found: &mut found };
    let read = Member { name: "log", inner: Member { name: "entries", inner: entries } }.deserialize(&mut json);
    match read {
        Ok(()) if found => json.end().map_err(HarError::Trailing),
        Ok(()) => Err(HarError::NoEntries),
        Err(_) if left.get() == 0 => Err(HarError::TooLarge { index: seen }),
        Err(error) if error.is_io() => Err(HarError::Unreadable(error.into())),
        Err(error) if error.is_data() && !found => Err(HarError::NoEntries),
        Err(error) if seen == 0 => Err(HarError::NotJson(error)),
        Err(source) => Err(HarError::Damaged { last: seen - 1, source }),
    }
}

/// A value whose member `name` is handed to `inner`, and whose others are skipped.
struct Member<S> {
    name: &'static str,
    inner: S,
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> DeserializeSeed<'de> for Member<S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> Visitor<'de> for Member<S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut inner = Some(self.inner);
        while let Some(key) = map.next_key::<String>()? {
            match inner.take_if(|_| key == self.name) {
                Some(inner) => map.next_value_seed(inner)?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Entries<'a> {
    each: &'a mut dyn FnMut(&RawValue),
    found: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        *self.found = true;
        while let Some(entry) = seq.next_element::<Box<RawValue>>()? {
            (self.each)(&entry);
        }
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Err(E::invalid_type(de::Unexpected::Unit, &self))
    }
}

/// Ends with an error when the bytes of one entry pass their bound.
struct Limited<R> {
    inner: R,
    left: Rc<Cell<usize>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left.get() == 0 {
            return Err(io::Error::other("an entry is too large"));
        }
        let n = self.inner.read(buf)?;
        self.left.set(self.left.get().saturating_sub(n));
        Ok(n)
    }
}

/// A file without the byte order mark that some editors put at its start.
struct WithoutMark<R> {
    inner: R,
    start: Vec<u8>,
    looked: bool,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl<R> WithoutMark<R> {
    fn new(inner: R) -> Self {
        Self { inner, start: Vec::new(), looked: false }
    }
}

impl<R: Read> Read for WithoutMark<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.looked {
            self.looked = true;
            (&mut self.inner).take(MARK.len() as u64).read_to_end(&mut self.start)?;
            if self.start == MARK {
                self.start.clear();
            }
        }
        if self.start.is_empty() {
            return self.inner.read(buf);
        }
        let n = self.start.len().min(buf.len());
        buf[..n].copy_from_slice(&self.start[..n]);
        self.start.drain(..n);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (Vec<(usize, String)>, Option<String>) {
        let mut seen = Vec::new();
        let end = entries(text, &mut |index, entry| seen.push((index, entry.to_owned())));
        (seen, end.err().map(|error| error.to_string()))
    }

    #[test]
    fn entries_come_with_their_numbers_and_all_else_is_skipped() {
        let text = br#"{"x":[1],"log":{"version":"1.2","pages":[{"a":{}}],"entries":[{"a":1}, 7 ,null],"z":0},"y":""}"#;
        for text in [text.to_vec(), [MARK, text].concat()] {
            let (seen, error) = read(&text);
            assert_eq!(seen, [(0, r#"{"a":1}"#.to_owned()), (1, "7".to_owned()), (2, "null".to_owned())]);
            assert_eq!(error, None);
        }
    }

    #[test]
    fn what_is_no_har_is_said_in_one_sentence() {
        for (text, part) in [
            (&b"# not json"[..], "it is not JSON"),
            (b"", "it is not JSON"),
            (b"{}", "no list `log.entries`"),
            (b"[]", "no list `log.entries`"),
            (b"{\"log\":{}}", "no list `log.entries`"),
            (b"{\"log\":{\"entries\":{}}}", "no list `log.entries`"),
            (b"{\"log\":{\"entries\":null}}", "no list `log.entries`"),
            (b"{\"log\":{\"entries\":[{},{}", "behind entry 1"),
            (b"{\"log\":{\"entries\":[{}]}}\n{}", "follows the recording's end"),
        ] {
            let error = read(text).1.unwrap();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn an_entry_beyond_the_bound_is_named() {
        struct Endless(&'static [u8]);
        impl Read for Endless {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    buf.fill(b' ');
                    return Ok(buf.len());
                }
                self.0.read(buf)
            }
        }
        let endless = Endless(br#"{"log":{"entries":[{},"#);
        let error = within(1 << 20, endless, &mut |_, _| {}).unwrap_err();
        assert!(matches!(error, HarError::TooLarge { index: 1 }), "{error}");
    }
}
