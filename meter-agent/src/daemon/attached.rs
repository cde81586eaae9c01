//! What the daemon takes of the machine, so that a start that fails gives it back: its own cgroup, and the kernel
//! programs where no earlier daemon had left them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::DaemonError;
use crate::{
    clock,
    kernel::{CgroupTree, Kernel, KernelError, cgroup},
};

/// Beyond the time after which a heartbeat is stale, for the clock's and the scheduler's sake.
const ALIVE_SLACK_NS: u64 = 500_000_000;
const ALIVE_PAUSE: Duration = Duration::from_millis(100);

/// A daemon that was killed looks alive until its last heartbeat is stale; one that lives on serves with another
/// run directory, since the lock of this one is ours.
pub fn wait_for_the_last_one() -> Result<(), DaemonError> {
    let deadline = clock::monotonic_ns() + meter_common::HEARTBEAT_STALE_NS + ALIVE_SLACK_NS;
    while Kernel::another_is_alive()? {
        if clock::monotonic_ns() >= deadline {
            return Err(DaemonError::AnotherServes);
        }
        std::thread::sleep(ALIVE_PAUSE);
    }
    Ok(())
}

/// The daemon's own cgroup, entered. Dropped before the daemon serves, it is left and removed again.
pub(super) struct Home {
    tree: CgroupTree,
    root: PathBuf,
    entered: bool,
}

impl Home {
    pub(super) fn enter(tree: &CgroupTree) -> Result<Self, KernelError> {
        let own = tree.daemon_path();
        // `<root>/meter/daemon`
        let root = own.ancestors().nth(2).unwrap_or(&own).to_owned();
        tree.enter_daemon()?;
        Ok(Self { tree: tree.clone(), root, entered: true })
    }

    /// Goes to the root cgroup, so that the own one can be removed.
    pub(super) fn leave(mut self) {
        self.go();
    }

    fn go(&mut self) {
        if std::mem::take(&mut self.entered) {
            if let Err(error) = cgroup::move_into(&self.root, std::process::id()) {
                tracing::warn!(%error, "the daemon's cgroup can't be left and stays");
            }
            self.tree.remove_daemon();
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.go();
    }
}

/// The kernel, attached, and this daemon's sign of life in it, which ends with this. Dropped before
/// [`Attached::keep`], it takes back what was attached for it; what an earlier daemon left pinned it leaves.
pub(super) struct Attached {
    pub(super) kernel: Arc<Kernel>,
    undo: bool,
}

impl Attached {
    pub(super) fn new() -> Result<Self, KernelError> {
        let kernel = Kernel::attach()?;
        let undo = !kernel.survived();
        Ok(Self { kernel: Arc::new(kernel), undo })
    }

    pub(super) fn keep(mut self) -> Self {
        self.undo = false;
        self
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.kernel.end_heartbeat();
        if self.undo
            && let Err(error) = Kernel::uninstall()
        {
            tracing::error!(%error, "what was attached could not be detached; `sudo meter uninstall` tries again");
        }
    }
}
