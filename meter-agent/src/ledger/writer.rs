//! The writer: a bounded queue of what is to be recorded, and a thread (`writer/thread.rs`) that drains it into one
//! transaction at a time, then answers who waits.
//!
//! What can't be committed is kept and tried again until it can be; meanwhile [`Writer::fault`] says so, and the cashier
//! admits nothing. Those who wait are told at the first failure.

mod thread;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use parking_lot::{Condvar, Mutex};

use self::thread::{Check, Entry, Shared, Thread};
use super::{LedgerError, Op, Store};
use crate::clock::Timestamp;

/// Entries that may wait. At some 300 bytes each it bounds the queue to about 20 MB; admission stops at the bound,
/// and since only what was admitted settles, settlements add at most one entry for each hold outstanding.
pub const QUEUE_MAX: usize = 65_536;

/// Whom to tell, from the writer's thread. It must not block.
pub enum Reply {
    /// Told of the first try: durable, or why not (it is still tried again).
    First(Box<dyn FnOnce(Result<(), String>) + Send>),
    /// As `First`, but an entry that failed is withdrawn and not tried again.
    OrWithdraw(Box<dyn FnOnce(Result<(), String>) + Send>),
    /// Told once it is durable, however long that takes.
    Durable(Box<dyn FnOnce() + Send>),
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    check: Mutex<Option<Check>>,
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

fn fail(reply: Option<Reply>, reason: &str) {
    match reply {
        Some(Reply::First(tell) | Reply::OrWithdraw(tell)) => tell(Err(reason.to_owned())),
        Some(Reply::Durable(_)) | None => {}
    }
}
