//! Products whose columns are gathered from images.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, parallel_for};

use super::Conv;
use super::rows::{Convolve, RowCopy, Run, runs};
use crate::gemm::Lhs;
use crate::gemm::tiles::{Arithmetic, Kernels, OVERRUN, PANEL_BYTES, Shared, Tile, View};
use crate::isa::{Isa, isa};

/// Column panels that a task fills side by side: they stay in the second cache while each row panel passes over all of them.
const PANELS: usize = 4;
/// Depth of a filled block: one column panel of f32 fills two thirds of the first cache.
const DEPTH: usize = 256;
/// Tasks that a product is cut into at least, where its sizes allow.
const TASKS: usize = 8;
/// Below this many multiply-adds everything runs on the calling thread.
const SMALL: usize = 1 << 18;

/// Images of some number of channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes {
    pub channels: usize,
    pub size: [usize; 2],
}

impl Planes {
    pub fn plane(&self) -> usize {
        self.size[0] * self.size[1]
    }
}

/// `target[n, r, start + step' (i, j)] = bias[r] + sum over c, t of w[r, c, t] source[n, c, step (i, j) + taps[t]]` for all
/// images n, rows r of each group and grid positions (i, j).
pub(super) struct Gather<'a> {
    pub batch: usize,
    pub groups: usize,
    pub source: Planes,
    /// Source channels of a group.
    pub channels: usize,
    pub taps: &'a [[isize; 2]],
    pub step: [usize; 2],
    pub grid: [usize; 2],
    pub target: Planes,
    /// Target channels of a group.
    pub rows: usize,
    pub target_start: [usize; 2],
    pub target_step: [usize; 2],
}

/// A left operand packed once for all tasks: row panels of about equal size, each over the whole depth.
pub(super) struct RowPanels<T> {
    buffer: Buffer,
    rows: usize,
    depth: usize,
    /// Panels of a group.
    panels: usize,
    /// Elements from one panel to the next.
    pitch: usize,
    element: std::marker::PhantomData<T>,
}

/// Part `index` of `parts` about equal parts of `0..len`.
pub(super) fn part(len: usize, parts: usize, index: usize) -> std::ops::Range<usize> {
    len * index / parts..len * (index + 1) / parts
}

pub(super) fn kernels<T: Convolve>(isa: Isa) -> &'static Kernels<T> {
    <T::Product as Arithmetic>::kernels(isa)
}

/// Columns of a panel.
pub(super) const fn columns<T: Convolve>() -> usize {
    <T::Product as Arithmetic>::COLS
}

impl<T: Convolve> RowPanels<T> {
    fn pack(
        groups: usize,
        rows: usize,
        depth: usize,
        pack: impl Fn(usize, std::ops::Range<usize>, *mut T) + Sync,
    ) -> Self {
        let panels = rows.div_ceil(kernels::<T>(isa()).rows());
        let pitch = rows.div_ceil(panels.max(1)) * depth + OVERRUN / size_of::<T>();
        let mut buffer = Buffer::uninit(T::DTYPE, groups * panels * pitch, Placement::Passing);
        let start = Shared(buffer.as_mut_slice::<T>().as_mut_ptr());
        let task = |index: usize| {
            let rows = part(rows, panels, index % panels);
            pack(index / panels, rows, start.get().wrapping_add(index * pitch));
        };
        if rows * depth < SMALL / 4 {
            (0..groups * panels).for_each(task);
        } else {
            parallel_for(groups * panels, task);
        }
        Self { buffer, rows, depth, panels, pitch, element: std::marker::PhantomData }
    }

    /// Rows of `w`, `[groups, rows, depth]`.
    pub fn of_rows(groups: usize, rows: usize, depth: usize, w: &[T]) -> Self {
        let packer = <T as Lhs<T::Product>>::packer(isa());
        assert_eq!(w.len(), groups * rows * depth);
        Self::pack(groups, rows, depth, |group, range, target| {
            let view = View {
                ptr: w[(group * rows + range.start) * depth..].as_ptr().cast(),
                lane_stride: depth as isize,
                depth_stride: 1,
            };
            // SAFETY: the rows lie in `w`; a panel's pitch leaves room for the overrun.
            unsafe { (packer.run)(view, range.len(), depth, range.len(), target.cast()) };
        })
    }

