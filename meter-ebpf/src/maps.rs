//! The maps, and nothing that decides anything.
//!
//! Sizes and layouts come from `meter-common`; the loader pins each under the name it has here.

use core::ptr;

use aya_ebpf::{
    bindings::{
        BPF_F_CLONE, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
        bpf_map_type::BPF_MAP_TYPE_SK_STORAGE,
    },
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf},
    cty::c_void,
    helpers::generated::bpf_sk_storage_get,
    macros::btf_map,
};
use meter_common::{
    AccountRef, Balance, Counters, EVENTS_BYTES, FLOWS_MAX, FlowKey, FlowRecord, LOCALS_MAX, Listeners, LocalKey,
    NAMESPACES_MAX, SLOTS, SocketTag, Status,
};

/// Cgroup id to the account bound to it.
#[btf_map]
pub static ACCOUNTS: HashMap<u64, AccountRef, { SLOTS as usize }> = HashMap::new();

/// One record per slot, stored by the sidecar into the mapped pages.
#[btf_map]
pub static BALANCES: Array<Balance, { SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, { SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
pub static FLOWS: HashMap<FlowKey, FlowRecord, { FLOWS_MAX as usize }> = HashMap::new();

/// Network namespace cookie to the sidecar's listeners there.
#[btf_map]
pub static LISTENERS: HashMap<u64, Listeners, { NAMESPACES_MAX as usize }> = HashMap::new();

#[btf_map]
pub static LOCALS: HashMap<LocalKey, u32, { LOCALS_MAX as usize }> = HashMap::new();

// `()`: with a value type, libbpf reports a conflicting value size for a ring.
#[btf_map]
pub static EVENTS: RingBuf<(), { EVENTS_BYTES as usize }> = RingBuf::new();

#[btf_map]
pub static STATUS: Array<Status, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
pub static SOCKETS: SocketStorage<{ (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize }> = SocketStorage::new();

/// Socket storage with flags of our own choice: a socket made by accept inherits its listener's tag.
#[repr(C)]
pub struct SocketStorage<const FLAGS: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const SocketTag,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: the pointers only carry types for BTF; nothing ever follows them.
unsafe impl<const FLAGS: usize> Sync for SocketStorage<FLAGS> {}

impl<const FLAGS: usize> SocketStorage<FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }

    /// The tag of a socket, if it has one.
    ///
    /// # Safety
    ///
    /// `sk` is what the program's context calls a socket (or the context itself, in `sock_create`), not null.
    #[inline(always)]
    pub unsafe fn get(&self, sk: *mut c_void) -> Option<*mut SocketTag> {
        // SAFETY: the caller vouches for `sk`.
        unsafe { self.storage(sk, 0) }
    }

    /// The tag of a socket, made of zeroes if it had none; `None` when there is no memory for it.
    ///
    /// # Safety
    ///
    /// As for [`Self::get`].
    #[inline(always)]
    pub unsafe fn get_or_make(&self, sk: *mut c_void) -> Option<*mut SocketTag> {
        // SAFETY: the caller vouches for `sk`.
        unsafe { self.storage(sk, BPF_SK_STORAGE_GET_F_CREATE.into()) }
    }

    #[inline(always)]
    unsafe fn storage(&self, sk: *mut c_void, flags: u64) -> Option<*mut SocketTag> {
        let map = ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the loader puts the map in place of the static's address; the verifier checks `sk`.
        let tag = unsafe { bpf_sk_storage_get(map, sk, ptr::null_mut(), flags) }.cast::<SocketTag>();
        (!tag.is_null()).then_some(tag)
    }
}
