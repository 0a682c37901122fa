//! Asking for memory before it is needed. An address need not exist.

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Asks for a cache line.
#[inline(always)]
pub(crate) fn near(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and every x86-64 processor has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for a cache line in the second cache.
#[inline(always)]
pub(crate) fn far(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for so many bytes in the second cache.
#[inline(always)]
pub(crate) fn far_bytes(start: *const u8, bytes: usize) {
    for offset in (0..bytes).step_by(LINE) {
        far(start.wrapping_add(offset));
    }
}
