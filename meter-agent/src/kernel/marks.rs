//! What is remembered with a cgroup itself, so that it outlives the daemon and ends with the cgroup.
//!
//! Kept in extended attributes of its folder under `trusted.`, which only root can read or write: an agent that owns
//! the folder can't forge them.

use std::io;

use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

use super::{CgroupTree, KernelError};
use crate::ids::AccountPath;

/// What can be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The cgroup stays though nobody is in it: its task was opened for whoever enters, and is not closed yet.
    Open,
    /// The process outside or inside that may close its own task: `PID START_TICKS`.
    Closer,
}

/// The longest value that is read.
const VALUE_BYTES_MAX: usize = 64;

impl Mark {
    const fn attribute(self) -> &'static str {
        match self {
            Self::Open => "trusted.meter.open",
            Self::Closer => "trusted.meter.closer",
        }
    }
}

impl CgroupTree {
    /// Remembers a value with the account's cgroup, in place of the one before.
    pub fn mark(&self, account: &AccountPath, mark: Mark, value: &str) -> Result<(), KernelError> {
        let path = self.path(account);
        setxattr(&path, mark.attribute(), value.as_bytes(), XattrFlags::empty()).map_err(|error| KernelError::Cgroup {
            path,
            action: "marked",
            source: error.into(),
        })
    }

    /// What is remembered; `None` where nothing is.
    pub fn marked(&self, account: &AccountPath, mark: Mark) -> Option<String> {
        let mut value = [0; VALUE_BYTES_MAX];
        let length = getxattr(self.path(account), mark.attribute(), &mut value).ok()?;
        String::from_utf8(value.get(..length)?.to_vec()).ok()
    }

    pub fn unmark(&self, account: &AccountPath, mark: Mark) {
        if let Err(error) = removexattr(self.path(account), mark.attribute()) {
            let error = io::Error::from(error);
            // None was there, or the cgroup has gone with it.
            if !matches!(error.raw_os_error(), Some(libc::ENODATA | libc::ENOENT)) {
                tracing::warn!(%account, %error, "a mark of a cgroup can't be removed");
            }
        }
    }
}
