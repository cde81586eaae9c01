//! The programs attached for one test: a scratch cgroup bound to an account, an accept loop as the sidecar, and clients
//! in Python. Everything goes when it is dropped, on a panic too.
//!
//! Root is required: without it the tests fail, since a test that skips proves nothing.

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use meter_agent::{
    clock,
    kernel::{CgroupTree, Kernel, cgroup, netns},
};
use meter_common::{
    AccountRef, Balance, Counters, FlowRecord, HEARTBEAT_STALE_NS, HOST_SLOT, Listeners, PORTS, Reason, UNLIMITED,
    state,
};
use meter_tests::harness::wait_for;

/// The agent's account, and the task's below it.
pub(crate) const AGENT: AccountRef = AccountRef { slot: 4, generation: 2 };
pub(crate) const TASK: AccountRef = AccountRef { slot: 5, generation: 3 };
/// No address of this machine (RFC 5737, RFC 3849).
pub(crate) const ELSEWHERE: &str = "198.51.100.7";
pub(crate) const ELSEWHERE_V6: &str = "2001:db8::7";

const LOCK: &str = "/run/lock/meter-tests.lock";
/// Begins the name of every scratch cgroup, beside the daemon's own.
const SCRATCH: &str = "meter-test-";
/// How long a fact that must come may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// One accepted connection.
pub(crate) struct Accepted {
    pub(crate) peer: SocketAddr,
    pub(crate) flow: Option<FlowRecord>,
    pub(crate) stream: TcpStream,
}

pub(crate) struct Edge {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) cookie: u64,
    pub(crate) listeners: Listeners,
    pub(crate) accepted: mpsc::Receiver<Accepted>,
    pub(crate) cgroup: PathBuf,
    sockets: Vec<TcpListener>,
    acceptors: Vec<JoinHandle<()>>,
    heart: Option<JoinHandle<()>>,
    beats: Arc<AtomicBool>,
    accepts: Arc<AtomicBool>,
    _lock: File,
}

impl Edge {
    /// Attaches, with the host, an agent and its task open, and the task bound to a fresh cgroup.
    pub(crate) fn new() -> Self {
        let lock = lock();
        assert_no_other();
        Kernel::uninstall().expect("what an interrupted test left can be removed");
        remove_scratch_of_killed_runs();
        let kernel = Arc::new(Kernel::attach().expect("the programs attach"));
        let cgroup = scratch_cgroup("task");
        let cookie = netns::current_cookie().expect("the namespace has a cookie");
        let (listeners, sockets) = listen();
        let (sender, accepted) = mpsc::channel();
        let accepts = Arc::new(AtomicBool::new(true));
        let acceptors = sockets.iter().map(|socket| acceptor(socket, &kernel, cookie, &sender, &accepts)).collect();
        let beats = Arc::new(AtomicBool::new(true));
        let heart = Some(heart(&kernel, &beats));
        let edge = Self {
            kernel,
            cookie,
            listeners,
            accepted,
            cgroup,
            sockets,
            acceptors,
            heart,
            beats,
            accepts,
            _lock: lock,
        };
        edge.publish(HOST_SLOT, |_| {});
        edge.publish(AGENT.slot, |_| {});
        edge.publish(TASK.slot, |_| {});
        let id = cgroup::id(&edge.cgroup).expect("the cgroup is there");
        edge.kernel.bind_cgroup(id, TASK).expect("a cgroup can be bound");
        edge.kernel.set_listeners(cookie, listeners).expect("listeners can be set");
        edge.kernel.heartbeat();
        edge
    }

    /// Publishes a slot as an open account with no limit, but for `change`.
    pub(crate) fn publish(&self, slot: u32, change: impl FnOnce(&mut Balance)) {
        let (generation, parent) = match slot {
            slot if slot == AGENT.slot => (AGENT.generation, HOST_SLOT),
            slot if slot == TASK.slot => (TASK.generation, AGENT.slot),
            _ => (0, HOST_SLOT),
        };
        let mut record = Balance { remaining: UNLIMITED, state: state::OPEN, generation, parent, ..Balance::default() };
        change(&mut record);
        self.kernel.book().publish(slot, &record);
    }

    pub(crate) fn set_state(&self, slot: u32, state: u32) {
        self.publish(slot, |record| record.state = state);
    }

