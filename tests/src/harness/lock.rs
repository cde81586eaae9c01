//! One at a time on this host: kernel programs, names of namespaces and addresses are shared by all tests.

use std::fs::{self, File};

use rustix::fs::{FlockOperation, flock};

const PATH: &str = "/run/lock/meter-tests.lock";

/// Held by whoever uses the kernel; given back when dropped, or by the kernel when its process ends.
pub struct HostLock {
    _file: File,
}

impl HostLock {
    /// Waits for its turn.
    pub fn take() -> Self {
        super::require_root();
        fs::create_dir_all("/run/lock").expect("root can make /run/lock");
        let file = File::options().create(true).append(true).open(PATH).expect("root can write below /run/lock");
        flock(&file, FlockOperation::LockExclusive).expect("a file on tmpfs can be locked");
        Self { _file: file }
    }
}
