//! The bpf(2) commands that are used past loading, as plain functions on file descriptors.
//!
//! aya loads the object; what follows is done here, because its typed maps can't hold another crate's types, and it has
//! neither look-up-and-delete nor link update. No policy, no paths of our own.

use std::{
    ffi::CString,
    io,
    mem::{MaybeUninit, size_of, size_of_val},
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use meter_common::{AccountRef, Balance, Counters, FlowKey, FlowRecord, Listeners, LocalKey, Status};

/// Types that cross into the kernel as they lie in memory.
///
/// # Safety
///
/// Any bytes are a value, and no byte is padding.
pub(super) unsafe trait Plain: Copy {}

// SAFETY: integers, and `repr(C)` structs of integers whose padding is named and asserted.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for AccountRef {}
// SAFETY: as above.
unsafe impl Plain for Balance {}
// SAFETY: as above.
unsafe impl Plain for Counters {}
// SAFETY: as above.
unsafe impl Plain for FlowKey {}
// SAFETY: as above.
unsafe impl Plain for FlowRecord {}
// SAFETY: as above.
unsafe impl Plain for Listeners {}
// SAFETY: as above.
unsafe impl Plain for LocalKey {}
// SAFETY: as above.
unsafe impl Plain for Status {}

/// Commands of `enum bpf_cmd` (linux/bpf.h).
mod command {
    pub(super) const MAP_LOOKUP: libc::c_long = 1;
    pub(super) const MAP_UPDATE: libc::c_long = 2;
    pub(super) const MAP_DELETE: libc::c_long = 3;
    pub(super) const MAP_NEXT_KEY: libc::c_long = 4;
    pub(super) const OBJECT_PIN: libc::c_long = 6;
    pub(super) const OBJECT_GET: libc::c_long = 7;
    pub(super) const MAP_LOOKUP_AND_DELETE: libc::c_long = 21;
    pub(super) const LINK_CREATE: libc::c_long = 28;
    pub(super) const LINK_UPDATE: libc::c_long = 29;
}

#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    program_fd: u32,
    flags: u32,
    old_program_fd: u32,
}

pub(super) fn look_up<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    take_value(map, key, command::MAP_LOOKUP)
}

pub(super) fn look_up_and_delete<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    take_value(map, key, command::MAP_LOOKUP_AND_DELETE)
}

fn take_value<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, cmd: libc::c_long) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::uninit();
    if !found(element(map, cmd, address(key), value.as_mut_ptr() as u64))? {
        return Ok(None);
    }
    // SAFETY: the kernel filled it, and any bytes are a value of a Plain type.
    Ok(Some(unsafe { value.assume_init() }))
}

/// A per-CPU value: one for each possible CPU.
pub(super) fn look_up_per_cpu<V: Plain>(map: BorrowedFd<'_>, key: u32, values: &mut [V]) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds each CPU's value up to 8 bytes") };
    element(map, command::MAP_LOOKUP, address(&key), values.as_mut_ptr() as u64)
}

pub(super) fn update_per_cpu<V: Plain>(map: BorrowedFd<'_>, key: u32, values: &[V]) -> io::Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8), "the kernel rounds each CPU's value up to 8 bytes") };
    element(map, command::MAP_UPDATE, address(&key), values.as_ptr() as u64)
}

pub(super) fn update<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    element(map, command::MAP_UPDATE, address(key), address(value))
}

/// Whether the key was there.
pub(super) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    found(element(map, command::MAP_DELETE, address(key), 0))
}

/// Every key. One that comes or goes meanwhile may be missed or seen twice.
pub(super) fn keys<K: Plain>(map: BorrowedFd<'_>) -> io::Result<Vec<K>> {
    let mut keys: Vec<K> = Vec::new();
    loop {
        let mut next = MaybeUninit::<K>::uninit();
        let previous = keys.last().map_or(0, address);
        if !found(element(map, command::MAP_NEXT_KEY, previous, next.as_mut_ptr() as u64))? {
            return Ok(keys);
        }
        // SAFETY: the kernel filled it, and any bytes are a value of a Plain type.
        keys.push(unsafe { next.assume_init() });
    }
}

pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    bpf(command::OBJECT_PIN, &Pin { path: path.as_ptr() as u64, fd: number(fd), flags: 0 }).map(drop)
}

/// What is pinned at `path`; `None` when nothing is.
pub(super) fn pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    match bpf(command::OBJECT_GET, &Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 }) {
        Ok(fd) => Ok(Some(owned(fd))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a program to a cgroup. Links always run beside the programs of others.
pub(super) fn link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let attr = LinkCreate { program_fd: number(program), target_fd: number(cgroup), attach_type, flags: 0 };
    bpf(command::LINK_CREATE, &attr).map(owned)
}

/// Puts another program in place of a link's, in one step.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdate { link_fd: number(link), program_fd: number(program), flags: 0, old_program_fd: 0 };
    bpf(command::LINK_UPDATE, &attr).map(drop)
}

fn element(map: BorrowedFd<'_>, cmd: libc::c_long, key: u64, value: u64) -> io::Result<()> {
    bpf(cmd, &Element { map_fd: number(map), reserved: 0, key, value, flags: 0 }).map(drop)
}

fn bpf<T>(cmd: libc::c_long, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is the command's part of `union bpf_attr`; whatever it points to outlives the call, and the map's
    // key and value sizes are those of the types that the callers name (asserted by the ABI version).
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_ref(attr), size_of_val(attr)) };
    libc::c_int::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// ENOENT as `false`.
fn found(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of) as u64
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: the kernel just made it, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}
