//! The only place that asks what time it is. Everything above takes `now` as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point of wall-clock time, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(self.0).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T08:15:30.123Z`.
    pub fn rfc3339(self) -> String {
        let stamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        format!("{stamp:.3}")
    }

    /// The day by the clocks of a zone, written like `2026-11-21`.
    pub fn day_in(self, zone: &jiff::tz::TimeZone) -> String {
        let stamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        stamp.to_zoned(zone.clone()).date().to_string()
    }

    /// When, by the clocks of a zone, the date began that is so many days after 1970-01-01.
    pub fn of_day_number(days: i64, zone: &jiff::tz::TimeZone) -> Self {
        let utc = Self(days.saturating_mul(86_400_000_000));
        let date = jiff::Timestamp::from_microsecond(utc.0).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date());
        let start = date.and_then(|date| date.to_zoned(zone.clone()));
        start.map_or(utc, |start| Self(start.timestamp().as_microsecond()))
    }

    /// A clock's reading in a zone.
    pub fn of_clock(reading: jiff::civil::DateTime, zone: &jiff::tz::TimeZone) -> Option<Self> {
        Some(Self(reading.to_zoned(zone.clone()).ok()?.timestamp().as_microsecond()))
    }

    /// The start of a day in UTC, written like `2026-11-21`.
    pub fn of_day(text: &str) -> Option<Self> {
        let day: jiff::civil::Date = text.parse().ok()?;
        let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(Self(start.timestamp().as_microsecond()))
    }

    /// A day, or a point of time as [`Self::rfc3339`] writes it; one without an offset is UTC.
    pub fn parse(text: &str) -> Option<Self> {
        let stamp = text.parse::<jiff::Timestamp>().ok();
        let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
        let stamp = stamp.or_else(|| Some(local()?.timestamp()));
        stamp.map(|stamp| Self(stamp.as_microsecond()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.rfc3339())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let stamp: jiff::Timestamp = String::deserialize(d)?.parse().map_err(de::Error::custom)?;
        Ok(Self(stamp.as_microsecond()))
    }
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks")]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// `CLOCK_MONOTONIC`, the clock that the kernel programs compare the heartbeat with.
pub fn monotonic_ns() -> u64 {
    nanos(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic))
}

/// `CLOCK_BOOTTIME`, the clock of process start times and flow records.
pub fn boot_ns() -> u64 {
    nanos(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

fn nanos(t: rustix::time::Timespec) -> u64 {
    u64::try_from(t.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec).unwrap_or(0)
}
