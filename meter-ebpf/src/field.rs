//! Fields of a program's context, as single instructions.
//!
//! The verifier accepts loads and stores at a constant offset from the context's own pointer alone. The optimiser merges
//! even volatile ones of two branches into one at a computed address, so they are written as inline assembly.

use core::arch::asm;

/// Loads the 32-bit field at `OFFSET`.
///
/// # Safety
///
/// `context` is the program's context or a socket of it, and has such a field there.
#[inline(always)]
pub unsafe fn load<const OFFSET: usize, T>(context: *const T) -> u32 {
    let value: u64;
    // SAFETY: reads four bytes that the caller vouches for; the verifier checks it too.
    unsafe {
        asm!(
            "{value} = *(u32 *)({context} + {offset})",
            value = lateout(reg) value,
            context = in(reg) context,
            offset = const OFFSET,
            options(nostack, readonly, preserves_flags)
        );
    }
    value as u32
}

/// Stores the 32-bit field at `OFFSET`.
///
/// # Safety
///
/// As for [`load`], and the field may be written.
#[inline(always)]
pub unsafe fn store<const OFFSET: usize, T>(context: *mut T, value: u32) {
    // SAFETY: writes four bytes that the caller vouches for; the verifier checks it too.
    unsafe {
        asm!(
            "*(u32 *)({context} + {offset}) = {value}",
            value = in(reg) u64::from(value),
            context = in(reg) context,
            offset = const OFFSET,
            options(nostack, preserves_flags)
        );
    }
}
