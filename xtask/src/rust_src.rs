//! Finds the source of `core`, which the target has no built copy of.
//!
//! A toolchain with the component rust-src has it. Where it has not, Debian's package of exactly the compiler's version
//! is unpacked into `target/tools`, through the mirror that apt already uses here; nothing is installed, and rustup is
//! never called.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use crate::{build_ebpf::output, root};

/// The suite that carries current compilers.
const SUITE: &str = "trixie-backports";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const FIX: &str = "add it with `rustup component add rust-src`";

pub(crate) struct Library {
    /// The folder `library` of the compiler's source.
    pub(crate) path: PathBuf,
    pub(crate) is_in_sysroot: bool,
}

pub(crate) fn library() -> Result<Library> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    let path = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if is_library(&path) {
        return Ok(Library { path, is_in_sysroot: true });
    }
    let path = from_debian().with_context(|| format!("this toolchain has no source of `core`; {FIX}"))?;
    Ok(Library { path, is_in_sysroot: false })
}

fn is_library(path: &Path) -> bool {
    path.join("Cargo.lock").exists()
}

fn from_debian() -> Result<PathBuf> {
    let rustc = output(Command::new("rustc").arg("--version"))?;
    let version = rustc.split_whitespace().nth(1).context("`rustc --version` prints a version")?;
    let tools = root().join("target/tools/rust-src");
    let library = tools.join(format!("usr/src/rustc-{version}/library"));
    if !is_library(&library) {
        println!("unpacking Debian's rust-src {version} into target/tools");
        unpack(&tools, version)?;
        ensure!(is_library(&library), "Debian's package rust-src has no source of rustc {version}");
    }
    Ok(library)
}

/// Fetches and unpacks the package with package lists of its own, so that the machine's apt is left as it is.
fn unpack(tools: &Path, version: &str) -> Result<()> {
    let apt = tools.join("apt");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(folder))?;
    }
    let sources = apt.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {} {SUITE} main\n", mirror()?))?;
    let options = [
        format!("Dir::Etc::SourceList={}", sources.display()),
        "Dir::Etc::SourceParts=/dev/null".to_owned(),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        // The folder is the caller's own, which apt's own user may not enter.
        "APT::Sandbox::User=".to_owned(),
    ];
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.current_dir(&apt).args(options.iter().flat_map(|option| ["-o", option])).arg("-qq").args(arguments);
        output(&mut command)
    };
    apt_get(&["update"])?;
    apt_get(&["download", &format!("rust-src={version}*")])?;
    let package = fs::read_dir(&apt)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(tools))?;
    fs::remove_file(package)?;
    Ok(())
}

/// The Debian mirror in apt's sources.
fn mirror() -> Result<String> {
    let folder = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = std::iter::once(PathBuf::from("/etc/apt/sources.list")).chain(folder).map(fs::read_to_string);
    texts
        .flatten()
        .find_map(|text| text.split_whitespace().find(|word| is_debian_mirror(word)).map(str::to_owned))
        .context("apt has no Debian mirror among its sources here")
}

fn is_debian_mirror(word: &str) -> bool {
    word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian")
}
