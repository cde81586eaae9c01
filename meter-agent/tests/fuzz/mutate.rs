//! Mutations, and the chance that selects them: the same seed gives the same inputs on every machine.

/// SplitMix64.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, or 0 where there is nothing below it.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("it is below a usize")
    }
}

/// Pieces that decoders care about.
const TOKENS: &[&[u8]] = &[
    b"\n",
    b"\r\n\r\n",
    b"\r",
    b"data: ",
    b"data:",
    b"event: message_delta\n",
    b"[DONE]",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b"null",
    b"-1",
    b"1e308",
    b"18446744073709551616",
    b"9007199254740993",
    b"0.1",
    b"\\ud800",
    b"\xff\xfe",
    b"\0",
    b"true",
    b"{\"usage\":",
    b"\"usage\":null",
    b"\"usage\":{}",
    b"\"usage\":[[",
    b"\"model\":7",
    b"\"type\":\"response.completed\"",
    b"\xff\xff\xff\xff",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
    b"\0\0\0\0\x05",
    b"\x1f\x8b",
    b"base64",
    b"data:image/png;base64,",
];

/// Bytes that an input grows to at most.
pub(crate) const INPUT_MAX: usize = 64 * 1024;

/// Changes the input at one to eight places; `other` is another input to take pieces from.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    for _ in 0..=chance.below(8) {
        let at = chance.below(input.len() + 1);
        let to = (at + chance.below(64)).min(input.len());
        match chance.below(9) {
            0 if at < input.len() => input[at] ^= 1 << chance.below(8),
            1 if at < input.len() => input[at] = u8::try_from(chance.below(256)).expect("a byte"),
            2 => drop(input.drain(at..to)),
            3 => input.truncate(at),
            4 => {
                let piece = input[at..to].repeat(1 + chance.below(40));
                input.splice(at..at, piece);
            }
            5 => {
                let from = chance.below(other.len() + 1);
                let until = (from + chance.below(400)).min(other.len());
                input.splice(at..to, other[from..until].iter().copied());
            }
            6 => {
                let deep = TOKENS[7 + 2 * chance.below(2)].repeat(chance.below(2_000));
                input.splice(at..at, deep);
            }
            _ => {
                let token = TOKENS[chance.below(TOKENS.len())];
                input.splice(at..to.min(at + token.len()), token.iter().copied());
            }
        }
    }
    input.truncate(INPUT_MAX);
}
