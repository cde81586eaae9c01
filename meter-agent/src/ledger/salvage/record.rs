//! One page of a b-tree, its cells, and the values of a record. Pure; takes any bytes, and what makes no sense is
//! nothing.

use rusqlite::types::Value;

use super::pages::word;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    TableInner,
    TableLeaf,
    /// Of an index, or of a table without rowids.
    IndexInner,
    IndexLeaf,
}

/// A page of a tree.
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Cells whose place lies outside of the page.
    pub(super) lost: u64,
    bytes: Vec<u8>,
    usable: usize,
    cells: Vec<usize>,
    /// Where the page's header begins: the first page has the file's before it.
    header: usize,
}

/// A record's place and the part of it that lies on the page.
pub(super) struct Cell {
    pub(super) at: usize,
    pub(super) rowid: i64,
    pub(super) local: Vec<u8>,
    /// Bytes in all.
    pub(super) total: usize,
    /// First page of the rest; 0 where there is none.
    pub(super) overflow: u32,
}

impl Node {
    /// `None` for a page that is not of a tree, or torn at its head.
    pub(super) fn parse(bytes: Vec<u8>, page: u32, usable: usize) -> Option<Self> {
        let header = if page == 1 { 100 } else { 0 };
        let kind = match bytes.get(header)? {
            2 => Kind::IndexInner,
            5 => Kind::TableInner,
            10 => Kind::IndexLeaf,
            13 => Kind::TableLeaf,
            _ => return None,
        };
        let count = usize::from(u16::from_be_bytes([bytes[header + 3], bytes[header + 4]]));
        let first = header + if kind.is_inner() { 12 } else { 8 };
        // A cell has 4 bytes and a pointer of 2.
        if first + count * 2 > usable || count > usable / 6 {
            return None;
        }
        let places =
            (0..count).map(|n| usize::from(u16::from_be_bytes([bytes[first + n * 2], bytes[first + n * 2 + 1]])));
        let cells: Vec<usize> = places.filter(|at| (first + count * 2..usable).contains(at)).collect();
        Some(Self { kind, lost: (count - cells.len()) as u64, bytes, usable, cells, header })
    }

    /// The pages below it.
    pub(super) fn children(&self) -> Vec<u32> {
        if !self.kind.is_inner() {
            return Vec::new();
        }
        let mut children: Vec<u32> = self.cells.iter().map(|&at| word(&self.bytes, at)).collect();
        children.push(word(&self.bytes, self.header + 8));
        children
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        let has_records = self.kind != Kind::TableInner;
        self.cells.iter().filter(move |_| has_records).filter_map(|&at| self.cell(at))
    }

    fn cell(&self, place: usize) -> Option<Cell> {
        let mut at = place + if self.kind.is_inner() { 4 } else { 0 };
        let page = self.bytes.get(..self.usable)?;
        let total = usize::try_from(varint(page, &mut at)?).ok()?;
        let rowid = if self.kind == Kind::TableLeaf { varint(page, &mut at)? } else { 0 };
        let local = local_bytes(total, self.usable, self.kind == Kind::TableLeaf);
        let bytes = page.get(at..at.checked_add(local)?)?.to_vec();
        let overflow = if local < total { word(page, at + local) } else { 0 };
        Some(Cell { at: place, rowid, local: bytes, total, overflow })
    }
}

impl Kind {
    const fn is_inner(self) -> bool {
        matches!(self, Self::TableInner | Self::IndexInner)
    }
}

/// How much of a payload is on the page itself (section 1.6 of the format).
fn local_bytes(total: usize, usable: usize, is_table: bool) -> usize {
    let most = if is_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if total <= most {
        return total;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let even = least + (total - least) % (usable - 4);
    if even <= most { even } else { least }
}

/// A record's values. `None` where it is not one.
pub(super) fn values(payload: &[u8]) -> Option<Vec<Value>> {
    let mut at = 0;
    let header = usize::try_from(varint(payload, &mut at)?).ok()?;
    let mut body = header;
    let mut values = Vec::new();
    while at < header {
        let kind = varint(payload.get(..header)?, &mut at)?;
        values.push(value(kind, payload, &mut body)?);
    }
    (at == header && body == payload.len()).then_some(values)
}

fn value(kind: i64, payload: &[u8], at: &mut usize) -> Option<Value> {
    let mut take = |length: usize| {
        let bytes = payload.get(*at..at.checked_add(length)?)?;
        *at += length;
        Some(bytes)
    };
    Some(match kind {
        0 => Value::Null,
        1..=4 => Value::Integer(integer(take(usize::try_from(kind).ok()?)?)),
        5 => Value::Integer(integer(take(6)?)),
        6 => Value::Integer(integer(take(8)?)),
        7 => Value::Real(f64::from_bits(integer(take(8)?).cast_unsigned())),
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        12.. if kind % 2 == 0 => Value::Blob(take(usize::try_from((kind - 12) / 2).ok()?)?.to_vec()),
        13.. => Value::Text(String::from_utf8(take(usize::try_from((kind - 13) / 2).ok()?)?.to_vec()).ok()?),
        _ => return None,
    })
}

/// Big-endian, with its sign.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

/// One to nine bytes, the last of nine whole.
fn varint(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut value: i64 = 0;
    for n in 0..9 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        if n == 8 {
            return Some(value << 8 | i64::from(byte));
        }
        value = value << 7 | i64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_of_every_kind_reads_back() {
        let text = "é".repeat(30);
        let payload = [&[8, 0, 8, 9, 1, 6, 12 + 4, 13 + 120, 0][..0], &[9, 0, 8, 9, 1, 6, 16, 0x81, 0x05][..]].concat();
        let payload = [&payload[..], &[0xff], &i64::MIN.to_be_bytes(), &[1, 2], text.as_bytes()].concat();
        let expected = vec![
            Value::Null,
            Value::Integer(0),
            Value::Integer(1),
            Value::Integer(-1),
            Value::Integer(i64::MIN),
            Value::Blob(vec![1, 2]),
            Value::Text(text),
        ];
        assert_eq!(values(&payload), Some(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(mut page in prop::collection::vec(any::<u8>(), 512..=512), kind in 0..4usize) {
            let _ = values(&page);
            page[0] = [2, 5, 10, 13][kind];
            page[3] = 0;
            if let Some(node) = Node::parse(page, 2, 512) {
                node.children();
                node.cells().for_each(|cell| drop(values(&cell.local)));
            }
        }
    }
}
