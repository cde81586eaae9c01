//! Where work on large bodies is done: beside the threads that carry traffic.
//!
//! Bounded in how much runs at one time, since it is agents who decide how much there is to do.

use std::sync::Arc;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::Semaphore,
    task,
};

/// A body up to this size is parsed and changed where it was read, in some milliseconds at most. A larger one, or one
/// that is encoded, and so may be far larger than it looks, would keep its thread from everybody else's traffic.
pub(crate) const IN_PLACE_MAX: usize = 1024 * 1024;

/// Pieces of work at one time; more wait. Few, because each may take a core, and the memory of a whole decoded body.
const WORK_MAX: usize = 4;

pub(crate) struct Aside(Arc<Semaphore>);

/// The work panicked, or the process ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Default for Aside {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WORK_MAX)))
    }
}

impl Aside {
    /// Does work on a body: here, or aside where it is heavy.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        heavy: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        if !heavy {
            return Ok(work());
        }
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(|_| Failed)?;
        // The place is the work's, which goes on when the agent leaves.
        let placed = move || {
            let _place = place;
            work()
        };
        task::spawn_blocking(placed).await.map_err(|_| Failed)
    }
}

/// Does work that must be done by the end of the call, where an exchange's end is settled, and lets another thread
/// carry this one's traffic meanwhile. Work that nothing bounds does not belong here: it takes a thread each time.
pub(crate) fn in_place(work: &mut dyn FnMut()) {
    // Elsewhere (a test's runtime, a thread of its own) there is nobody to hand over to.
    let hands_over = Handle::try_current().is_ok_and(|here| here.runtime_flavor() == RuntimeFlavor::MultiThread);
    if hands_over {
        task::block_in_place(work);
    } else {
        work();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::tasks::spawn;

    #[tokio::test]
    async fn heavy_work_leaves_the_thread_that_carries_traffic() {
        let (aside, here) = (Aside::default(), thread::current().id());
        for heavy in [false, true] {
            let there = aside.run(heavy, || thread::current().id()).await.unwrap();
            assert_eq!(there == here, !heavy);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn work_in_place_leaves_the_only_thread_to_others() {
        let done = spawn("holder", async {
            let (say, said) = std::sync::mpsc::channel();
            spawn("other", async move { say.send(()).unwrap() });
            // The other task can run only where this one has handed its thread over.
            in_place(&mut || said.recv_timeout(std::time::Duration::from_mins(1)).unwrap());
        });
        done.await.unwrap();
    }

    #[test]
    fn work_in_place_is_done_without_a_runtime_too() {
        let mut done = false;
        in_place(&mut || done = true);
        assert!(done);
    }

    #[tokio::test]
    async fn work_that_panics_fails_alone_and_gives_its_place_back() {
        let aside = Aside::default();
        for _ in 0..=WORK_MAX {
            let failed = aside.run(true, || panic!("a body that nobody thought of")).await;
            assert_eq!(failed, Err::<(), _>(Failed));
        }
        assert_eq!(aside.run(true, || 1).await, Ok(1));
    }
}