    /// Columns of a convolution's weight `[Cout, Cin / groups, taps]`: rows are the input channels of a group, the depth is
    /// (output channel, chosen tap).
    pub fn of_columns(conv: &Conv, chosen: &[usize], w: &[T]) -> Self {
        let (rows, channels, taps) = (conv.group_in(), conv.group_out(), conv.taps());
        assert_eq!(w.len(), conv.weight_len());
        Self::pack(conv.groups, rows, channels * chosen.len(), |group, range, target| {
            let width = range.len();
            for channel in 0..channels {
                let start = ((group * channels + channel) * rows + range.start) * taps;
                let source = &w[start..start + width * taps];
                let target = target.wrapping_add(channel * chosen.len() * width);
                for (index, &tap) in chosen.iter().enumerate() {
                    for (row, taps) in source.chunks_exact(taps).enumerate() {
                        // SAFETY: a panel has room for its rows over the whole depth.
                        unsafe { target.add(index * width + row).write(taps[tap]) };
                    }
                }
            }
        })
    }

    /// Panels of a group.
    pub fn count(&self) -> usize {
        self.panels
    }

    /// Panel `index` of a group: its rows, and where its words for depth `from` on stand.
    pub fn panel(&self, group: usize, index: usize, from: usize) -> (std::ops::Range<usize>, *const T) {
        let rows = part(self.rows, self.panels, index);
        let at = (group * self.panels + index) * self.pitch + from * rows.len();
        let start = self.buffer.as_slice::<T>().as_ptr();
        (rows, start.wrapping_add(at))
    }
}

impl Gather<'_> {
    /// Runs the product over all groups.
    pub fn run<T: Convolve>(&self, source: &[T], left: &RowPanels<T>, bias: Option<&[T]>, target: &mut [T]) {
        let positions = self.batch * self.grid[0] * self.grid[1];
        assert_eq!(source.len(), self.batch * self.source.channels * self.source.plane());
        assert_eq!(target.len(), self.batch * self.target.channels * self.target.plane());
        assert!(bias.is_none_or(|b| b.len() == self.target.channels));
        assert_eq!((left.rows, left.depth), (self.rows, self.channels * self.taps.len()));
        if positions == 0 || self.rows == 0 {
            return;
        }
        let width = PANELS * columns::<T>();
        let column_tasks = positions.div_ceil(width);
        // Splitting the rows fills the columns once more for each part, so it is done only where columns are few.
        let row_tasks = TASKS.div_ceil(column_tasks * self.groups).min(left.panels);
        let job = Job {
            gather: self,
            isa: isa(),
            source: Shared(source.as_ptr()),
            left,
            bias,
            target: Shared(target.as_mut_ptr()),
        };
        let task = |index: usize| {
            let (group, index) = (index / (column_tasks * row_tasks), index % (column_tasks * row_tasks));
            let (column, row) = (index / row_tasks, index % row_tasks);
            let range = column * width..positions.min((column + 1) * width);
            // SAFETY: sizes were checked; no two tasks have rows and columns in common.
            unsafe { job.task(group, range, part(left.panels, row_tasks, row)) };
        };
        let tasks = self.groups * column_tasks * row_tasks;
        if positions * self.groups * self.rows * left.depth < SMALL {
            (0..tasks).for_each(task);
        } else {
            parallel_for(tasks, task);
        }
    }
}

struct Job<'a, T> {
    gather: &'a Gather<'a>,
    isa: Isa,
    source: Shared<*const T>,
    left: &'a RowPanels<T>,
    bias: Option<&'a [T]>,
    target: Shared<*mut T>,
}

