//! Whose account, and whether it may: the look-up by cgroup and the walk to the host.
//!
//! Nothing here refuses; callers decide what a [`Standing`] means for them. What cannot be judged (a stale
//! reference, a path that does not end at the host) is an error, and every caller refuses on it.

use core::ptr;

use aya_ebpf::{cty::c_void, helpers::generated::bpf_get_current_ancestor_cgroup_id};
use meter_common::{AccountRef, CGROUP_LEVELS, HOST_SLOT, PATH_DEPTH, SocketTag, flag, state};

use crate::maps::{ACCOUNTS, BALANCES, SOCKETS};

/// How an account and all above it stand.
#[derive(Clone, Copy)]
pub struct Standing {
    /// The strictest [`state`] on the path; their numbers ascend with strictness from `OPEN` on.
    pub state: u32,
    /// Whether anything on the path has nothing left and lets that stop its connects.
    pub spent: bool,
}

impl Standing {
    /// Whether nothing new may begin.
    #[inline(always)]
    pub fn is_shut(self) -> bool {
        self.spent || self.state != state::OPEN
    }

    /// Whether a person shut it, so that not even names are resolved.
    #[inline(always)]
    pub fn is_revoked(self) -> bool {
        self.state >= state::REVOKED
    }
}

/// The reference is not the slot's any more, or its path does not end at the host.
pub struct Stale;

/// The deepest account among the current process's cgroup and those above it.
///
/// The root cgroup itself can't be bound, so the walk begins one below it.
#[inline(always)]
pub fn of_caller() -> Option<AccountRef> {
    let mut found = None;
    for level in 1..CGROUP_LEVELS {
        // SAFETY: takes a number and gives one; 0 when the process's cgroup lies above that level.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            break;
        }
        if let Some(entry) = ACCOUNTS.get_ptr(&id) {
            // One read of both halves: the entry can be replaced at any moment.
            // SAFETY: a hash map's values are 8-byte aligned, and this one is 8 bytes.
            let word = unsafe { ptr::read_volatile(entry.cast::<u64>()) };
            // SAFETY: both are eight plain bytes.
            found = Some(unsafe { core::mem::transmute::<u64, AccountRef>(word) });
        }
    }
    found
}

/// The account that a socket was tagged with.
///
/// # Safety
///
/// `sk` is a socket of the program's context, not null.
#[inline(always)]
pub unsafe fn of_socket(sk: *mut c_void) -> Option<AccountRef> {
    // SAFETY: passed on to the caller.
    let tag = unsafe { SOCKETS.get(sk) }?;
    // SAFETY: the helper returned a live tag; a torn read would not match its slot's generation.
    Some(unsafe { (*tag).account })
}

/// Whose a call on a socket is: the caller's account if it has one, else the socket's.
///
/// # Safety
///
/// As for [`of_socket`].
#[inline(always)]
pub unsafe fn of_call(sk: *mut c_void) -> Option<AccountRef> {
    match of_caller() {
        Some(account) => Some(account),
        // SAFETY: passed on to the caller.
        None => unsafe { of_socket(sk) },
    }
}

/// Tags a socket, or moves its tag to another account; `None` when there is no memory for the tag.
///
/// # Safety
///
/// As for [`of_socket`]; in `sock_create`, the context.
#[inline(always)]
pub unsafe fn tag_socket(sk: *mut c_void, account: AccountRef, pid: u32) -> Option<*mut SocketTag> {
    // SAFETY: passed on to the caller.
    let tag = unsafe { SOCKETS.get_or_make(sk) }?;
    // SAFETY: the helper returned a live tag.
    unsafe {
        (*tag).account = account;
        (*tag).pid = pid;
    }
    Some(tag)
}

/// The strictest word of the account and of all above it.
#[inline(always)]
pub fn standing(account: AccountRef) -> Result<Standing, Stale> {
    let mut standing = Standing { state: state::OPEN, spent: false };
    let mut slot = account.slot;
    for step in 0..PATH_DEPTH {
        let Some(balance) = BALANCES.get_ptr(slot) else { return Err(Stale) };
        // The sidecar stores at any moment, so each field is read once, and the generation after the others: a
        // slot that changed hands in between is stale and not open with another one's money.
        // SAFETY: the map returned a live record, aligned to 64 bytes.
        let (state, flags, remaining, parent, generation) = unsafe {
            (
                ptr::read_volatile(&raw const (*balance).state),
                ptr::read_volatile(&raw const (*balance).flags),
                ptr::read_volatile(&raw const (*balance).remaining),
                ptr::read_volatile(&raw const (*balance).parent),
                ptr::read_volatile(&raw const (*balance).generation),
            )
        };
        if (step == 0 && generation != account.generation) || state == state::FREE || state > state::CLOSED {
            return Err(Stale);
        }
        if state > standing.state {
            standing.state = state;
        }
        if remaining <= 0 && flags & flag::WALL_REQUESTS == 0 {
            standing.spent = true;
        }
        if slot == HOST_SLOT {
            return Ok(standing);
        }
        slot = parent;
    }
    Err(Stale)
}
