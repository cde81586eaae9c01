//! Tokens of a text, by the model's own tokenizer where it is known.
//!
//! Only for answers without usage: the tokenizers are large tables (tens of megabytes once decoded), made at the first
//! use and never on the way of an ordinary exchange. That takes a good part of a second, and a long text some tens of
//! milliseconds: whoever counts on threads that have others' traffic to carry says by [`count_by`] how to spare them.
//! Where the tokenizer is not known, or the text is longer than
//! [`MAX_COUNTED_BYTES`], the bytes are the bound: no tokenizer makes more tokens than bytes.
//!
//! Which model uses which: OpenAI's tiktoken, by way of `tiktoken-rs`.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tiktoken_rs::{
    CoreBPE, cl100k_base_singleton, o200k_base_singleton,
    tokenizer::{Tokenizer as Known, get_tokenizer},
};

/// Longest text that is counted: some tens of milliseconds of work.
pub(crate) const MAX_COUNTED_BYTES: usize = 256 * 1024;

/// Texts are counted in windows of this size: the tokenizer's pattern backtracks over long runs of blanks, and gives
/// up by a panic beyond a million steps. Each cut between two windows can only add tokens.
const WINDOW_BYTES: usize = 4 * 1024;

/// Longest text that is counted where its answer ended, in a millisecond or so, once its tokenizer is made.
const SHORT_BYTES: usize = 16 * 1024;

/// Runs the work that it is given, on the same thread, and sees to what else that thread had to do.
pub type CountBy = fn(&mut dyn FnMut());

static COUNT_BY: OnceLock<CountBy> = OnceLock::new();

/// Says how heavy counting is done in this process. The first call holds; without one it is simply done.
pub fn count_by(way: CountBy) {
    let _ = COUNT_BY.set(way);
}

/// A tokenizer that is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tokenizer {
    Cl100k,
    O200k,
}

impl Tokenizer {
    /// The tokenizer of a model by its name, behind any prefix of a gateway's (`openai/gpt-4o`).
    pub(crate) fn of(model: &str) -> Option<Self> {
        let name = model.rsplit('/').next().unwrap_or(model);
        match get_tokenizer(name.strip_prefix("openai.").unwrap_or(name))? {
            // Harmony differs in its special tokens alone.
            Known::O200kBase | Known::O200kHarmony => Some(Self::O200k),
            Known::Cl100kBase => Some(Self::Cl100k),
            Known::P50kBase | Known::R50kBase | Known::P50kEdit | Known::Gpt2 => None,
        }
    }

    /// Counts, in the way that was set where it takes long.
    fn count(self, text: &str) -> u64 {
        let mut tokens = 0;
        let mut work = || tokens = self.count_here(text);
        match COUNT_BY.get() {
            Some(by) if text.len() > SHORT_BYTES || !self.is_made().load(Ordering::Relaxed) => by(&mut work),
            Some(_) | None => work(),
        }
        tokens
    }

    /// Whether its table has been made.
    fn is_made(self) -> &'static AtomicBool {
        static MADE: [AtomicBool; 2] = [AtomicBool::new(false), AtomicBool::new(false)];
        match self {
            Self::Cl100k => &MADE[0],
            Self::O200k => &MADE[1],
        }
    }

    fn count_here(self, text: &str) -> u64 {
        let table: &CoreBPE = match self {
            Self::Cl100k => cl100k_base_singleton(),
            Self::O200k => o200k_base_singleton(),
        };
        self.is_made().store(true, Ordering::Relaxed);
        let mut rest = text;
        let mut tokens = 0;
        while !rest.is_empty() {
            let (window, after) = rest.split_at(rest.floor_char_boundary(WINDOW_BYTES));
            tokens += table.count_ordinary(window) as u64;
            rest = after;
        }
        tokens
    }
}

/// Tokens of `text`, or an upper bound of them.
pub(crate) fn count(tokenizer: Option<Tokenizer>, text: &str) -> u64 {
    match tokenizer {
        Some(known) if text.len() <= MAX_COUNTED_BYTES => known.count(text),
        Some(_) | None => text.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_behind_prefixes_and_suffixes() {
        for (model, want) in [
            ("gpt-4o-mini-2024-07-18", Some(Tokenizer::O200k)),
            ("openai/gpt-5.1", Some(Tokenizer::O200k)),
            ("openai.gpt-oss-20b-1:0", Some(Tokenizer::O200k)),
            ("ft:gpt-3.5-turbo-0613:acme::abc", Some(Tokenizer::Cl100k)),
            ("gpt-3.5-turbo-instruct:20230824-v2", Some(Tokenizer::Cl100k)),
            ("text-embedding-3-small", Some(Tokenizer::Cl100k)),
            ("davinci", None),
            ("claude-sonnet-4-5", None),
            ("", None),
        ] {
            assert_eq!(Tokenizer::of(model), want, "{model}");
        }
    }

    #[test]
    fn a_known_text_has_its_known_count() {
        assert_eq!(count(Some(Tokenizer::Cl100k), "tiktoken is great!"), 6);
        assert_eq!(count(Some(Tokenizer::O200k), "tiktoken is great!"), 6);
        assert_eq!(count(None, "tiktoken is great!"), 18);
        assert_eq!(count(Some(Tokenizer::O200k), ""), 0);
    }

    #[test]
    fn hostile_texts_are_counted_and_never_panic() {
        for unit in [" ", "a", "A", "\n", "\u{4f60}", "'s", "1", "\t x"] {
            let text = unit.repeat(MAX_COUNTED_BYTES / unit.len());
            let tokens = count(Some(Tokenizer::O200k), &text);
            assert!(tokens > 0 && tokens <= text.len() as u64, "{unit:?}: {tokens}");
        }
        let long = "a ".repeat(MAX_COUNTED_BYTES);
        assert_eq!(count(Some(Tokenizer::O200k), &long), long.len() as u64);
    }
}
