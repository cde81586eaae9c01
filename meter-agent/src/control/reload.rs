//! A config takes the place of the one in force: all of it that can while the daemon runs, or nothing.
//!
//! Owns which config is in force and what is known of the file. When to look at the file is `daemon::reload`'s.
//!
//! Invariants:
//! - Whatever can fail is done before anything is changed, so that a config with a mistake changes nothing.
//! - A host is signed for before it is metered, and its bundles are there before that.
//! - What a running daemon can't change is said, never silently left out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    in_force::{ConfigDiff, ConfigState, Renamed},
    price_files::{self, PriceFileError},
    registry::Registry,
};
use crate::{
    accounts::Plan,
    cashier::Cashier,
    clock::{self, Timestamp},
    config::{AT_START, Config, ConfigError, DEFAULT_FILE},
    ids::AccountPath,
    kernel::KernelError,
    pricing::Prices,
    trust::{Authority, TrustError, bundle::BundleError},
    usage::hosts::{HostEntry, HostError, HostTable},
};

/// Tells the kernel which of the host's own addresses are metered.
pub type TellLocals = Box<dyn Fn(&[HostEntry]) -> Result<(), KernelError> + Send + Sync>;

/// Why the config in force stays. Its text has a line per mistake.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the account {from} can't become {to} while it has processes; end its tasks, then reload")]
    Running { from: AccountPath, to: AccountPath },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Prices(#[from] PriceFileError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What a config is put into.
pub struct Parts {
    pub cashier: Arc<Cashier>,
    pub registry: Arc<Registry>,
    pub prices: Arc<Prices>,
    pub authority: Arc<Authority>,
    pub hosts: watch::Sender<Arc<HostTable>>,
    pub tell_locals: TellLocals,
}

/// See the module.
pub struct Reloader {
    parts: Parts,
    /// The file as it was named at the start; `None` where the default one was absent then.
    named: Option<PathBuf>,
    /// Held over a whole reload: two at once would be neither.
    state: Mutex<State>,
}

struct State {
    in_force: Arc<Config>,
    /// The last one that was read without a mistake: what is in force, and the keys that need a restart.
    read: Config,
    fault: Option<String>,
}

impl Reloader {
    /// `config` is in force.
    pub fn new(parts: Parts, config: Config) -> Self {
        let absolute = |file: &PathBuf| std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let named = config.file.as_ref().map(absolute);
        let state = State { in_force: Arc::new(config.clone()), read: config, fault: None };
        Self { parts, named, state: Mutex::new(state) }
    }

    pub fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.state.lock().in_force)
    }

    /// Where the file is, or would be.
    pub fn file(&self) -> &Path {
        self.named.as_deref().unwrap_or(Path::new(DEFAULT_FILE))
    }

    /// Whether the file is what is in force, as far as it was looked at.
    pub fn state(&self) -> ConfigState {
        let state = self.state.lock();
        let restart = at_start(&state.in_force, &state.read);
        let in_force = state.fault.is_none() && restart.is_empty();
        ConfigState { file: self.file().to_owned(), in_force, fault: state.fault.clone(), restart }
    }

    /// Reads the file and puts it into force; what it changed. Blocks.
    pub fn reload(&self, actor: Option<u32>) -> Result<ConfigDiff, ReloadError> {
        let mut state = self.state.lock();
        self.load(&state)
            .and_then(|config| self.put(&mut state, config, actor))
            .inspect_err(|error| fail(&mut state, error))
    }

    /// As [`Self::reload`], where the file may have been changed: one that says the same as before is passed over.
    pub fn reload_if_changed(&self) {
        let mut state = self.state.lock();
        let outcome = match self.load(&state) {
            Ok(config) if state.fault.is_none() && same(&config, &state.read) => return,
            Ok(config) => self.put(&mut state, config, None),
            Err(error) => Err(error),
        };
        // Told in the log by whichever it was.
        let _ = outcome.inspect_err(|error| fail(&mut state, error));
    }

    /// What a file would change if it were reloaded now; `path` is for its messages only.
    pub fn diff(&self, text: &str, path: &Path) -> Result<ConfigDiff, ReloadError> {
        let file = Config::parse(text, path)?;
        let state = self.state.lock();
        self.check(file.plan())?;
        Ok(self.compare(&state.in_force, &file, clock::now()))
    }

    /// A file that was there once and is gone is a mistake, and not a config that says nothing.
    fn load(&self, state: &State) -> Result<Config, ReloadError> {
        Ok(Config::load(self.named.as_deref().or(state.read.file.as_deref()))?)
    }

    fn check(&self, plan: &Plan) -> Result<(), ReloadError> {
        match self.parts.cashier.can_not_rename(plan).into_iter().next() {
            Some((from, to)) => Err(ReloadError::Running { from, to }),
            None => Ok(()),
        }
    }

    fn put(&self, state: &mut State, file: Config, actor: Option<u32>) -> Result<ConfigDiff, ReloadError> {
        let parts = &self.parts;
        let live = file.while_running(&state.in_force);
        self.check(live.plan())?;
        let hosts = Arc::new(HostTable::new(&live.hosts)?);
        let imported = price_files::load(&live.prices_dir())?;
        let authorities = parts.authority.prepare(&hosts)?;
        parts.registry.trust(&authorities.pems())?;
        // A host that is redirected and not metered yet is passed through.
        (parts.tell_locals)(&live.hosts)?;

        // From here on nothing fails.
        let now = clock::now();
        let diff = self.compare(&state.in_force, &file, now);
        parts.authority.replace(authorities);
        parts.hosts.send_replace(hosts);
        parts.prices.configure(live.prices.clone(), imported);
        for name in parts.cashier.apply(live.plan(), now) {
            tracing::info!(account = %name, "keeps its name: there is another account of the new one");
        }
        let told = diff.summary();
        parts.cashier.config_reloaded(actor, told, now);
        *state = State { in_force: Arc::new(live), read: file, fault: None };
        Ok(diff)
    }

    fn compare(&self, in_force: &Config, file: &Config, now: Timestamp) -> ConfigDiff {
        let mut diff = ConfigDiff { restart: at_start(in_force, file), ..ConfigDiff::default() };
        let cashier = &self.parts.cashier;
        diff.compare(&cashier.in_force(), &cashier.preview(file.plan(), now));
        diff.compare_settings(&in_force.settings(), &file.settings());
        let named = |config: &Config| -> Vec<AccountPath> {
            config.plan().agents.iter().map(|(path, _)| path.clone()).collect()
        };
        let (before, after) = (named(in_force), named(file));
        let renames = file.plan().renamed.iter().filter(|(from, to)| before.contains(from) && !before.contains(to));
        diff.renamed = renames.map(|(from, to)| Renamed { from: from.clone(), to: to.clone() }).collect();
        let is_new = |path: &&AccountPath| !before.contains(path) && !diff.renamed.iter().any(|r| r.to == **path);
        diff.added = after.iter().filter(is_new).cloned().collect();
        let is_gone = |path: &&AccountPath| !after.contains(path) && !diff.renamed.iter().any(|r| r.from == **path);
        diff.removed = before.iter().filter(is_gone).cloned().collect();
        diff
    }
}

fn fail(state: &mut State, error: &ReloadError) {
    let text = error.to_string();
    tracing::warn!(mistakes = text, "the config file is not put into force; what was in force stays");
    state.fault = Some(text);
}

/// Keys that differ and that only a start can change.
fn at_start(in_force: &Config, file: &Config) -> Vec<String> {
    let (before, after) = (in_force.settings(), file.settings());
    AT_START.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(str::to_owned).collect()
}

/// The path by which a file was found makes no difference.
fn same(a: &Config, b: &Config) -> bool {
    Config { file: b.file.clone(), ..a.clone() } == *b
}
