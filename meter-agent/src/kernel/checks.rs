//! What the kernel must have, as a checked list for `meter doctor`. Leaves nothing behind.

use std::{fs, os::fd::AsFd};

use super::{KernelError, cgroup, load, sys};

/// One prerequisite.
#[derive(Debug)]
pub struct Check {
    pub name: &'static str,
    /// What was found, or what is wrong.
    pub outcome: Result<String, Fault>,
}

/// What is wrong with a prerequisite.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub fix: String,
}

/// Looks at everything the kernel side needs; each that fails says how to mend it.
pub fn checks() -> Vec<Check> {
    let mut checks = vec![
        Check { name: "root", outcome: root() },
        Check { name: "kernel version", outcome: load::check_version().map_err(|error| fault(&error)) },
        Check { name: "kernel types (BTF)", outcome: btf() },
        Check {
            name: "cgroup v2",
            outcome: cgroup::mount().map(|path| path.display().to_string()).map_err(|error| fault(&error)),
        },
        Check { name: "bpf file system", outcome: bpffs() },
    ];
    checks.extend(programs());
    checks
}

fn root() -> Result<String, Fault> {
    if rustix::process::geteuid().is_root() {
        Ok("running as root".to_owned())
    } else {
        Err(fault(&KernelError::NotRoot))
    }
}

fn btf() -> Result<String, Fault> {
    if load::has_btf() { Ok("present".to_owned()) } else { Err(fault(&KernelError::NoBtf)) }
}

fn bpffs() -> Result<String, Fault> {
    load::mount_bpffs().map(|()| "mounted".to_owned()).map_err(|error| fault(&error))
}

/// Loads each program and attaches it to a cgroup made for this and removed again, beside whatever is installed.
fn programs() -> Vec<Check> {
    if let Err(fault) = root() {
        // The kernel would answer with a permission error that reads like a missing feature.
        return vec![Check { name: "kernel programs", outcome: Err(fault) }];
    }
    let loaded = match load::load(false) {
        Ok((_, programs)) => programs,
        Err(error) => return vec![Check { name: "kernel programs", outcome: Err(fault(&error)) }],
    };
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => return vec![Check { name: "kernel programs", outcome: Err(fault(&error)) }],
    };
    loaded
        .iter()
        .map(|load::Loaded { name, attach_type, fd }| Check {
            name,
            outcome: sys::link(fd.as_fd(), scratch.cgroup.as_fd(), *attach_type)
                .map(|_| "loads and attaches".to_owned())
                .map_err(|source| fault(&KernelError::Attach { program: name, source })),
        })
        .collect()
}

/// An empty cgroup to attach to, removed when dropped.
struct Scratch {
    path: std::path::PathBuf,
    cgroup: fs::File,
}

impl Scratch {
    fn new() -> Result<Self, KernelError> {
        let path = cgroup::mount()?.join(format!("meter-doctor-{}", std::process::id()));
        let failed = |action| {
            let path = path.clone();
            move |source| KernelError::Cgroup { path, action, source }
        };
        fs::create_dir(&path).map_err(failed("made"))?;
        let cgroup = fs::File::open(&path).map_err(failed("opened"))?;
        Ok(Self { path, cgroup })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        cgroup::remove_empty(&self.path);
    }
}

/// An error's sentence is `what; fix`, and its causes belong to what.
fn fault(error: &KernelError) -> Fault {
    let text = error.to_string();
    let (what, fix) = text.split_once("; ").unwrap_or((&text, "see the cause"));
    let mut what = what.to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        what = format!("{what}: {source}");
        cause = source.source();
    }
    Fault { what, fix: fix.to_owned() }
}
