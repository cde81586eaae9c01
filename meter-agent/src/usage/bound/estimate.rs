//! Bounds for answers whose final usage never came.
//!
//! Input: the request's own upper bound, unless the answer said it. Output: a token is at least one byte of
//! visible text, so the bytes seen bound what was generated and seen; a cut adds [`CUT_ALLOWANCE_TOKENS`] for
//! what the provider generated before it noticed. Where output can be hidden (reasoning, audio, images) the
//! bytes seen bound nothing and the request's ceiling is the bound. Where there is none, the reading is absent.

use crate::usage::{BodyEnd, Quality, Reading, RequestFacts, Usage};

/// Tokens that a provider may have generated, and bill, beyond the last one that arrived before a cut: several
/// seconds of the fastest generation.
pub(crate) const CUT_ALLOWANCE_TOKENS: u64 = 4_096;

/// Tokens of an answer that are not its text: role, tool-call framing, end marks.
const FRAMING_TOKENS: u64 = 64;

/// As above where the text was counted by its tokenizer, and the framing of tool calls with it.
const COUNTED_FRAMING_TOKENS: u64 = 8;

/// What bounds an estimate.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they mirror what a request states, each by itself")]
pub(crate) struct Bounds {
    input: Option<u64>,
    ceiling: Option<u64>,
    choices: u64,
    hidden_output: bool,
    no_output: bool,
    cache_1h: bool,
    cache_5m: bool,
}

impl Bounds {
    pub(crate) fn of(facts: &RequestFacts) -> Self {
        let choices = facts.choices.max(1);
        Self {
            input: (!facts.input_unbounded).then_some(facts.input_bound),
            ceiling: facts.ceiling.map(|c| c.saturating_mul(choices)),
            choices,
            hidden_output: facts.hidden_output,
            no_output: facts.no_output,
            cache_1h: facts.cache_1h,
            cache_5m: facts.cache_5m,
        }
    }

    /// The bound of the whole answer, or nothing.
    pub(crate) fn reading(self, model: Option<String>, visible_bytes: u64, end: BodyEnd) -> Reading {
        let (Some(input), Some(output)) = (self.input, self.output(visible_bytes, end)) else {
            return Reading { model, ..Reading::absent() };
        };
        Reading { model, ..Reading::of(Quality::Estimated, Usage { output_tokens: output, ..self.input_usage(input) }) }
    }

    /// As [`Self::reading`], where the output that was seen is `tokens`, counted by the model's own tokenizer.
    pub(crate) fn counted(self, tokens: u64, end: BodyEnd) -> Reading {
        let (Some(input), Some(output)) = (self.input, self.output_of(tokens, COUNTED_FRAMING_TOKENS, end)) else {
            return Reading::absent();
        };
        Reading::of(Quality::Estimated, Usage { output_tokens: output, ..self.input_usage(input) })
    }

    /// With an input that was counted: it tightens the request's own bound, and never widens it.
    pub(crate) fn with_input(self, tokens: u64) -> Self {
        Self { input: self.input.map(|bound| bound.min(tokens)), ..self }
    }

    /// For an answer that comes as one document: what was generated shows only once all of it is there, so a cut
    /// says nothing of its length.
    pub(crate) fn of_document(self, end: BodyEnd) -> Self {
        Self { hidden_output: self.hidden_output || end == BodyEnd::Cut, ..self }
    }

    /// Upper bound of output tokens, when `visible_bytes` of it were seen.
    pub(crate) fn output(self, visible_bytes: u64, end: BodyEnd) -> Option<u64> {
        self.output_of(visible_bytes, FRAMING_TOKENS, end)
    }

    fn output_of(self, seen: u64, framing: u64, end: BodyEnd) -> Option<u64> {
        if self.no_output {
            return Some(0);
        }
        if self.hidden_output {
            return self.ceiling;
        }
        let seen = seen.saturating_add(framing.saturating_mul(self.choices));
        let bound = match end {
            BodyEnd::Complete => seen,
            BodyEnd::Cut => seen.saturating_add(CUT_ALLOWANCE_TOKENS.saturating_mul(self.choices)),
        };
        Some(self.ceiling.map_or(bound, |ceiling| bound.min(ceiling)))
    }

