//! `BALANCES` and `STATUS` as mapped memory: a store here is what the very next connect or packet sees.
//!
//! The sidecar alone writes. Within one record the order of stores is what keeps a slot that changes hands from ever
//! showing an open account with another one's balance (the kernel reads the generation last).

use std::{
    io,
    mem::{offset_of, size_of},
    os::fd::AsFd,
    ptr::NonNull,
    sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering},
};

use meter_common::{Balance, SLOTS, Status, state};
use rustix::mm::{MapFlags, ProtFlags};

use super::Book;

/// The `BALANCES` map.
pub(super) struct MappedBook {
    memory: Mapping,
}

impl MappedBook {
    pub(super) fn new(map: impl AsFd) -> io::Result<Self> {
        Ok(Self { memory: Mapping::new(map, SLOTS as usize * size_of::<Balance>())? })
    }

    fn record(&self, slot: u32) -> Record<'_> {
        assert!(slot < SLOTS, "slots are handed out below {SLOTS}");
        Record { memory: &self.memory, at: slot as usize * size_of::<Balance>() }
    }
}

impl Book for MappedBook {
    fn publish(&self, slot: u32, record: &Balance) {
        let to = self.record(slot);
        let changes_hands = to.u32(offset_of!(Balance, generation)).load(Ordering::Relaxed) != record.generation;
        if changes_hands {
            to.u32(offset_of!(Balance, state)).store(state::FREE, Ordering::SeqCst);
        }
        to.i64(offset_of!(Balance, remaining)).store(record.remaining, Ordering::SeqCst);
        to.i64(offset_of!(Balance, spent)).store(record.spent, Ordering::SeqCst);
        to.i64(offset_of!(Balance, hold_granted)).store(record.hold_granted, Ordering::SeqCst);
        to.i64(offset_of!(Balance, hold_ended)).store(record.hold_ended, Ordering::SeqCst);
        to.u32(offset_of!(Balance, parent)).store(record.parent, Ordering::SeqCst);
        to.u32(offset_of!(Balance, flags)).store(record.flags, Ordering::SeqCst);
        to.u32(offset_of!(Balance, generation)).store(record.generation, Ordering::SeqCst);
        to.u32(offset_of!(Balance, state)).store(record.state, Ordering::SeqCst);
    }

    fn read(&self, slot: u32) -> Balance {
        let from = self.record(slot);
        Balance {
            remaining: from.i64(offset_of!(Balance, remaining)).load(Ordering::SeqCst),
            spent: from.i64(offset_of!(Balance, spent)).load(Ordering::SeqCst),
            hold_granted: from.i64(offset_of!(Balance, hold_granted)).load(Ordering::SeqCst),
            hold_ended: from.i64(offset_of!(Balance, hold_ended)).load(Ordering::SeqCst),
            generation: from.u32(offset_of!(Balance, generation)).load(Ordering::SeqCst),
            parent: from.u32(offset_of!(Balance, parent)).load(Ordering::SeqCst),
            state: from.u32(offset_of!(Balance, state)).load(Ordering::SeqCst),
            flags: from.u32(offset_of!(Balance, flags)).load(Ordering::SeqCst),
            reserved: [0; 2],
        }
    }
}

/// The `STATUS` map.
pub(super) struct MappedStatus {
    memory: Mapping,
}

impl MappedStatus {
    pub(super) fn new(map: impl AsFd) -> io::Result<Self> {
        Ok(Self { memory: Mapping::new(map, size_of::<Status>())? })
    }

    pub(super) fn set_heartbeat(&self, monotonic_ns: u64) {
        self.memory.u64(offset_of!(Status, heartbeat_ns)).store(monotonic_ns, Ordering::SeqCst);
    }

    pub(super) fn set_loss_direct(&self, direct: bool) {
        self.memory.u32(offset_of!(Status, loss_direct)).store(u32::from(direct), Ordering::SeqCst);
    }
}

struct Record<'a> {
    memory: &'a Mapping,
    at: usize,
}

impl<'a> Record<'a> {
    fn u32(&self, field: usize) -> &'a AtomicU32 {
        self.memory.u32(self.at + field)
    }

    fn i64(&self, field: usize) -> &'a AtomicI64 {
        self.memory.i64(self.at + field)
    }
}

/// The pages of an mmapable array, shared with the kernel for as long as this lives.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: every access goes through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: impl AsFd, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0)
        }?;
        let start = NonNull::new(start.cast()).expect("the kernel chooses no address of 0");
        Ok(Self { start, len })
    }

    fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset + size_of::<u32>() <= self.len && offset.is_multiple_of(size_of::<u32>()));
        // SAFETY: within the mapping, aligned, and only ever accessed atomically.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset + size_of::<u64>() <= self.len && offset.is_multiple_of(size_of::<u64>()));
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    fn i64(&self, offset: usize) -> &AtomicI64 {
        assert!(offset + size_of::<i64>() <= self.len && offset.is_multiple_of(size_of::<i64>()));
        // SAFETY: as above.
        unsafe { AtomicI64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and no reference outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}
