//! Loads the committed object, pins its maps and links, or takes over what an earlier sidecar of this boot has pinned.
//!
//! Enforcement has no gap: a link that is pinned stays, and only its program is replaced. Fails closed: programs that
//! can't be loaded stop the start, and leave what was attached before as it was.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::Map,
    programs::{Program, ProgramError},
};
use meter_common::{ABI_VERSION, HEARTBEAT_STALE_NS, Status, map};

use super::{KernelError, cgroup, mounts, sys};
use crate::clock;

/// Where everything is pinned.
pub(super) const PIN_DIR: &str = "/sys/fs/bpf/meter";
const BPFFS: &str = "/sys/fs/bpf";
const BTF: &str = "/sys/kernel/btf/vmlinux";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../meter-ebpf/meter.bpf.o");

/// Each program of the object, and where it hooks in (`enum bpf_attach_type`, linux/bpf.h).
///
/// In this order they are attached: the tags and the counters first, so that no connection that is redirected lacks
/// its flow record.
pub(super) const PROGRAMS: [(&str, u32); 12] = [
    ("meter_sockops", 3),
    ("meter_getpeer4", 29),
    ("meter_getpeer6", 30),
    ("meter_ingress", 0),
    ("meter_egress", 1),
    ("meter_bind4", 8),
    ("meter_bind6", 9),
    ("meter_sock", 2),
    ("meter_sendmsg4", 14),
    ("meter_sendmsg6", 15),
    ("meter_connect4", 10),
    ("meter_connect6", 11),
];

/// The kernel gives up checking a program when a signal comes meanwhile (EAGAIN).
const LOAD_TRIES: u32 = 5;

/// One program in the kernel, attached or not.
pub(super) struct Loaded {
    pub(super) name: &'static str,
    pub(super) attach_type: u32,
    pub(super) fd: OwnedFd,
}

/// The maps' descriptors, in the order of [`map::ALL`].
pub(super) struct Attached {
    pub(super) maps: Vec<(&'static str, OwnedFd)>,
    pub(super) survived: bool,
}

pub(super) fn attach() -> Result<Attached, KernelError> {
    if !rustix::process::geteuid().is_root() {
        return Err(KernelError::NotRoot);
    }
    check_version()?;
    let root = cgroup::mount()?;
    mount_bpffs()?;
    let survived = is_installed()?;
    let (object, programs) = load(survived)?;
    let maps = maps(&object)?;
    if survived {
        attach_links(&programs, &root)?;
    } else if let Err(error) = install(&maps, &programs, &root) {
        // The error that stopped it says more than one of cleaning up after it.
        let _ = remove();
        return Err(error);
    }
    Ok(Attached { maps, survived })
}

/// Takes away links, maps and their folder; `false` when there was nothing.
pub(super) fn remove() -> Result<bool, KernelError> {
    let dir = Path::new(PIN_DIR);
    // The links first: nothing may be enforced on maps that are gone.
    let links = remove_dir(&dir.join("links"))?;
    Ok(remove_dir(dir)? || links)
}

/// Whether a sidecar of this boot has given a sign of life just now.
pub(super) fn is_alive() -> Result<bool, KernelError> {
    let path = pin_path(map::STATUS);
    let Some(fd) = sys::pinned(&path).map_err(pin_error(&path, "opened"))? else { return Ok(false) };
    let status: Option<Status> = sys::look_up(fd.as_fd(), &0_u32).map_err(KernelError::map(map::STATUS, "read"))?;
    Ok(status.is_some_and(|status| clock::monotonic_ns() <= status.heartbeat_ns.saturating_add(HEARTBEAT_STALE_NS)))
}

/// Loads maps and programs without pinning or attaching anything. `reuse` takes the pinned maps for the object's.
pub(super) fn load(reuse: bool) -> Result<(Ebpf, Vec<Loaded>), KernelError> {
    let mut loader = EbpfLoader::new();
    if reuse {
        for name in map::ALL {
            loader.map_pin_path(name, pin_path(name));
        }
    }
    let mut object = loader.load(OBJECT).map_err(|source| unsuitable(KernelError::Object(Box::new(source))))?;
    let mut programs = Vec::new();
    for (name, attach_type) in PROGRAMS {
        let fd = load_program(&mut object, name)
            .map_err(|source| unsuitable(KernelError::Program { program: name, source: Box::new(source) }))?;
        programs.push(Loaded { name, attach_type, fd });
    }
    Ok((object, programs))
}

/// `major.minor` of the running kernel.
fn kernel_version() -> (String, Option<(u32, u32)>) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    (release, version)
}

/// Oldest kernel that has every helper and hook used.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// An older kernel is refused before anything is touched. A release that does not say its version is tried.
pub(super) fn check_version() -> Result<String, KernelError> {
    let (found, version) = kernel_version();
    match version {
        Some(version) if version < KERNEL_MIN => Err(KernelError::OldKernel { found }),
        Some(_) | None => Ok(found),
    }
}

pub(super) fn has_btf() -> bool {
    Path::new(BTF).exists()
}

/// The boot id, as bytes.
fn boot_id() -> Result<[u8; 16], KernelError> {
    let text = fs::read_to_string(BOOT_ID).map_err(KernelError::system("the kernel's boot id could not be read"))?;
    let id = uuid::Uuid::parse_str(text.trim()).map_err(|error| {
        KernelError::system("the kernel's boot id is not a UUID")(io::Error::new(io::ErrorKind::InvalidData, error))
    })?;
    Ok(id.into_bytes())
}

