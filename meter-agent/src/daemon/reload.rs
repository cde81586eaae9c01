//! When the config file is read again: at SIGHUP, and when it has been changed.
//!
//! A change is seen by looking at the file twice a second. That costs a `stat`, sees a file that an editor renamed into
//! place as well as one written through a mount, and can't miss one as a watch of an inode does.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::ticker::Ticker;
use crate::control::reload::Reloader;

/// A file is read once it has been left alone for as long as this: whoever writes it in place empties it first.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What differs where a file was written or replaced; `None` where there is none.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Looks at the file until dropped.
pub fn watch(reloader: Arc<Reloader>) -> io::Result<Ticker> {
    let mut seen = Seen::default();
    Ticker::start("config", LOOK_EVERY, move || {
        if seen.is_settled_change(stamp(reloader.file())) {
            reloader.reload_if_changed();
        }
    })
}

/// Every SIGHUP from here on. Within a runtime; before anything that takes its time, since a daemon that does not take it
/// ends by it.
pub fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reloads at each SIGHUP, and once for those that came before.
pub async fn on_hangup(mut hangups: Signal, reloader: Arc<Reloader>) {
    while hangups.recv().await.is_some() {
        let reloader = Arc::clone(&reloader);
        // What came of it is in the log.
        let _ = tokio::task::spawn_blocking(move || reloader.reload(None).is_ok()).await;
    }
}

fn stamp(file: &Path) -> Stamp {
    let file = fs::metadata(file).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime() * 1_000_000_000 + file.mtime_nsec(), file.ctime_nsec()))
}

/// What was seen of the file.
#[derive(Default)]
struct Seen {
    /// `None` before the first look, so that a change since the start is not missed.
    read: Option<Stamp>,
    last: Option<Stamp>,
}

impl Seen {
    /// Whether the file is another one than when it was read, and the same as at the last look.
    fn is_settled_change(&mut self, now: Stamp) -> bool {
        let settled = self.last.replace(now) == Some(now);
        if !settled || self.read == Some(now) {
            return false;
        }
        self.read = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_once_and_not_before_it_is_whole() {
        let mut seen = Seen::default();
        let at = |n: i64| Some((1, 2, 3, n, 0));
        let looks = [(at(1), false), (at(1), true), (at(1), false), (at(2), false), (at(3), false), (at(3), true)];
        for (n, (stamp, read)) in looks.into_iter().enumerate() {
            assert_eq!(seen.is_settled_change(stamp), read, "look {n}");
        }
    }

    #[test]
    fn a_file_that_is_being_replaced_is_not_taken_for_gone() {
        let mut seen = Seen::default();
        let file = Some((1, 2, 3, 4, 0));
        let other = Some((1, 9, 3, 4, 0));
        let looks = [(file, false), (file, true), (None, false), (other, false), (other, true)];
        for (n, (stamp, read)) in looks.into_iter().enumerate() {
            assert_eq!(seen.is_settled_change(stamp), read, "look {n}");
        }
    }

    #[test]
    fn a_file_written_again_or_renamed_into_place_has_another_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let (file, fresh) = (dir.path().join("m.toml"), dir.path().join("fresh"));
        assert_eq!(stamp(&file), None);
        fs::write(&file, "a").unwrap();
        let first = stamp(&file);
        fs::write(&fresh, "b").unwrap();
        fs::rename(&fresh, &file).unwrap();
        let second = stamp(&file);
        fs::write(&file, "cc").unwrap();
        assert!(first.is_some() && first != second && second != stamp(&file));
    }
}
