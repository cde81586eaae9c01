//! Where work on large bodies is done: beside the threads that carry traffic.
//!
//! Bounded in how much runs at one time, since it is agents who decide how much there is to do.

use std::sync::Arc;

use tokio::{sync::Semaphore, task};

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

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn heavy_work_leaves_the_thread_that_carries_traffic() {
        let (aside, here) = (Aside::default(), thread::current().id());
        for heavy in [false, true] {
            let there = aside.run(heavy, || thread::current().id()).await.unwrap();
            assert_eq!(there == here, !heavy);
        }
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
