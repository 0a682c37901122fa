//! Means over windows whose sizes follow from the number of them.
//!
//! Window i of O over a side of length L covers `floor(i L / O) .. ceil((i + 1) L / O)`; neighbours may overlap.

use crate::lanes;
use crate::real::Real;
use crate::work::{pieces, rows_per_piece};
use crate::{isa, kernel};

/// Sizes of an adaptive pooling of `planes` images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Images times channels.
    pub planes: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Adaptive {
    /// The input positions that window `index` covers along `axis`.
    #[inline(always)]
    pub fn covered(&self, axis: usize, index: usize) -> (usize, usize) {
        let (size, count) = (self.input[axis], self.output[axis]);
        (index * size / count, ((index + 1) * size).div_ceil(count))
    }
}

/// `y[p, i, j]` = the mean of window (i, j).
///
/// `x` is `[planes, H, W]`, `y` is `[planes, OH, OW]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Real>(sizes: &Adaptive, x: &[T], y: &mut [T]) {
    let (from, to): (usize, usize) = (sizes.input.iter().product(), sizes.output.iter().product());
    assert_eq!((x.len(), y.len()), (sizes.planes * from, sizes.planes * to));
    if y.is_empty() {
        return;
    }
    let isa = isa();
    pieces(y, rows_per_piece(from.max(to)) * to, |first, y| {
        for (x, y) in x[first / to * from..].chunks_exact(from).zip(y.chunks_exact_mut(to)) {
            plane::<T>(isa, sizes, x, y);
        }
    });
}

/// Each element of a window gets the window's gradient over the number of its elements.
///
/// # Panics
/// When a slice has another length.
pub fn backward<T: Real>(sizes: &Adaptive, dy: &[T], dx: &mut [T]) {
    let (from, to): (usize, usize) = (sizes.output.iter().product(), sizes.input.iter().product());
    assert_eq!((dy.len(), dx.len()), (sizes.planes * from, sizes.planes * to));
    if dx.is_empty() {
        return;
    }
    let isa = isa();
    pieces(dx, rows_per_piece(from.max(to)) * to, |first, dx| {
        for (plane, dx) in dx.chunks_exact_mut(to).enumerate() {
            let start = (first / to + plane) * from;
            spread::<T>(isa, sizes, &dy[start..start + from], dx);
        }
    });
}

kernel! {
    fn plane[_I; T: Real](sizes: &Adaptive, x: &[T], y: &mut [T]) {
        let columns = sizes.input[1];
        for i in 0..sizes.output[0] {
            let (top, bottom) = sizes.covered(0, i);
            for j in 0..sizes.output[1] {
                let (left, right) = sizes.covered(1, j);
                let total = if right - left == columns {
                    lanes::sum::<T>(&x[top * columns..bottom * columns])
                } else {
                    (top..bottom).fold(T::ZERO, |sum, row| {
                        sum + lanes::sum::<T>(&x[row * columns + left..row * columns + right])
                    })
                };
                y[i * sizes.output[1] + j] = total * T::of(1.0 / ((bottom - top) * (right - left)) as f64);
            }
        }
    }

    fn spread[_I; T: Real](sizes: &Adaptive, dy: &[T], dx: &mut [T]) {
        let columns = sizes.input[1];
        dx.fill(T::ZERO);
        for i in 0..sizes.output[0] {
            let (top, bottom) = sizes.covered(0, i);
            for j in 0..sizes.output[1] {
                let (left, right) = sizes.covered(1, j);
                let share = dy[i * sizes.output[1] + j] * T::of(1.0 / ((bottom - top) * (right - left)) as f64);
                for row in top..bottom {
                    for dx in &mut dx[row * columns + left..row * columns + right] {
                        *dx = *dx + share;
                    }
                }
            }
        }
    }
}
