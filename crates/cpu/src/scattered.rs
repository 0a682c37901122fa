//! Memory whose rows several pieces of work write side by side, each its own columns.

use std::marker::PhantomData;

/// A slice that is handed out in parts, from any thread.
pub(crate) struct Scattered<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a unique borrow of a slice, from which `part` hands out parts that the callers keep apart.
unsafe impl<T: Send> Sync for Scattered<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Scattered<'_, T> {}

impl<'a, T> Scattered<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Whether there is nothing to write: results that nobody asked for.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// No other part that is in use at the same time may share an element.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part {start}..+{len} of {} elements", self.len);
        // SAFETY: inside the slice, which is borrowed for 'a; the caller keeps parts apart.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
