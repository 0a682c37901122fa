//! Running the tasks that a product is cut into.
//!
//! A task owns a block of C, some row panels by some column panels. It walks the depth in blocks: packs its rows of A for the
//! block into memory of its thread, then takes each column panel in turn past all of its row panels, so that the column
//! panel stays in the first cache and the rows in the second. Between two blocks of depth the sums rest in memory of the
//! thread, tile after tile: rows of C often lie a power of two apart, where they drive each other out of the cache. Columns
//! come packed, or, when there are too few rows to pack them for other tasks as well, are packed by the task one panel at a time.
//! Where kernels would have to take words apart, the task does so first, with its rows and with each column panel.
//!
//! Each element of C is computed by one task as one chain over the depth, so neither the cuts nor the threads can show in it.

use std::cell::Cell;
use std::ops::Range;

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, DType, parallel_for, pool};

use super::epilogue::{Finish, Part};
use super::grid::{Blocks, Grid, blocks, cut, even, steps};
use super::kernel::{Kernels, MAX_PANELS, Strip, Tile, TileFn, Widened};
use super::pack::{OVERRUN, Packer, View};
use super::packed::{Panels, moved, pack_panels};
use super::product::Arithmetic;
use super::tile::Spot;
use crate::fetch;

/// Up to this many rows, a right operand whose rows are contiguous is read without packing.
const DIRECT_ROWS: usize = 6;
/// Rows of such an operand that are read at a time.
const DIRECT_DEPTH: usize = 8;
/// Row panels that share the fetching of the next column panel: more at a time than memory gives would stop the last ones.
const FETCHING: usize = 4;
/// Words of depth for which a task packs its rows at a time.
const SLAB: usize = 4096;

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

/// Where sums come from and go to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From nothing.
    Zero,
    /// From what C holds; through the epilogue to C.
    Result,
    /// From an earlier call; to a later one.
    Resting,
    /// From the block of depth before; to the next one.
    Scratch,
}

/// A product over a range of depth and of columns.
pub struct Call<'a, P: Arithmetic> {
    pub kernels: &'static Kernels<P::Acc>,
    /// For tasks of several row panels.
    pub widened: Option<&'static Widened<P::Acc>>,
    pub left: View,
    pub pack_left: Packer,
    /// Whether the left operand was shifted and the right operand's shifts are to be added.
    pub shifted: bool,
    pub depth: usize,
    /// The columns of C that this call computes.
    pub cols: Range<usize>,
    pub start: Place,
    pub end: Place,
    pub finish: &'a dyn Finish<P::Acc>,
    /// C, where it holds accumulators.
    pub exact: Option<(*mut P::Acc, usize)>,
    /// Whether the epilogue only stores sums, after adding the bias if there is one.
    pub plain: bool,
    pub bias: Option<&'a [P::Acc]>,
    /// Where sums rest between calls; rows as those of C, columns from the call's first.
    pub resting: Option<(*mut P::Acc, usize)>,
}

impl<P: Arithmetic> Call<'_, P> {
    /// Columns of a panel.
    fn panel_cols(&self) -> usize {
        self.kernels.line / P::WORD
    }
}

// SAFETY: the pointers address operands, which are only read, and C and what rests beside it, of which each task uses its own
// block.
unsafe impl<P: Arithmetic> Sync for Call<'_, P> {}

// SAFETY: as above; the view is only read.
unsafe impl Sync for Group<'_> {}

/// How many rows a task takes at most.
pub fn block_rows<P: Arithmetic>(kernels: &Kernels<P::Acc>) -> usize {
    blocks(kernels).rows * kernels.rows()
}

