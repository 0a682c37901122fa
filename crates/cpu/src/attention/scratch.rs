//! Memory of a thread for the blocks in work.

use std::cell::Cell;

use cupola_core::alloc::{ALIGNMENT, Placement};
use cupola_core::{Buffer, DType};

thread_local! {
    static KEPT: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Memory that is handed out piece by piece.
pub struct Scratch {
    next: *mut u8,
    left: usize,
}

impl Scratch {
    /// `count` elements of arbitrary contents, aligned for any vector. The memory lasts as long as the call of [`lend`].
    pub fn take<T: Copy>(&mut self, count: usize) -> *mut T {
        let bytes = bytes::<T>(count);
        assert!(
            bytes <= self.left,
            "attention: the scratch memory was measured too small"
        );
        let taken = self.next;
        self.next = self.next.wrapping_add(bytes);
        self.left -= bytes;
        taken.cast()
    }
}

/// What [`Scratch::take`] uses up for `count` elements.
pub const fn bytes<T>(count: usize) -> usize {
    (count * size_of::<T>()).next_multiple_of(ALIGNMENT)
}

/// Lends `bytes` bytes of memory, which the thread keeps for the next time.
pub fn lend<R>(bytes: usize, body: impl FnOnce(&mut Scratch) -> R) -> R {
    let kept = KEPT.take().filter(|buffer| buffer.len() >= bytes);
    let mut buffer = kept.unwrap_or_else(|| Buffer::uninit(DType::U8, bytes.next_power_of_two(), Placement::Lasting));
    let mut scratch = Scratch {
        left: buffer.len(),
        next: buffer.as_mut_slice::<u8>().as_mut_ptr(),
    };
    let result = body(&mut scratch);
    KEPT.set(Some(buffer));
    result
}
