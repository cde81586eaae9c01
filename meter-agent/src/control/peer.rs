//! Who is at the other end of a control connection.
//!
//! The kernel names the process that connected (`SO_PEERCRED`). A process id can be given to another process
//! later, so its start time is remembered and asked again whenever the id is used: refuse rather than take one
//! process for another.

use std::fs;

use tokio::net::UnixStream;

use super::wire::{Fault, FaultKind};

/// The process that connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub pid: u32,
    pub uid: u32,
    /// Clock ticks since boot, from `/proc/PID/stat`.
    start_ticks: u64,
}

impl Peer {
    /// `None` where the process is in another pid namespace or has ended already.
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let cred = stream.peer_cred().ok()?;
        let pid = u32::try_from(cred.pid()?).ok().filter(|pid| *pid != 0)?;
        Some(Self { pid, uid: cred.uid(), start_ticks: start_ticks(pid)? })
    }

    /// Runs `look` at the process and returns its result only if the id meant the same process throughout.
    pub fn with<T>(&self, look: impl FnOnce(u32) -> T) -> Result<T, Fault> {
        let result = look(self.pid);
        if start_ticks(self.pid) == Some(self.start_ticks) {
            return Ok(result);
        }
        Err(Fault::new(
            FaultKind::Forbidden,
            "the process that asked has ended; ask from one that waits for the answer",
        ))
    }
}

/// Field 22 of `/proc/PID/stat`. The second, the name, can hold anything, so counting starts after its last `)`.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_the_process_that_connected_for_as_long_as_it_lives() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.with(|pid| pid).unwrap(), std::process::id());
    }

    #[test]
    fn a_process_id_that_changed_hands_is_refused() {
        let peer = Peer { pid: std::process::id(), uid: 0, start_ticks: 1 };
        assert_eq!(peer.with(|_| ()).unwrap_err().kind, FaultKind::Forbidden);
    }
}