/// Runs a call over its groups, whose rows do not overlap.
///
/// # Safety
/// All views, panels and pointers must be valid for the rows, columns and depth; C is not used by anybody else.
pub unsafe fn run<P: Arithmetic>(call: &Call<'_, P>, groups: &[Group<'_>]) {
    for group in groups {
        if let Right::Packed(panels) = &group.right {
            assert_eq!(panels.line, call.kernels.line, "a right operand that was packed for other instructions");
        }
    }
    let cols = call.panel_cols();
    let panels = call.cols.len().div_ceil(cols);
    let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
    if rows == 0 || panels == 0 {
        return;
    }
    // About 20 microseconds, whether bound by arithmetic (the rows) or by reading the columns (the constant).
    let words = call.depth.div_ceil(P::GROUP);
    let cost = call.cols.len().saturating_mul(words).saturating_mul(rows + 11 * groups.len());
    let threads = if cost > 1 << 20 { pool::threads() } else { 1 };
    let grid = Grid::new(groups.iter().map(|group| group.rows.len()), call.kernels, (panels, cols), threads);
    let task = |index: usize| {
        let (mut row_block, col_block) = (index / grid.col_blocks, index % grid.col_blocks);
        for group in groups {
            let here = group.rows.len().div_ceil(grid.rows);
            if row_block < here {
                let rows = cut(group.rows.len(), call.kernels.rows(), here, row_block);
                let rows = group.rows.start + rows.start..group.rows.start + rows.end;
                let panels = cut(panels, MAX_PANELS, grid.col_blocks, col_block);
                // SAFETY: the caller's; no two tasks have a block in common.
                unsafe { Task { call, group, rows, panels }.run() };
                return;
            }
            row_block -= here;
        }
    };
    if threads > 1 {
        parallel_for(grid.tasks(), task);
    } else {
        (0..grid.tasks()).for_each(task);
    }
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

/// A block of C.
pub struct Task<'a, P: Arithmetic> {
    pub call: &'a Call<'a, P>,
    group: &'a Group<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
}

/// The part of a task's depth and columns that is in work.
struct Block<Acc> {
    /// Its first word in the call's depth.
    from: usize,
    words: usize,
    panels: Range<usize>,
    start: Place,
    end: Place,
    /// The packed rows, from one row panel to the next, and the words of depth for which they were packed.
    left: (*const u8, usize),
    slab: Range<usize>,
    /// Memory for the sums of all tiles of these columns between two blocks of depth.
    sums: *mut Acc,
    /// Memory for column panels that the task packs itself, and for one that it widens.
    right: *mut u8,
    wide: *mut u8,
}

