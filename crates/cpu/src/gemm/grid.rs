//! How a product is cut into tasks, and a task into blocks.

use std::ops::Range;

use super::kernel::{Kernels, MAX_PANELS, PANEL_BYTES};

/// How a task is cut.
pub struct Blocks {
    /// Row panels of a task.
    pub rows: usize,
    /// Words of depth in a block.
    pub depth: usize,
    /// Column panels that pass all blocks of a slab before the next ones do, so that sums rest in the second cache.
    pub group: usize,
    /// So many column panels pass together when a task has no more: then the packed rows need not be kept.
    pub wide: usize,
}

/// Rows, depth and the resting sums of a group fill at most half of a second cache of 512 KiB, of `wide` panels three quarters, and a
/// column panel a first cache. Processors with AVX-512 have 32 to 48 KiB of that and tall kernels, which read columns less often;
/// others have 32 KiB, of which a panel of one line leaves half to the rows that stream past. The numbers
/// for AVX2 were chosen by measuring; `wide` was not measured with AVX-512.
pub const fn blocks<Acc>(kernels: &Kernels<Acc>) -> Blocks {
    let panels = PANEL_BYTES / kernels.line;
    if kernels.rows() > 6 {
        Blocks { rows: 10, depth: 384, group: 8 * panels, wide: 12 * panels }
    } else {
        Blocks { rows: 24, depth: 256, group: 4 * panels, wide: 12 * panels }
    }
}

/// How a product is cut into tasks.
pub struct Grid {
    /// Rows of a task at most.
    pub rows: usize,
    /// Blocks of rows of all groups.
    pub row_blocks: usize,
    pub col_blocks: usize,
}

impl Grid {
    /// The cut that promises to be done first: the longest thread's share of tasks, and a part of one more for what no plan
    /// knows, times what a task takes. That is its elements of the result, its rows, which it packs for itself, and its columns,
    /// which it reads.
    pub fn new<Acc>(
        groups: impl Iterator<Item = usize> + Clone,
        kernels: &Kernels<Acc>,
        (panels, cols): (usize, usize),
        threads: usize,
    ) -> Self {
        /// Columns whose products take as long as packing a row.
        const PACK: usize = 40;
        /// Rows whose products take as long as reading a column.
        const READ: usize = 4;
        /// Sixteenths of a task that is added for waiting.
        const WAIT: usize = 2;
        let count = |rows: usize| groups.clone().map(|group| group.div_ceil(rows)).sum::<usize>();
        let full = kernels.rows();
        let most = blocks(kernels).rows * full;
        let longest = groups.clone().max().unwrap_or(0).max(1);
        // Whole groups of panels, so that kernels for several of them are not cut short.
        let widest = panels.div_ceil(MAX_PANELS);
        let plan = |rows: usize, col_blocks: usize| {
            let row_blocks = count(rows);
            let (high, wide) = (rows.min(longest), panels.div_ceil(col_blocks) * cols);
            let task = high * wide + PACK * high + READ * wide;
            let cost = (16 * (row_blocks * col_blocks).div_ceil(threads) + WAIT) * task;
            (cost, Self { rows, row_blocks, col_blocks })
        };
        let fewest = longest.div_ceil(most);
        let mut best = plan(most, 1);
        if threads > 1 {
            // A few more blocks than there must be, so that threads get the same number.
            for blocks in fewest..fewest + threads.min(8) {
                let rows = longest.div_ceil(blocks).next_multiple_of(full);
                for col_blocks in (1..=widest.min(8 * threads)).filter(|n| n % 4 == 0 || *n < 4) {
                    let next = plan(rows, col_blocks);
                    if next.0 < best.0 {
                        best = next;
                    }
                }
            }
        }
        best.1
    }

    pub fn tasks(&self) -> usize {
        self.row_blocks * self.col_blocks
    }
}

/// Part `index` of `parts` about equal parts of `0..len`, cut at multiples of `grain`.
pub fn cut(len: usize, grain: usize, parts: usize, index: usize) -> Range<usize> {
    let grains = len.div_ceil(grain);
    let at = |i: usize| (grains * i / parts * grain).min(len);
    at(index)..at(index + 1)
}

/// The size of the parts when `len` is cut into the fewest about equal parts of at most `most`.
pub fn even(len: usize, most: usize) -> usize {
    len.div_ceil(len.div_ceil(most).max(1))
}

/// `0..len` in steps of `step`; one empty step for an empty range, because products without depth have results, too.
pub fn steps(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let step = step.max(1);
    (0..len.div_ceil(step).max(1)).map(move |i| i * step..len.min((i + 1) * step))
}
