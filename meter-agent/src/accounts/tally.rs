//! What one account used of one category: in all, and by quarters of an hour.
//!
//! Every charge lies in one quarter, that of the moment it was posted for. What a window has used is the sum of the
//! quarters since its start, so that a charge counts once in each kind of window, a limit that is set in the middle
//! of a day knows what the day has used, and a clock that is set back gives nothing twice.

use std::collections::VecDeque;

use super::{
    Window,
    calendar::{QUARTER_MICROS, RECURRING, Starts, quarter},
};
use crate::{clock::Timestamp, measure::Amounts, money::Pico};

/// Quarters that are kept: a month, and the fortnight that a baseline is made of, with a week to spare.
pub const QUARTERS_KEPT: i64 = 40 * 24 * 4;
/// As many are held in memory: all of that time, where something is used in each.
const QUARTERS_MAX: usize = 40 * 24 * 4;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    total: Amounts,
    /// Set aside and not yet settled.
    pub held: Amounts,
    /// Of that, what waits for a result and not for the end of an exchange.
    pub parked: Amounts,
    /// By quarter, the oldest first.
    quarters: VecDeque<(i64, Amounts)>,
    /// The sums of the current windows, with their starts.
    windows: [(Timestamp, Amounts); RECURRING.len()],
}

impl Tally {
    pub const fn total(&self) -> &Amounts {
        &self.total
    }

    /// Posts what was used at a time, in the quarter that it lies in. A correction may be negative.
    pub fn post(&mut self, at: Timestamp, used: Amounts) {
        self.total = self.total.plus(used);
        self.total.usd = self.total.usd.max(Pico::ZERO);
        let quarter = quarter(at);
        match self.quarters.back_mut() {
            Some((last, amounts)) if *last == quarter => *amounts = amounts.plus(used),
            Some((last, _)) if *last > quarter => self.insert(quarter, used),
            Some(_) | None => self.quarters.push_back((quarter, used)),
        }
        // By their number and not by the time of this one, which may come from a clock that is set back again.
        if self.quarters.len() > QUARTERS_MAX {
            self.quarters.pop_front();
        }
        for (start, amounts) in &mut self.windows {
            if quarter * QUARTER_MICROS >= start.micros() {
                *amounts = amounts.plus(used);
            }
        }
    }

    /// What was used before any quarter that is kept.
    pub fn post_before(&mut self, used: Amounts) {
        self.total = self.total.plus(used);
    }

    /// What was spent in all, as it is known from elsewhere: of which quarter some of it was may not be.
    pub fn set_spent(&mut self, usd: Pico) {
        self.total.usd = usd;
    }

    /// What a window has used. Never below zero: a correction of an earlier window's charge gives nothing to this one.
    pub fn used(&self, window: Window, starts: &Starts) -> Amounts {
        let Some(index) = RECURRING.iter().position(|w| *w == window) else { return self.total };
        let (start, amounts) = self.windows[index];
        let sum = if start == starts[index] { amounts } else { self.since(starts[index]) };
        Amounts { usd: sum.usd.max(Pico::ZERO), tokens: sum.tokens.max(0), requests: sum.requests.max(0) }
    }

    /// Brings the sums of the current windows up to date.
    pub fn roll(&mut self, starts: &Starts) {
        for (index, start) in starts.iter().enumerate() {
            if self.windows[index].0 != *start {
                self.windows[index] = (*start, self.since(*start));
            }
        }
    }

    /// The sum from a time to the latest quarter.
    pub fn since(&self, start: Timestamp) -> Amounts {
        let first = quarter(start);
        let recent = self.quarters.iter().rev().take_while(|(quarter, _)| *quarter >= first);
        recent.fold(Amounts::ZERO, |sum, (_, amounts)| sum.plus(*amounts))
    }

