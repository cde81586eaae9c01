//! One daemon per run directory: a lock on a file that holds its pid.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("a meter daemon is already running (pid {pid}); stop it with `sudo kill {pid}`, or use it")]
    Running { pid: String },
    #[error("the lock file {path} can't be used ({source}); make sure that run_dir is a directory root can write to")]
    Unusable { path: PathBuf, source: io::Error },
}

/// Held for as long as this lives, and its file there as long; the kernel releases it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock without waiting.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        loop {
            let unusable = |source| LockError::Unusable { path: path.to_owned(), source };
            // Root's alone: whoever can open it could take the lock and keep every daemon from starting.
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let mut file = options.open(path).map_err(unusable)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Running { pid: holder(&mut file) }),
                Err(error) => return Err(unusable(error.into())),
            }
            // The daemon that held it may have removed the file; then the lock is on a file that nobody else will open.
            if is_at(&file, path).map_err(unusable)? {
                file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unusable)?;
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked nobody else can hold what is there; what is there may be another one's by now. A file
        // that stays behind is no lock.
        if is_at(&self.file, &self.path).unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (file.metadata()?.dev(), file.metadata()?.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(file: &mut File) -> String {
    let mut pid = String::new();
    let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut pid));
    if read.is_err() || pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err();
        assert!(matches!(&error, LockError::Running { pid } if *pid == std::process::id().to_string()), "{error}");
        drop(first);
        assert!(!path.exists(), "a lock that nobody holds leaves no file");
        Lock::take(&path).unwrap();
    }

    #[test]
    fn a_removed_lock_file_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.lock");
        let first = Lock::take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _second = Lock::take(&path).unwrap();
        drop(first);
        assert!(matches!(Lock::take(&path), Err(LockError::Running { .. })));
    }
}
