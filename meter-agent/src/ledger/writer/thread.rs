//! The writer's thread, and what it shares with those who queue.
//!
//! What somebody waits for is written at once, with all that is queued. What nobody waits for (a settlement: its hold
//! is durable, and the kernel's map has the charge already) waits up to [`COMPANY_WAIT`] for company, because a sync
//! costs the same for one entry as for hundreds.
//!
//! A batch that cannot be committed (disk full, file locked) is kept and tried again until it can be.
//!
//! With nothing to write it rolls old rows up, in small steps. A ledger too large to be checked before the start is
//! checked beside the work, and what is found damaged there admits nothing any more, today and at the next start.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::Reply;
use crate::{
    clock::Timestamp,
    ledger::{Op, Store, reader::Reader, rollup::ROLL_UP_ROWS},
    tasks,
};

/// Entries in one transaction: enough to share a sync among all who wait, few enough to commit in milliseconds.
const BATCH_MAX: usize = 4_096;
/// Far below what anyone notices in a ledger, and long enough for a busy host to share a sync among hundreds.
const COMPANY_WAIT: Duration = Duration::from_millis(20);
/// That much company is enough.
const COMPANY_MAX: usize = 1_024;
/// Between two steps of a roll-up, so that a long one leaves the disk to others.
const ROLL_UP_PAUSE: Duration = Duration::from_millis(5);
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LAST: Duration = Duration::from_secs(1);

pub(super) struct Entry {
    pub(super) op: Op,
    pub(super) reply: Option<Reply>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) entries: VecDeque<Entry>,
    /// Entries that are not durable yet, those of the batch being written included.
    pub(super) pending: usize,
    /// Somebody waits for one of the entries.
    pub(super) awaited: bool,
    pub(super) thread: Thread,
    pub(super) closing: bool,
    /// Rows from before it are to be rolled up when there is nothing else to do.
    pub(super) roll_up: Option<Timestamp>,
}

/// What the thread does next.
enum Work {
    Write(Vec<Entry>),
    RollUp(Timestamp),
}

/// What the writer's thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Thread {
    /// It looks at the queue by itself before it sleeps.
    #[default]
    Busy,
    Idle,
    WaitsForCompany,
}

impl Queue {
    fn has_company(&self) -> bool {
        self.awaited || self.closing || self.entries.len() >= COMPANY_MAX
    }

    /// Whether the thread must be woken for what was just queued. Asked once: by then it is as good as awake.
    pub(super) fn must_wake(&mut self) -> bool {
        let wake = match self.thread {
            Thread::Busy => false,
            Thread::Idle => true,
            Thread::WaitsForCompany => self.has_company(),
        };
        if wake {
            self.thread = Thread::Busy;
        }
        wake
    }
}

pub(super) struct Shared {
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Condvar,
    /// Woken to end the pause between two tries.
    pub(super) close: Condvar,
    pub(super) faulty: AtomicBool,
    pub(super) fault: Mutex<Option<String>>,
    /// Something was queued that the thread is yet to be woken for.
    pub(super) unwoken: AtomicBool,
    /// What the check beside the work found.
    pub(super) damage: OnceLock<String>,
    /// It looked at everything.
    pub(super) checked: AtomicBool,
}

/// The check of a large ledger beside the work.
pub(super) struct Check {
    pub(super) thread: JoinHandle<()>,
    pub(super) interrupt: rusqlite::InterruptHandle,
}

impl Shared {
    pub(super) fn run(&self, mut store: Store) {
        while let Some(work) = self.next() {
            match work {
                Work::Write(batch) => {
                    if !self.write(&mut store, batch) {
                        return;
                    }
                }
                Work::RollUp(before) => self.roll_up(&mut store, before),
            }
        }
        store.unchecked &= !self.checked.load(Ordering::Acquire);
        let closed = if self.damage.get().is_some() { store.close_damaged() } else { store.close() };
        if let Err(error) = closed {
            tracing::error!(%error, "the ledger could not be closed");
        }
    }

    /// What is queued, else what is old; waits for something. `None` when closing and nothing is queued.
    fn next(&self) -> Option<Work> {
        let mut queue = self.queue.lock();
        while queue.entries.is_empty() {
            if queue.closing {
                return None;
            }
            if let Some(before) = queue.roll_up {
                return Some(Work::RollUp(before));
            }
            queue.thread = Thread::Idle;
            self.wake.wait(&mut queue);
        }
        if !queue.has_company() {
            queue.thread = Thread::WaitsForCompany;
            self.wake.wait_while_for(&mut queue, |queue| !queue.has_company(), COMPANY_WAIT);
        }
        queue.thread = Thread::Busy;
        let count = queue.entries.len().min(BATCH_MAX);
        let batch = queue.entries.drain(..count).collect();
        queue.awaited &= !queue.entries.is_empty();
        Some(Work::Write(batch))
    }

