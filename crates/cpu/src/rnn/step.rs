//! Products of a block of sequences with the recurrent weight.

use cupola_core::alloc::Placement;
use cupola_core::{Buffer, parallel_for};

use crate::gemm::tiles::{Arithmetic, Kernels, OVERRUN, PANEL_BYTES, Shared, Tile, View};
use crate::gemm::{Lhs, Rhs};
use crate::isa::{Isa, isa};
use crate::multiply::Multiply;

/// A right operand `[depth, cols]`, packed for all steps.
pub(super) struct Right<T> {
    buffer: Buffer,
    depth: usize,
    cols: usize,
    element: std::marker::PhantomData<T>,
}

const fn width<T: Multiply>() -> usize {
    <T::Product as Arithmetic>::COLS
}

pub(super) fn kernels<T: Multiply>(isa: Isa) -> &'static Kernels<T> {
    <T::Product as Arithmetic>::kernels(isa)
}

impl<T: Multiply> Right<T> {
    /// Element (k, j) is `data[k * depth_stride + j * col_stride]`.
    pub fn new(data: &[T], depth: usize, cols: usize, depth_stride: usize, col_stride: usize) -> Self {
        assert!(depth == 0 || cols == 0 || (depth - 1) * depth_stride + (cols - 1) * col_stride < data.len());
        let panels = cols.div_ceil(width::<T>());
        let pitch = depth * width::<T>();
        let mut buffer = Buffer::uninit(T::DTYPE, panels * pitch, Placement::Passing);
        let start = Shared(buffer.as_mut_slice::<T>().as_mut_ptr());
        let packer = <T as Rhs<T::Product>>::packer(isa());
        let task = |panel: usize| {
            let first = panel * width::<T>();
            let view = View {
                ptr: data[(first * col_stride).min(data.len())..].as_ptr().cast(),
                lane_stride: col_stride as isize,
                depth_stride: depth_stride as isize,
            };
            let lanes = (cols - first).min(width::<T>());
            let target = start.get().wrapping_add(panel * pitch);
            // SAFETY: lanes and depth lie in `data`; a panel is a multiple of 64 bytes wide, so there is no overrun.
            unsafe { (packer.run)(view, lanes, depth, width::<T>(), target.cast()) };
        };
        if depth * cols < 1 << 16 {
            (0..panels).for_each(task);
        } else {
            parallel_for(panels, task);
        }
        Self { buffer, depth, cols, element: std::marker::PhantomData }
    }

    /// Columns, rounded up to whole panels.
    pub fn padded(&self) -> usize {
        self.cols.next_multiple_of(width::<T>())
    }
}

/// A block of rows as left operand, packed anew in every step.
pub(super) struct Left<T> {
    buffer: Buffer,
    rows: usize,
    isa: Isa,
    element: std::marker::PhantomData<T>,
}

/// What a product starts from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a, T> {
    Zero,
    /// A row for all rows, padded as the result is.
    Row(&'a [T]),
    /// What the result holds.
    Result,
}

impl<T: Multiply> Left<T> {
    /// Room for `rows` rows, at most as many as a kernel takes, of `depth` elements.
    pub fn new(isa: Isa, rows: usize, depth: usize) -> Self {
        Self {
            buffer: Buffer::uninit(T::DTYPE, rows * depth + OVERRUN / size_of::<T>(), Placement::Passing),
            rows,
            isa,
            element: std::marker::PhantomData,
        }
    }

    /// Takes `data`, `[rows, depth]`, and writes `start + data right` to `target`, `[rows, right.padded()]`.
    pub fn multiply(&mut self, data: &[T], right: &Right<T>, start: Start<'_, T>, target: &mut [T]) {
        let (rows, depth, stride) = (self.rows, right.depth, right.padded());
        assert_eq!((data.len(), target.len()), (rows * depth, rows * stride));
        assert!(self.buffer.len() >= rows * depth + OVERRUN / size_of::<T>());
        assert!(!matches!(start, Start::Row(row) if row.len() != stride));
        let kernels = kernels::<T>(self.isa);
        let packer = <T as Lhs<T::Product>>::packer(self.isa);
        let packed = self.buffer.as_mut_slice::<T>().as_mut_ptr();
        let view = View { ptr: data.as_ptr().cast(), lane_stride: depth as isize, depth_stride: 1 };
        // SAFETY: the rows lie in `data`; the buffer has room for them and the overrun.
        unsafe { (packer.run)(view, rows, depth, rows, packed.cast()) };
        // A few rows alone would wait for each multiply-add; kernels over several panels give them more to do.
        let several = kernels.several.get(rows - 1).copied().unwrap_or((1, kernels.single[rows - 1]));
        let pitch = depth * width::<T>();
        let panels = stride / width::<T>();
        let (b, target) = (right.buffer.as_slice::<T>().as_ptr(), target.as_mut_ptr());
        let mut panel = 0;
        while panel < panels {
            let (count, kernel) = if panels - panel >= several.0 { several } else { (1, kernels.single[rows - 1]) };
            let end = target.wrapping_add(panel * width::<T>());
            let (start, start_stride) = match start {
                Start::Zero => (std::ptr::null(), 0),
                Start::Row(row) => (row.as_ptr().wrapping_add(panel * width::<T>()), 0),
                Start::Result => (end.cast_const(), stride),
            };
            let tile = Tile {
                depth,
                a: packed.cast_const().cast(),
                b: b.wrapping_add(panel * pitch).cast(),
                b_step: PANEL_BYTES,
                b_panel: pitch * size_of::<T>(),
                start,
                start_stride,
                end,
                end_stride: stride,
                bias: std::ptr::null(),
                next: std::ptr::null(),
                next_stride: 0,
                far: packed.cast_const().cast(),
                far_step: 0,
            };
            // SAFETY: the packed operands hold this depth, start and target these rows and whole panels.
            unsafe { kernel(&tile) };
            panel += count;
        }
    }
}
