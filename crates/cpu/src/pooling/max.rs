//! The largest element of each window, and where it stands.

use super::{LANES, Pooling};
use crate::conv::Convolve;
use crate::conv::rows::RowCopyFn;
use crate::real::Real;
use crate::work::{pieces, pieces2};
use crate::{isa, kernel};

/// `y[p, i, j]` = the largest element of the window, `index[p, i, j]` its position in the plane (the first of equals; a NaN is
/// larger than everything, and -1 stands for a window without an element).
///
/// `x` is `[planes, H, W]`, `y` and `index` are `[planes, OH, OW]`.
///
/// # Panics
/// When a slice has another length.
pub fn forward<T: Convolve>(pooling: &Pooling, x: &[T], y: &mut [T], index: &mut [i32]) {
    let (from, to) = (pooling.input_plane(), pooling.output_plane());
    assert_eq!((x.len(), y.len(), index.len()), (pooling.planes * from, pooling.planes * to, pooling.planes * to));
    if y.is_empty() {
        return;
    }
    let (isa, copy) = (isa(), T::row_copy(isa(), pooling.stride[1]));
    let size = pooling.planes_per_piece() * to;
    pieces2((y, size), (index, size), |first, y, index| {
        let planes = x[first / to * from..].chunks_exact(from);
        for ((x, y), index) in planes.zip(y.chunks_exact_mut(to)).zip(index.chunks_exact_mut(to)) {
            plane::<T>(isa, pooling, x, copy, y, index);
        }
    });
}

/// `dx[p, index[p, i, j]] += dy[p, i, j]`, over zeros.
///
/// # Panics
/// When a slice has another length or an index lies outside its plane.
pub fn backward<T: Real>(pooling: &Pooling, dy: &[T], index: &[i32], dx: &mut [T]) {
    let (from, to) = (pooling.output_plane(), pooling.input_plane());
    assert_eq!((dx.len(), dy.len(), index.len()), (pooling.planes * to, pooling.planes * from, pooling.planes * from));
    if dx.is_empty() {
        return;
    }
    pieces(dx, pooling.planes_per_piece() * to, |first, dx| {
        dx.fill(T::ZERO);
        let start = first / to * from;
        for (plane, dx) in dx.chunks_exact_mut(to).enumerate() {
            let range = start + plane * from..start + (plane + 1) * from;
            for (&dy, &index) in dy[range.clone()].iter().zip(&index[range]) {
                if index >= 0 {
                    let target = &mut dx[index as usize];
                    *target = *target + dy;
                }
            }
        }
    });
}

kernel! {
    fn plane[_I; T: Convolve](pooling: &Pooling, x: &[T], copy: RowCopyFn<T>, y: &mut [T], index: &mut [i32]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        let step = pooling.stride[1];
        for i in 0..pooling.output[0] {
            for from in (0..across).step_by(LANES) {
                let len = (across - from).min(LANES);
                let (mut best, mut at) = ([-T::INFINITY; LANES], [-1i32; LANES]);
                for down in 0..pooling.kernel[0] {
                    let Some(row) = pooling.position(0, i, down) else {
                        continue;
                    };
                    let x = &x[row * columns..(row + 1) * columns];
                    for tap in 0..pooling.kernel[1] {
                        let (values, low, high) = pooling.lanes(x, copy, from, len, tap);
                        let offset = (tap * pooling.dilation[1]) as i32 - pooling.padding[1] as i32;
                        let first = (row * columns + from * step) as i32 + offset;
                        for lane in 0..LANES {
                            let inside = lane as i32 >= low as i32 && (lane as i32) < high as i32;
                            let value = values[lane];
                            let larger = inside & (value > best[lane] || value.is_nan() || at[lane] < 0);
                            best[lane] = if larger { value } else { best[lane] };
                            at[lane] = if larger { first + lane as i32 * step as i32 } else { at[lane] };
                        }
                    }
                }
                let target = i * across + from;
                y[target..target + len].copy_from_slice(&best[..len]);
                index[target..target + len].copy_from_slice(&at[..len]);
            }
        }
    }
}
