//! When windows begin: by the calendar of one time zone.
//!
//! Days, weeks and months begin at the first moment that the zone's clocks show of them, so that a day may have 23
//! or 25 hours. Weeks begin on Monday (ISO 8601). Where the clock is set back, windows go back with it; nothing is
//! forgotten for that, since what was spent is kept by quarters of an hour (`tally.rs`).

use jiff::{RoundMode, ToSpan, Unit as Span, Zoned, ZonedRound, civil::Weekday, tz::TimeZone};

use super::Window;
use crate::clock::Timestamp;

/// The shortest step of any zone's offset from UTC: no window begins within one.
pub const QUARTER_MICROS: i64 = 15 * 60 * 1_000_000;

/// Windows that begin again and again.
pub(super) const RECURRING: [Window; 4] = [Window::Hour, Window::Day, Window::Week, Window::Month];

/// When the current window of each recurring kind began, in the order of [`RECURRING`].
pub(super) type Starts = [Timestamp; 4];

#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    starts: Starts,
    /// The quarter of an hour for which `starts` holds.
    quarter: i64,
}

impl Calendar {
    pub fn new(zone: TimeZone, now: Timestamp) -> Self {
        Self { starts: starts(&zone, now), zone, quarter: quarter(now) }
    }

    /// Moves to `now`; whether any window began, or another zone made it another one.
    pub fn at(&mut self, now: Timestamp) -> bool {
        let quarter = quarter(now);
        if quarter == self.quarter {
            return false;
        }
        self.quarter = quarter;
        let before = std::mem::replace(&mut self.starts, starts(&self.zone, now));
        before != self.starts
    }

    pub fn set_zone(&mut self, zone: &TimeZone, now: Timestamp) {
        if self.zone != *zone {
            *self = Self::new(zone.clone(), now);
        }
    }

    pub const fn starts(&self) -> &Starts {
        &self.starts
    }

    /// When the window that is current now began; `None` for one that does not begin by the clock.
    pub fn start(&self, window: Window) -> Option<Timestamp> {
        RECURRING.iter().position(|w| *w == window).map(|index| self.starts[index])
    }

    /// When the window that is current now ends; `None` for one that does not.
    pub fn reset(&self, window: Window) -> Option<Timestamp> {
        let began = self.start(window)?;
        let start = zoned(&self.zone, began);
        let next = match window {
            Window::Hour => return Some(Timestamp::from_micros(began.micros() + 4 * QUARTER_MICROS)),
            Window::Day => start.tomorrow(),
            Window::Week => start.checked_add(1.week()),
            Window::Month => start.checked_add(1.month()),
            Window::Task | Window::Total => return None,
        };
        next.and_then(|next| next.start_of_day()).ok().map(|at| stamp(&at))
    }
}

/// The quarter of an hour, counted from the epoch.
pub const fn quarter(at: Timestamp) -> i64 {
    at.micros().div_euclid(QUARTER_MICROS)
}

fn starts(zone: &TimeZone, now: Timestamp) -> Starts {
    let now = zoned(zone, now);
    let day = now.start_of_day().unwrap_or_else(|_| now.clone());
    let hour = now.round(ZonedRound::new().smallest(Span::Hour).mode(RoundMode::Floor)).unwrap_or_else(|_| now.clone());
    let week = now.date().nth_weekday(-1, Weekday::Monday);
    let monday = if now.weekday() == Weekday::Monday { Ok(now.date()) } else { week };
    let first = |date: jiff::civil::Date| date.to_zoned(zone.clone()).unwrap_or_else(|_| day.clone());
    let week = monday.map_or_else(|_| day.clone(), first);
    let month = first(now.date().first_of_month());
    [stamp(&hour), stamp(&day), stamp(&week), stamp(&month)]
}

fn zoned(zone: &TimeZone, at: Timestamp) -> Zoned {
    jiff::Timestamp::from_microsecond(at.micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_zoned(zone.clone())
}

fn stamp(zoned: &Zoned) -> Timestamp {
    Timestamp::from_micros(zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    fn starts_at(zone: &str, now: &str) -> [String; 4] {
        let calendar = Calendar::new(TimeZone::get(zone).unwrap(), at(now));
        calendar.starts().map(|start| start.rfc3339().replace(":00.000Z", "Z"))
    }

    #[test]
    fn windows_begin_by_the_clocks_of_the_zone() {
        assert_eq!(
            starts_at("Europe/Berlin", "2026-11-21T23:59:59Z"),
            ["2026-11-21T23:00Z", "2026-11-21T23:00Z", "2026-11-15T23:00Z", "2026-10-31T23:00Z"]
        );
        assert_eq!(
            starts_at("UTC", "2026-11-23T00:00:00Z"),
            ["2026-11-23T00:00Z", "2026-11-23T00:00Z", "2026-11-23T00:00Z", "2026-11-01T00:00Z"]
        );
        assert_eq!(
            starts_at("Asia/Kathmandu", "2026-11-21T18:20:00Z"),
            ["2026-11-21T18:15Z", "2026-11-21T18:15Z", "2026-11-15T18:15Z", "2026-10-31T18:15Z"]
        );
    }

    #[test]
    fn a_day_of_23_and_one_of_25_hours_end_when_the_clocks_say_so() {
        let berlin = || TimeZone::get("Europe/Berlin").unwrap();
        for (now, start, end) in [
            ("2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            ("2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"),
        ] {
            let calendar = Calendar::new(berlin(), at(now));
            assert_eq!((calendar.starts()[1], calendar.reset(Window::Day)), (at(start), Some(at(end))), "{now}");
        }
    }

    #[test]
    fn the_two_hours_of_a_clock_set_back_are_two_windows() {
        let zone = "Europe/Berlin";
        assert_eq!(starts_at(zone, "2026-10-25T00:30:00Z")[0], "2026-10-25T00:00Z");
        assert_eq!(starts_at(zone, "2026-10-25T01:30:00Z")[0], "2026-10-25T01:00Z");
    }

    #[test]
    fn a_month_ends_at_its_last_midnight() {
        for (now, reset) in
            [("2028-02-29T23:00:00Z", "2028-03-01T00:00:00Z"), ("2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z")]
        {
            let calendar = Calendar::new(TimeZone::UTC, at(now));
            assert_eq!(calendar.reset(Window::Month), Some(at(reset)));
            assert_eq!(calendar.reset(Window::Total), None);
        }
    }

    #[test]
    fn a_window_begins_once_and_goes_back_with_the_clock() {
        let mut calendar = Calendar::new(TimeZone::UTC, at("2026-11-21T10:50:00Z"));
        assert!(!calendar.at(at("2026-11-21T10:59:59Z")));
        assert!(calendar.at(at("2026-11-21T11:00:00Z")));
        assert!(!calendar.at(at("2026-11-21T11:20:00Z")));
        assert!(calendar.at(at("2026-11-21T10:59:00Z")));
    }
}
