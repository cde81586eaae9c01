//! Points of time as people write them: a day, a time, or a length of time before now.

use anyhow::Context as _;
use jiff::{civil::DateTime, tz::TimeZone};

use crate::{
    clock::{self, Timestamp},
    duration,
};

/// A time as somebody names it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    At(Timestamp),
    /// What the clocks of the config's time zone show.
    Clock(DateTime),
}

impl Moment {
    pub(super) fn at(self, zone: &TimeZone) -> anyhow::Result<Timestamp> {
        match self {
            Self::At(at) => Ok(at),
            Self::Clock(reading) => {
                Timestamp::of_clock(reading, zone).with_context(|| format!("{reading} is beyond every calendar"))
            }
        }
    }
}

/// A day, a point of time, or a span before now. One without an offset is by the clocks of the config's time zone.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(reading) = text.parse::<DateTime>() {
        return Ok(Moment::Clock(reading));
    }
    if let Some(at) = Timestamp::parse(text) {
        return Ok(Moment::At(at));
    }
    let ago = duration::parse_above_zero(text)
        .map_err(|_| format!("`{text}` is not a time; write it like 2026-11-21, 2026-11-21T08:00:00Z or 7d"))?;
    let micros = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
    Ok(Moment::At(Timestamp::from_micros(clock::now().micros().saturating_sub(micros))))
}

/// To the second: `2026-11-21 08:15:30`.
pub(super) fn shown(at: Timestamp) -> String {
    at.rfc3339().chars().take(19).collect::<String>().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_day_a_point_of_time_or_so_long_ago() {
        let utc = |text: &str| moment(text).unwrap().at(&TimeZone::UTC).unwrap();
        assert_eq!(shown(utc("2026-11-21")), "2026-11-21 00:00:00");
        assert_eq!(shown(utc("2026-11-21T08:15:30Z")), "2026-11-21 08:15:30");
        let berlin = |text: &str| shown(moment(text).unwrap().at(&TimeZone::get("Europe/Berlin").unwrap()).unwrap());
        assert_eq!(berlin("2026-11-21"), "2026-11-20 23:00:00");
        assert_eq!(berlin("2026-11-21T08:15:30"), "2026-11-21 07:15:30");
        assert_eq!(berlin("2026-11-21T08:15:30Z"), "2026-11-21 08:15:30", "one with an offset says it itself");
        let before = clock::now().micros();
        let ago = before - utc("1h").micros();
        // The wall clock may be set while this runs, by a little.
        assert!((3_540_000_000..=3_660_000_000).contains(&ago), "{ago}");
        assert!(moment("yesterday").is_err());
    }
}
