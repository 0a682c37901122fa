//! Micro-kernels: the product of one panel of rows with one or a few panels of columns, in registers.
//!
//! Operands arrive packed. A *word* holds the depth that one multiply-accumulate takes: one f32 or f64, a pair of bf16, four
//! bytes. A column panel is, for each word of depth, [`PANEL_BYTES`] of neighbouring columns (32 words, 16 for f64), or a line of
//! memory where kernels for products of matrices prefer that ([`Kernels::narrow`]); a row panel is, for each word of depth, one word
//! of each of its rows.
//!
//! Every kernel walks the depth once, upwards, with one accumulator for each element of the result, so all of them compute
//! the same chain of operations for an element and differ only in how many elements they hold at a time.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

use crate::fetch::{self, LINE};

/// Bytes of one word of depth across a column panel, at most.
pub const PANEL_BYTES: usize = 128;
/// More rows than this are in no row panel.
pub const MAX_ROWS: usize = 14;
/// The most column panels that one call covers.
pub const MAX_PANELS: usize = 4;

/// What a kernel reads and writes. Strides of packed operands are in bytes, those of accumulators in elements.
#[derive(Clone, Copy)]
pub struct Tile<Acc> {
    /// Words of depth.
    pub depth: usize,
    /// The row panel.
    pub a: *const u8,
    /// The first column panel.
    pub b: *const u8,
    /// From one word of depth to the next in a column panel.
    pub b_step: usize,
    /// From one column panel to the next.
    pub b_panel: usize,
    /// Where the accumulators start: null for zero.
    pub start: *const Acc,
    /// From one row of `start` to the next; zero gives all rows the same start.
    pub start_stride: usize,
    /// Where the accumulators go.
    pub end: *mut Acc,
    /// From one row of `end` to the next.
    pub end_stride: usize,
    /// A row that is added to each row of finished sums. May be null.
    pub bias: *const Acc,
    /// Where the next tile's sums will start: fetched into the cache meanwhile. May be null; rows are `next_stride` apart.
    pub next: *const Acc,
    /// From one row of `next` to the next.
    pub next_stride: usize,
    /// An address to fetch into the second cache at each word of depth, and the step from one to the next. A kernel that takes
    /// several words in a turn may fetch once in it, and one that passes twice over a panel the line beside the second time.
    pub far: *const u8,
    pub far_step: usize,
}

/// A kernel for a fixed number of rows and column panels.
///
/// # Safety
/// The processor must have the kernel's instructions, and all of the tile's pointers must be valid for the number of rows,
/// panels and words of depth.
pub type TileFn<Acc> = unsafe fn(&Tile<Acc>);

/// Tiles one below the other: so many, and how far one is from the next. Where a pointer of the first tile is null, so it is for all.
#[derive(Clone, Copy)]
pub struct Strip {
    pub tiles: usize,
    /// Bytes from one row panel to the next, and from what one fetches to what the next does.
    pub a: usize,
    pub far: usize,
    /// Accumulators from where one tile starts to where the next one does, and the same for the others.
    pub start: usize,
    pub end: usize,
    pub next: usize,
}

/// As [`TileFn`] for each tile of a strip in turn.
///
/// # Safety
/// As [`TileFn`], for all of the tiles.
pub type StripFn<Acc> = unsafe fn(&Tile<Acc>, Strip);

/// The kernels of one product in one tier.
pub struct Kernels<Acc: 'static> {
    /// Bytes of one word of depth across a column panel.
    pub line: usize,
    /// `single[r - 1]` takes r rows and one column panel; as many as a full row panel has rows.
    pub single: &'static [TileFn<Acc>],
    /// `several[r - 1]` takes r rows and the given number of column panels, for those r that leave registers free.
    pub several: &'static [(usize, TileFn<Acc>)],
    /// Full row panels and one column panel, where there is such a kernel: little is left to do between two tiles.
    pub strip: Option<StripFn<Acc>>,
    /// Kernels for column panels of one line, for products of matrices: a block of such a panel leaves room in the first cache for
    /// the rows that pass it, and lies in all of its sets.
    pub narrow: Option<&'static Kernels<Acc>>,
}

impl<Acc> Kernels<Acc> {
    /// Rows of a full row panel.
    pub const fn rows(&self) -> usize {
        self.single.len()
    }

    /// Those that products of matrices use.
    pub fn for_matrices(&'static self) -> &'static Self {
        self.narrow.unwrap_or(self)
    }
}

/// For words of two elements that kernels can only take apart: panels of words of one element, and the kernels that read those.
///
/// Taking words apart in the kernel costs as much as multiplying, for each row panel anew; done beforehand, a column panel serves all row
/// panels of a task. An element is the same chain of the same operations in both ways.
pub struct Widened<Acc: 'static> {
    /// As many rows as the kernels of whole words.
    pub kernels: &'static Kernels<Acc>,
    pub run: WidenFn,
}