impl<T: Convolve> Job<'_, T> {
    /// # Safety
    /// Source and target have the sizes of the gather; nobody else writes these rows and columns.
    unsafe fn task(&self, group: usize, positions: std::ops::Range<usize>, row_panels: std::ops::Range<usize>) {
        let (gather, width) = (self.gather, columns::<T>());
        let panels = positions.len().div_ceil(width);
        let taps = gather.taps.len();
        let blocks = (gather.channels * taps).div_ceil(DEPTH).clamp(1, gather.channels.max(1));
        let block_depth = gather.channels.div_ceil(blocks) * taps;
        let first_row = self.left.panel(group, row_panels.start, 0).0.start;
        let rows = self.left.panel(group, row_panels.end - 1, 0).0.end - first_row;
        let stride = panels * width;

        let mut scratch = Buffer::uninit(T::DTYPE, panels * block_depth * width + rows * stride, Placement::Passing);
        let filled = scratch.as_mut_slice::<T>().as_mut_ptr();
        let sums = filled.wrapping_add(panels * block_depth * width);
        let cuts: Vec<Vec<Run>> = (0..panels)
            .map(|panel| {
                let from = positions.start + panel * width;
                runs(gather.grid, from, positions.end.min(from + width))
            })
            .collect();
        for block in 0..blocks {
            let channels = part(gather.channels, blocks, block);
            let depth = channels.len() * taps;
            for (panel, cut) in cuts.iter().enumerate() {
                // SAFETY: the scratch has room for `panels` blocks of this depth.
                unsafe { self.fill(group, cut, &channels, filled.add(panel * block_depth * width)) };
            }
            for index in row_panels.clone() {
                let (range, a) = self.left.panel(group, index, channels.start * taps);
                let kernel = kernels::<T>(self.isa).single[range.len() - 1];
                for panel in 0..panels {
                    let end = sums.wrapping_add((range.start - first_row) * stride + panel * width);
                    let tile = Tile {
                        depth,
                        a: a.cast(),
                        b: filled.wrapping_add(panel * block_depth * width).cast(),
                        b_step: PANEL_BYTES,
                        b_panel: 0,
                        start: if block == 0 { std::ptr::null() } else { end.cast_const() },
                        start_stride: stride,
                        end,
                        end_stride: stride,
                        bias: std::ptr::null(),
                        next: std::ptr::null(),
                        next_stride: 0,
                        far: a.cast(),
                        far_step: 0,
                    };
                    // SAFETY: the panels hold this depth, the sums these rows and columns.
                    unsafe { kernel(&tile) };
                }
            }
        }
        // SAFETY: the sums of these rows are complete.
        unsafe {
            let sums = std::slice::from_raw_parts(sums, rows * stride);
            self.store(group, first_row, &positions, sums, stride);
        }
    }

    /// Fills a column panel: for each (channel, tap) a row of columns.
    unsafe fn fill(&self, group: usize, cut: &[Run], channels: &std::ops::Range<usize>, panel: *mut T) {
        let (gather, source) = (self.gather, &self.gather.source);
        let (taps, width) = (gather.taps.len(), columns::<T>());
        let copy = T::row_copy(self.isa, gather.step[1]);
        for (index, &[down, across]) in gather.taps.iter().enumerate() {
            for run in cut {
                let row = (run.row * gather.step[0]) as isize + down;
                let exists = (0..source.size[0] as isize).contains(&row);
                let (low, high) = RowCopy::<T>::inside(run, gather.step[1], across, source.size[1], exists);
                let channel = run.image * source.channels + group * gather.channels + channels.start;
                let column = (run.column * gather.step[1]) as isize + across;
                let at = (channel * source.plane()) as isize + row * source.size[1] as isize + column;
                // SAFETY: lanes inside the limits lie in the image.
                unsafe {
                    copy(&RowCopy {
                        source: self.source.get().wrapping_offset(at),
                        source_stride: source.plane(),
                        step: gather.step[1],
                        target: panel.add(index * width + run.at),
                        target_stride: taps * width,
                        channels: channels.len(),
                        low,
                        high,
                        len: run.len,
                    });
                }
            }
        }
    }

    /// Adds the bias and writes the sums to where they belong.
    unsafe fn store(
        &self,
        group: usize,
        first_row: usize,
        positions: &std::ops::Range<usize>,
        sums: &[T],
        stride: usize,
    ) {
        let (gather, target) = (self.gather, &self.gather.target);
        // Where the grid is the whole target, images are one row each.
        let dense = gather.target_step == [1, 1] && gather.grid == target.size;
        let grid = if dense { [1, target.plane()] } else { gather.grid };
        let cut = runs(grid, positions.start, positions.end);
        let ([top, left], [down, across]) = (gather.target_start, gather.target_step);
        for (row, sums) in sums.chunks_exact(stride).enumerate() {
            let channel = group * gather.rows + first_row + row;
            let bias = self.bias.map_or(T::ZERO, |bias| bias[channel]);
            for run in &cut {
                let plane = (run.image * target.channels + channel) * target.plane();
                let at = plane + (top + run.row * down) * target.size[1] + left + run.column * across;
                let start = self.target.get().wrapping_add(at);
                let sums = &sums[run.at..run.at + run.len];
                if across == 1 {
                    // SAFETY: the run lies in one row of the target (or in one image), which this task alone writes.
                    let target = unsafe { std::slice::from_raw_parts_mut(start, run.len) };
                    for (target, &sum) in target.iter_mut().zip(sums) {
                        *target = sum + bias;
                    }
                } else {
                    for (lane, &sum) in sums.iter().enumerate() {
                        // SAFETY: as above.
                        unsafe { start.add(lane * across).write(sum + bias) };
                    }
                }
            }
        }
    }
}
