//! Background work: what was ordered keeps its hold until its result is seen, and a result is billed once.
//!
//! An order's row costs nothing; the row that shows its result is charged, names the order's row, and ends the hold.
//! What is not seen within [`RESULT_WAIT`] is charged in full, and corrected by a row of its own if it comes later.
//! All of it is in the ledger, so that a restart changes nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{Books, Cashier, Hold};
use crate::{
    accounts::AccountId,
    clock::Timestamp,
    exchange::{
        Row,
        results::{RESULTS_MAX, Results, Verdict},
    },
    ids::ExchangeId,
    ledger::{HoldRecord, Loaded, Op, Reply, Resolves, ResultRecord, ResultState},
    money::Pico,
    usage::ResultRef,
};

/// How long a result is waited for: as long as the providers take for a batch.
pub(super) const RESULT_WAIT: Duration = Duration::from_hours(24);
/// How long it is remembered that a result was billed: as long as the providers keep one.
pub(super) const RESULT_MEMORY: Duration = Duration::from_hours(30 * 24);
/// Results waited for, or charged unseen, at one time. An order beyond that is charged in full at once.
pub(super) const JOBS_MAX: usize = 16_384;

/// What is known of results, under the cashier's lock.
#[derive(Default)]
pub(super) struct Jobs {
    seen: Results,
    waiting: HashMap<(String, String), Job>,
}

/// A result that was ordered through the meter and not seen yet.
enum Job {
    /// `amount` is set aside for it.
    Pending { record: Arc<HoldRecord>, amount: Pico },
    /// `row` charged `charged` in its place, at the time `since`.
    Lapsed { row: ExchangeId, account: AccountId, charged: Pico, since: Timestamp },
}

impl Jobs {
    /// As the ledger knew them. Returns the holds that are not outstanding for the end of their exchange, but for a
    /// result.
    pub(super) fn restore(loaded: &Loaded) -> Self {
        let holds: HashMap<ExchangeId, &HoldRecord> = loaded.holds.iter().map(|hold| (hold.id, hold)).collect();
        let mut jobs = Self::default();
        for known in &loaded.results {
            let key = (known.provider.clone(), known.result.clone());
            match known.state {
                ResultState::Billed => jobs.seen.billed_before(&known.provider, &known.result),
                ResultState::Pending { hold } => {
                    let Some(&record) = holds.get(&hold) else {
                        // Its charge was written, and the mark of it was not.
                        jobs.seen.billed_before(&known.provider, &known.result);
                        continue;
                    };
                    let job = Job::Pending { record: Arc::new(record.clone()), amount: record.amount };
                    jobs.waiting.insert(key, job);
                }
                ResultState::Lapsed { row, account, charged } => {
                    jobs.waiting.insert(key, Job::Lapsed { row, account, charged, since: known.time });
                }
            }
        }
        jobs
    }

    /// Holds that stay over a restart, since a result is waited for.
    pub(super) fn parked(&self) -> impl Iterator<Item = &HoldRecord> {
        self.waiting.values().filter_map(|job| match job {
            Job::Pending { record, .. } => Some(record.as_ref()),
            Job::Lapsed { .. } => None,
        })
    }
}

impl Cashier {
    /// Takes notice of an answer that has to do with a result, and says what it means for its exchange.
    pub fn see_result(&self, provider: &str, result: &ResultRef) -> Verdict {
        let mut books = self.books.lock();
        let jobs = &mut books.jobs;
        // What was ordered here is known for as long as it is waited for, whatever else was forgotten.
        // But for the moment in which the one who saw it first charges it.
        let is_waiting = jobs.waiting.contains_key(&(provider.to_owned(), result.id.clone()));
        if is_waiting && !jobs.seen.is_billed(provider, &result.id) {
            jobs.seen.await_again(provider, &result.id);
        }
        jobs.seen.see(provider, result)
    }

    /// Writes the row of an order and keeps its hold until the result is seen.
    pub fn park(&self, mut hold: Hold, mut row: Row, provider: &str, result: &ResultRef) {
        let Some(parts) = hold.take_parts() else { return };
        let record = parts.record;
        row.id = record.id;
        row.account.clone_from(&hold.account);
        row.held_usd = hold.amount;
        row.cost_usd = Pico::ZERO;
        let key = (provider.to_owned(), result.id.clone());
        let mut books = self.books.lock();
        let seen_meanwhile = books.jobs.seen.is_billed(provider, &result.id);
        let taken = books.jobs.waiting.contains_key(&key);
        if seen_meanwhile || taken || books.jobs.waiting.len() >= JOBS_MAX {
            if !seen_meanwhile && !taken {
                row.cost_usd = hold.amount;
                books.jobs.seen.billed_before(provider, &result.id);
                row.reason = Some("too many results are waited for, so this one is charged in full".to_owned());
            }
            drop(books);
            self.end_hold(&record, hold.amount, row);
            return;
        }
        let id = record.account;
        books.label(id, &mut row);
        let changes = books.accounts.park(id, &record.held(hold.amount));
        books.accounts.count(id, row.exchanges(), row.refusals());
        books.publish_line(id);
        let line = books.accounts.line(id);
        let pending = ResultState::Pending { hold: record.id };
        let time = record.time;
        books.jobs.waiting.insert(key, Job::Pending { record, amount: hold.amount });
        // The mark comes first: an order without its row is still waited for.
        self.remember(provider, &result.id, pending, time);
        self.writer.push_quietly(Op::Row { line: line.clone(), row: Box::new(row), resolves: None }, None);
        self.tell(&mut books, &changes);
        // Those who waited for this hold wait for an exchange that has ended.
        self.freed(books, &line);
    }

