//! `cargo xtask build-ebpf`: builds `meter-ebpf` into the object that is committed beside its source.
//!
//! The object is the same to the byte wherever it is built with the versions in `BUILT-WITH`: paths are remapped, and
//! what depends on the machine is stripped. Needs stable Rust and the network once, for bpf-linker and the source of
//! `core`; never calls rustup.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{root, rust_src, strip};

const TARGET: &str = "bpfel-unknown-none";
const BPF_LINKER: &str = "0.10.4";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail unless the committed object is exactly what the source builds to
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let object_path = root().join("meter-ebpf/meter.bpf.o");
    let versions_path = root().join("meter-ebpf/BUILT-WITH");
    let versions = versions()?;
    if arguments.check {
        check_versions(&versions_path, &versions)?;
    }
    let object = build()?;
    if arguments.check {
        let committed = fs::read(&object_path).with_context(|| format!("{} is missing", object_path.display()))?;
        ensure!(
            committed == object,
            "meter-ebpf/meter.bpf.o is not what its source builds to; run `cargo xtask build-ebpf` and commit the result"
        );
        println!("meter-ebpf/meter.bpf.o is exactly what its source builds to ({} bytes)", object.len());
    } else {
        fs::write(&object_path, &object).with_context(|| format!("writing {}", object_path.display()))?;
        fs::write(&versions_path, &versions).with_context(|| format!("writing {}", versions_path.display()))?;
        println!("wrote meter-ebpf/meter.bpf.o ({} bytes)", object.len());
    }
    Ok(())
}

/// Other versions make another object, which proves nothing about this one.
fn check_versions(path: &Path, ours: &str) -> Result<()> {
    let built_with = fs::read_to_string(path).with_context(|| format!("{} is missing", path.display()))?;
    ensure!(
        built_with == ours,
        "the committed object was built with\n{built_with}and this toolchain is\n{ours}To check the object, use the versions it \
         was built with; to build it anew, run `cargo xtask build-ebpf`"
    );
    Ok(())
}

/// Everything that decides the object besides its source.
fn versions() -> Result<String> {
    let rustc = output(Command::new("rustc").arg("-vV"))?;
    let field = |name: &str| {
        rustc.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).context("`rustc -vV` prints its versions")
    };
    let lock_path = root().join("meter-ebpf/Cargo.lock");
    let lock = fs::read_to_string(&lock_path).with_context(|| format!("{} is missing", lock_path.display()))?;
    let aya = lock
        .lines()
        .skip_while(|line| *line != "name = \"aya-ebpf\"")
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \""))
        .context("meter-ebpf/Cargo.lock names no aya-ebpf")?
        .trim_end_matches('"');
    Ok(format!(
        "rustc {}\nLLVM {}\nbpf-linker {BPF_LINKER}\naya-ebpf {aya}\n",
        field("release:")?,
        field("LLVM version:")?
    ))
}

fn build() -> Result<Vec<u8>> {
    let linker = bpf_linker()?;
    let library = rust_src::library()?;
    let target_dir = root().join("target/ebpf");
    let mut cargo = Command::new(cargo());
    cargo
        .current_dir(root().join("meter-ebpf"))
        .args(["build", "--quiet", "--locked", "--release", "--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker, &library.path)?)
        // Building `core` and assembling inline are open to stable compilers only this way.
        .env("RUSTC_BOOTSTRAP", "1");
    for inherited in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(inherited);
    }
    if !library.is_in_sysroot {
        cargo.env("__CARGO_TESTS_ONLY_SRC_ROOT", &library.path);
    }
    let status = cargo.status().context("cargo could not be started")?;
    ensure!(status.success(), "the kernel programs do not build");
    let built = target_dir.join(TARGET).join("release/meter");
    let object = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    strip::strip(&object)
}

fn rustflags(linker: &Path, library: &Path) -> Result<String> {
    let mut flags = vec![
        format!("-Clinker={}", utf8(linker)?),
        "-Clink-arg=--btf".to_owned(),
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        // BTF is made from the debug info.
        "-Cdebuginfo=2".to_owned(),
    ];
    // The last one that matches is used, so what may lie within another folder comes after it.
    let mut remap = |from: &Path, to: &str| -> Result<()> {
        flags.push(format!("--remap-path-prefix={}={to}", utf8(from)?));
        Ok(())
    };
    remap(root(), "meter")?;
    for registry in registries()? {
        remap(&registry, "registry")?;
    }
    remap(library, "library")?;
    Ok(flags.join("\x1f"))
}

/// Folders of unpacked crates; each is named after the registry it came from, which differs where a mirror is used.
fn registries() -> Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")?;
    let sources = home.join("registry/src");
    if !sources.exists() {
        // The crates are fetched first, so that their folder has a name to remap.
        let status = Command::new(cargo())
            .current_dir(root().join("meter-ebpf"))
            .args(["fetch", "--quiet", "--locked"])
            .status()
            .context("cargo could not be started")?;
        ensure!(status.success(), "the crates of meter-ebpf could not be fetched");
    }
    let entries = fs::read_dir(&sources).with_context(|| format!("reading {}", sources.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The linker, of exactly the version that the object is built with.
fn bpf_linker() -> Result<PathBuf> {
    let tools = root().join("target/tools");
    let linker = tools.join("bin/bpf-linker");
    let expected = format!("bpf-linker {BPF_LINKER}");
    let is_there = || output(Command::new(&linker).arg("--version")).is_ok_and(|version| version.trim() == expected);
    if is_there() {
        return Ok(linker);
    }
    println!("installing {expected} into target/tools");
    let status = Command::new(cargo())
        .args(["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--force", "--root"])
        .arg(&tools)
        .status()
        .context("cargo could not be started")?;
    if !(status.success() && is_there()) {
        bail!("{expected} could not be installed; see cargo's message above");
    }
    Ok(linker)
}

/// The cargo that runs this task.
fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{program} could not be started"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| format!("{program} printed something else than text"))
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no UTF-8 path", path.display()))
}
