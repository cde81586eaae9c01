//! The daemon: opens everything, then serves. Composition, and nothing else.
//!
//! Everything that can fail to open is opened before anything is started, so that a failure leaves nothing
//! attached that was not there before. Fail-closed: what was pinned by an earlier daemon stays pinned when this
//! one can't start, and a daemon that ends on a signal leaves its kernel state on purpose, so that agents still
//! running are refused and not unmetered.

pub mod attached;
pub mod directory;
pub mod enforcer;
pub mod locals;
pub mod lock;
pub mod reload;
pub mod ticker;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls_pki_types::CertificateDer;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cashier::{Cashier, CashierError},
    clock,
    config::Config,
    control::{
        price_files::{self, PriceFileError},
        refusals::{FLUSH_MS, Refusals},
        registry::{OpenError, Registry},
        reload::{Parts, Reloader},
        server::{self, ControlError},
        service::Service,
    },
    kernel::{CgroupTree, EventReader, Kernel, KernelError, events::EventStream},
    pricing::Prices,
    proxy::{self, ProxyError},
    tasks,
    trust::{Authority, TrustError, bundle},
    usage::{
        self,
        hosts::{HostError, HostTable},
    },
    users,
};
use attached::{Attached, Home, wait_for_the_last_one};
use directory::DirectoryError;
use enforcer::Enforcer;
use locals::Locals;
use lock::{Lock, LockError};
use ticker::Ticker;

/// A sixth of what the kernel takes for a hang.
const HEARTBEAT_MS: u64 = 500;
/// How soon an empty cgroup is removed,
const REAP_MS: u64 = 500;
/// and how much of a core looking for them may take: where there are thousands, a part of so many.
const REAP_SHARE: u32 = 20;
/// A connection that was not accepted for this long never will be: its record goes, so that such cannot fill the map.
const FLOW_AGE: Duration = Duration::from_mins(1);
/// How soon after its time a window begins of which nobody takes notice by a request.
const WINDOWS_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for background work whose result nobody has seen in a day.
const RESULTS_EVERY: Duration = Duration::from_mins(10);
/// How often old rows are summed up.
const ROLL_UP_EVERY: Duration = Duration::from_hours(24);
/// A daemon that was started for a task waits this long for it before it ends again.
const FIRST_TASK_WAIT: Duration = Duration::from_secs(10);
/// Agents read their bundles below it.
pub const RUN_DIR_MODE: u32 = 0o755;
/// The control socket needs one thread for its lines; what blocks is done elsewhere.
const CONTROL_THREADS: usize = 1;

