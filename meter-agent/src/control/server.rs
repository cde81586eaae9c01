//! The control socket's server: accepts, reads lines, answers.
//!
//! Bounded in clients, line length and silence, since whoever may open the socket includes agents' own users.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
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
const CLIENTS_MAX: usize = 96;
/// Of those, one user's at most, root excepted: one who keeps as many idle leaves places for the others.
const CLIENTS_PER_USER_MAX: usize = 32;
/// Processes inside accounts are counted apart, whoever's they are, so that no agent takes the place of the one who
/// would stop it: so many of one agent,
const CLIENTS_PER_AGENT_MAX: usize = 8;
/// and of all.
const CLIENTS_INSIDE_MAX: usize = 32;
/// Clients that wait to be accepted; beyond it, connects wait.
const BACKLOG: i32 = 128;
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
        let listener = UnixListener::from_std(listen_closed(&fresh)?)?;
        chown(&fresh, users::sudo_user(), users::group_id(users::METER_GROUP))?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(SOCKET_MODE))?;
        fs::rename(&fresh, path)?;
        Ok(Bound { listener })
    };
    open().map_err(|source| ControlError { path: path.to_owned(), source })
}

/// Listens at a path that nobody but its owner may open, from its first moment on, whatever the umask: the mode of
/// the socket itself is what the path gets (`unix_bind_bsd` in the kernel).
fn listen_closed(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    rustix::fs::fchmod(&socket, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(OwnedFd::from(socket).into())
}

impl Bound {
    /// Serves until `shutdown`, then lets requests that are being answered finish.
    pub async fn serve(self, service: Arc<Service>, shutdown: CancellationToken) {
        let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
        let users = Arc::new(Users::default());
        let tracker = TaskTracker::new();
        while let Some(stream) = self.accept(&shutdown).await {
            let peer = Peer::of(&stream);
            let Some(user) = whose(&stream, peer.as_ref(), &service).and_then(|with| Users::enter(&users, &with))
            else {
                turn_away(stream);
                continue;
            };
            let Ok(place) = Arc::clone(&clients).acquire_owned().await else { break };
            let (service, shutdown) = (Arc::clone(&service), shutdown.clone());
            tasks::spawn_waited(&tracker, "control-client", async move {
                let (_place, _user) = (place, user);
                if let Err(error) = serve_client(stream, peer, service, shutdown).await {
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

/// With whom a client is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum With {
    User(u32),
    Agent(String),
    /// Every process that is inside an account.
    Inside,
}

impl With {
    /// Clients served at one time.
    const fn max(&self) -> usize {
        match self {
            Self::User(0) => usize::MAX,
            Self::User(_) => CLIENTS_PER_USER_MAX,
            Self::Agent(_) => CLIENTS_PER_AGENT_MAX,
            Self::Inside => CLIENTS_INSIDE_MAX,
        }
    }
}

/// A process that can't be looked at counts as its user's, and is refused whatever it asks. `None` where not even the
/// user is known.
fn whose(stream: &UnixStream, peer: Option<&Peer>, service: &Service) -> Option<Vec<With>> {
    match peer.map(|peer| service.account_of(peer)) {
        Some(Ok(Some(inside))) => Some(vec![With::Agent(inside.agent_name().to_owned()), With::Inside]),
        Some(Ok(None) | Err(_)) | None => Some(vec![With::User(stream.peer_cred().ok()?.uid())]),
    }
}

/// How many clients each has.
#[derive(Default)]
struct Users(Mutex<HashMap<With, usize>>);

/// One client, counted until dropped.
struct User {
    all: Arc<Users>,
    with: Vec<With>,
}

impl Users {
    /// `None` for one who has enough clients.
    fn enter(all: &Arc<Self>, with: &[With]) -> Option<User> {
        let mut counts = all.0.lock();
        if with.iter().any(|one| counts.get(one).is_some_and(|count| *count >= one.max())) {
            return None;
        }
        for one in with {
            *counts.entry(one.clone()).or_default() += 1;
        }
        Some(User { all: Arc::clone(all), with: with.to_owned() })
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        for one in self.with.drain(..) {
            if let Entry::Occupied(mut count) = counts.entry(one) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

/// Says why and closes. Nobody waits for it: a fresh socket has room for the line, and who does not read it loses it.
fn turn_away(stream: UnixStream) {
    let fault =
        Fault::new(FaultKind::Failed, "your user or agent has too many connections to the daemon; end some of them");
    let _ = stream.into_std().and_then(|mut stream| stream.write_all(&line(&Answer::Error(fault))));
}

async fn serve_client(
    stream: UnixStream,
    peer: Option<Peer>,
    service: Arc<Service>,
    shutdown: CancellationToken,
) -> io::Result<()> {
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

    #[test]
    fn one_user_s_clients_leave_places_for_others_and_are_given_back() {
        let users = Arc::new(Users::default());
        let enter = |uid| Users::enter(&users, &[With::User(uid)]);
        let mut own: Vec<_> = (0..CLIENTS_PER_USER_MAX).map(|_| enter(1_000).unwrap()).collect();
        assert!(enter(1_000).is_none());
        assert!(enter(1_001).is_some());
        let root: Vec<_> = (0..CLIENTS_MAX).map(|_| enter(0).unwrap()).collect();
        own.pop();
        assert!(enter(1_000).is_some());
        drop((own, root));
        assert!(users.0.lock().is_empty());
    }

    #[test]
    fn agents_leave_places_for_whoever_would_stop_them() {
        let users = Arc::new(Users::default());
        let enter = |agent: &str| Users::enter(&users, &[With::Agent(agent.to_owned()), With::Inside]);
        let mut inside: Vec<_> = (0..CLIENTS_PER_AGENT_MAX).map(|_| enter("wild").unwrap()).collect();
        assert!(enter("wild").is_none() && enter("other").is_some());
        inside.extend((0..100).filter_map(|n| enter(&format!("a{n}"))));
        assert_eq!(inside.len(), CLIENTS_INSIDE_MAX);
        let user: Vec<_> = (0..CLIENTS_PER_USER_MAX).map(|_| Users::enter(&users, &[With::User(1_000)])).collect();
        assert!(user.iter().all(Option::is_some));
        const { assert!(CLIENTS_INSIDE_MAX + CLIENTS_PER_USER_MAX < CLIENTS_MAX, "root finds a place") };
        drop((inside, user));
        assert!(users.0.lock().is_empty());
    }

    #[tokio::test]
    async fn who_is_turned_away_is_told_why() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        turn_away(ours);
        let told = read_line(&mut BufReader::new(theirs)).await.unwrap().unwrap();
        assert!(String::from_utf8(told).unwrap().contains("too many connections"));
    }

    #[test]
    fn the_socket_is_closed_to_others_from_its_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _listener = listen_closed(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
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