    /// Runs Python in the task's cgroup and returns what it printed. `dial`, `attempt` and `socket` are there.
    pub(crate) fn python(&self, script: &str) -> String {
        finish(self.spawn_python(script))
    }

    pub(crate) fn spawn_python(&self, script: &str) -> Child {
        spawn_python(&self.cgroup, script)
    }

    /// The next connection that the sidecar accepts.
    pub(crate) fn accept(&self) -> Accepted {
        self.accepted.recv_timeout(PATIENCE).expect("the sidecar accepts a connection")
    }

    pub(crate) fn assert_nothing_accepted(&self) {
        assert!(self.accepted.try_recv().is_err(), "a connection reached the sidecar");
    }

    pub(crate) fn counters(&self) -> Counters {
        self.kernel.counters(TASK.slot).expect("counters can be read")
    }

    #[track_caller]
    pub(crate) fn assert_counted(&self, reason: Reason, expected: u64) {
        assert_eq!(self.counters().of(reason), expected, "{reason:?} in {:?}", self.counters());
    }

    /// The sidecar hangs: no more signs of life, and the last one is old.
    pub(crate) fn stop_heart(&mut self) {
        self.beats.store(false, Ordering::SeqCst);
        if let Some(heart) = self.heart.take() {
            heart.join().expect("the heart ends");
        }
    }

    /// Connections wait for the sidecar to ask who they are until [`Self::resume_accepts`].
    pub(crate) fn pause_accepts(&self) {
        self.accepts.store(false, Ordering::SeqCst);
    }

    pub(crate) fn resume_accepts(&self) {
        self.accepts.store(true, Ordering::SeqCst);
    }

    /// The sidecar is dead: nobody listens any more.
    pub(crate) fn close_listeners(&mut self) {
        self.resume_accepts();
        for socket in &self.sockets {
            // SAFETY: a descriptor that is open; this wakes the accept that waits on it.
            unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
        }
        self.sockets.clear();
        for acceptor in self.acceptors.drain(..) {
            let _ = acceptor.join();
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.stop_heart();
        self.close_listeners();
        for group in groups_below(&self.cgroup) {
            end_processes(&group);
            let _ = fs::remove_dir(group);
        }
        if let Err(error) = Kernel::uninstall() {
            eprintln!("what was attached could not be removed: {error}");
        }
    }
}

/// Another cgroup, of no account; removed by [`remove_cgroup`].
pub(crate) fn scratch_cgroup(name: &str) -> PathBuf {
    let path = cgroup_root().join(format!("{SCRATCH}{name}-{}", std::process::id()));
    fs::create_dir_all(&path).expect("a cgroup can be made");
    path
}

/// Removes the cgroups of a test run that was killed; the host's lock says that no other is under way.
fn remove_scratch_of_killed_runs() {
    for entry in fs::read_dir(cgroup_root()).expect("the cgroup mount can be listed").flatten() {
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            for group in groups_below(&entry.path()) {
                remove_cgroup(&group);
            }
        }
    }
}

fn cgroup_root() -> PathBuf {
    let daemon = CgroupTree::find().expect("cgroup v2 is mounted").daemon_path();
    daemon.ancestors().nth(2).expect("the daemon's cgroup lies two below the root").to_owned()
}

pub(crate) fn remove_cgroup(path: &Path) {
    end_processes(path);
    fs::remove_dir(path).expect("an empty cgroup can be removed");
}

/// Runs Python in any cgroup.
pub(crate) fn python_in(cgroup: &Path, script: &str) -> String {
    finish(spawn_python(cgroup, script))
}

pub(crate) fn spawn_python(cgroup: &Path, script: &str) -> Child {
    const ENTER: &str = "echo $$ >\"$1/cgroup.procs\" && exec python3 -c \"$2\"";
    Command::new("sh")
        .args(["-c", ENTER, "sh"])
        .arg(cgroup)
        .arg(format!("{PRELUDE}\n{script}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sh starts")
}

/// Waits for a client and returns what it printed.
pub(crate) fn finish(child: Child) -> String {
    let output = child.wait_with_output().expect("a client ends");
    assert!(output.status.success(), "the client failed");
    String::from_utf8(output.stdout).expect("clients print text").trim().to_owned()
}

/// Reads one line of what a running client prints.
pub(crate) fn line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    let output = child.stdout.as_mut().expect("stdout is piped");
    while output.read(&mut byte).expect("a client can be read") == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("clients print text")
}

