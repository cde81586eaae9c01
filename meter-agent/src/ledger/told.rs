//! Events as they are read back.

use rusqlite::params;
use serde::{Deserialize, Serialize};

use super::{
    LedgerError, Reader,
    load::{named, parsed},
    text::Unknown,
};
use crate::{clock::Timestamp, events::EventKind, ids::AccountPath};

/// `0` is the character after `/`.
const LAST_EVENTS: &str = "SELECT e.time, a.path, e.kind, e.actor_uid, e.text \
    FROM events e JOIN accounts a ON a.id = e.account WHERE (?2 IS NULL OR e.kind = ?2) \
    AND (?3 IS NULL OR a.path = ?3 OR (a.path > ?3 || '/' AND a.path < ?3 || '0')) ORDER BY e.seq DESC LIMIT ?1";

/// An event as `meter events` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    pub time: Timestamp,
    pub account: AccountPath,
    pub kind: EventKind,
    /// Who did it, where somebody did.
    pub actor_uid: Option<u32>,
    pub text: String,
}

/// Which events to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// This account and everything below it; `None` is everything.
    pub account: Option<AccountPath>,
    pub kind: Option<EventKind>,
    /// The last so many.
    pub limit: usize,
}

impl Reader {
    /// The last events, the oldest of them first. A ledger from before there were any has none.
    pub fn events(&self, filter: &EventFilter) -> Result<Vec<EventRecord>, LedgerError> {
        let run = || {
            if !self.has_table("events")? {
                return Ok(Vec::new());
            }
            let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
            let kind = filter.kind.map(EventKind::as_str);
            let top = filter.account.as_ref().filter(|account| !account.is_host()).map(AccountPath::as_str);
            let mut statement = self.connection().prepare_cached(LAST_EVENTS)?;
            let read = |row: &rusqlite::Row<'_>| {
                Ok(EventRecord {
                    time: Timestamp::from_micros(row.get(0)?),
                    account: parsed(row, 1)?,
                    kind: named(row, 2, |text| {
                        EventKind::named(text).ok_or_else(|| Unknown(text.to_owned(), "kind of event"))
                    })?,
                    actor_uid: row.get(3)?,
                    text: row.get(4)?,
                })
            };
            statement.query_map(params![limit, kind, top], read)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut events = run().map_err(|e| self.failed(&e))?;
        events.reverse();
        Ok(events)
    }
}
