//! One request as the simulator understood it, and the turn that answers it: pure values, shared by all APIs.

use serde::{Deserialize, Serialize};

use super::{body::STAMP, directive::Directive};

/// What a request asked for, read by its API.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub model: String,
    /// Text of the last user message, where the directive is looked for.
    pub last_text: String,
    /// Characters of everything sent, for a default token count.
    pub characters: usize,
    pub stream: bool,
    /// The answer comes later, by another request.
    pub background: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Output tokens that the request allows.
    pub ceiling: Option<u64>,
}

/// Tokens that an answer bills, named as the ledger names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billed {
    pub input_tokens: u64,
    pub cache_read: u64,
    pub cache_write_5m: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
}

/// What is going to be answered.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Unique within the process; part of every id in the answer.
    pub id: u64,
    /// Seconds since 1970.
    pub created: u64,
    pub model: String,
    pub billed: Billed,
    /// The request's ceiling ended the output.
    pub truncated: bool,
    pub include_usage: bool,
    /// The text, in the pieces that a stream sends.
    pub pieces: Vec<String>,
}

impl Turn {
    pub fn new(asked: &Asked, directive: &Directive, id: u64, created: u64) -> Self {
        let wanted = directive.output.unwrap_or(24);
        let ceiling = asked.ceiling.filter(|_| !directive.past_ceiling);
        let output_tokens = ceiling.map_or(wanted, |ceiling| wanted.min(ceiling));
        let billed = Billed {
            input_tokens: directive.input.unwrap_or(asked.characters as u64 / 4 + 1),
            cache_read: directive.cached,
            cache_write_5m: directive.cache_write,
            output_tokens,
            reasoning_tokens: directive.reasoning.min(output_tokens),
        };
        let size = directive.size.unwrap_or(usize::try_from(output_tokens).unwrap_or(0) * 4);
        Self {
            id,
            created,
            model: directive.model.clone().unwrap_or_else(|| asked.model.clone()),
            billed,
            truncated: output_tokens < wanted,
            include_usage: asked.include_usage,
            pieces: if directive.stamp {
                vec![STAMP.to_owned(); directive.chunks.unwrap_or(4)]
            } else {
                pieces(size, directive.chunks.unwrap_or(4))
            },
        }
    }

    pub fn text(&self) -> String {
        self.pieces.concat()
    }

    /// Input that was neither read from nor written to the cache.
    pub fn uncached(&self) -> u64 {
        self.billed.input_tokens.saturating_sub(self.billed.cache_read + self.billed.cache_write_5m)
    }
}

/// `size` bytes of text that compresses about as well as prose, in `count` pieces.
fn pieces(size: usize, count: usize) -> Vec<String> {
    const WORDS: [&str; 7] = ["meter ", "counts ", "what ", "agents ", "spend ", "on ", "models "];
    let mut text = String::with_capacity(size + 8);
    let mut seed = 1_u32;
    while text.len() < size {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(WORDS[(seed >> 16) as usize % WORDS.len()]);
    }
    text.truncate(size);
    let length = size.div_ceil(count.max(1)).max(1);
    text.as_bytes().chunks(length).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_passes_the_ceiling_only_where_it_is_told_to() {
        let asked = Asked { ceiling: Some(10), ..Asked::default() };
        let directive = Directive { output: Some(50), reasoning: 20, ..Directive::default() };
        let turn = Turn::new(&asked, &directive, 1, 0);
        assert_eq!((turn.billed.output_tokens, turn.billed.reasoning_tokens, turn.truncated), (10, 10, true));
        let unruly = Turn::new(&asked, &Directive { past_ceiling: true, ..directive }, 1, 0);
        assert_eq!((unruly.billed.output_tokens, unruly.truncated), (50, false));
    }

    #[test]
    fn the_text_has_the_size_asked_for() {
        assert_eq!(pieces(5_000_000, 10).iter().map(String::len).sum::<usize>(), 5_000_000);
        assert_eq!(pieces(5_000_000, 10).len(), 10);
        assert_eq!(pieces(0, 4).len(), 0);
    }
}
