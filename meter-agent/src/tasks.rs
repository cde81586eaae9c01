//! Starting concurrent work, each piece by name.
//!
//! The only place that calls `tokio::spawn`: a task that panics or that shutdown must wait for is then a task that
//! one can name.

use std::{future::Future, panic::AssertUnwindSafe, thread};

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// Starts a task that shutdown does not wait for; it must be safe to end it at any `.await`.
#[expect(clippy::disallowed_methods, reason = "this is the helper that the rule points to")]
pub fn spawn<F>(name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(Named { name, ended: false }.run(future))
}

/// Starts a task that whoever holds the tracker waits for.
pub fn spawn_waited<F>(tracker: &TaskTracker, name: &'static str, future: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tracker.spawn(Named { name, ended: false }.run(future))
}

/// For a library that starts tasks of its own: as [`spawn_waited`].
#[derive(Clone, Debug)]
pub struct Waited {
    tracker: TaskTracker,
    name: &'static str,
}

impl Waited {
    pub fn new(tracker: &TaskTracker, name: &'static str) -> Self {
        Self { tracker: tracker.clone(), name }
    }
}

impl<F> hyper::rt::Executor<F> for Waited
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        spawn_waited(&self.tracker, self.name, future);
    }
}

/// Starts a thread of its own, for work that no busy runtime may delay.
pub fn spawn_thread(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(format!("meter-{name}")).spawn(move || {
        if std::panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!(task = name, "thread panicked");
        }
    })
}

/// Says in the log which task it was that panicked.
struct Named {
    name: &'static str,
    ended: bool,
}

impl Named {
    async fn run(mut self, future: impl Future<Output = ()>) {
        future.await;
        self.ended = true;
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if !self.ended && thread::panicking() {
            tracing::error!(task = self.name, "task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tracker_waits_for_the_tasks_started_on_it() {
        let tracker = TaskTracker::new();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let task = spawn_waited(&tracker, "gated", async move {
            let _ = gate.await;
        });
        tracker.close();
        assert_eq!(tracker.len(), 1);
        open.send(()).unwrap();
        tracker.wait().await;
        task.await.unwrap();
    }

    #[test]
    fn a_thread_that_panics_ends_by_itself() {
        let thread = spawn_thread("doomed", || std::panic::resume_unwind(Box::new("on purpose"))).unwrap();
        thread.join().unwrap();
    }
}
