//! The configuration: a TOML file, read once into checked values.
//!
//! Owns the keys, their defaults and their checks. Opens nothing that the file names: whether a directory can be
//! written or a PEM file be read is found out by whoever uses it. A file with mistakes yields all of them at once
//! ([`ConfigError::Mistakes`]) and never half a [`Config`].

mod accounts;
mod apis;
mod hosts;
mod limits;
mod machine;
mod mistake;
mod policy;
mod prices;
mod read;
mod settings;
mod stages;
mod values;

#[cfg(test)]
mod tests;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use meter_common::PORTS;

use crate::{accounts::Plan, cashier::Durability, ledger::KEEP, pricing::Settings, usage::hosts::HostEntry};

pub use {mistake::Mistake, settings::AT_START};

/// Where the file is looked for when none is named; it may be absent.
pub const DEFAULT_FILE: &str = "/etc/meter/meter.toml";
/// Ports of the listeners unless the file says otherwise: below 1024, so that only root can bind them, and not
/// assigned to a service by IANA.
pub const DEFAULT_PORTS: [u16; PORTS] = [961, 963, 967, 971];
/// A config file is a page or two; a larger one is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the file says, every value checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file that was read; `None` where the default one is absent.
    pub file: Option<PathBuf>,
    /// The ledger and the CAs' keys. Absolute.
    pub data_dir: PathBuf,
    /// The control socket, the lock and the agents' trust bundles. Absolute.
    pub run_dir: PathBuf,
    /// PEM roots accepted upstream beside the system's.
    pub upstream_ca_file: Option<PathBuf>,
    pub durability: Durability,
    pub listen_ports: [u16; PORTS],
    /// `[[host]]` and the hosts of `[[api]]`: metered hosts beside the built-in ones.
    pub hosts: Vec<HostEntry>,
    /// `[[price]]`, `[[api]]`, `unknown_model` and `plan`.
    pub prices: Settings,
    /// How long rows are kept one by one; older ones are rolled up.
    pub ledger_keep: Duration,
    /// The host's policy, `[agent.NAME]` and `time_zone`.
    pub accounts: Plan,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            file: None,
            data_dir: PathBuf::from("/var/lib/meter"),
            run_dir: PathBuf::from("/run/meter"),
            upstream_ca_file: None,
            durability: Durability::default(),
            listen_ports: DEFAULT_PORTS,
            hosts: Vec::new(),
            prices: Settings::default(),
            ledger_keep: KEEP,
            accounts: Plan::default(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the config file {0} does not exist; create it, or leave --config out to use the defaults")]
    Absent(PathBuf),
    #[error("the config file {path} can't be read ({source}); make it a readable text file")]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Mistakes(Mistakes),
}

/// All mistakes of one file in the order of their lines; shown one per line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.0.iter().enumerate() {
            let line_end = if n == 0 { "" } else { "\n" };
            write!(f, "{line_end}{mistake}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads `named`, or the default file if that exists, or takes the defaults.
    pub fn load(named: Option<&Path>) -> Result<Self, ConfigError> {
        Self::load_in_part(named).and_then(whole)
    }

    /// As [`Self::load`], for whoever only needs to find the daemon: a key with a mistake has its default.
    pub fn load_in_part(named: Option<&Path>) -> Result<(Self, Mistakes), ConfigError> {
        let path = named.unwrap_or_else(|| Path::new(DEFAULT_FILE));
        match read_text(path) {
            Ok(text) => Ok(Self::parse_in_part(&text, path)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => match named {
                None => Ok((Self::default(), Mistakes(Vec::new()))),
                Some(path) => Err(ConfigError::Absent(path.to_owned())),
            },
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// Checks the text of a config file; `path` is for its messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        whole(Self::parse_in_part(text, path))
    }

    fn parse_in_part(text: &str, path: &Path) -> (Self, Mistakes) {
        let (config, mistakes) = read::read(text, path);
        (config, Mistakes(mistakes))
    }

    /// The accounts' limits and policies, as the cashier takes them.
    pub fn plan(&self) -> &Plan {
        &self.accounts
    }

    /// Where imported price lists are kept.
    pub fn prices_dir(&self) -> PathBuf {
        self.data_dir.join("prices")
    }

    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("meter.sock")
    }

    pub fn lock_file(&self) -> PathBuf {
        self.run_dir.join("daemon.lock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.run_dir.join("daemon.log")
    }

    pub fn trust_dir(&self) -> PathBuf {
        self.run_dir.join("trust")
    }
}

/// Every key that can stand at the top of the file, or below an account.
pub fn keys() -> impl Iterator<Item = &'static str> {
    read::KEYS.into_iter().chain(policy::POLICY_KEYS).chain(["was"])
}

/// All or nothing.
fn whole((config, mistakes): (Config, Mistakes)) -> Result<Config, ConfigError> {
    if mistakes.0.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
}

/// The text of a config file, if it can be one.
pub fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    fs::read_to_string(path)
}
