//! Memory of a thread for the blocks in work.

use std::cell::Cell;

use cupola_core::alloc::{ALIGNMENT, Placement};
use cupola_core::{Buffer, DType};

thread_local! {
    static KEPT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Memory that is handed out piece by piece, and goes back to its thread at the end.
///
/// Bodies that are compiled for a tier use this instead of a closure, which would not be compiled for it.
pub struct Scratch {
    buffer: Option<Buffer>,
    next: *mut u8,
    left: usize,
}

impl Scratch {
    /// Memory of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        let kept = KEPT.take().filter(|buffer| buffer.len() >= bytes);
        let fresh = || Buffer::uninit(DType::U8, bytes.next_power_of_two(), Placement::Lasting);
        let mut buffer = kept.unwrap_or_else(fresh);
        Self { left: buffer.len(), next: buffer.as_mut_slice::<u8>().as_mut_ptr(), buffer: Some(buffer) }
    }

    /// `count` elements of arbitrary contents, aligned for any vector. The memory lasts as long as this value.
    pub fn take<T: Copy>(&mut self, count: usize) -> *mut T {
        let bytes = bytes::<T>(count);
        assert!(bytes <= self.left, "attention: the scratch memory was measured too small");
        let taken = self.next;
        self.next = self.next.wrapping_add(bytes);
        self.left -= bytes;
        taken.cast()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.set(self.buffer.take());
    }
}

/// What [`Scratch::take`] uses up for `count` elements.
pub const fn bytes<T>(count: usize) -> usize {
    (count * size_of::<T>()).next_multiple_of(ALIGNMENT)
}