/// Tells a running client to go on.
pub(crate) fn go_on(child: &mut Child) {
    child.stdin.as_mut().expect("stdin is piped").write_all(b"\n").expect("the client waits");
}

/// Everything on the way of a client's outcome is a word: `ok`, or the errno's name.
const PRELUDE: &str = r"
import errno, os, socket, sys
def word(error): return errno.errorcode.get(error.errno, str(error))
def attempt(call):
    try: call(); return 'ok'
    except OSError as error: return word(error)
def dial(address, port, family=socket.AF_INET, bind=None, device=None):
    s = socket.socket(family, socket.SOCK_STREAM); s.settimeout(5)
    if device: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b'\0')
    if bind: s.bind((bind, 0))
    s.connect((address, port)); return s
def say(*words): print(*words, flush=True)
def wait(): sys.stdin.readline()
";

fn lock() -> File {
    assert!(rustix::process::geteuid().is_root(), "these tests attach programs to the kernel: run them as root");
    let file = File::create(LOCK).expect("the lock file can be made");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).expect("the lock can be waited for");
    file
}

/// A heartbeat that goes on is a meter's at work, which a test must not detach; the last one of a killed test grows old.
fn assert_no_other() {
    wait_for(
        "the meter running on this machine to end; stop it and run `meter uninstall`",
        2 * Duration::from_nanos(HEARTBEAT_STALE_NS),
        || (!Kernel::another_is_alive().expect("what is pinned can be read")).then_some(()),
    );
}

/// Four ports below 1024 that are free on both loopback addresses.
fn listen() -> (Listeners, Vec<TcpListener>) {
    let mut ports = [0; PORTS];
    let mut sockets = Vec::new();
    let mut free = (700..1000).filter_map(|port| {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok()?;
        Some((port, v4, v6))
    });
    for place in &mut ports {
        let (port, v4, v6) = free.next().expect("four ports below 1024 are free");
        *place = port;
        sockets.extend([v4, v6]);
    }
    (Listeners { ports, ipv6_route: 1, ipv6_listeners: 1 }, sockets)
}

fn acceptor(
    socket: &TcpListener,
    kernel: &Arc<Kernel>,
    cookie: u64,
    sender: &mpsc::Sender<Accepted>,
    accepts: &Arc<AtomicBool>,
) -> JoinHandle<()> {
    let socket = socket.try_clone().expect("a descriptor can be cloned");
    let (kernel, sender, accepts) = (kernel.clone(), sender.clone(), accepts.clone());
    let port = socket.local_addr().expect("a listener has an address").port();
    std::thread::spawn(move || {
        while let Ok((stream, peer)) = socket.accept() {
            while !accepts.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let flow = kernel.take_flow(cookie, peer, port);
            // A test that has ended asks for no more of them.
            let _ = sender.send(Accepted { peer, flow, stream });
        }
    })
}

fn heart(kernel: &Arc<Kernel>, beats: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (kernel, beats) = (kernel.clone(), beats.clone());
    std::thread::spawn(move || {
        while beats.load(Ordering::SeqCst) {
            kernel.heartbeat();
            std::thread::sleep(Duration::from_millis(100));
        }
    })
}

/// The cgroup and all below it, deepest first.
fn groups_below(path: &Path) -> Vec<PathBuf> {
    let mut groups = vec![path.to_owned()];
    let mut next = 0;
    while next < groups.len() {
        let entries = fs::read_dir(&groups[next]).into_iter().flatten().flatten();
        groups.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
        next += 1;
    }
    groups.reverse();
    groups
}

/// Kills what is left in the cgroup and waits until it is empty.
fn end_processes(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let deadline = Duration::from_nanos(clock::monotonic_ns()) + PATIENCE;
    let is_populated =
        || fs::read_to_string(path.join("cgroup.events")).is_ok_and(|events| events.contains("populated 1"));
    while is_populated() && Duration::from_nanos(clock::monotonic_ns()) < deadline {
        std::thread::yield_now();
    }
}
