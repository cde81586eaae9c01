//! The control socket's server: accepts, reads lines, answers.
//!
//! Bounded in clients, line length and silence, since whoever may open the socket includes agents' own users.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    runtime::Handle,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    peer::Peer,
    service::Service,
    wire::{Answer, Call, Fault, FaultKind, REQUEST_BYTES_MAX, line},
};
use crate::{tasks, users};

/// Clients served at one time; more wait in the socket's backlog.
const CLIENTS_MAX: usize = 64;
/// A client that says nothing for this long, or takes no bytes, makes room for others.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Pause after a failed accept: without one, a lack of file descriptors would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Root and the socket's owner and group; nobody else.
const SOCKET_MODE: u32 = 0o660;

#[derive(Debug, thiserror::Error)]
#[error(
    "the control socket {path} can't be opened ({source}); make sure that run_dir is a directory root can write to"
)]
pub struct ControlError {
    path: PathBuf,
    source: io::Error,
}

/// A socket that is open and that nobody serves yet.
pub struct Bound {
    listener: UnixListener,
}

/// Opens the socket. What an earlier daemon left there is replaced, so the caller holds the daemon's lock.
///
/// It is root's and the group `meter`'s, if there is one; a daemon that was started through `sudo` is also open to
/// the user who did so.
pub fn bind(path: &Path) -> Result<Bound, ControlError> {
    let open = || -> io::Result<Bound> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // Made under a name of its own with the right owner and mode, then moved, so that it is never too open.
        let fresh = path.with_extension("new");
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        chown(&fresh, users::sudo_user(), users::group_id(users::METER_GROUP))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&fresh, path)?;
        Ok(Bound { listener })
    };
    open().map_err(|source| ControlError { path: path.to_owned(), source })
}

impl Bound {
    /// Serves until `shutdown`, then lets requests that are being answered finish.
    pub async fn serve(self, service: Arc<Service>, shutdown: CancellationToken) {
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        let tracker = TaskTracker::new();
        while let Some(stream) = self.accept(&shutdown).await {
            let Ok(place) = Arc::clone(&clients).acquire_owned().await else { break };
            let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
            tasks::spawn_waited(&tracker, "control-client", async move {
                let _place = place;
                if let Err(error) = serve_client(stream, service, shutdown).await {
                    tracing::debug!(%error, "control client left");
                }
            });
        }
        tracker.close();
        tracker.wait().await;
    }

    async fn accept(&self, shutdown: &CancellationToken) -> Option<UnixStream> {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return None,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => return Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_client(stream: UnixStream, service: Arc<Service>, shutdown: CancellationToken) -> io::Result<()> {
    let peer = Peer::of(&stream);
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let next = timeout(SILENCE_MAX, read_line(&mut lines));
        let bytes = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            bytes = next => bytes??,
        };
        let Some(bytes) = bytes else { return Ok(()) };
        let answer = answer(peer, bytes, &service).await;
        timeout(SILENCE_MAX, write.write_all(&line(&answer))).await??;
    }
}

/// One line without a bound of its own would be a way to fill the memory. `None` at the end of the stream.
async fn read_line(lines: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let count = lines.take(REQUEST_BYTES_MAX).read_until(b'\n', &mut bytes).await?;
    match bytes.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(bytes)),
        Some(_) if count as u64 == REQUEST_BYTES_MAX => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"))
        }
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn answer(peer: Option<Peer>, bytes: Vec<u8>, service: &Arc<Service>) -> Answer {
    let fault = |kind, message: &str| Answer::Error(Fault::new(kind, message));
    let Some(peer) = peer else {
        return fault(FaultKind::Forbidden, "the daemon can't see your process; ask from its own pid namespace");
    };
    let call: Call = match serde_json::from_slice(&bytes) {
        Ok(call) => call,
        Err(error) => {
            return fault(FaultKind::Malformed, &format!("not a request ({error}); use the same version of meter"));
        }
    };
    let (service, runtime) = (Arc::clone(service), Handle::current());
    let answered = tokio::task::spawn_blocking(move || service.answer(&peer, call, &runtime)).await;
    answered.unwrap_or_else(|_| fault(FaultKind::Failed, "the daemon failed at it; its log says more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_one_by_one_to_the_end() {
        let mut lines = BufReader::new(&b"one\ntwo\n"[..]);
        assert_eq!(read_line(&mut lines).await.unwrap().unwrap(), b"one\n");
        assert_eq!(read_line(&mut lines).await.unwrap().unwrap(), b"two\n");
        assert_eq!(read_line(&mut lines).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_cut_short_and_one_without_end_are_errors() {
        let mut cut = BufReader::new(&b"half"[..]);
        assert_eq!(read_line(&mut cut).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let mut endless = BufReader::new(tokio::io::repeat(b'x'));
        assert_eq!(read_line(&mut endless).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn the_socket_is_closed_to_others_and_replaces_a_dead_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meter.sock");
        drop(bind(&path).unwrap());
        let _bound = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        UnixStream::connect(&path).await.unwrap();
    }
}
