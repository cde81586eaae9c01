//! The server name of a ClientHello that a strict parser does not take, or of the part of one that has arrived.
//!
//! Owns nothing but the way to the name (RFC 8446, sections 4.1.2 and 5.1; RFC 6066, section 3), and takes anything on
//! that way: it answers "is this metered?" for a hello whose handshake is going to fail, so it may believe too
//! much and never too little. Pure.

/// The name of the `server_name` extension, in lower case.
pub(crate) fn server_name(bytes: &[u8]) -> Option<String> {
    let message = message(bytes);
    // Handshake type and length, version, random.
    let mut rest = Bytes(message.get(1 + 3 + 2 + 32..)?);
    rest.sized(1)?;
    rest.sized(2)?;
    rest.sized(1)?;
    rest.take(2)?;
    loop {
        let kind = rest.number(2)?;
        let mut extension = Bytes(rest.sized(2)?);
        if kind == 0 {
            // A list of names, of which one is a host's.
            extension.take(2)?;
            extension.take(1)?;
            let name = extension.sized(2)?;
            return Some(String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
}

/// The handshake's bytes, out of their records.
fn message(bytes: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(bytes.len());
    let mut records = Bytes(bytes);
    while records.take(1 + 2).is_some() {
        let Some(length) = records.number(2) else { break };
        let whole = records.0.len().min(length);
        message.extend_from_slice(&records.0[..whole]);
        records.0 = &records.0[whole..];
    }
    message
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What follows a length of `bytes` bytes.
    fn sized(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello in records of `record` bytes at most.
    fn hello(extensions: &[u8], record: usize) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        message
            .chunks(record)
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[0x16, 3, 1][..], &length, part].concat()
            })
            .collect()
    }

    #[test]
    fn the_name_is_found_behind_other_extensions_and_across_records() {
        let extensions = [&[0xab, 0xcd, 0, 2, 9, 9][..], &[0, 0, 0, 10, 0, 8, 0, 0, 5], b"A.Exe"].concat();
        for record in [1, 7, 4_096] {
            assert_eq!(server_name(&hello(&extensions, record)).as_deref(), Some("a.exe"), "{record}");
        }
    }

    #[test]
    fn no_prefix_and_no_garbage_is_a_panic() {
        let bytes = hello(&[0, 0, 0, 10, 0, 8, 0, 0, 5, b'a', b'.', b'e', b'x', b'e'], 20);
        for end in 0..bytes.len() {
            assert_eq!(server_name(&bytes[..end]), None, "{end}");
        }
        for byte in [0, 0x16, 0xff] {
            assert_eq!(server_name(&[byte; 300]), None);
        }
        assert_eq!(server_name(&hello(&[], 4_096)), None);
    }
}
