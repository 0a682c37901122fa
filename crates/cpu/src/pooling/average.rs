//! The mean of each window.

use super::Pooling;
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
        let (start, end) = self.covered(axis, index);
        match divisor {
            Divisor::InputOnly => end - start,
            Divisor::WithPadding => {
                let start = index * self.stride[axis];
                (start + self.kernel[axis]).min(self.input[axis] + 2 * self.padding[axis]) - start
            }
        }
    }

    fn scales<T: Real>(&self, divisor: Divisor) -> Vec<T> {
        let counts: Vec<usize> = (0..self.output[1]).map(|j| self.counted(1, j, divisor)).collect();
        let rows = (0..self.output[0]).map(|i| self.counted(0, i, divisor));
        rows.flat_map(|rows| counts.iter().map(move |&columns| T::of(1.0 / (rows * columns) as f64)))
            .collect()
    }
}

/// `y[p, i, j]` = the sum of the window over the number of its elements.
///
/// `x` is `[planes, H, W]`, `y` is `[planes, OH, OW]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Real>(pooling: &Pooling, divisor: Divisor, x: &[T], y: &mut [T]) {
    let (from, to) = (pooling.input_plane(), pooling.output_plane());
    assert_eq!((x.len(), y.len()), (pooling.planes * from, pooling.planes * to));
    if y.is_empty() {
        return;
    }
    let (isa, scales) = (isa(), pooling.scales::<T>(divisor));
    pieces(y, pooling.planes_per_piece() * to, |first, y| {
        for (x, y) in x[first / to * from..].chunks_exact(from).zip(y.chunks_exact_mut(to)) {
            plane::<T>(isa, pooling, x, &scales, y);
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
    fn plane[_I; T: Real](pooling: &Pooling, x: &[T], scales: &[T], y: &mut [T]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        if across == 0 {
            return;
        }
        for (i, (y, scales)) in y.chunks_exact_mut(across).zip(scales.chunks_exact(across)).enumerate() {
            let (top, bottom) = pooling.covered(0, i);
            y.fill(T::ZERO);
            for row in top..bottom {
                for tap in 0..pooling.kernel[1] {
                    let (first, end, start) = pooling.across(tap);
                    if first == end {
                        continue;
                    }
                    let x = &x[row * columns + start..(row + 1) * columns];
                    match pooling.stride[1] {
                        1 => gather(x, 1, &mut y[first..end]),
                        2 => gather(x, 2, &mut y[first..end]),
                        stride => gather(x, stride, &mut y[first..end]),
                    }
                }
            }
            for (y, &scale) in y.iter_mut().zip(scales) {
                *y = *y * scale;
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
            let (top, bottom) = pooling.covered(0, i);
            for row in top..bottom {
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
fn gather<T: Real>(x: &[T], stride: usize, y: &mut [T]) {
    let x = &x[..(y.len() - 1) * stride + 1];
    for (j, y) in y.iter_mut().enumerate() {
        *y = *y + x[j * stride];
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