impl<P: Arithmetic> Task<'_, P> {
    /// # Safety
    /// As [`run`].
    unsafe fn run(&self) {
        let call = self.call;
        let words = call.depth.div_ceil(P::GROUP);
        let rows = self.rows.len();
        let full = call.kernels.rows();
        let Blocks { depth: most, group: together, wide, .. } = blocks(call.kernels);
        let line = call.kernels.line;
        // Words that one becomes; a widened column panel has to fit the first cache as well.
        let parts = if self.widened().is_some() { 2 } else { 1 };
        let most = most / parts;
        // Rows that are used in one go are packed a block at a time, just before.
        let in_one_go = rows > full && self.panels.len() <= wide;
        let slab_words = even(words, if in_one_go { most } else { SLAB });
        let (block_words, group) = match () {
            // A few whole rows of the right operand after the other, as they lie in memory.
            () if self.direct() => (slab_words.min(DIRECT_DEPTH), self.panels.len()),
            // A single row panel uses each column panel once, so there is nothing to keep in the first cache.
            () if rows <= full => (slab_words, together),
            () if in_one_go => (slab_words, wide),
            () if words <= SLAB => (even(slab_words, most), together),
            // Rows are packed again for each group of columns when they do not fit one slab.
            () => (even(slab_words, most), 2 * together),
        };
        let several = self.several().0;

        let right_bytes = match self.group.right {
            Right::Packed(_) => 0,
            Right::Strided(..) => several * block_words * line,
        };
        let wide_bytes = if parts > 1 { parts * block_words * line } else { 0 };
        let tile_bytes = rows.min(full) * call.panel_cols() * size_of::<P::Acc>();
        let tiles = if words > block_words { group.min(self.panels.len()) * rows.div_ceil(full) } else { 0 };
        let left_stride = match parts {
            1 => full * slab_words * P::WORD + OVERRUN,
            _ => full * (2 * slab_words + 1) * P::WORD + 2 * OVERRUN,
        };
        let left_bytes = rows.div_ceil(full) * left_stride;

        with_scratch(right_bytes + wide_bytes + tiles * tile_bytes + left_bytes, |right| {
            let wide = right.wrapping_add(right_bytes);
            let sums = wide.wrapping_add(wide_bytes);
            let left = sums.wrapping_add(tiles * tile_bytes);
            for panels in steps(self.panels.len(), group) {
                let panels = self.panels.start + panels.start..self.panels.start + panels.end;
                for slab in steps(words, slab_words) {
                    if words > slab_words || panels.start == self.panels.start {
                        // SAFETY: the caller's; the scratch was measured for this.
                        unsafe { self.pack_rows(slab.clone(), left, left_stride) };
                    }
                    for depth in steps(slab.len(), block_words) {
                        let from = slab.start + depth.start;
                        let to = slab.start + depth.end;
                        let block = Block {
                            from,
                            words: depth.len(),
                            panels: panels.clone(),
                            start: if from == 0 { call.start } else { Place::Scratch },
                            end: if to == words { call.end } else { Place::Scratch },
                            left: (left, left_stride),
                            slab: slab.clone(),
                            sums: sums.cast(),
                            right,
                            wide,
                        };
                        // SAFETY: as above.
                        unsafe { self.columns(&block) };
                    }
                }
            }
        });
    }

    /// Whether the right operand is read as it lies: with few rows, packing it would take longer than the product.
    fn direct(&self) -> bool {
        match &self.group.right {
            Right::Strided(view, pack) => {
                pack.plain && view.lane_stride == 1 && view.depth_stride >= 0 && self.rows.len() <= DIRECT_ROWS
            }
            Right::Packed(_) => false,
        }
    }

    /// How panels are widened before they reach the kernels: for a single row panel that would take longer than the product.
    fn widened(&self) -> Option<&'static Widened<P::Acc>> {
        self.call.widened.filter(|_| self.rows.len() > self.call.kernels.rows())
    }

    /// How many column panels a kernel takes at a time, and the kernel if it is more than one.
    fn several(&self) -> (usize, Option<TileFn<P::Acc>>) {
        let rows = self.rows.len();
        match self.call.kernels.several.get(rows.wrapping_sub(1)) {
            Some(&(count, kernel)) => (count, Some(kernel)),
            None => (1, None),
        }
    }

    /// Packs the task's rows for some words of depth.
    unsafe fn pack_rows(&self, words: Range<usize>, left: *mut u8, stride: usize) {
        let call = self.call;
        let depth = (call.depth - words.start * P::GROUP).min(words.len() * P::GROUP);
        let source = moved(call.left, self.rows.start, words.start * P::GROUP, call.pack_left.size);
        let (full, count) = (call.kernels.rows(), self.rows.len());
        let widened = self.widened();
        // What is widened is packed into the upper part of a panel's memory first.
        let packed = left.wrapping_add(widened.map_or(0, |_| full * (words.len() + 1) * P::WORD + OVERRUN));
        // SAFETY: the caller's; between panels there is room for an overrun.
        unsafe { pack_panels::<P>(call.pack_left, source, count, (full, false), depth, packed, stride) };
        if let Some(widened) = widened {
            for first in (0..count).step_by(full) {
                let (rows, at) = ((count - first).min(full), first / full * stride);
                // SAFETY: as above; the panel lies as far behind the middle as it has to.
                unsafe { (widened.run)(packed.add(at), words.len(), rows, left.add(at)) };
            }
        }
    }

    /// Takes column panels past all row panels.
    unsafe fn columns(&self, block: &Block<P::Acc>) {
        let call = self.call;
        let (full, line, cols) = (call.kernels.rows(), call.kernels.line, call.panel_cols());
        let (several, wide_kernel) = self.several();
        let kernels = self.widened().map_or(call.kernels, |widened| widened.kernels.for_matrices());
        let behind = block.from - block.slab.start;
        let row_panels = self.rows.len().div_ceil(full);
        let size = self.rows.len().min(full) * cols;
        let mut panel = block.panels.start;
        while panel < block.panels.end {
            let (count, wide_kernel) = match wide_kernel {
                Some(kernel) if block.panels.end - panel >= several => (several, Some(kernel)),
                _ => (1, None),
            };
            // SAFETY: the caller's.
            let right = unsafe { self.right(block, panel, count) };
            let ahead = self.ahead(block, panel + count).filter(|_| row_panels > 1);
            let mut index = 0;
            while index < row_panels {
                if let Some(ahead) = &ahead {
                    ahead.fetch(index, row_panels);
                }
                let first = index * full;
                let rows = (self.rows.len() - first).min(full);
                let (count, kernel) = match wide_kernel {
                    Some(kernel) => (count, kernel),
                    None => match self.last_rows(kernels, block, panel, rows) {
                        Some(turn) => turn,
                        None => break,
                    },
                };
                let (col, width) = (panel * cols, count * cols);
                let a = block.left.0.wrapping_add(index * block.left.1 + rows * behind * right.parts * P::WORD);
                // The last four row panels fetch a quarter of the next column panel each. A single one streams, and leaves that
                // to the processor.
                let to_come = (block.panels.end - panel) / count;
                let (far, far_step, far_next) = match row_panels - index {
                    n if n <= FETCHING && row_panels > 1 && ahead.is_none() => {
                        let quarter = block.words * line / FETCHING;
                        (right.next.wrapping_add((FETCHING - n) * quarter), line / FETCHING / right.parts, quarter)
                    }
                    // With the last two column panels, the others fetch themselves at the next block's depth: a kernel asks for every
                    // second line.
                    _ if row_panels > 1 && to_come <= 2 => {
                        let step = rows * right.parts * P::WORD;
                        let far = a.wrapping_add(block.words * step + (to_come - 1) * fetch::LINE);
                        (far, step / right.parts, block.left.1)
                    }
                    _ => (right.start, 0, 0),
                };
                let tile = Tile {
                    depth: block.words * right.parts,
                    a,
                    b: right.start,
                    b_step: right.step,
                    b_panel: right.panel,
                    start: std::ptr::null(),
                    start_stride: 0,
                    end: std::ptr::null_mut(),
                    end_stride: 0,
                    bias: std::ptr::null(),
                    next: std::ptr::null(),
                    next_stride: 0,
                    far,
                    far_step,
                };
                let spot = Spot {
                    part: Part {
                        row: self.rows.start + first,
                        col: call.cols.start + col,
                        rows,
                        cols: (call.cols.len() - col).min(width),
                    },
                    width,
                    start: block.start,
                    end: block.end,
                    sums: block.sums.wrapping_add(((panel - block.panels.start) * row_panels + index) * size),
                    shifts: right.shifts,
                };
                // Full row panels that fetch alike go in one strip.
                let alike = match row_panels.saturating_sub(FETCHING) {
                    border if index < border => border,
                    _ => self.rows.len() / full,
                };
                let strip = kernels.strip.filter(|_| ahead.is_none() && alike > index + 1);
                let strip = strip.map(|kernel| {
                    let tiles = alike - index;
                    (kernel, Strip { tiles, a: block.left.1, far: far_next, start: size, end: size, next: 0 })
                });
                // SAFETY: the caller's.
                index += unsafe { self.tile(kernel, strip, tile, &spot) };
            }
            panel += count;
        }
    }

    /// The kernel for a row panel, and how many column panels it takes. A last one of few rows takes several, which it meets with the
    /// first of them; nothing is left to do with the others.
    fn last_rows(
        &self,
        kernels: &Kernels<P::Acc>,
        block: &Block<P::Acc>,
        panel: usize,
        rows: usize,
    ) -> Option<(usize, TileFn<P::Acc>)> {
        let single = (1, kernels.single[rows - 1]);
        let packed = matches!(self.group.right, Right::Packed(_)) && self.widened().is_none();
        let Some(&several) = kernels.several.get(rows - 1).filter(|_| packed && self.rows.len() > rows) else {
            return Some(single);
        };
        let done = panel - block.panels.start;
        let first = done / several.0 * several.0;
        match first + several.0 <= block.panels.len() {
            true if done > first => None,
            true => Some(several),
            false => Some(single),
        }
    }

    /// `count` column panels for a block, packed and widened now if need be.
    unsafe fn right(&self, block: &Block<P::Acc>, panel: usize, count: usize) -> Columns<P::Acc> {
        // SAFETY: the caller's.
        let packed = unsafe { self.packed(block, panel, count) };
        let Some(widened) = self.widened() else { return packed };
        // SAFETY: kernels for several panels are for a single row panel, so this is one; the scratch has room for it.
        unsafe { (widened.run)(packed.start, block.words, self.call.panel_cols(), block.wide) };
        Columns { start: block.wide, step: self.call.kernels.line, parts: 2, ..packed }
    }

    /// `count` column panels for a block, packed now if need be.
    unsafe fn packed(&self, block: &Block<P::Acc>, panel: usize, count: usize) -> Columns<P::Acc> {
        let call = self.call;
        let (line, cols_each) = (call.kernels.line, call.panel_cols());
        let col = panel * cols_each;
        match &self.group.right {
            Right::Packed(panels) => Columns {
                next: panels.start.wrapping_add((panel + 1) * panels.stride + block.from * line),
                parts: 1,
                start: panels.start.wrapping_add(panel * panels.stride + block.from * line),
                step: line,
                panel: panels.stride,
                shifts: match panels.shifts {
                    Some(shifts) if call.shifted && block.from == 0 => shifts[col..].as_ptr().cast(),
                    _ => std::ptr::null(),
                },
            },
            Right::Strided(view, pack) => {
                let source = moved(*view, col, block.from * P::GROUP, pack.size);
                let cols = (call.cols.len() - col).min(count * cols_each);
                if self.direct() && cols == count * cols_each {
                    return Columns {
                        start: source.ptr,
                        step: view.depth_stride as usize * pack.size,
                        panel: line,
                        next: source.ptr.wrapping_add(line),
                        parts: 1,
                        shifts: std::ptr::null(),
                    };
                }
                let depth = (call.depth - block.from * P::GROUP).min(block.words * P::GROUP);
                let stride = block.words * line;
                // SAFETY: the caller's; the scratch has room for as many panels.
                unsafe { pack_panels::<P>(*pack, source, cols, (cols_each, true), depth, block.right, stride) };
                let (start, next) = (block.right.cast_const(), block.right.wrapping_add(stride).cast_const());
                Columns { start, step: line, panel: stride, next, parts: 1, shifts: std::ptr::null() }
            }
        }
    }

    /// What is packed after a block's column panel: the next panel, or the first of the next block.
    fn ahead(&self, block: &Block<P::Acc>, panel: usize) -> Option<Ahead> {
        let Right::Strided(view, pack) = &self.group.right else { return None };
        let call = self.call;
        let next = block.from + block.words;
        let (panel, from) = match () {
            () if panel < block.panels.end => (panel, block.from),
            () if next < call.depth.div_ceil(P::GROUP) => (block.panels.start, next),
            () if panel < self.panels.end => (panel, 0),
            () => return None,
        };
        let cols = call.panel_cols();
        let col = panel * cols;
        Some(Ahead {
            view: moved(*view, col, from * P::GROUP, pack.size),
            size: pack.size,
            lanes: (call.cols.len() - col).min(cols),
            depth: (call.depth - from * P::GROUP).min(block.words * P::GROUP),
        })
    }
}

/// Column panels as kernels read them.
struct Columns<Acc> {
    start: *const u8,
    /// From one word of depth to the next.
    step: usize,
    /// From one panel to the next.
    panel: usize,
    /// The first panel after these, to be fetched.
    next: *const u8,
    /// Words that each of the block's has become.
    parts: usize,
    /// What the sums start from, if not from nothing.
    shifts: *const Acc,
}

/// A part of an operand that will be packed soon.
struct Ahead {
    view: View,
    size: usize,
    lanes: usize,
    depth: usize,
}

impl Ahead {
    /// Fetches part `index` of `parts` into the second cache, while kernels have no use for the way to memory.
    fn fetch(&self, index: usize, parts: usize) {
        let Self { view, size, lanes, depth } = *self;
        // Rows of memory, from one to the next, and their elements.
        let (rows, stride, len) = match (view.lane_stride, view.depth_stride) {
            (1, stride) => (depth, stride, lanes),
            (stride, 1) => (lanes, stride, depth),
            _ => return,
        };
        for row in rows * index / parts..rows * (index + 1) / parts {
            fetch::far_bytes(view.ptr.wrapping_offset(row as isize * stride * size as isize), len * size);
        }
    }
}