    /// Upper bound of output when the provider said how much it was at some point before a cut.
    pub(crate) fn output_after(self, reported: u64) -> u64 {
        let bound = reported.saturating_add(CUT_ALLOWANCE_TOKENS.saturating_mul(self.choices));
        self.ceiling.map_or(bound, |ceiling| bound.min(ceiling.max(reported)))
    }

    /// What was used so far: the input as it is bounded, and the output that was seen, whatever the ceiling.
    pub(crate) fn so_far(self, model: Option<String>, output_tokens: u64) -> Reading {
        let usage = Usage { output_tokens, ..self.input_usage(self.input.unwrap_or(0)) };
        Reading { model, ..Reading::of(Quality::Estimated, usage) }
    }

    /// Whether output is generated that is not seen.
    pub(crate) fn hides_output(self) -> bool {
        self.hidden_output
    }

    /// The input in the dearest bucket that the request asked for.
    fn input_usage(self, tokens: u64) -> Usage {
        let mut usage = Usage { input_tokens: tokens, ..Usage::default() };
        if self.cache_1h {
            usage.cache_write_1h = tokens;
        } else if self.cache_5m {
            usage.cache_write_5m = tokens;
        } else {
            usage.input_uncached = tokens;
        }
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> RequestFacts {
        RequestFacts { input_bound: 100, ceiling: Some(5_000), choices: 1, ..RequestFacts::default() }
    }

    #[test]
    fn visible_output_is_bounded_by_its_bytes_and_the_ceiling() {
        let bounds = Bounds::of(&facts());
        let done = bounds.reading(None, 10, BodyEnd::Complete);
        assert_eq!((done.quality, done.usage.input_tokens, done.usage.output_tokens), (Quality::Estimated, 100, 74));
        assert_eq!(bounds.reading(None, 10, BodyEnd::Cut).usage.output_tokens, 74 + CUT_ALLOWANCE_TOKENS);
        assert_eq!(bounds.reading(None, 9_000, BodyEnd::Cut).usage.output_tokens, 5_000);
    }

    #[test]
    fn hidden_output_is_bounded_by_the_ceiling_alone() {
        let hidden = RequestFacts { hidden_output: true, ..facts() };
        assert_eq!(Bounds::of(&hidden).reading(None, 10, BodyEnd::Complete).usage.output_tokens, 5_000);
        let open = RequestFacts { ceiling: None, ..hidden };
        assert_eq!(Bounds::of(&open).reading(None, 10, BodyEnd::Complete).quality, Quality::Absent);
    }

    #[test]
    fn a_document_that_was_cut_may_have_been_any_length() {
        let bounds = Bounds::of(&facts());
        assert_eq!(bounds.of_document(BodyEnd::Cut).reading(None, 10, BodyEnd::Cut).usage.output_tokens, 5_000);
        assert_eq!(bounds.of_document(BodyEnd::Complete).reading(None, 10, BodyEnd::Complete).usage.output_tokens, 74);
    }

    #[test]
    fn a_counted_input_only_tightens() {
        let bounds = Bounds::of(&facts());
        let input = |b: Bounds| b.counted(10, BodyEnd::Complete).usage.input_tokens;
        assert_eq!((input(bounds.with_input(30)), input(bounds.with_input(300))), (30, 100));
        assert_eq!(bounds.counted(10, BodyEnd::Complete).usage.output_tokens, 18);
        assert_eq!(bounds.counted(10, BodyEnd::Cut).usage.output_tokens, 18 + CUT_ALLOWANCE_TOKENS);
    }

    #[test]
    fn an_unbounded_input_makes_the_reading_absent() {
        let open = RequestFacts { input_unbounded: true, ..facts() };
        assert_eq!(Bounds::of(&open).reading(None, 10, BodyEnd::Complete).quality, Quality::Absent);
    }
}
