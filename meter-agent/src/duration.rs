//! Lengths of time as people write them, in the config and on the command line: `30s`, `1h30m`, `400d`.

use std::time::Duration;

/// In milliseconds, from the longest.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is not the length of time that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("`{0}` is not a length of time; write it like 30s, 10m or 1h30m, with ms, s, m, h, d or w")]
    Malformed(String),
    #[error("`{0}` is no time at all; write a length above zero, like 30s, 10m or 1h30m")]
    Zero(String),
}

/// Whole numbers, each with its unit, one after the other; zero too.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    milliseconds(text).map(Duration::from_millis).ok_or_else(|| DurationError::Malformed(text.to_owned()))
}

/// As [`parse`], where zero makes no sense.
pub fn parse_above_zero(text: &str) -> Result<Duration, DurationError> {
    let duration = parse(text)?;
    if duration.is_zero() { Err(DurationError::Zero(text.to_owned())) } else { Ok(duration) }
}

fn milliseconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let (_, each) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(*each)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// As [`parse`] reads it, with days as the longest unit, since `400d` says more than `57w1d`; what is shorter than a
/// millisecond is left out.
pub fn text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, each) in UNITS.into_iter().filter(|(unit, _)| *unit != "w") {
        if rest >= each {
            text.push_str(&(rest / each).to_string());
            text.push_str(unit);
            rest %= each;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_reads_back_as_it_was_written() {
        for (written, ms) in [
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("400d", 34_560_000_000),
        ] {
            assert_eq!(parse(written), Ok(Duration::from_millis(ms)), "{written}");
            assert_eq!(text(Duration::from_millis(ms)), written);
        }
        assert_eq!(text(parse("90m").unwrap()), "1h30m");
        assert_eq!(text(parse("2w").unwrap()), "14d");
    }

    #[test]
    fn what_is_none_is_refused_with_the_form_that_fits() {
        for bad in ["", "30", "s", "1x", "1.5h", "-1s", "1 h", "1h5", "1y", "99999999999999999999s", "300000000000000d"]
        {
            let wrong = DurationError::Malformed(bad.to_owned());
            assert_eq!((parse(bad), parse_above_zero(bad)), (Err(wrong.clone()), Err(wrong.clone())));
            assert!(wrong.to_string().contains("write it like 30s"), "{bad}");
        }
    }

    #[test]
    fn zero_is_refused_where_it_makes_no_sense() {
        for zero in ["0s", "0ms", "0h0m"] {
            assert_eq!(parse(zero), Ok(Duration::ZERO));
            assert_eq!(parse_above_zero(zero), Err(DurationError::Zero(zero.to_owned())));
        }
        assert_eq!(parse_above_zero("1ms"), Ok(Duration::from_millis(1)));
    }
}
