//! What can go wrong with the kernel, each as one sentence with its fix.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("meter needs root to attach to the kernel; run it as root (`sudo meter ...`)")]
    NotRoot,
    #[error("no cgroup v2 is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup` (or boot with systemd)")]
    NoCgroup2,
    #[error(
        "the cgroup {path} could not be {action}; check that cgroup v2 is mounted writable and the folder still there"
    )]
    Cgroup {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the bpf file system could not be mounted at {path}; mount it with `mount -t bpf bpf {path}`")]
    NoBpffs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("this kernel is {found}, and meter needs Linux 6.1 or newer; boot a newer kernel")]
    OldKernel { found: String },
    #[error("this kernel has no /sys/kernel/btf/vmlinux; boot one built with CONFIG_DEBUG_INFO_BTF=y")]
    NoBtf,
    #[error(
        "the kernel programs could not be loaded; check that this kernel has CONFIG_BPF_SYSCALL and CONFIG_BPF_JIT"
    )]
    Object(#[source] Box<aya::EbpfError>),
    #[error("this kernel rejected the program {program}; run `meter doctor` and report what it prints")]
    Program {
        program: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the program {program} could not be attached; check that this kernel has CONFIG_CGROUP_BPF=y")]
    Attach {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "another version of meter is attached (its kernel interface is {found}, this one's is {ours}); \
         remove it with `meter uninstall`"
    )]
    Abi { found: u32, ours: u32 },
    #[error("what is pinned under {path} is damaged or of another boot; remove it with `meter uninstall`")]
    Damaged { path: PathBuf },
    #[error("{path} could not be {action}; check who else uses it, then `meter uninstall`")]
    Pin {
        path: PathBuf,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the kernel map {map} could not be {action}; run `meter uninstall` and start meter again")]
    Map {
        map: &'static str,
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("no cgroup can be bound: all {max} places of the kernel's map are taken; end some tasks first")]
    Full { max: u32 },
    #[error("{what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl KernelError {
    pub(super) fn map(map: &'static str, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Map { map, action, source }
    }

    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
