//! Results that can be read more than once: background responses, runs, batches. Each is billed once.
//!
//! An answer that only announces its result leaves the exchange pending; the first answer that holds the result is
//! billed, and every later one is a repeat. Bounded: the oldest results are forgotten first.

use std::collections::{HashMap, VecDeque};

use crate::usage::{Quality, Reading, ResultRef, Standing};

/// Results remembered. A host has a few thousand in a day; one forgotten is at worst billed twice.
pub const RESULTS_MAX: usize = 65_536;

/// Longest id that is remembered: the longest real ones are paths of some hundred bytes.
const ID_BYTES_MAX: usize = 1_024;

/// The reading without a result whose id is longer than any: such a one is not waited for, and charged at once.
pub fn bounded(mut reading: Reading) -> Reading {
    if let Some(result) = reading.result.take_if(|result| result.id.len() > ID_BYTES_MAX)
        && result.standing == Standing::Pending
    {
        reading.quality = Quality::Absent;
    }
    reading
}

/// What an answer means for its exchange's charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is charged by what it says.
    Charge,
    /// Its hold stays until the result is seen.
    Wait,
    /// It costs nothing: its result is waited for already, or was billed.
    Repeat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Billed,
}

/// What is known of results, by provider and id.
#[derive(Default)]
pub struct Results {
    states: HashMap<(String, String), State>,
    order: VecDeque<(String, String)>,
}

impl Results {
    /// Takes notice of an answer and says what it means.
    pub fn see(&mut self, provider: &str, result: &ResultRef) -> Verdict {
        let key = (provider.to_owned(), result.id.clone());
        let known = self.states.get(&key).copied();
        let (next, verdict) = match (result.standing, known) {
            (_, Some(State::Billed)) | (Standing::Pending, Some(State::Pending)) | (Standing::Repeat, None) => {
                return Verdict::Repeat;
            }
            (Standing::Pending, None) => (State::Pending, Verdict::Wait),
            (Standing::Final | Standing::Repeat, Some(State::Pending)) | (Standing::Final, None) => {
                (State::Billed, Verdict::Charge)
            }
        };
        self.set(key, next);
        verdict
    }

    /// What an earlier run knew: the result is waited for.
    pub fn await_again(&mut self, provider: &str, id: &str) {
        self.set((provider.to_owned(), id.to_owned()), State::Pending);
    }

    /// What an earlier run knew: the result was billed.
    pub fn billed_before(&mut self, provider: &str, id: &str) {
        self.set((provider.to_owned(), id.to_owned()), State::Billed);
    }

    /// Whether the result was billed.
    pub fn is_billed(&self, provider: &str, id: &str) -> bool {
        self.states.get(&(provider.to_owned(), id.to_owned())) == Some(&State::Billed)
    }

    fn set(&mut self, key: (String, String), state: State) {
        if self.states.insert(key.clone(), state).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > RESULTS_MAX {
            let oldest = self.order.pop_front();
            oldest.and_then(|key| self.states.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(results: &mut Results, standing: Standing) -> Verdict {
        results.see("openai", &ResultRef { id: "resp_1".to_owned(), standing })
    }

    #[test]
    fn a_background_result_is_charged_when_it_is_first_seen_and_never_again() {
        let mut results = Results::default();
        assert_eq!(see(&mut results, Standing::Pending), Verdict::Wait);
        assert_eq!(see(&mut results, Standing::Pending), Verdict::Repeat);
        assert_eq!(see(&mut results, Standing::Repeat), Verdict::Charge);
        assert_eq!(see(&mut results, Standing::Repeat), Verdict::Repeat);
    }

    #[test]
    fn what_was_billed_when_it_was_made_costs_nothing_to_read() {
        assert_eq!(see(&mut Results::default(), Standing::Repeat), Verdict::Repeat);
        let mut results = Results::default();
        assert_eq!(see(&mut results, Standing::Final), Verdict::Charge);
        assert_eq!(see(&mut results, Standing::Final), Verdict::Repeat);
    }

    #[test]
    fn an_id_beyond_every_real_one_is_not_remembered_and_its_order_not_free() {
        let of = |bytes: usize| {
            let result = ResultRef { id: "r".repeat(bytes), standing: Standing::Pending };
            bounded(Reading { result: Some(result), ..Reading::nothing() })
        };
        assert!(of(ID_BYTES_MAX).result.is_some());
        let long = of(ID_BYTES_MAX + 1);
        assert_eq!((long.result, long.quality), (None, Quality::Absent));
    }

    #[test]
    fn what_an_earlier_run_knew_holds() {
        let mut results = Results::default();
        results.await_again("openai", "resp_1");
        assert_eq!(see(&mut results, Standing::Repeat), Verdict::Charge);
        let mut results = Results::default();
        results.billed_before("openai", "resp_1");
        assert_eq!(see(&mut results, Standing::Final), Verdict::Repeat);
        assert!(results.is_billed("openai", "resp_1") && !results.is_billed("gemini", "resp_1"));
    }
}
