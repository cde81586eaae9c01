//! Who is at the other end of a control connection.
//!
//! The kernel names the process that connected (`SO_PEERCRED`). A process id can be given to another process
//! later, so its start time is remembered and asked again whenever the id is used: refuse rather than take one
//! process for another. That the id meant the same process from the connect to the first look, a handle on the process
//! proves (`SO_PEERPIDFD`): an agent can keep the server busy until another process has its id.

use std::{
    fs, io,
    mem::size_of_val,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

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
        let handle = handle(stream).ok()?;
        let peer = Self { pid, uid: cred.uid(), start_ticks: start_ticks(pid)? };
        // Not reaped even now, so nobody else has had its id.
        handle.is_none_or(|handle| is_there(&handle)).then_some(peer)
    }

    /// Names the process, so that it is known again after a restart of the daemon.
    pub fn token(&self) -> String {
        format!("{} {}", self.pid, self.start_ticks)
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

/// A handle on the process that connected; `None` before Linux 6.5, which has none to give.
fn handle(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of_val(&fd)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes into `fd`, and the length back.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        // SAFETY: the kernel has just made this descriptor for us.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(None) } else { Err(error) }
}

/// Whether the process is alive or at least not reaped.
fn is_there(process: &OwnedFd) -> bool {
    let no_info = ptr::null_mut::<libc::siginfo_t>();
    // SAFETY: signal 0 only asks; no pointer is followed.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), 0, no_info, 0) == 0 }
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

    #[tokio::test]
    async fn a_process_that_connected_and_was_reaped_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        // The child connects, keeps the connection in a child of its own, and ends.
        let script = "import os,socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
            os.fork() and os._exit(0)\ns.recv(1)";
        let mut child = std::process::Command::new("python3").args(["-c", script]).arg(&path).spawn().unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let handle = handle(&stream).unwrap().expect("this kernel has SO_PEERPIDFD");
        child.wait().unwrap();
        assert!(!is_there(&handle));
        assert_eq!(Peer::of(&stream), None);
    }

    #[test]
    fn a_process_id_that_changed_hands_is_refused() {
        let peer = Peer { pid: std::process::id(), uid: 0, start_ticks: 1 };
        assert_eq!(peer.with(|_| ()).unwrap_err().kind, FaultKind::Forbidden);
    }
}
