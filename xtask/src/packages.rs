//! What the tasks need of the system: Debian packages by name, root through sudo, and child commands that say why
//! they failed.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// A program, and the Debian package that has it.
pub(crate) struct Need {
    /// A command line that succeeds where the package is there.
    pub(crate) probe: &'static [&'static str],
    pub(crate) package: &'static str,
}

pub(crate) const IPROUTE: Need = Need { probe: &["ip", "-V"], package: "iproute2" };
pub(crate) const CURL: Need = Need { probe: &["curl", "--version"], package: "curl" };
pub(crate) const OPENSSL: Need = Need { probe: &["openssl", "version"], package: "openssl" };
pub(crate) const CA_CERTIFICATES: Need =
    Need { probe: &["test", "-s", "/etc/ssl/certs/ca-certificates.crt"], package: "ca-certificates" };
pub(crate) const PROCPS: Need = Need { probe: &["ps", "-e"], package: "procps" };
pub(crate) const PYTHON: Need = Need { probe: &["python3", "-c", "import ensurepip, venv"], package: "python3-venv" };
pub(crate) const NODE: Need = Need { probe: &["node", "--version"], package: "nodejs" };
pub(crate) const NPM: Need = Need { probe: &["npm", "--version"], package: "npm" };
pub(crate) const WRK: Need = Need { probe: &["which", "wrk"], package: "wrk" };

/// Installs what is missing, through sudo where this is not root.
pub(crate) fn ensure(needs: &[&Need]) -> anyhow::Result<()> {
    let missing: Vec<&str> = needs.iter().filter(|need| !works(need.probe)).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !works(&["apt-get", "--version"]) {
        bail!(
            "these are missing: {list} (names of Debian's packages); install them with your system's package manager"
        );
    }
    println!("installing {list}");
    let install = || {
        let mut command = as_root("apt-get");
        command.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        run_command(&mut command)
    };
    // Package lists may be absent or old: refresh them only when that is what fails.
    if install().is_err() {
        run_command(as_root("apt-get").arg("update").stdout(Stdio::null()))?;
        install().with_context(|| format!("installing {list}"))?;
    }
    Ok(())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as root, with this process's PATH and what the tests are told by variables.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("env");
    for name in ["PATH", "METER_CORPUS", "METER_SOAK", "METER_SOAK_SEED", "DEBIAN_FRONTEND", "RUST_BACKTRACE"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command.arg(program);
    command
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn run_command(command: &mut Command) -> anyhow::Result<()> {
    let line = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} ended with {status}");
    }
    Ok(())
}

/// `cargo`, the one that runs this task, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn works(command: &[&str]) -> bool {
    let quiet = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    quiet.is_ok_and(|output| output.status.success())
}