/// Why the daemon did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("the meter daemon needs root to attach to the kernel; use `sudo meter daemon`")]
    NotRoot,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("upstream_ca_file {path} {reason}; name a PEM file of certificates")]
    UpstreamCa { path: PathBuf, reason: String },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Prices(#[from] PriceFileError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Cashier(#[from] CashierError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("accounts of an earlier daemon can't be taken over: {0}")]
    Adopt(#[from] OpenError),
    #[error("a meter daemon with another run_dir serves on this machine; stop it, or use its config")]
    AnotherServes,
    #[error("the system gives no more threads or signals ({0}); end some processes")]
    System(#[from] io::Error),
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub config: Config,
    /// End, detaching everything, when no account has a process.
    pub until_idle: bool,
}

/// A daemon that has everything open and serves nothing yet.
pub struct Bound {
    options: Options,
    kernel: Attached,
    cashier: Arc<Cashier>,
    proxy: proxy::Bound,
    events: EventReader,
    control: server::Bound,
    service: Arc<Service>,
    registry: Arc<Registry>,
    locals: Locals,
    traffic: Runtime,
    control_runtime: Runtime,
    home: Home,
    hangups: Signal,
    lock: Lock,
}

/// Opens everything. After an error nothing is attached that was not attached before, and `run_dir` is as it was.
pub fn bind(options: Options) -> Result<Bound, DaemonError> {
    if !users::is_root() {
        return Err(DaemonError::NotRoot);
    }
    let run_dir = options.config.run_dir.clone();
    let made = directory::make(&run_dir, RUN_DIR_MODE)?;
    open(options).inspect_err(|_| {
        if made {
            // One that is not empty is in use by somebody else.
            let _ = fs::remove_dir(&run_dir);
        }
    })
}

fn open(options: Options) -> Result<Bound, DaemonError> {
    let config = &options.config;
    let control_runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("meter-control")
        .enable_all()
        .build()?;
    let hangups = {
        let _entered = control_runtime.enter();
        reload::hangups()?
    };
    let lock = Lock::take(&config.lock_file())?;
    let (hosts, hosts_in_force) = watch::channel(Arc::new(HostTable::new(&config.hosts)?));
    let upstream_ca = upstream_roots(config.upstream_ca_file.as_deref())?;
    directory::make(&config.data_dir, 0o700)?;
    let prices = Arc::new(Prices::new(config.prices.clone(), price_files::load(&config.prices_dir())?));
    let traffic = tokio::runtime::Builder::new_multi_thread().thread_name("meter-traffic").enable_all().build()?;

    // An answer without usage is counted when it has ended, on a thread that carries others.
    usage::count_by(proxy::in_place);
    raise_open_files();
    let tree = CgroupTree::find()?;
    wait_for_the_last_one()?;
    let home = Home::enter(&tree)?;
    let kernel = Attached::new()?;
    // The agents' connects are believed only while this beats; the listeners come after the first beat.
    kernel.kernel.heartbeat();
    let cashier = open_cashier(config, &kernel.kernel)?;
    let authority = Arc::new(Authority::open(&config.data_dir, &hosts.borrow())?);
    let locals = {
        let _entered = control_runtime.enter();
        Locals::open(Arc::clone(&kernel.kernel), hosts_in_force.clone())?
    };
    let registry = Arc::new(Registry::new(Arc::clone(&kernel.kernel), Arc::clone(&cashier), tree, config.trust_dir()));
    registry.adopt()?;
    let events = kernel.kernel.events()?;
    let parts = Parts {
        cashier: Arc::clone(&cashier),
        registry: Arc::clone(&registry),
        prices: Arc::clone(&prices),
        authority: Arc::clone(&authority),
        hosts,
        tell_locals: locals.teller(),
    };
    let reloader = Arc::new(Reloader::new(parts, config.clone()));
    let service = Arc::new(Service {
        kernel: Arc::clone(&kernel.kernel),
        cashier: Arc::clone(&cashier),
        registry: Arc::clone(&registry),
        refusals: Arc::new(Refusals::default()),
        authority: Arc::clone(&authority),
        reloader,
        data_dir: config.data_dir.clone(),
        prices: Arc::clone(&prices),
        prices_dir: config.prices_dir(),
    });
    let proxy = {
        let _entered = traffic.enter();
        proxy::bind(proxy::Setup {
            kernel: Arc::clone(&kernel.kernel),
            cashier: Arc::clone(&cashier),
            prices,
            hosts: hosts_in_force,
            authority,
            upstream_ca,
            ports: config.listen_ports,
        })?
    };
    let control = {
        let _entered = control_runtime.enter();
        server::bind(&config.socket())?
    };
    Ok(Bound {
        options,
        kernel: kernel.keep(),
        cashier,
        proxy,
        events,
        control,
        service,
        registry,
        locals,
        home,
        traffic,
        control_runtime,
        hangups,
        lock,
    })
}

impl Bound {
    /// Serves until SIGTERM or SIGINT, or until idle; then drains, and closes the ledger last.
    pub fn serve(self, ready: impl FnOnce()) -> Result<(), DaemonError> {
        let shutdown = CancellationToken::new();
        let control_stop = CancellationToken::new();
        let handle = self.control_runtime.handle().clone();

        let kernel = Arc::clone(&self.kernel.kernel);
        let beating = Arc::clone(&kernel);
        let heartbeat = Ticker::start("heartbeat", Duration::from_millis(HEARTBEAT_MS), move || beating.heartbeat())?;
        let service = Arc::clone(&self.service);
        let refusals = Ticker::start("refusals", Duration::from_millis(FLUSH_MS), move || service.write_refusals())?;
        let reaper = self.start_reaper(shutdown.clone())?;
        let calendar = Arc::clone(&self.cashier);
        let windows = Ticker::start("windows", WINDOWS_EVERY, move || calendar.tick(clock::now()))?;
        let results = Arc::clone(&self.cashier);
        let results = Ticker::start("results", RESULTS_EVERY, move || results.lapse_results(clock::now()))?;
        let (rolled, config) = (Arc::clone(&self.cashier), Arc::clone(&self.service.reloader));
        let roll = move || rolled.roll_up(config.in_force().ledger_keep, clock::now());
        let roll_up = Ticker::start("roll-up", ROLL_UP_EVERY, roll)?;
        let config = reload::watch(Arc::clone(&self.service.reloader))?;
        let swept = Arc::clone(&kernel);
        let sweeper = Ticker::start("flow-sweeper", FLOW_AGE, move || sweep_flows(&swept))?;

        let entered = handle.enter();
        tasks::spawn("kernel-events", read_events(self.events.into_stream()?, Arc::clone(&self.service)));
        let (connections, ports) = (self.proxy.connections(), self.options.config.listen_ports);
        let enforcer = Enforcer::new(Arc::clone(&self.cashier), Arc::clone(&self.registry), connections, ports);
        tasks::spawn("enforcer", enforcer.run());
        tasks::spawn("addresses", self.locals.run(self.proxy.announcer()));
        tasks::spawn("signals", on_signals(Arc::clone(&self.registry), shutdown.clone())?);
        tasks::spawn("hangups", reload::on_hangup(self.hangups, Arc::clone(&self.service.reloader)));
        let service = Arc::clone(&self.service);
        let control = tasks::spawn("control", self.control.serve(self.service, control_stop.clone()));
        drop(entered);

        ready();
        tracing::info!(config = ?self.options.config.file, "ready");
        let served = self.traffic.block_on(self.proxy.serve(shutdown.clone()));

        // Drained. What follows goes from the edge to the ledger.
        self.registry.end();
        control_stop.cancel();
        // An error is a panic in there, which has been logged; the ledger must be closed all the same.
        let _ = handle.block_on(control);
        let _ = fs::remove_file(self.options.config.socket());
        drop((config, reaper, refusals, results, roll_up, sweeper, windows));
        service.write_refusals();
        handle.block_on(self.cashier.close());
        drop(heartbeat);
        drop(self.kernel);
        if self.options.until_idle && self.registry.is_empty() {
            self.home.leave();
            Kernel::uninstall()?;
            clean_run_dir(&self.options.config);
        }
        drop(self.lock);
        tracing::info!("ended");
        Ok(served?)
    }

    fn start_reaper(&self, shutdown: CancellationToken) -> io::Result<Ticker> {
        let (registry, until_idle) = (Arc::clone(&self.registry), self.options.until_idle);
        let started = clock::monotonic_ns();
        let mut next = started;
        Ticker::start("reaper", Duration::from_millis(REAP_MS), move || {
            if clock::monotonic_ns() >= next {
                let looked = registry.reap() * REAP_SHARE;
                next = clock::monotonic_ns() + u64::try_from(looked.as_nanos()).unwrap_or(0);
            }
            let waited = Duration::from_nanos(clock::monotonic_ns().saturating_sub(started));
            if until_idle && registry.end_if_idle(waited >= FIRST_TASK_WAIT) {
                shutdown.cancel();
            }
        })
    }
}

/// Removes what the daemon keeps in its run directory, and the directory if nothing else is in it. The log of a
/// daemon that ended stays.
pub fn clean_run_dir(config: &Config) {
    // Every one of them may be missing; what can't be removed is on a file system that ends with the boot.
    let _ = fs::remove_file(config.socket());
    let _ = fs::remove_dir_all(config.trust_dir());
    let _ = fs::remove_file(config.lock_file());
    let _ = fs::remove_dir(&config.run_dir);
}

async fn read_events(mut events: EventStream, service: Arc<Service>) {
    loop {
        match events.next().await {
            Ok(event) => service.refusals.add(&event),
            Err(error) => {
                // The kernel goes on refusing and counting; only the ledger's rows of it end here.
                tracing::error!(%error, "the kernel's events can't be read any more");
                return;
            }
        }
    }
}

fn sweep_flows(kernel: &Kernel) {
    match kernel.sweep_flows(FLOW_AGE) {
        Ok(0) => {}
        Ok(count) => tracing::warn!(count, "connections of agents were never accepted; their records are removed"),
        Err(error) => tracing::error!(%error, "records of connections can't be swept; connects are refused when full"),
    }
}

fn on_signals(registry: Arc<Registry>, shutdown: CancellationToken) -> io::Result<impl Future<Output = ()>> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("draining");
        registry.end();
        shutdown.cancel();
    })
}

fn upstream_roots(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, DaemonError> {
    let Some(path) = file else { return Ok(Vec::new()) };
    let fault = |reason: String| DaemonError::UpstreamCa { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| fault(format!("can't be read ({error})")))?;
    let roots = bundle::certificates(&pem);
    if roots.is_empty() { Err(fault("holds no certificate".to_owned())) } else { Ok(roots) }
}

/// Each connection takes a few descriptors, and the usual soft limit of 1,024 is for programs that use `select`.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files could not be raised; many connections at once may be refused");
    }
}

fn open_cashier(config: &Config, kernel: &Kernel) -> Result<Arc<Cashier>, CashierError> {
    let survived = kernel.survived();
    Cashier::open(&config.data_dir, kernel.book(), config.plan(), config.durability, survived, clock::now())
}
