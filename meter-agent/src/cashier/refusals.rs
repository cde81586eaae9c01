//! A storm of refusals is one row per account, reason and minute.
//!
//! The first refusal of a kind is written at once. Those that follow within its minute gather in one row, whose count
//! says how many they are; what they do not have in common is left out of it. A kind that goes on has a row for each
//! further minute, and one that was quiet for a minute begins anew. Pure: time is that of the rows and of the caller.
//!
//! Memory is bounded by what there is: a few kinds for each account.

use std::collections::BTreeMap;

use crate::{
    accounts::AccountId,
    clock::Timestamp,
    exchange::{Outcome, Row},
    ids::Process,
};

const MINUTE_MICROS: i64 = 60_000_000;

#[derive(Default)]
pub(super) struct Refusals {
    kinds: BTreeMap<Key, Kind>,
}

/// The sidecar's kinds differ by status, because their reasons have amounts and names in them; the kernel's by reason.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    account: AccountId,
    outcome: &'static str,
    status: Option<u16>,
    reason: Option<String>,
}

struct Kind {
    minute: i64,
    gathered: Option<Row>,
}

impl Refusals {
    /// Whether a row is one that may gather: it moves no money.
    pub(super) fn is_one(row: &Row) -> bool {
        row.refusals() > 0 && !row.cost_usd.is_positive() && row.corrects.is_none()
    }

    /// Takes a refusal; returns what is to be written now. `hurry` is whether a first one is written at once.
    pub(super) fn add(&mut self, account: AccountId, row: Row, hurry: bool) -> Vec<Row> {
        let minute = minute(row.time);
        let key = Key {
            account,
            outcome: row.outcome.as_str(),
            status: row.status,
            reason: row.reason.clone().filter(|_| row.outcome == Outcome::RefusedKernel),
        };
        match self.kinds.get_mut(&key) {
            Some(kind) if kind.minute == minute => {
                kind.gather(row);
                Vec::new()
            }
            Some(kind) => {
                kind.minute = minute;
                let Some(last) = kind.gathered.take() else { return vec![row] };
                kind.gathered = Some(row);
                vec![last]
            }
            None => {
                let (now, later) = if hurry { (vec![row], None) } else { (Vec::new(), Some(row)) };
                self.kinds.insert(key, Kind { minute, gathered: later });
                now
            }
        }
    }

    /// What gathered in minutes that are over.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Row> {
        let (now, mut due) = (minute(now), Vec::new());
        self.kinds.retain(|_, kind| {
            if kind.minute == now {
                return true;
            }
            kind.minute = now;
            let row = kind.gathered.take();
            let goes_on = row.is_some();
            due.extend(row);
            goes_on
        });
        due
    }

    /// All that gathered, for whoever looks now and for the end.
    pub(super) fn all(&mut self) -> Vec<Row> {
        self.kinds.values_mut().filter_map(|kind| kind.gathered.take()).collect()
    }
}

fn minute(time: Timestamp) -> i64 {
    time.micros().div_euclid(MINUTE_MICROS)
}

impl Kind {
    fn gather(&mut self, row: Row) {
        match &mut self.gathered {
            None => self.gathered = Some(row),
            Some(of) => join(of, row),
        }
    }
}

