//! Keys and values in pages: rows of a sequence that lie in pieces of [`PAGE`] rows, each piece anywhere.
//!
//! A kernel walks the keys in blocks of [`KEYS`] from the segment's begin, and a block is a whole number of pages. Where operands are
//! read as they lie, a product over a block is cut at the page's border: a score is a chain over the width of one key, and a sum
//! over keys goes on from what the part before it left, so that pages show in no bit of the result.

use super::blocks::{Rows, Source};
use super::engine::Engine;
use super::plan::KEYS;

/// Rows of a page.
///
/// Half a block of the kernel, and what a server cuts prompts and takes snapshots of scans at: a shared beginning is then a whole
/// number of pages, and a sequence of a few tokens does not hold the memory of a hundred.
pub const PAGE: usize = 64;
const _: () = assert!(KEYS == 2 * PAGE, "a block of keys is two pages");

/// Where the rows of a block of keys lie: in one place, or in one for each of its pages.
#[derive(Clone, Copy)]
pub struct Parts {
    rows: [Rows; 2],
    /// Rows in the first place.
    first: usize,
}

impl From<Rows> for Parts {
    #[inline(always)]
    fn from(rows: Rows) -> Self {
        Self { rows: [rows; 2], first: usize::MAX }
    }
}

impl Parts {
    /// The longest run of `from..to` that lies in one place: its end, and its first row's address and step.
    #[inline(always)]
    pub fn run(&self, from: usize, to: usize) -> (usize, *const u8, isize) {
        let (rows, row, end) = if from < self.first {
            (self.rows[0], from, to.min(self.first))
        } else {
            (self.rows[1], from - self.first, to)
        };
        (end, rows.ptr.wrapping_offset(row as isize * rows.step), rows.step)
    }
}

impl<T: Copy> Source<'_, T> {
    /// [`Source::along`] of a block of `count` rows that may lie in pages.
    ///
    /// # Safety
    /// As [`Source::along`]; in pages, `first` is the first row of one.
    #[inline(always)]
    pub unsafe fn parts_along<E: Engine>(&self, first: usize, count: usize, memory: *mut u8) -> Parts {
        if !self.is_paged() || count <= PAGE {
            // SAFETY: the caller's.
            return unsafe { self.along::<E>(first, count, memory) }.into();
        }
        let beside = memory.wrapping_add(self.bytes::<E>(PAGE));
        // SAFETY: the caller's, for a part of the rows each; a block has room for its pages one by one.
        let rows =
            unsafe { [self.along::<E>(first, PAGE, memory), self.along::<E>(first + PAGE, count - PAGE, beside)] };
        Parts { rows, first: PAGE }
    }

    /// [`Source::down`] of a block of `count` rows that may lie in pages: a row of the result holds GROUP of them.
    ///
    /// # Safety
    /// As [`Source::parts_along`].
    #[inline(always)]
    pub unsafe fn parts_down<E: Engine>(&self, first: usize, count: usize, memory: *mut u8) -> Parts {
        if !self.is_paged() || count <= PAGE {
            // SAFETY: the caller's.
            return unsafe { self.down::<E>(first, count, memory) }.into();
        }
        let beside = memory.wrapping_add(self.bytes::<E>(PAGE));
        // SAFETY: as in `parts_along`.
        let rows = unsafe { [self.down::<E>(first, PAGE, memory), self.down::<E>(first + PAGE, count - PAGE, beside)] };
        Parts { rows, first: PAGE / E::GROUP }
    }
}
