//! The mean of each window.

use super::{LANES, Pooling};
use crate::conv::Convolve;
use crate::conv::rows::RowCopyFn;
use crate::real::Real;
use crate::work::pieces;
use crate::{isa, kernel};

/// How many elements a window's sum is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Divisor {
    /// Those of the input and of the padding that the window covers.
    WithPadding,
    /// Those of the input that the window covers.
    InputOnly,
}

impl Pooling {
    /// The elements that window `index` counts along `axis`.
    fn counted(&self, axis: usize, index: usize, divisor: Divisor) -> usize {
        let counts = |&tap: &usize| match divisor {
            Divisor::InputOnly => self.position(axis, index, tap).is_some(),
            Divisor::WithPadding => {
                let position = index * self.stride[axis] + tap * self.dilation[axis];
                position < self.input[axis] + 2 * self.padding[axis]
            }
        };
        (0..self.kernel[axis]).filter(counts).count()
    }

    fn scales<T: Real>(&self, divisor: Divisor) -> Vec<T> {
        let counts: Vec<usize> = (0..self.output[1]).map(|j| self.counted(1, j, divisor)).collect();
        let rows = (0..self.output[0]).map(|i| self.counted(0, i, divisor));
        rows.flat_map(|rows| counts.iter().map(move |&columns| T::of(1.0 / (rows * columns) as f64))).collect()
    }
}

/// `y[p, i, j]` = the sum of the window over the number of its elements.
///
/// `x` is `[planes, H, W]`, `y` is `[planes, OH, OW]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Convolve>(pooling: &Pooling, divisor: Divisor, x: &[T], y: &mut [T]) {
    let (from, to) = (pooling.input_plane(), pooling.output_plane());
    assert_eq!((x.len(), y.len()), (pooling.planes * from, pooling.planes * to));
    if y.is_empty() {
        return;
    }
    let (isa, copy) = (isa(), T::row_copy(isa(), pooling.stride[1]));
    let scales = pooling.scales::<T>(divisor);
    pieces(y, pooling.planes_per_piece() * to, |first, y| {
        for (x, y) in x[first / to * from..].chunks_exact(from).zip(y.chunks_exact_mut(to)) {
            plane::<T>(isa, pooling, x, copy, &scales, y);
        }
    });
}

/// Each element of a window gets the window's gradient over the number of its elements.
///
/// # Panics
/// When a slice has another length.
pub fn backward<T: Real>(pooling: &Pooling, divisor: Divisor, dy: &[T], dx: &mut [T]) {
    let (from, to) = (pooling.output_plane(), pooling.input_plane());
    assert_eq!((dy.len(), dx.len()), (pooling.planes * from, pooling.planes * to));
    if dx.is_empty() {
        return;
    }
    let (isa, scales) = (isa(), pooling.scales::<T>(divisor));
    pieces(dx, pooling.planes_per_piece() * to, |first, dx| {
        let mut scaled = vec![T::ZERO; pooling.output[1]];
        for (plane, dx) in dx.chunks_exact_mut(to).enumerate() {
            let start = (first / to + plane) * from;
            spread::<T>(isa, pooling, &dy[start..start + from], &scales, &mut scaled, dx);
        }
    });
}

kernel! {
    fn plane[_I; T: Convolve](pooling: &Pooling, x: &[T], copy: RowCopyFn<T>, scales: &[T], y: &mut [T]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        for i in 0..pooling.output[0] {
            for from in (0..across).step_by(LANES) {
                let len = (across - from).min(LANES);
                let mut sums = [T::ZERO; LANES];
                for down in 0..pooling.kernel[0] {
                    let Some(row) = pooling.position(0, i, down) else {
                        continue;
                    };
                    let x = &x[row * columns..(row + 1) * columns];
                    for tap in 0..pooling.kernel[1] {
                        let (values, ..) = pooling.lanes(x, copy, from, len, tap);
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = *sum + value;
                        }
                    }
                }
                let target = i * across + from;
                for ((y, sum), &scale) in y[target..target + len].iter_mut().zip(sums).zip(&scales[target..]) {
                    *y = sum * scale;
                }
            }
        }
    }

    fn spread[_I; T: Real](pooling: &Pooling, dy: &[T], scales: &[T], scaled: &mut [T], dx: &mut [T]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        dx.fill(T::ZERO);
        if across == 0 {
            return;
        }
        for (i, (dy, scales)) in dy.chunks_exact(across).zip(scales.chunks_exact(across)).enumerate() {
            for ((scaled, &dy), &scale) in scaled.iter_mut().zip(dy).zip(scales) {
                *scaled = dy * scale;
            }
            for row in (0..pooling.kernel[0]).filter_map(|down| pooling.position(0, i, down)) {
                for tap in 0..pooling.kernel[1] {
                    let (first, end, start) = pooling.across(tap);
                    if first == end {
                        continue;
                    }
                    let dx = &mut dx[row * columns + start..(row + 1) * columns];
                    match pooling.stride[1] {
                        1 => scatter(&scaled[first..end], 1, dx),
                        2 => scatter(&scaled[first..end], 2, dx),
                        stride => scatter(&scaled[first..end], stride, dx),
                    }
                }
            }
        }
    }
}

/// Inlined with a constant `stride` where it is one.
#[inline(always)]
fn scatter<T: Real>(dy: &[T], stride: usize, dx: &mut [T]) {
    let dx = &mut dx[..(dy.len() - 1) * stride + 1];
    for (j, &dy) in dy.iter().enumerate() {
        dx[j * stride] = dx[j * stride] + dy;
    }
}
