//! Cutting a product into tasks and running them.
//!
//! A task owns a block of C, some row panels by some column panels. It walks the depth in blocks: packs its rows of A for the
//! block into memory of its thread, then takes each column panel in turn past all of its row panels, so that the column
//! panel stays in the first cache and the rows in the second. Between two blocks of depth the sums rest in C, or beside it
//! when C cannot hold them exactly. Columns come packed, or, when there are too few rows to pack them for other tasks as
//! well, are packed by the task one panel at a time.
//!
//! Each element of C is computed by one task as one chain over the depth, so neither the cuts nor the threads can show in it.

use std::cell::Cell;
use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, parallel_for, pool};

use super::epilogue::{Finish, Part};
use super::kernel::{Kernels, MAX_PANELS, MAX_ROWS, PANEL_BYTES, Tile, TileFn};
use super::pack::{OVERRUN, Packer, View};
use super::packed::{Panels, moved, pack_panel};
use super::product::Arithmetic;

/// Row panels of a task: rows and depth of a block fill at most half of a second cache of 512 KiB.
const ROW_PANELS: usize = 10;
/// Words of depth in a block.
const DEPTH: usize = 256;
/// Words of depth in a block where there are few rows: then columns stream from memory, in long runs.
const LONG_DEPTH: usize = 8192;
/// Column panels of a task whose sums rest beside C.
const RESTING_PANELS: usize = 16;

/// The right operand of a group.
pub enum Right<'a> {
    /// Panels packed for all tasks.
    Packed(Panels<'a>),
    /// To be packed by each task for itself.
    Strided(View, Packer),
}

/// Rows that are multiplied with one right operand.
pub struct Group<'a> {
    pub rows: Range<usize>,
    pub right: Right<'a>,
}

/// Where sums start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    Zero,
    /// At what C holds.
    Result,
    /// At what an earlier call left.
    Resting,
}

/// A product over a range of depth and of columns.
pub struct Call<'a, P: Arithmetic> {
    pub kernels: &'static Kernels<P::Acc>,
    pub left: View,
    pub pack_left: Packer,
    /// Whether the left operand was shifted and the right operand's shifts are to be added.
    pub shifted: bool,
    pub depth: usize,
    /// The columns of C that this call computes.
    pub cols: Range<usize>,
    pub start: Start,
    /// Whether the sums are complete after this call.
    pub last: bool,
    pub finish: &'a dyn Finish<P::Acc>,
    /// C, where it holds accumulators.
    pub exact: Option<(*mut P::Acc, usize)>,
    /// Whether the epilogue only stores sums.
    pub plain: bool,
    /// Where sums rest between calls when C cannot hold them; indexed as C, columns from the call's first.
    pub resting: Option<(*mut P::Acc, usize)>,
}

// SAFETY: the pointers address operands, which are only read, and C and what rests beside it, of which each task uses its own
// block.
unsafe impl<P: Arithmetic> Sync for Call<'_, P> {}

// SAFETY: as above; the view is only read.
unsafe impl Sync for Group<'_> {}

/// How many rows a task takes at most.
pub fn block_rows<P: Arithmetic>(kernels: &Kernels<P::Acc>) -> usize {
    ROW_PANELS * kernels.rows()
}

/// Runs a call over its groups, whose rows do not overlap.
///
/// # Safety
/// All views, panels and pointers must be valid for the rows, columns and depth; C is not used by anybody else.
pub unsafe fn run<P: Arithmetic>(call: &Call<'_, P>, groups: &[Group<'_>]) {
    let block = block_rows::<P>(call.kernels);
    let panels = call.cols.len().div_ceil(P::COLS);
    let row_blocks: usize = groups.iter().map(|group| group.rows.len().div_ceil(block)).sum();
    let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
    if row_blocks == 0 || panels == 0 {
        return;
    }
    // About 20 microseconds, whether bound by arithmetic (the rows) or by reading the columns (the constant).
    let words = call.depth.div_ceil(P::GROUP);
    let cost = call
        .cols
        .len()
        .saturating_mul(words)
        .saturating_mul(rows + 11 * groups.len());
    let parallel = cost > 1 << 20 && pool::threads() > 1;
    let wanted = if parallel {
        (8 * pool::threads()).div_ceil(row_blocks)
    } else {
        1
    };
    let rests = call.exact.is_none() && call.resting.is_none();
    let fewest = if rests { panels.div_ceil(RESTING_PANELS) } else { 1 };
    // Whole groups of panels, so that kernels for several of them are not cut short.
    let col_blocks = wanted.max(fewest).min(panels.div_ceil(MAX_PANELS));
    let task = |index: usize| {
        let (mut row_block, col_block) = (index / col_blocks, index % col_blocks);
        for group in groups {
            let here = group.rows.len().div_ceil(block);
            if row_block < here {
                let rows = cut(group.rows.len(), call.kernels.rows(), here, row_block);
                let rows = group.rows.start + rows.start..group.rows.start + rows.end;
                let panels = cut(panels, MAX_PANELS, col_blocks, col_block);
                // SAFETY: the caller's; no two tasks have a block in common.
                unsafe {
                    Task {
                        call,
                        group,
                        rows,
                        panels,
                    }
                    .run()
                };
                return;
            }
            row_block -= here;
        }
    };
    let tasks = row_blocks * col_blocks;
    if parallel {
        parallel_for(tasks, task);
    } else {
        (0..tasks).for_each(task);
    }
}

