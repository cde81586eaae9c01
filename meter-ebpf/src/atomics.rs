//! Atomic addition, which core does not have for the bpf target (`atomic_cas: false`), as inline assembly.

use core::arch::asm;

/// Adds `value` to `*counter` in one step. A per-CPU counter needs it too: a program that a process runs can be
/// interrupted by one that a packet runs on the same CPU.
///
/// # Safety
///
/// `counter` points into a map value and is 8-byte aligned.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, value: u64) {
    // SAFETY: the instruction touches the eight bytes at `counter` alone, which the caller vouches for.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {value}",
            counter = in(reg) counter,
            value = in(reg) value,
            options(nostack)
        );
    }
}
