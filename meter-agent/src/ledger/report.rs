//! Sums of the ledger's rows by what people ask for: agents, tasks, models, days, labels.
//!
//! Days and months are those of a time zone. Rows that were rolled up into the sums of their days are in it as those:
//! with the labels that they had all day, and within a span of time by the beginning of their day. Their days were
//! UTC's, and are taken for the zone's days of the same date.

use std::{fmt, str::FromStr};

use jiff::tz::TimeZone;
use rusqlite::{functions::FunctionFlags, types::Value};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{LedgerError, Reader, load::count, reader::SUM_PART};
use crate::{
    clock::Timestamp,
    exchange::Outcome,
    ids::AccountPath,
    labels::{self, LabelError, Labels},
    money::Pico,
};

/// Lines of one report, at a few hundred bytes each; a report with more is asked for in parts.
pub const REPORT_LINES_MAX: usize = 20_000;
/// By how many things one report sums.
pub const REPORT_KEYS_MAX: usize = 8;

/// What a line of a report stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Agent,
    /// The account of the row itself, as a path.
    Task,
    Model,
    Provider,
    Category,
    Day,
    Month,
    Label(String),
}

/// A text that names nothing that a report can sum by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ByError {
    #[error("`{0}` is nothing to report by; use agent, task, model, provider, category, day, month or label.KEY")]
    Unknown(String),
    #[error(transparent)]
    Label(#[from] LabelError),
}

/// Which rows to sum, and how finely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportQuery {
    pub by: Vec<By>,
    /// This account and everything below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountPath>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Up to and without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// One line: its keys in the order of the query's, each empty where a row has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    pub keys: Vec<String>,
    pub exchanges: u64,
    pub refusals: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_usd: Pico,
    /// What a subscription's traffic would have cost.
    pub notional_usd: Pico,
}

impl By {
    /// The value's place in a row. A key of a label can't hold a quote.
    fn sql(&self) -> String {
        match self {
            Self::Agent => "substr(a.path, 1, instr(a.path || '/', '/') - 1)".to_owned(),
            Self::Task => "a.path".to_owned(),
            Self::Model => "e.model".to_owned(),
            Self::Provider => "e.provider".to_owned(),
            Self::Category => "e.category".to_owned(),
            Self::Day => "day_of(e.time)".to_owned(),
            Self::Month => "substr(day_of(e.time), 1, 7)".to_owned(),
            Self::Label(key) => format!("coalesce({}, '')", label_sql("e.detail", key)),
        }
    }
}

/// The value of a label in a row's `detail`; NULL where the row has none.
pub(super) fn label_sql(detail: &str, key: &str) -> String {
    debug_assert!(labels::check_key(key).is_ok(), "keys are checked before they come here");
    format!("json_extract({detail}, '$.labels.\"{key}\"')")
}