/// Mounts the bpf file system where it is missing.
pub(super) fn mount_bpffs() -> Result<(), KernelError> {
    let fail = |source| KernelError::NoBpffs { path: BPFFS.into(), source };
    if mounts::read().map_err(fail)?.iter().any(|mount| mount.kind == "bpf" && mount.point == Path::new(BPFFS)) {
        return Ok(());
    }
    fs::create_dir_all(BPFFS).map_err(fail)?;
    rustix::mount::mount("bpf", BPFFS, "bpf", rustix::mount::MountFlags::empty(), None)
        .map_err(|errno| fail(errno.into()))
}

/// Whether a whole installation of this version and boot is pinned.
fn is_installed() -> Result<bool, KernelError> {
    let path = pin_path(map::STATUS);
    let Some(fd) = sys::pinned(&path).map_err(pin_error(&path, "opened"))? else {
        // STATUS is pinned last and the links after it, so this is either nothing or a start that was cut short.
        remove()?;
        return Ok(false);
    };
    let status: Status = sys::look_up(fd.as_fd(), &0_u32)
        .map_err(KernelError::map(map::STATUS, "read"))?
        .ok_or_else(|| KernelError::Damaged { path: path.clone() })?;
    if status.abi_version != ABI_VERSION {
        return Err(KernelError::Abi { found: status.abi_version, ours: ABI_VERSION });
    }
    let is_whole = map::ALL.iter().all(|name| pin_path(name).exists());
    if !is_whole || status.boot_id != boot_id()? {
        return Err(KernelError::Damaged { path: PIN_DIR.into() });
    }
    Ok(true)
}

fn install(maps: &[(&'static str, OwnedFd)], programs: &[Loaded], root: &Path) -> Result<(), KernelError> {
    let links = Path::new(PIN_DIR).join("links");
    fs::create_dir_all(&links).map_err(pin_error(&links, "made"))?;
    for (name, fd) in maps {
        if *name == map::STATUS {
            // No heartbeat yet: until the sidecar serves, redirected connects are refused.
            let status = Status { abi_version: ABI_VERSION, loss_direct: 0, heartbeat_ns: 0, boot_id: boot_id()? };
            sys::update(fd.as_fd(), &0_u32, &status).map_err(KernelError::map(map::STATUS, "written"))?;
        }
        let path = pin_path(name);
        sys::pin(fd.as_fd(), &path).map_err(pin_error(&path, "pinned"))?;
    }
    attach_links(programs, root)
}

/// Replaces the program of each link that is pinned, and makes those that are not.
fn attach_links(programs: &[Loaded], root: &Path) -> Result<(), KernelError> {
    let cgroup = fs::File::open(root).map_err(|source| KernelError::Cgroup {
        path: root.to_owned(),
        action: "opened",
        source,
    })?;
    for Loaded { name: program, attach_type, fd } in programs {
        let path = Path::new(PIN_DIR).join("links").join(program);
        let fail = |source| KernelError::Attach { program, source };
        if let Some(link) = sys::pinned(&path).map_err(pin_error(&path, "opened"))? {
            sys::replace(link.as_fd(), fd.as_fd()).map_err(fail)?;
        } else {
            let link = sys::link(fd.as_fd(), cgroup.as_fd(), *attach_type).map_err(fail)?;
            sys::pin(link.as_fd(), &path).map_err(pin_error(&path, "pinned"))?;
        }
    }
    Ok(())
}

fn load_program(object: &mut Ebpf, name: &'static str) -> Result<OwnedFd, ProgramError> {
    let program = object.program_mut(name).expect("the object is built from the same source as this list");
    let mut tries = LOAD_TRIES;
    loop {
        let fd = match program {
            Program::CgroupSock(program) => program.load().and_then(|()| program.fd()),
            Program::CgroupSockAddr(program) => program.load().and_then(|()| program.fd()),
            Program::CgroupSkb(program) => program.load().and_then(|()| program.fd()),
            Program::SockOps(program) => program.load().and_then(|()| program.fd()),
            _ => unreachable!("the object has programs of these kinds alone"),
        };
        tries -= 1;
        match fd {
            Ok(fd) => return Ok(fd.as_fd().try_clone_to_owned()?),
            Err(ProgramError::LoadError { io_error, .. })
                if tries > 0 && io_error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn maps(object: &Ebpf) -> Result<Vec<(&'static str, OwnedFd)>, KernelError> {
    map::ALL
        .into_iter()
        .map(|name| {
            let fd = map_fd(object.map(name).expect("the object is built from the same source as this list"));
            Ok((name, fd.try_clone_to_owned().map_err(KernelError::map(name, "opened"))?))
        })
        .collect()
}

fn map_fd(map: &Map) -> BorrowedFd<'_> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::SkStorage(data) => {
            data.fd().as_fd()
        }
        _ => unreachable!("the object has maps of these kinds alone"),
    }
}

/// Names the cause where the kernel itself is the reason that it did not take the object.
fn unsuitable(error: KernelError) -> KernelError {
    check_version().err().unwrap_or(if has_btf() { error } else { KernelError::NoBtf })
}

pub(super) fn pin_path(name: &str) -> PathBuf {
    Path::new(PIN_DIR).join(name)
}

fn remove_dir(dir: &Path) -> Result<bool, KernelError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(pin_error(dir, "read")(source)),
    };
    let mut any = false;
    for entry in entries.flatten() {
        let path = entry.path();
        if !path.is_dir() {
            fs::remove_file(&path).map_err(pin_error(&path, "removed"))?;
            any = true;
        }
    }
    fs::remove_dir(dir).map_err(pin_error(dir, "removed"))?;
    Ok(any)
}

fn pin_error(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Pin { path: path.to_owned(), action, source }
}
