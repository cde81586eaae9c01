//! The writer thread: drains a bounded queue into one transaction at a time, then answers who waits.
//!
//! What somebody waits for is written at once, with all that is queued. What nobody waits for (a settlement: its hold
//! is durable, and the kernel's map has the charge already) waits up to [`COMPANY_WAIT`] for company, because a sync
//! costs the same for one entry as for hundreds.
//!
//! A batch that cannot be committed (disk full, file locked) is kept and tried again until it can be; meanwhile
//! [`Writer::fault`] says so, and the cashier admits nothing. Those who wait are told at the first failure.
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

use super::{LedgerError, Op, Store, reader::Reader, rollup::ROLL_UP_ROWS};
use crate::{clock::Timestamp, tasks};

/// Entries that may wait. At some 300 bytes each it bounds the queue to about 20 MB; admission stops at the bound,
/// and since only what was admitted settles, settlements add at most one entry for each hold outstanding.
pub const QUEUE_MAX: usize = 65_536;
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

/// Whom to tell, from the writer's thread. It must not block.
pub enum Reply {
    /// Told of the first try: durable, or why not (it is still tried again).
    First(Box<dyn FnOnce(Result<(), String>) + Send>),
    /// As `First`, but an entry that failed is withdrawn and not tried again.
    OrWithdraw(Box<dyn FnOnce(Result<(), String>) + Send>),
    /// Told once it is durable, however long that takes.
    Durable(Box<dyn FnOnce() + Send>),
}

struct Entry {
    op: Op,
    reply: Option<Reply>,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Entries that are not durable yet, those of the batch being written included.
    pending: usize,
    /// Somebody waits for one of the entries.
    awaited: bool,
    thread: Thread,
    closing: bool,
    /// Rows from before it are to be rolled up when there is nothing else to do.
    roll_up: Option<Timestamp>,
}

/// What the thread does next.
enum Work {
    Write(Vec<Entry>),
    RollUp(Timestamp),
}

/// What the writer's thread does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
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
    fn must_wake(&mut self) -> bool {
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

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Woken to end the pause between two tries.
    close: Condvar,
    faulty: AtomicBool,
    fault: Mutex<Option<String>>,
    /// Something was queued that the thread is yet to be woken for.
    unwoken: AtomicBool,
    /// What the check beside the work found.
    damage: OnceLock<String>,
    /// It looked at everything.
    checked: AtomicBool,
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    check: Mutex<Option<Check>>,
}

/// The check of a large ledger beside the work.
struct Check {
    thread: JoinHandle<()>,
    interrupt: rusqlite::InterruptHandle,
}

/// Tells the writer of what was queued, outside of the locks under which it was.
#[must_use]
pub struct Wake(bool);

impl Writer {
    /// Starts the thread, which owns the store from here on.
    pub fn start(store: Store) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            close: Condvar::new(),
            faulty: AtomicBool::new(false),
            fault: Mutex::new(None),
            unwoken: AtomicBool::new(false),
            damage: OnceLock::new(),
            checked: AtomicBool::new(false),
        });
        let check = if store.unchecked { shared.check(&store)? } else { None };
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("meter-ledger".to_owned()).spawn(move || theirs.run(store))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)), check: Mutex::new(check) })
    }

    /// Rolls up rows from before `before` while there is nothing else to write.
    pub fn roll_up(&self, before: Timestamp) {
        let mut queue = self.shared.queue.lock();
        queue.roll_up = Some(before);
        let wake = Wake(matches!(queue.thread, Thread::Idle));
        drop(queue);
        self.wake(&wake);
    }

    /// Queues, in the order of the calls. What comes after [`Writer::close`] is answered with a failure.
    pub fn push(&self, op: Op, reply: Option<Reply>) -> Wake {
        let mut queue = self.shared.queue.lock();
        if queue.closing {
            drop(queue);
            fail(reply, &LedgerError::Closed.to_string());
            return Wake(false);
        }
        queue.awaited |= reply.is_some();
        queue.entries.push_back(Entry { op, reply });
        queue.pending += 1;
        Wake(queue.must_wake())
    }

    /// Queues without a word to the thread; [`Self::wake_up`] follows once no lock is held, or whoever queues next wakes
    /// it for both.
    pub fn push_quietly(&self, op: Op, reply: Option<Reply>) {
        if self.push(op, reply).0 {
            self.shared.unwoken.store(true, Ordering::Release);
        }
    }

    /// Wakes the thread for what was queued quietly.
    pub fn wake_up(&self) {
        if self.shared.unwoken.swap(false, Ordering::AcqRel) {
            self.shared.wake.notify_one();
        }
    }

    pub fn wake(&self, wake: &Wake) {
        // The thread is asked for once: what was queued quietly before this may be what it was to be woken for.
        if wake.0 {
            self.shared.unwoken.store(false, Ordering::Release);
            self.shared.wake.notify_one();
        } else {
            self.wake_up();
        }
    }

    /// Why nothing more can be taken on: the file cannot be written, or too much waits for it.
    pub fn fault(&self) -> Option<String> {
        if self.shared.faulty.load(Ordering::Acquire) {
            return self.shared.fault.lock().clone();
        }
        if let Some(damage) = self.shared.damage.get() {
            return Some(damage.clone());
        }
        let queue = self.shared.queue.lock();
        if queue.closing {
            Some(LedgerError::Closed.to_string())
        } else if queue.pending >= QUEUE_MAX {
            Some(format!("{QUEUE_MAX} entries wait to be written to the ledger; its disk is too slow"))
        } else {
            None
        }
    }

    /// Whether rows that move no money may still be queued.
    pub fn has_room(&self) -> bool {
        self.shared.queue.lock().pending < QUEUE_MAX
    }

    /// Writes what is queued, marks a clean shutdown and ends the thread. Blocks; a second call does nothing.
    pub fn close(&self) {
        if let Some(Check { thread, interrupt }) = self.check.lock().take() {
            interrupt.interrupt();
            // A panic in there has been logged.
            let _ = thread.join();
        }
        self.shared.queue.lock().closing = true;
        self.shared.wake.notify_one();
        self.shared.close.notify_one();
        let thread = self.thread.lock().take();
        // A reply may have dropped the last reference to its cashier: the thread does not wait for itself.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's writer ended by a panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self, mut store: Store) {
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
    fn check(self: &Arc<Self>, store: &Store) -> std::io::Result<Option<Check>> {
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

fn fail(reply: Option<Reply>, reason: &str) {
    match reply {
        Some(Reply::First(tell) | Reply::OrWithdraw(tell)) => tell(Err(reason.to_owned())),
        Some(Reply::Durable(_)) | None => {}
    }
}