    /// The quarters in which something was used, the oldest first.
    pub(super) fn quarters(&self) -> impl Iterator<Item = i64> + '_ {
        self.quarters.iter().map(|(quarter, _)| *quarter)
    }

    /// The clock was set back: the quarter lies among those that are there.
    fn insert(&mut self, quarter: i64, used: Amounts) {
        match self.quarters.binary_search_by_key(&quarter, |(q, _)| *q) {
            Ok(index) => self.quarters[index].1 = self.quarters[index].1.plus(used),
            Err(index) => self.quarters.insert(index, (quarter, used)),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::accounts::calendar::Calendar;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn used(tally: &Tally, now: &str) -> [i64; 5] {
        let calendar = Calendar::new(TimeZone::UTC, at(now));
        [Window::Hour, Window::Day, Window::Week, Window::Month, Window::Total]
            .map(|window| tally.used(window, calendar.starts()).usd.get())
    }

    fn post(tally: &mut Tally, when: &str, amount: i64) {
        tally.post(at(when), Amounts::usd(Pico::new(amount)));
    }

    #[test]
    fn each_charge_lies_in_one_window_of_each_kind() {
        let mut tally = Tally::default();
        post(&mut tally, "2026-10-31T23:59:59.999999Z", 1);
        post(&mut tally, "2026-11-01T00:00:00Z", 10);
        post(&mut tally, "2026-11-02T08:15:00Z", 100);
        assert_eq!(used(&tally, "2026-11-02T08:20:00Z"), [100, 100, 100, 110, 111]);
        assert_eq!(used(&tally, "2026-11-02T09:00:00Z"), [0, 100, 100, 110, 111]);
        assert_eq!(used(&tally, "2026-11-09T00:00:00Z"), [0, 0, 0, 110, 111]);
        assert_eq!(used(&tally, "2026-12-01T00:00:00Z"), [0, 0, 0, 0, 111]);
    }

    #[test]
    fn sums_that_are_kept_agree_with_sums_that_are_added_up() {
        let mut tally = Tally::default();
        for hour in 0..60_i64 {
            let now = Timestamp::from_micros(at("2026-10-31T00:00:00Z").micros() + hour * 2_345 * 1_000_000);
            let calendar = Calendar::new(TimeZone::UTC, now);
            tally.roll(calendar.starts());
            tally.post(now, Amounts::usd(Pico::new(1 << (hour % 40))));
            for (index, start) in calendar.starts().iter().enumerate() {
                assert_eq!(tally.used(RECURRING[index], calendar.starts()), tally.since(*start));
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_or_forward_gives_nothing_twice() {
        let mut tally = Tally::default();
        post(&mut tally, "2026-11-21T10:00:00Z", 1);
        post(&mut tally, "2026-11-22T10:00:00Z", 10);
        post(&mut tally, "2026-11-21T10:05:00Z", 100);
        assert_eq!(used(&tally, "2026-11-21T10:06:00Z")[1], 111, "what lies ahead counts until the clock is there");
        assert_eq!(used(&tally, "2026-11-22T10:06:00Z")[1], 10);
        assert_eq!(used(&tally, "2026-11-22T10:06:00Z")[4], 111);
    }

    #[test]
    fn a_correction_of_an_earlier_window_gives_nothing_to_this_one() {
        let mut tally = Tally::default();
        post(&mut tally, "2026-11-20T10:00:00Z", 50);
        post(&mut tally, "2026-11-21T10:00:00Z", -30);
        assert_eq!(used(&tally, "2026-11-21T10:00:00Z"), [0, 0, 20, 20, 20]);
    }

    #[test]
    fn a_clock_that_was_far_ahead_for_a_while_gives_nothing_twice() {
        let mut tally = Tally::default();
        post(&mut tally, "2026-11-21T10:00:00Z", 50);
        post(&mut tally, "2030-01-01T00:00:00Z", 1);
        assert_eq!(used(&tally, "2026-11-21T10:01:00Z"), [51; 5]);
    }

    #[test]
    fn what_no_window_reaches_any_more_is_in_the_end_only_in_the_total() {
        let mut tally = Tally::default();
        let first = at("2026-01-01T00:00:00Z").micros();
        for n in 0..QUARTERS_KEPT + 10 {
            tally.post(Timestamp::from_micros(first + n * QUARTER_MICROS), Amounts::usd(Pico::new(1)));
        }
        assert_eq!((tally.quarters.len(), tally.total().usd.get()), (QUARTERS_MAX, QUARTERS_KEPT + 10));
    }
}