    /// Charges the row that shows a result, in place of what its order had set aside or was charged. `own` is the
    /// hold of the exchange that shows it, where it has one.
    pub fn bill_result(&self, mut row: Row, own: Option<Hold>, provider: &str, result: &ResultRef) {
        let time = row.time;
        let job = self.books.lock().jobs.waiting.remove(&(provider.to_owned(), result.id.clone()));
        match job {
            None => match own {
                Some(hold) => hold.settle(row),
                None => self.record(row),
            },
            Some(job) => {
                if let Some(own) = own {
                    own.release();
                }
                row.cost_usd = row.cost_usd.max(Pico::ZERO);
                match job {
                    Job::Pending { record, amount } => {
                        row.corrects = Some(record.id);
                        self.end_parked(&record, amount, row);
                    }
                    Job::Lapsed { row: charged_by, account, charged, since } => {
                        row.corrects = Some(charged_by);
                        row.cost_usd = row.cost_usd.saturating_sub(charged);
                        row.detail.counts_at = (row.cost_usd < Pico::ZERO).then_some(since);
                        row.reason = Some(format!(
                            "${charged} were charged before the result was seen; the cost is the difference"
                        ));
                        self.correct(account, row);
                    }
                }
            }
        }
        // After the row: a crash in between bills it twice at worst, and never not at all.
        let _books = self.books.lock();
        self.remember(provider, &result.id, ResultState::Billed, time);
    }

    /// Charges in full what was not seen in time, and forgets what nobody waits for any more.
    pub fn lapse_results(&self, now: Timestamp) {
        let before = |span: Duration| {
            let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(now.micros().saturating_sub(micros))
        };
        let (due, forgotten) = (before(RESULT_WAIT), before(RESULT_MEMORY));
        let mut books = self.books.lock();
        let mut late = Vec::new();
        books.jobs.waiting.retain(|key, job| match job {
            Job::Pending { record, amount } => {
                if record.time <= due {
                    late.push((key.clone(), Arc::clone(record), *amount));
                }
                true
            }
            Job::Lapsed { since, .. } => *since > forgotten,
        });
        for ((provider, result), record, amount) in late {
            let path = books.accounts.get(record.account).path.clone();
            let mut row = record.unresolved(path, amount, now, "its result was not seen within 24 hours");
            row.id = ExchangeId::new();
            row.corrects = Some(record.id);
            // Its exchange was counted when it ended.
            row.count = 0;
            let (id, account, charged) = (row.id, record.account, row.cost_usd);
            let since = row.posting(Some(record.tokens)).at;
            self.end_parked_in(&mut books, &record, amount, row);
            self.remember(&provider, &result, ResultState::Lapsed { row: id, account, charged }, since);
            let lapsed = Job::Lapsed { row: id, account, charged, since };
            books.jobs.waiting.insert((provider, result), lapsed);
        }
        self.writer.push_quietly(Op::PruneResults { before: forgotten, keep: RESULTS_MAX }, None);
        self.wake_all(books);
    }

    fn end_parked(&self, record: &HoldRecord, amount: Pico, row: Row) {
        let mut books = self.books.lock();
        self.end_parked_in(&mut books, record, amount, row);
        self.wake_all(books);
    }

    fn end_parked_in(&self, books: &mut Books, record: &HoldRecord, amount: Pico, mut row: Row) {
        let id = record.account;
        row.account.clone_from(&books.accounts.get(id).path);
        row.held_usd = amount;
        let posting = row.posting(Some(record.tokens));
        let changes = books.accounts.settle_parked(id, &record.held(amount), &posting);
        let resolves = Resolves { hold: record.id, amount, tokens: record.tokens };
        self.post(books, id, row, Some(resolves), &changes);
    }

    fn correct(&self, id: AccountId, mut row: Row) {
        let mut books = self.books.lock();
        row.account.clone_from(&books.accounts.get(id).path);
        let changes = books.accounts.charge(id, &row.posting(None));
        self.post(&mut books, id, row, None, &changes);
        // It may have given money back.
        self.wake_all(books);
    }

    fn remember(&self, provider: &str, result: &str, state: ResultState, time: Timestamp) {
        let record = ResultRecord { provider: provider.to_owned(), result: result.to_owned(), state, time };
        // What is waited for is written at once: lost, its hold would be taken for that of a broken exchange.
        let at_once = matches!(state, ResultState::Pending { .. }).then(|| Reply::Durable(Box::new(|| {})));
        self.writer.wake(&self.writer.push(Op::Result(Box::new(record)), at_once));
    }
}
