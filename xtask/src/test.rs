//! `cargo xtask test`: everything that the tests need, and then all of them.
//!
//! Tests of the kernel run as root: as they are where this is root, else through sudo, with everything built as the
//! user. Nothing is skipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

use crate::packages::{self, as_root, cargo, is_root, run_command};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed to every test binary, such as a part of a test's name.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// The package whose tests need root.
const PRIVILEGED: &str = "meter-tests";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    use packages::{CA_CERTIFICATES, CURL, IPROUTE, NODE, NPM, OPENSSL, PROCPS, PYTHON};
    packages::ensure(&[&IPROUTE, &CURL, &OPENSSL, &CA_CERTIFICATES, &PROCPS, &PYTHON, &NODE, &NPM])?;
    install_python_sdks()?;
    install_node_sdks()?;
    run_command(cargo().args(["build", "--workspace"]))?;
    if is_root() {
        return run_command(cargo().args(["test", "--workspace", "--no-fail-fast", "--"]).args(&arguments.rest));
    }
    run_command(
        cargo().args(["test", "--workspace", "--no-fail-fast", "--exclude", PRIVILEGED, "--"]).args(&arguments.rest),
    )?;
    let mut failed = Vec::new();
    for executable in privileged_tests()? {
        let mut test = as_root(&executable);
        test.args(&arguments.rest).current_dir(packages::root().join("tests"));
        if let Err(error) = run_command(&mut test) {
            failed.push(format!("{error:#}"));
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Test executables of the privileged package, built now.
fn privileged_tests() -> anyhow::Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["test", "--package", PRIVILEGED, "--no-run", "--message-format=json"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let text = String::from_utf8(output.stdout)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true);
    Ok(tests.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect())
}

/// A virtual environment with the pinned Python SDKs.
fn install_python_sdks() -> anyhow::Result<()> {
    let source = packages::root().join("tests/sdk/python");
    let folder = sdk_folder().join("python");
    let requirements = source.join("requirements.txt");
    let constraints = source.join("constraints.txt");
    let wanted = format!("{}{}", read(&requirements)?, read(&constraints)?);
    if is_installed(&folder, &wanted) {
        return Ok(());
    }
    println!("installing the Python SDKs");
    remove(&folder)?;
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&requirements);
    run_command(pip.arg("--constraint").arg(&constraints))?;
    mark_installed(&folder, &wanted)
}

/// A folder with the pinned Node SDKs and the agents, which find modules only beside themselves.
fn install_node_sdks() -> anyhow::Result<()> {
    let source = packages::root().join("tests/sdk/node");
    let folder = sdk_folder().join("node");
    let wanted = read(&source.join("package.json"))?;
    if !is_installed(&folder, &wanted) {
        println!("installing the Node SDKs");
        remove(&folder)?;
        fs::create_dir_all(&folder)?;
        fs::copy(source.join("package.json"), folder.join("package.json"))?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"]);
        run_command(npm.current_dir(&folder))?;
        mark_installed(&folder, &wanted)?;
    }
    for entry in fs::read_dir(&source)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().filter(|_| path.extension().is_some_and(|extension| extension == "mjs")) {
            fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(())
}

/// Where the SDKs are installed; the tests look there too.
fn sdk_folder() -> PathBuf {
    packages::target().join("sdk")
}

fn is_installed(folder: &Path, wanted: &str) -> bool {
    fs::read_to_string(stamp(folder)).is_ok_and(|installed| installed == wanted)
}

fn mark_installed(folder: &Path, wanted: &str) -> anyhow::Result<()> {
    fs::write(stamp(folder), wanted).context("writing the stamp")
}

fn stamp(folder: &Path) -> PathBuf {
    folder.join("installed")
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("removing the old SDKs"),
        _ => Ok(()),
    }
}