/// One row for both: the first's id and time, the last's words, and what is the same in both.
fn join(of: &mut Row, row: Row) {
    of.count = of.count.saturating_add(row.count);
    of.reason = row.reason;
    if of.process != row.process {
        of.process = Process::default();
    }
    for (one, other) in [
        (&mut of.provider, &row.provider),
        (&mut of.endpoint, &row.endpoint),
        (&mut of.host, &row.host),
        (&mut of.method, &row.method),
        (&mut of.path, &row.path),
    ] {
        if one != other {
            one.clear();
        }
    }
    for (one, other) in [(&mut of.model, &row.model), (&mut of.requested_model, &row.requested_model)] {
        if one != other {
            *one = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cashier::fake, money::Pico};

    const ACCOUNT: AccountId = AccountId::new(1);
    const SECOND: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * SECOND)
    }

    fn refused(second: i64) -> Row {
        let outcome = Outcome::RefusedBudget;
        Row { time: at(second), outcome, status: Some(402), ..fake::row(0) }
    }

    fn counts(rows: &[Row]) -> Vec<u64> {
        rows.iter().map(|row| row.count).collect()
    }

    #[test]
    fn a_storm_is_its_first_refusal_and_then_one_row_a_minute_and_none_is_lost() {
        let mut refusals = Refusals::default();
        let mut written = Vec::new();
        for second in 0..180 {
            for _ in 0..100 {
                written.extend(refusals.add(ACCOUNT, refused(second), true));
            }
            written.extend(refusals.due(at(second)));
        }
        assert_eq!(counts(&written), [1, 5_999, 6_000]);
        written.extend(refusals.all());
        assert_eq!(written.iter().map(|row| row.count).sum::<u64>(), 18_000);
    }

    #[test]
    fn a_single_refusal_is_a_single_row_and_after_a_quiet_minute_the_next_is_written_at_once_again() {
        let mut refusals = Refusals::default();
        assert_eq!(counts(&refusals.add(ACCOUNT, refused(0), true)), [1]);
        assert!(refusals.due(at(61)).is_empty());
        assert!(refusals.kinds.is_empty(), "it is forgotten");
        assert_eq!(counts(&refusals.add(ACCOUNT, refused(62), true)), [1]);
        // Without anybody who looks in between.
        assert_eq!(counts(&refusals.add(ACCOUNT, refused(200), true)), [1]);
        assert!(refusals.add(ACCOUNT, refused(201), true).is_empty());
        assert_eq!(counts(&refusals.add(ACCOUNT, refused(300), true)), [1], "what gathered");
        assert_eq!(counts(&refusals.all()), [1]);
    }

    #[test]
    fn kinds_and_accounts_do_not_mix() {
        let mut refusals = Refusals::default();
        let kernel = |why: &str| Row {
            outcome: Outcome::RefusedKernel,
            status: None,
            reason: Some(why.to_owned()),
            ..refused(0)
        };
        for row in [refused(0), Row { status: Some(503), ..refused(0) }, kernel("a"), kernel("b")] {
            for account in [ACCOUNT, AccountId::HOST] {
                assert_eq!(refusals.add(account, row.clone(), true).len(), 1, "{row:?}");
                assert_eq!(refusals.add(account, row.clone(), true).len(), 0);
            }
        }
        assert_eq!(counts(&refusals.all()), [1; 8]);
    }

    #[test]
    fn what_refusals_do_not_share_is_left_out_of_their_row() {
        let mut refusals = Refusals::default();
        refusals.add(ACCOUNT, refused(0), true);
        refusals.add(ACCOUNT, refused(1), true);
        let other = Process { pid: 7, ..fake::process() };
        let reason = Some("the last".to_owned());
        refusals.add(ACCOUNT, Row { process: other, path: "/x".to_owned(), reason, ..refused(2) }, true);
        let row = refusals.all().pop().unwrap();
        assert_eq!((row.count, row.time, row.reason.as_deref()), (2, at(1), Some("the last")));
        assert_eq!((row.process, row.path.as_str(), row.host.as_str()), (Process::default(), "", "api.openai.com"));
    }

    #[test]
    fn what_moves_money_does_not_gather() {
        assert!(Refusals::is_one(&refused(0)));
        assert!(!Refusals::is_one(&fake::row(0)), "an exchange");
        assert!(!Refusals::is_one(&Row { cost_usd: Pico::new(1), ..refused(0) }));
    }

    #[test]
    fn a_clock_stepped_back_loses_nothing() {
        let mut refusals = Refusals::default();
        let mut written = refusals.add(ACCOUNT, refused(600), true);
        written.extend(refusals.add(ACCOUNT, refused(601), true));
        written.extend(refusals.add(ACCOUNT, refused(0), true));
        written.extend(refusals.due(at(1)));
        written.extend(refusals.due(at(700)));
        assert_eq!(written.iter().map(|row| row.count).sum::<u64>(), 3);
    }
}
