//! The protobuf wire format, as far as reading a few fields of a message needs it.
//!
//! No schema and no code generation: a dialect knows the numbers of the fields that it reads, and all others are
//! skipped. A message that breaks off ends there; what was read before stays good.
//!
//! Source: protobuf.dev/programming-guides/encoding.

/// One field's value. Groups, which nothing uses any more, end a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

/// The fields in the order in which they stand.
struct Each<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) const fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The last number of that field, which is the one that holds; 0 where there is none.
    pub(crate) fn number(self, field: u64) -> u64 {
        self.numbers(field).last().unwrap_or(0)
    }

    /// Every number of a repeated field, packed or not.
    pub(crate) fn numbers(self, field: u64) -> impl Iterator<Item = u64> + 'a {
        self.each().filter(move |(number, _)| *number == field).flat_map(|(_, value)| Numbers(value))
    }

    /// Every string or message of that field.
    pub(crate) fn all(self, field: u64) -> impl Iterator<Item = &'a [u8]> {
        self.each().filter_map(move |(number, value)| match value {
            Value::Bytes(bytes) if number == field => Some(bytes),
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => None,
        })
    }

    /// The last string or message of that field.
    pub(crate) fn bytes(self, field: u64) -> Option<&'a [u8]> {
        self.all(field).last()
    }

    /// The last string of that field, if it says anything.
    pub(crate) fn text(self, field: u64) -> Option<String> {
        let text = std::str::from_utf8(self.bytes(field)?).ok()?;
        (!text.is_empty()).then(|| text.to_owned())
    }

    pub(crate) fn has(self, field: u64) -> bool {
        self.each().any(|(number, _)| number == field)
    }

    const fn each(self) -> Each<'a> {
        Each(self.0)
    }
}

impl<'a> Iterator for Each<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.0;
        let field = read(&mut rest);
        self.0 = if field.is_some() { rest } else { b"" };
        field
    }
}

/// The numbers of one value: itself, or those that are packed in it.
struct Numbers<'a>(Value<'a>);

impl Iterator for Numbers<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match &mut self.0 {
            Value::Varint(n) => {
                let n = *n;
                self.0 = Value::Bytes(b"");
                Some(n)
            }
            Value::Bytes(packed) => varint(packed),
            Value::Fixed64(_) | Value::Fixed32(_) => None,
        }
    }
}

fn read<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = varint(rest)?;
    let value = match tag & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed64(*take(rest, 8)?.first_chunk()?),
        2 => {
            let len = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(take(rest, len)?)
        }
        5 => Value::Fixed32(*take(rest, 4)?.first_chunk()?),
        _ => return None,
    };
    Some((tag >> 3, value))
}

/// Seven bits a byte, the lowest first; ten bytes at most.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        n |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(taken)
}

/// Writes messages, for tests.
#[cfg(test)]
pub(crate) mod write {
    pub(crate) fn varint(mut n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let low = u8::try_from(n & 0x7f).unwrap();
            n >>= 7;
            if n == 0 {
                out.push(low);
                return out;
            }
            out.push(low | 0x80);
        }
    }

    pub(crate) fn number(field: u64, n: u64) -> Vec<u8> {
        [varint(field << 3), varint(n)].concat()
    }

    pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::{write::*, *};

    #[test]
    fn fields_are_found_among_others_and_the_last_one_holds() {
        let message = [
            number(1, 5),
            bytes(2, b"grok"),
            vec![(3 << 3) | 1, 1, 2, 3, 4, 5, 6, 7, 8],
            vec![(4 << 3) | 5, 1, 2, 3, 4],
            number(1, 300),
            number(9, 2),
            bytes(9, &[1, 0xac, 0x02]),
        ]
        .concat();
        let fields = Fields::of(&message);
        assert_eq!((fields.number(1), fields.number(7)), (300, 0));
        assert_eq!((fields.text(2).as_deref(), fields.text(1)), (Some("grok"), None));
        assert_eq!(fields.numbers(9).collect::<Vec<_>>(), [2, 1, 300]);
        assert!(fields.has(3) && fields.has(4) && !fields.has(5));
        assert_eq!(fields.each().count(), 7);
    }

    #[test]
    fn a_message_that_breaks_off_ends_there() {
        let whole = [number(1, 300), bytes(2, b"text"), number(3, 7)].concat();
        for at in 0..whole.len() {
            let fields = Fields::of(&whole[..at]);
            assert!([0, 300].contains(&fields.number(1)) && fields.number(3) == 0, "cut at {at}");
            assert!(fields.text(2).is_none_or(|t| t == "text"), "cut at {at}");
        }
        for broken in [&[0xff; 12][..], &[0x0b], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]] {
            assert_eq!(Fields::of(broken).each().count(), 0);
        }
    }
}
