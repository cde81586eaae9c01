//! Times as people write them: `90s`, `1h30m`, `7d`, a day, or a point of time.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{civil::DateTime, tz::TimeZone};

use crate::clock::{self, Timestamp};

/// `90s`, `1h30m`, `2d`, `1w`; a bare number says nothing.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time span; write it like 90s, 1h30m or 7d");
    let (mut seconds, mut digits) = (0_u64, String::new());
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        let unit = match letter {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
        seconds = count.checked_mul(unit).and_then(|more| seconds.checked_add(more)).ok_or_else(wrong)?;
    }
    if seconds == 0 || !digits.is_empty() { Err(wrong()) } else { Ok(Duration::from_secs(seconds)) }
}

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
    let ago = duration(text)
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
    fn spans_are_sums_of_counts_with_units() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5_400), ("7d", 604_800), ("2w", 1_209_600)] {
            assert_eq!(duration(text).unwrap().as_secs(), seconds, "{text}");
        }
        for bad in ["", "5", "1x", "h", "0s", "1h5", "99999999999999999999d", "-1h"] {
            assert!(duration(bad).unwrap_err().contains("write it like 90s"), "{bad}");
        }
    }

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
