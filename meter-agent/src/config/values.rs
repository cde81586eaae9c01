//! One value of the file, of the kind that its key wants: texts, amounts, counts, times and words.
//!
//! Amounts are read from the text of the number, never through a float.

use std::time::Duration;

use jiff::tz::TimeZone;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{mistake::suggestion, read::Reader};
use crate::{
    clock::Timestamp,
    duration::{self, DurationError},
    money::Pico,
};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

impl<'i> Reader<'i> {
    pub(super) fn string<'v>(&mut self, key: &str, value: &'v Value<'i>) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            let found = value.get_ref().type_str();
            self.mistake(&value.span(), format!("`{key}` is of type {found}; write it as a string in quotes"));
        }
        text
    }

    pub(super) fn amount(&mut self, key: &str, value: &Value<'i>) -> Option<Pico> {
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => {
                self.mistake(&value.span(), format!("`{key}` is not an amount of dollars; write it like \"0.50\""));
                return None;
            }
        };
        text.parse().map_err(|error| self.mistake(&value.span(), format!("`{key}`: {error}"))).ok()
    }

    /// A whole number from 0 on.
    pub(super) fn whole(&mut self, key: &str, value: &Value<'i>) -> Option<u64> {
        let number = number(value);
        if number.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a count; write a whole number, 0 or above"));
        }
        number
    }

    pub(super) fn count(&mut self, key: &str, value: &Value<'i>) -> Option<u64> {
        let number = number(value).filter(|n| *n > 0);
        if number.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a count; write a whole number above 0"));
        }
        number
    }

    pub(super) fn flag(&mut self, key: &str, value: &Value<'i>) -> Option<bool> {
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.mistake(
                &value.span(),
                format!("`{key}` is neither true nor false; write one of them, without quotes"),
            );
        }
        flag
    }

    pub(super) fn word<T: Clone>(&mut self, key: &str, value: &Value<'i>, known: &[(&str, T)]) -> Option<T> {
        let word = self.string(key, value)?;
        let found = known.iter().find(|(name, _)| *name == word).map(|(_, meaning)| meaning.clone());
        if found.is_none() {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            self.mistake(&value.span(), format!("`{key}` can't be `{word}`; {}", suggestion(word, &names)));
        }
        found
    }

    /// `example` is how the table is written, for whoever wrote something else.
    pub(super) fn table<'v>(&mut self, key: &str, value: &'v Value<'i>, example: &str) -> Option<&'v DeTable<'i>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a table; write it like {example}"));
        }
        table
    }

    /// Texts of a list; each that is none is a mistake.
    pub(super) fn strings(&mut self, key: &str, value: &Value<'i>) -> Option<Vec<String>> {
        let Some(entries) = value.get_ref().as_array() else {
            self.mistake(&value.span(), format!("`{key}` is not a list; write it like {key} = [\"gpt-5*\"]"));
            return None;
        };
        Some(entries.iter().filter_map(|entry| self.string(key, entry).map(str::to_owned)).collect())
    }

    /// Every `[[key]]` that can be read.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        value: &Value<'i>,
        mut read: impl FnMut(&mut Self, &Value<'i>, &DeTable<'i>) -> Option<T>,
    ) -> Vec<T> {
        let Some(entries) = value.get_ref().as_array() else {
            let text = format!("`{key}` is not a list; write each one below a line `[[{key}]]`");
            self.mistake(&value.span(), text);
            return Vec::new();
        };
        let mut all = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.get_ref().as_table() {
                Some(table) => all.extend(read(self, entry, table)),
                None => self.mistake(&entry.span(), format!("not a table; write its keys below a line `[[{key}]]`")),
            }
        }
        all
    }

    pub(super) fn duration(&mut self, key: &str, value: &Value<'i>) -> Option<Duration> {
        self.duration_by(key, value, duration::parse)
    }

    pub(super) fn duration_above_zero(&mut self, key: &str, value: &Value<'i>) -> Option<Duration> {
        self.duration_by(key, value, duration::parse_above_zero)
    }

    fn duration_by(
        &mut self,
        key: &str,
        value: &Value<'i>,
        parse: fn(&str) -> Result<Duration, DurationError>,
    ) -> Option<Duration> {
        let Some(text) = value.get_ref().as_str() else {
            let text = format!("`{key}` is not a length of time; write it in quotes and with its unit, like \"30s\"");
            self.mistake(&value.span(), text);
            return None;
        };
        parse(text).map_err(|error| self.mistake(&value.span(), format!("`{key}`: {error}"))).ok()
    }

    /// The start of a day, in UTC.
    pub(super) fn day(&mut self, key: &str, value: &Value<'i>) -> Option<Timestamp> {
        let day = Timestamp::of_day(&dated(value));
        if day.is_none() {
            self.mistake(&value.span(), format!("`{key}` is not a day; write it like \"2026-11-21\""));
        }
        day
    }

    /// A point of time, or the start of a day; without an offset, by the clocks of the zone.
    pub(super) fn instant(&mut self, key: &str, value: &Value<'i>, zone: &TimeZone) -> Option<Timestamp> {
        let text = dated(value);
        let stamp = text.parse::<jiff::Timestamp>().ok();
        let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(zone.clone()).ok();
        let stamp = stamp.or_else(|| Some(local()?.timestamp()));
        if stamp.is_none() {
            let text = "write a day or a time, like \"2026-12-31\" or \"2026-12-31T18:00:00Z\"";
            self.mistake(&value.span(), format!("`{key}` is not a time; {text}"));
        }
        stamp.map(|stamp| Timestamp::from_micros(stamp.as_microsecond()))
    }
}

fn number(value: &Value<'_>) -> Option<u64> {
    value.get_ref().as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok())
}

/// The text of a date, in quotes or not.
fn dated(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Array(_) | DeValue::Table(_) => {
            String::new()
        }
    }
}