    /// One step of it.
    fn roll_up(&self, store: &mut Store, before: Timestamp) {
        let result = store.roll_up(before, ROLL_UP_ROWS);
        if let Err(error) = &result {
            // Nothing is lost by it: the rows stay, and tomorrow is another try.
            tracing::warn!(%error, "old rows could not be rolled up");
        }
        let mut queue = self.queue.lock();
        if matches!(result, Ok(moved) if moved > 0) {
            if queue.entries.is_empty() && !queue.closing {
                queue.thread = Thread::Idle;
                self.wake.wait_for(&mut queue, ROLL_UP_PAUSE);
                queue.thread = Thread::Busy;
            }
        } else if queue.roll_up == Some(before) {
            queue.roll_up = None;
        }
    }

    /// Checks every page on a connection of its own, which sees the ledger as it stands now.
    pub(super) fn check(self: &Arc<Self>, store: &Store) -> std::io::Result<Option<Check>> {
        let Some(reader) = store.path().parent().and_then(|dir| Reader::open(dir).ok()) else { return Ok(None) };
        let interrupt = reader.interrupt_handle();
        let shared = Arc::clone(self);
        let thread = tasks::spawn_thread("ledger-check", move || {
            match reader.quick_check() {
                Ok(whole) => shared.checked.store(whole, Ordering::Release),
                Err(error) => {
                    tracing::error!(%error, "nothing is admitted any more");
                    // Set once: there is one check.
                    let _ = shared.damage.set(error.to_string());
                }
            }
        })?;
        Ok(Some(Check { thread, interrupt }))
    }

    /// Commits a batch, however often it takes. `false` when closing came first.
    fn write(&self, store: &mut Store, mut batch: Vec<Entry>) -> bool {
        let mut pause = RETRY_FIRST;
        loop {
            let result = if batch.is_empty() {
                store.probe().map(|()| Vec::new())
            } else {
                store.commit(&batch.iter().map(|entry| &entry.op))
            };
            match result {
                Ok(left_out) => {
                    for error in left_out {
                        tracing::error!(%error, "a ledger row was left out");
                    }
                    self.recovered();
                    self.queue.lock().pending -= batch.len();
                    for entry in batch {
                        succeed(entry.reply);
                    }
                    return true;
                }
                Err(error) => self.failed(&mut batch, &error.to_string()),
            }
            if !self.pause(pause) {
                tracing::error!(entries = batch.len(), "the ledger could not be written before the end");
                return false;
            }
            pause = RETRY_LAST.min(pause * 2);
        }
    }

    fn failed(&self, batch: &mut Vec<Entry>, reason: &str) {
        if !self.faulty.load(Ordering::Acquire) {
            tracing::error!(reason, "the ledger is not writable; nothing is admitted");
        }
        *self.fault.lock() = Some(reason.to_owned());
        self.faulty.store(true, Ordering::Release);
        // Whoever queued behind this batch waits for the same file: tell them now too.
        batch.extend(self.queue.lock().entries.drain(..));
        let before = batch.len();
        batch.retain_mut(|entry| match entry.reply.take() {
            Some(Reply::First(tell)) => {
                tell(Err(reason.to_owned()));
                true
            }
            Some(Reply::OrWithdraw(tell)) => {
                tell(Err(reason.to_owned()));
                false
            }
            keep @ (Some(Reply::Durable(_)) | None) => {
                entry.reply = keep;
                true
            }
        });
        self.queue.lock().pending -= before - batch.len();
    }

    fn recovered(&self) {
        if self.faulty.swap(false, Ordering::AcqRel) {
            *self.fault.lock() = None;
            tracing::warn!("the ledger is writable again");
        }
    }

    /// Waits before the next try; `false` when the ledger is to be closed.
    fn pause(&self, pause: Duration) -> bool {
        let mut queue = self.queue.lock();
        if !queue.closing {
            self.close.wait_for(&mut queue, pause);
        }
        !queue.closing
    }
}

fn succeed(reply: Option<Reply>) {
    match reply {
        Some(Reply::First(tell) | Reply::OrWithdraw(tell)) => tell(Ok(())),
        Some(Reply::Durable(tell)) => tell(),
        None => {}
    }
}