/// Part `index` of `parts` about equal parts of `0..len`, cut at multiples of `grain`.
fn cut(len: usize, grain: usize, parts: usize, index: usize) -> Range<usize> {
    let grains = len.div_ceil(grain);
    let at = |i: usize| (grains * i / parts * grain).min(len);
    at(index)..at(index + 1)
}

thread_local! {
    static SCRATCH: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Lends `bytes` bytes of memory that the thread keeps for this purpose.
fn with_scratch<R>(bytes: usize, body: impl FnOnce(*mut u8) -> R) -> R {
    let kept = SCRATCH.take().filter(|buffer| buffer.len() >= bytes);
    let mut buffer = kept.unwrap_or_else(|| Buffer::uninit(DType::U8, bytes.next_power_of_two(), Placement::Lasting));
    let result = body(buffer.as_mut_slice::<u8>().as_mut_ptr());
    SCRATCH.set(Some(buffer));
    result
}

/// Accumulators of one kernel call.
#[repr(align(64))]
struct Sums<Acc>([Acc; MAX_ROWS * PANEL_BYTES / 4]);

struct Task<'a, P: Arithmetic> {
    call: &'a Call<'a, P>,
    group: &'a Group<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// The part of a task's depth that is in work.
struct Block<Acc> {
    words: usize,
    start: Start,
    /// Whether the call's depth begins here.
    first: bool,
    last: bool,
    /// Where sums rest: address for the task's first row and column, and the row stride.
    resting: (*mut Acc, usize),
}

impl<P: Arithmetic> Task<'_, P> {
    /// # Safety
    /// As [`run`].
    unsafe fn run(&self) {
        let call = self.call;
        let words = call.depth.div_ceil(P::GROUP);
        let rows = self.rows.len();
        let most = if rows <= call.kernels.several.len().max(1) {
            LONG_DEPTH
        } else {
            DEPTH
        };
        let blocks = words.div_ceil(most).max(1);
        let block_words = words.div_ceil(blocks);
        let several = if rows <= call.kernels.several.len() {
            call.kernels.several[rows - 1]
        } else {
            (1, call.kernels.single[0])
        };

        let right_bytes = match self.group.right {
            Right::Packed(_) => 0,
            Right::Strided(..) => several.0 * block_words * PANEL_BYTES,
        };
        let width = self.panels.len() * P::COLS;
        let rests = blocks > 1 && call.exact.is_none() && call.resting.is_none();
        let resting_bytes = if rests { rows * width * size_of::<P::Acc>() } else { 0 };
        let left_bytes = rows * block_words * P::WORD + OVERRUN;

        with_scratch(right_bytes + resting_bytes + left_bytes, |scratch| {
            let resting = scratch.wrapping_add(right_bytes);
            let left = resting.wrapping_add(resting_bytes);
            let first_col = self.panels.start * P::COLS;
            let resting = match (call.exact, call.resting) {
                (Some((c, stride)), _) => (at(c, stride, self.rows.start, call.cols.start + first_col), stride),
                (None, Some((sums, stride))) => (at(sums, stride, self.rows.start, first_col), stride),
                (None, None) => (resting.cast(), width),
            };
            for index in 0..blocks {
                let from = index * block_words;
                let block = Block {
                    words: block_words.min(words - from),
                    start: if index == 0 { call.start } else { Start::Resting },
                    first: index == 0,
                    last: call.last && index + 1 == blocks,
                    resting,
                };
                // SAFETY: the caller's; the scratch was measured for this.
                unsafe {
                    self.pack_rows(from, block.words, left);
                    self.columns(&block, from, left, scratch, several);
                }
            }
        });
    }

    /// Packs the task's rows for `words` words of depth from `from`.
    unsafe fn pack_rows(&self, from: usize, words: usize, left: *mut u8) {
        let (call, full) = (self.call, self.call.kernels.rows());
        let depth = (call.depth - from * P::GROUP).min(words * P::GROUP);
        for first in self.rows.clone().step_by(full) {
            let rows = (self.rows.end - first).min(full);
            let source = moved(call.left, first, from * P::GROUP, call.pack_left.size);
            let to = left.wrapping_add((first - self.rows.start) * words * P::WORD);
            // SAFETY: the caller's; panels follow each other, so an overrun is overwritten or hits the spare bytes.
            unsafe { (call.pack_left.run)(source, rows, depth, rows, to) };
        }
    }

    /// Takes all column panels past all row panels.
    unsafe fn columns(
        &self,
        block: &Block<P::Acc>,
        from: usize,
        left: *const u8,
        scratch: *mut u8,
        several: (usize, TileFn<P::Acc>),
    ) {
        let call = self.call;
        let full = call.kernels.rows();
        let depth = (call.depth - from * P::GROUP).min(block.words * P::GROUP);
        let mut panel = self.panels.start;
        while panel < self.panels.end {
            let count = if self.panels.end - panel >= several.0 {
                several.0
            } else {
                1
            };
            let (b, b_panel, shifts) = match &self.group.right {
                Right::Packed(panels) => (
                    panels.start.wrapping_add(panel * panels.stride + from * PANEL_BYTES),
                    panels.stride,
                    panels.shifts.map(|shifts| shifts[panel * P::COLS..].as_ptr()),
                ),
                Right::Strided(view, pack) => {
                    let stride = block.words * PANEL_BYTES;
                    for i in 0..count {
                        let source = moved(*view, 0, from * P::GROUP, pack.size);
                        // SAFETY: the caller's; the scratch has room for as many panels.
                        unsafe {
                            let to = scratch.add(i * stride);
                            pack_panel::<P>(*pack, source, call.cols.len(), depth, panel + i, to);
                        }
                    }
                    (scratch.cast_const(), stride, None)
                }
            };
            let shifts = shifts.filter(|_| call.shifted && block.first);
            for first in (0..self.rows.len()).step_by(full) {
                let rows = (self.rows.len() - first).min(full);
                let kernel = if count > 1 {
                    several.1
                } else {
                    call.kernels.single[rows - 1]
                };
                let col = panel * P::COLS;
                let tile = Tile {
                    depth: block.words,
                    a: left.wrapping_add(first * block.words * P::WORD),
                    b,
                    b_step: PANEL_BYTES,
                    b_panel,
                    start: std::ptr::null(),
                    start_stride: 0,
                    end: std::ptr::null_mut(),
                    end_stride: 0,
                };
                let part = Part {
                    row: self.rows.start + first,
                    col: call.cols.start + col,
                    rows,
                    cols: (call.cols.len() - col).min(count * P::COLS),
                };
                // SAFETY: the caller's.
                unsafe {
                    self.tile(
                        block,
                        kernel,
                        tile,
                        part,
                        count * P::COLS,
                        shifts.map(<*const i32>::cast),
                    )
                };
            }
            panel += count;
        }
    }

    /// Runs a kernel between where its sums come from and where they go.
    unsafe fn tile(
        &self,
        block: &Block<P::Acc>,
        kernel: TileFn<P::Acc>,
        mut tile: Tile<P::Acc>,
        part: Part,
        width: usize,
        shifts: Option<*const P::Acc>,
    ) {
        let call = self.call;
        let whole = part.cols == width;
        let first_col = call.cols.start + self.panels.start * P::COLS;
        let (resting, resting_stride) = block.resting;
        let resting = at(
            resting,
            resting_stride,
            part.row - self.rows.start,
            part.col - first_col,
        );
        let mut sums = std::mem::MaybeUninit::<Sums<P::Acc>>::uninit();
        let sums = sums.as_mut_ptr().cast::<P::Acc>();
        // SAFETY: the caller's; a tile has at most as many elements as `Sums`. Memory of C is touched within the part only.
        unsafe {
            match (block.start, shifts) {
                (Start::Zero, None) => {}
                (Start::Zero, Some(shifts)) => tile.start = shifts,
                (start, shifts) => {
                    let from_c = start == Start::Result && call.exact.is_none();
                    if whole && shifts.is_none() && !from_c {
                        (tile.start, tile.start_stride) = (resting, resting_stride);
                    } else {
                        if !whole {
                            sums.write_bytes(0, part.rows * width);
                        }
                        if from_c {
                            call.finish.load(part, sums, width);
                        } else {
                            copy(resting, resting_stride, sums, width, part);
                        }
                        if let Some(shifts) = shifts {
                            add(sums, width, shifts, part);
                        }
                        (tile.start, tile.start_stride) = (sums, width);
                    }
                }
            }
            let finish = block.last && !call.plain;
            if whole && !finish {
                (tile.end, tile.end_stride) = (resting, resting_stride);
            } else {
                (tile.end, tile.end_stride) = (sums, width);
            }
            kernel(&tile);
            if finish {
                call.finish.store(part, sums, width);
            } else if !whole {
                copy(sums, width, resting, resting_stride, part);
            }
        }
    }
}

fn at<Acc>(start: *mut Acc, stride: usize, row: usize, col: usize) -> *mut Acc {
    start.wrapping_add(row * stride + col)
}

/// Copies the part's rows and columns.
unsafe fn copy<Acc: Copy>(from: *const Acc, from_stride: usize, to: *mut Acc, to_stride: usize, part: Part) {
    for row in 0..part.rows {
        // SAFETY: the caller vouches for both sides.
        unsafe {
            to.add(row * to_stride)
                .copy_from_nonoverlapping(from.add(row * from_stride), part.cols)
        };
    }
}

/// Adds one row to each row of a tile.
unsafe fn add<Acc: super::product::Accumulator>(sums: *mut Acc, stride: usize, row: *const Acc, part: Part) {
    for i in 0..part.rows {
        for j in 0..part.cols {
            // SAFETY: the caller vouches for the tile and the row.
            unsafe {
                let sum = sums.add(i * stride + j);
                sum.write(sum.read().plus(row.add(j).read()));
            }
        }
    }
}