/// Widens a panel of so many words of depth by `width` lanes.
///
/// The panel may lie in the target's own memory if it begins at least a row and 64 bytes behind the target's middle.
///
/// # Safety
/// The processor must have the instructions. The panel must be readable for its words and 32 bytes more; the target must have room for
/// twice as many words and 32 bytes more, unless `width` is a multiple of 8.
pub type WidenFn = unsafe fn(panel: *const u8, words: usize, width: usize, target: *mut u8);

/// Vectors of accumulators, and of words, for one product and instruction set.
///
/// # Safety
/// Methods may use instructions that the processor lacks; they must be inlined into functions that enable them.
pub trait Lanes: Sized {
    /// An accumulator.
    type Acc: Copy;
    /// A vector of accumulators.
    type Vector: Copy;
    /// A vector of words, prepared for multiplication.
    type Words: Copy;
    /// Accumulators in a vector; the words beside them fill as many bytes.
    const LANES: usize;
    /// Bytes of a word.
    const WORD: usize;

    unsafe fn zero() -> Self::Vector;
    unsafe fn load(from: *const Self::Acc) -> Self::Vector;
    unsafe fn store(to: *mut Self::Acc, value: Self::Vector);
    /// Neighbouring words.
    unsafe fn words(from: *const u8) -> Self::Words;
    /// One word in all lanes.
    unsafe fn splat(from: *const u8) -> Self::Words;
    /// `sum + a * b`, for a word of several depths in rising order.
    unsafe fn mac(sum: Self::Vector, a: Self::Words, b: Self::Words) -> Self::Vector;
    /// Sums, wrapping for integers.
    unsafe fn plus(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// Adds the products of a tile's depth to its sums; R, V, PER and `skip` as for [`body`].
    #[inline(always)]
    unsafe fn walk<const R: usize, const V: usize, const PER: usize>(
        sums: &mut [[Self::Vector; V]; R],
        tile: &Tile<Self::Acc>,
        skip: usize,
    ) {
        // SAFETY: the caller's.
        unsafe { rest::<Self, R, V, PER>(sums, tile, skip, 0) };
    }
}

/// What [`Lanes::walk`] does from word `done` of the depth on.
///
/// # Safety
/// As [`TileFn`].
#[inline(always)]
pub unsafe fn rest<L: Lanes, const R: usize, const V: usize, const PER: usize>(
    sums: &mut [[L::Vector; V]; R],
    tile: &Tile<L::Acc>,
    skip: usize,
    done: usize,
) {
    // SAFETY: the caller vouches for the pointers; all offsets stay within the rows, panels and depth of the tile.
    unsafe {
        let mut a = tile.a.add(done * R * L::WORD);
        let vector_bytes = L::LANES * L::WORD;
        let mut far = tile.far.wrapping_add(done * tile.far_step);
        let mut b = tile.b.add(skip * vector_bytes).wrapping_add(done * tile.b_step);
        for _ in done..tile.depth {
            let mut columns = [L::words(b); V];
            for (j, words) in columns.iter_mut().enumerate().skip(1) {
                *words = L::words(b.add(j / PER * tile.b_panel + j % PER * vector_bytes));
            }
            for (i, row) in sums.iter_mut().enumerate() {
                let word = L::splat(a.add(i * L::WORD));
                for (sum, words) in row.iter_mut().zip(columns) {
                    *sum = L::mac(*sum, word, words);
                }
            }
            fetch::far(far);
            far = far.wrapping_add(tile.far_step);
            a = a.add(R * L::WORD);
            b = b.wrapping_add(tile.b_step);
        }
    }
}

/// R rows by V vectors, where `PER` vectors lie side by side in a column panel, starting `skip` vectors into it.
///
/// # Safety
/// As [`TileFn`].
#[inline(always)]
pub unsafe fn body<L: Lanes, const R: usize, const V: usize, const PER: usize>(tile: &Tile<L::Acc>, skip: usize) {
    // SAFETY: the caller vouches for the pointers; all offsets stay within the rows, panels and depth of the tile.
    unsafe {
        let mut sums = [[L::zero(); V]; R];
        if !tile.start.is_null() {
            for (i, row) in sums.iter_mut().enumerate() {
                for (j, sum) in row.iter_mut().enumerate() {
                    *sum = L::load(tile.start.add(i * tile.start_stride + (skip + j) * L::LANES));
                }
            }
        }
        if !tile.next.is_null() {
            for i in 0..R {
                let row = tile.next.wrapping_add(i * tile.next_stride + skip * L::LANES);
                for j in 0..V * L::LANES * size_of::<L::Acc>() / LINE {
                    fetch::near(row.cast::<u8>().wrapping_add(j * LINE));
                }
            }
        }
        L::walk::<R, V, PER>(&mut sums, tile, skip);
        if !tile.bias.is_null() {
            for j in 0..V {
                let bias = L::load(tile.bias.add((skip + j) * L::LANES));
                sums.iter_mut().for_each(|row| row[j] = L::plus(row[j], bias));
            }
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, sum) in row.iter().enumerate() {
                L::store(tile.end.add(i * tile.end_stride + (skip + j) * L::LANES), *sum);
            }
        }
    }
}
