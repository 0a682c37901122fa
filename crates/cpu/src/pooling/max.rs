//! The largest element of each window, and where it stands.

use super::Pooling;
use crate::real::Real;
use crate::work::{pieces, pieces2};
use crate::{isa, kernel};

/// `y[p, i, j]` = the largest element of the window, `index[p, i, j]` its position in the plane (the first of equals; a NaN is
/// larger than everything).
///
/// `x` is `[planes, H, W]`, `y` and `index` are `[planes, OH, OW]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Real>(pooling: &Pooling, x: &[T], y: &mut [T], index: &mut [i32]) {
    let (from, to) = (pooling.input_plane(), pooling.output_plane());
    assert_eq!(
        (x.len(), y.len(), index.len()),
        (pooling.planes * from, pooling.planes * to, pooling.planes * to)
    );
    if y.is_empty() {
        return;
    }
    let isa = isa();
    let size = pooling.planes_per_piece() * to;
    pieces2((y, size), (index, size), |first, y, index| {
        let planes = x[first / to * from..].chunks_exact(from);
        for ((x, y), index) in planes.zip(y.chunks_exact_mut(to)).zip(index.chunks_exact_mut(to)) {
            plane::<T>(isa, pooling, x, y, index);
        }
    });
}

/// `dx[p, index[p, i, j]] += dy[p, i, j]`, over zeros.
///
/// # Panics
/// When a slice has another length or an index lies outside its plane.
pub fn backward<T: Real>(pooling: &Pooling, dy: &[T], index: &[i32], dx: &mut [T]) {
    let (from, to) = (pooling.output_plane(), pooling.input_plane());
    assert_eq!(
        (dx.len(), dy.len(), index.len()),
        (pooling.planes * to, pooling.planes * from, pooling.planes * from)
    );
    if dx.is_empty() {
        return;
    }
    pieces(dx, pooling.planes_per_piece() * to, |first, dx| {
        dx.fill(T::ZERO);
        let start = first / to * from;
        for (plane, dx) in dx.chunks_exact_mut(to).enumerate() {
            let range = start + plane * from..start + (plane + 1) * from;
            for (&dy, &index) in dy[range.clone()].iter().zip(&index[range]) {
                let target = &mut dx[index as usize];
                *target = *target + dy;
            }
        }
    });
}

kernel! {
    fn plane[_I; T: Real](pooling: &Pooling, x: &[T], y: &mut [T], index: &mut [i32]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        if across == 0 {
            return;
        }
        for (i, (y, index)) in y.chunks_exact_mut(across).zip(index.chunks_exact_mut(across)).enumerate() {
            let (top, bottom) = pooling.covered(0, i);
            y.fill(-T::INFINITY);
            for (j, index) in index.iter_mut().enumerate() {
                *index = (top * columns + pooling.covered(1, j).0) as i32;
            }
            for row in top..bottom {
                for tap in 0..pooling.kernel[1] {
                    let (first, end, start) = pooling.across(tap);
                    if first == end {
                        continue;
                    }
                    let x = &x[row * columns + start..(row + 1) * columns];
                    let position = (row * columns + start) as i32;
                    let (y, index) = (&mut y[first..end], &mut index[first..end]);
                    match pooling.stride[1] {
                        1 => update(x, position, 1, y, index),
                        2 => update(x, position, 2, y, index),
                        stride => update(x, position, stride, y, index),
                    }
                }
            }
        }
    }
}

/// Inlined with a constant `stride` where it is one.
#[inline(always)]
fn update<T: Real>(x: &[T], position: i32, stride: usize, y: &mut [T], index: &mut [i32]) {
    let x = &x[..(y.len() - 1) * stride + 1];
    let index = &mut index[..y.len()];
    for j in 0..y.len() {
        let value = x[j * stride];
        let larger = value > y[j] || value.is_nan();
        y[j] = if larger { value } else { y[j] };
        index[j] = if larger {
            position + (j * stride) as i32
        } else {
            index[j]
        };
    }
}