impl Reader {
    /// The sums, the dearest first, or by their keys where days or months are among them. One more than
    /// [`REPORT_LINES_MAX`] where there are more than that. Days are those of `zone`.
    pub fn report(&self, query: &ReportQuery, zone: &TimeZone) -> Result<Vec<ReportLine>, LedgerError> {
        self.take_days_of(zone).map_err(|e| self.failed(&e))?;
        let (sql, values) = self.report_sql(query);
        let keys = query.by.len();
        let run = || {
            let mut statement = self.connection().prepare(&sql)?;
            let read = |row: &rusqlite::Row<'_>| {
                let sum = |index| -> rusqlite::Result<i64> {
                    let (parts, rest): (i64, i64) = (row.get(index)?, row.get(index + 1)?);
                    Ok(parts.saturating_mul(SUM_PART).saturating_add(rest))
                };
                let tokens = |index| Ok::<u64, rusqlite::Error>(u64::try_from(sum(index)?).unwrap_or(0));
                Ok(ReportLine {
                    keys: (0..keys).map(|index| row.get(index)).collect::<Result<_, _>>()?,
                    exchanges: count(row, keys)?,
                    refusals: count(row, keys + 1)?,
                    input_tokens: tokens(keys + 2)?,
                    output_tokens: tokens(keys + 4)?,
                    cost_usd: Pico::new(sum(keys + 6)?),
                    notional_usd: Pico::new(sum(keys + 8)?),
                })
            };
            statement.query_map(rusqlite::params_from_iter(values), read)?.collect::<Result<Vec<_>, _>>()
        };
        let mut lines = run().map_err(|e| self.failed(&e))?;
        if query.by.contains(&By::Day) || query.by.contains(&By::Month) {
            lines.sort_by(|a, b| a.keys.cmp(&b.keys));
        } else {
            lines.sort_by(|a, b| (b.cost_usd, &a.keys).cmp(&(a.cost_usd, &b.keys)));
        }
        Ok(lines)
    }

    /// Teaches SQLite the zone's days.
    fn take_days_of(&self, zone: &TimeZone) -> rusqlite::Result<()> {
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        let (day, start) = (zone.clone(), zone.clone());
        let connection = self.connection();
        connection.create_scalar_function("day_of", 1, flags, move |call| {
            Ok(Timestamp::from_micros(call.get(0)?).day_in(&day))
        })?;
        connection.create_scalar_function("start_of", 1, flags, move |call| {
            Ok(Timestamp::of_day_number(call.get(0)?, &start).micros())
        })
    }

    fn report_sql(&self, query: &ReportQuery) -> (String, Vec<Value>) {
        let keys: String = query.by.iter().flat_map(|by| [by.sql(), ", ".to_owned()]).collect();
        let mut conditions = vec!["1".to_owned()];
        let mut values = Vec::new();
        let mut bind = |value: Value| {
            values.push(value);
            format!("?{}", values.len())
        };
        if let Some(since) = query.since {
            conditions.push(format!("e.time >= {}", bind(since.micros().into())));
        }
        if let Some(until) = query.until {
            conditions.push(format!("e.time < {}", bind(until.micros().into())));
        }
        if let Some(account) = query.account.as_ref().filter(|account| !account.is_host()) {
            let at = bind(account.as_str().to_owned().into());
            conditions.push(format!("(a.path = {at} OR (a.path > {at} || '/' AND a.path < {at} || '0'))"));
        }
        for (key, value) in &query.labels {
            let value = bind(value.clone().into());
            conditions.push(format!("{} = {value}", label_sql("e.detail", key)));
        }
        let group: Vec<String> = (1..=query.by.len()).map(|n| n.to_string()).collect();
        let group = if group.is_empty() { String::new() } else { format!("GROUP BY {}", group.join(", ")) };
        // In two parts, each of which fits an integer: SQLite's own sum of amounts at their cap does not.
        let sum = |column| format!("coalesce(sum({column} / {SUM_PART}), 0), coalesce(sum({column} % {SUM_PART}), 0)");
        let sql = format!(
            "WITH e({EVERY}) AS ({}) SELECT {keys}coalesce(sum(e.exchanges), 0), coalesce(sum(e.refusals), 0), \
             {}, {}, {}, {} \
             FROM e JOIN accounts a ON a.id = e.account WHERE {} {group} LIMIT {}",
            self.every_row(),
            sum("e.input"),
            sum("e.output"),
            sum("e.cost"),
            sum("e.notional"),
            conditions.join(" AND "),
            REPORT_LINES_MAX + 1,
        );
        (sql, values)
    }

    /// Rows, and sums of those that were rolled up, in one shape. The only place that knows of both.
    fn every_row(&self) -> String {
        let exchanges: Vec<String> = Outcome::ALL
            .into_iter()
            .filter(|outcome| outcome.is_exchange())
            .map(|outcome| format!("'{}'", outcome.as_str()))
            .collect();
        let is_exchange = format!("r.outcome IN ({})", exchanges.join(", "));
        let rows = format!(
            "SELECT r.account, r.time, r.provider, coalesce(r.model, r.requested_model, ''), \
             CASE WHEN {is_exchange} THEN r.count ELSE 0 END, CASE WHEN {is_exchange} THEN 0 ELSE r.count END, \
             r.input_tokens, r.output_tokens, r.cost, {} FROM rows r",
            self.late_columns()
        );
        let labels = match self.version() {
            ..3 => return rows,
            3 => "NULL",
            _ => "CASE WHEN u.labels IS NULL THEN NULL ELSE json_object('labels', json(u.labels)) END",
        };
        format!("{rows} UNION ALL {ROLLED_UP}, {labels}, NULL FROM rollups u")
    }
}

/// Columns of [`Reader::every_row`].
const EVERY: &str = "account, time, provider, model, exchanges, refusals, input, output, cost, category, notional, \
    detail, corrects";

const ROLLED_UP: &str = "SELECT u.account, start_of(u.day), u.provider, u.model, u.exchanges, u.refusals, \
    u.input_tokens, u.output_tokens, u.cost, u.category, u.notional";

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("agent"),
            Self::Task => f.write_str("task"),
            Self::Model => f.write_str("model"),
            Self::Provider => f.write_str("provider"),
            Self::Category => f.write_str("category"),
            Self::Day => f.write_str("day"),
            Self::Month => f.write_str("month"),
            Self::Label(key) => write!(f, "label.{key}"),
        }
    }
}

impl FromStr for By {
    type Err = ByError;

    fn from_str(text: &str) -> Result<Self, ByError> {
        Ok(match text {
            "agent" => Self::Agent,
            "task" => Self::Task,
            "model" => Self::Model,
            "provider" => Self::Provider,
            "category" => Self::Category,
            "day" => Self::Day,
            "month" => Self::Month,
            other => {
                let key = other.strip_prefix("label.").ok_or_else(|| ByError::Unknown(other.to_owned()))?;
                labels::check_key(key)?;
                Self::Label(key.to_owned())
            }
        })
    }
}

impl Serialize for By {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_report_is_by_reads_back_and_the_rest_is_refused_with_what_there_is() {
        for name in ["agent", "task", "model", "provider", "category", "day", "month", "label.team"] {
            let by: By = name.parse().unwrap();
            assert_eq!(by.to_string(), name);
            assert!(ByError::Unknown(String::new()).to_string().contains(name.split('.').next().unwrap()));
        }
        assert!("week".parse::<By>().unwrap_err().to_string().contains("use agent"));
    }
}
