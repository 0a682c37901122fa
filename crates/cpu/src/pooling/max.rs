//! The largest element of each window, and where it stands.

use super::{LANES, Pooling};
use crate::conv::Convolve;
use crate::conv::rows::RowCopyFn;
use crate::real::Real;
use crate::work::{pieces, pieces2};
use crate::{isa, kernel};

/// Windows of two by two elements that are compared side by side.
const WINDOWS: usize = 8;

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
    let halves = pooling.halves();
    pieces2((y, size), (index, size), |first, y, index| {
        let planes = x[first / to * from..].chunks_exact(from);
        for ((x, y), index) in planes.zip(y.chunks_exact_mut(to)).zip(index.chunks_exact_mut(to)) {
            if halves {
                halved::<T>(isa, pooling, x, y, index);
            } else {
                plane::<T>(isa, pooling, x, copy, y, index);
            }
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

/// The elements of a plane that windows beginning at `at` have in one row, and what follows where there are fewer windows.
#[inline(always)]
fn elements<T: Real>(x: &[T], at: usize) -> [T; 2 * WINDOWS] {
    match x[at..].first_chunk() {
        Some(all) => *all,
        None => {
            let mut all = [T::ZERO; 2 * WINDOWS];
            all.iter_mut().zip(&x[at..]).for_each(|(all, &x)| *all = x);
            all
        }
    }
}

/// Writes the first `len` values, or all of them where there is room: what they hide, the next rows write.
#[inline(always)]
fn put<T: Copy>(target: &mut [T], at: usize, len: usize, values: [T; WINDOWS]) {
    match target[at..].first_chunk_mut() {
        Some(all) => *all = values,
        None => target[at..at + len].copy_from_slice(&values[..len]),
    }
}

/// The largest elements of windows of two by two, and where they stand; `first` is the first window's corner. Lane by lane, as
/// vectors go: which element is the largest is no branch that a processor could foresee.
#[inline(always)]
fn corners<T: Real>(
    upper: [T; 2 * WINDOWS],
    lower: [T; 2 * WINDOWS],
    first: i32,
    columns: i32,
) -> ([T; WINDOWS], [i32; WINDOWS]) {
    let mut best: [T; WINDOWS] = std::array::from_fn(|lane| upper[2 * lane]);
    let mut at: [i32; WINDOWS] = std::array::from_fn(|lane| first + 2 * lane as i32);
    let mut meet = |values: [T; WINDOWS], offset: i32| {
        for lane in 0..WINDOWS {
            let larger = (values[lane] > best[lane]) | values[lane].is_nan();
            best[lane] = if larger { values[lane] } else { best[lane] };
            at[lane] = if larger { first + offset + 2 * lane as i32 } else { at[lane] };
        }
    };
    meet(std::array::from_fn(|lane| upper[2 * lane + 1]), 1);
    meet(std::array::from_fn(|lane| lower[2 * lane]), columns);
    meet(std::array::from_fn(|lane| lower[2 * lane + 1]), columns + 1);
    (best, at)
}

kernel! {
    /// [`plane`] where each window is two by two elements of its own.
    fn halved[_I; T: Convolve](pooling: &Pooling, x: &[T], y: &mut [T], index: &mut [i32]) {
        let [columns, across] = [pooling.input[1], pooling.output[1]];
        for row in 0..pooling.output[0] {
            for from in (0..across).step_by(WINDOWS) {
                let (corner, target) = (2 * (row * columns + from), row * across + from);
                let (upper, lower) = (elements(x, corner), elements(x, corner + columns));
                let (best, at) = corners(upper, lower, corner as i32, columns as i32);
                let len = (across - from).min(WINDOWS);
                put(y, target, len, best);
                put(index, target, len, at);
            }
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{Isa, with_isa};

    /// What [`forward`] says of a window, element by element.
    fn largest(elements: [(f32, usize); 4]) -> (f32, i32) {
        let (mut best, mut at) = elements[0];
        for (value, position) in elements {
            if value > best || value.is_nan() {
                (best, at) = (value, position);
            }
        }
        (best, at as i32)
    }

    #[test]
    fn windows_of_two_by_two_have_the_largest_element_and_its_place() {
        for input in [[2, 2], [3, 5], [10, 10], [28, 28], [7, 33], [4, 17]] {
            let output = input.map(|size| size / 2);
            let (stride, padding, dilation) = ([2, 2], [0, 0], [1, 1]);
            let pooling = Pooling { planes: 3, input, output, kernel: [2, 2], stride, padding, dilation };
            let (from, to) = (input[0] * input[1], output[0] * output[1]);
            // Equals in most windows, here and there a NaN or what is smaller than every number.
            let value = |i: usize| match i * 7919 % 31 {
                0 => f32::NAN,
                1..=3 => f32::NEG_INFINITY,
                other => (other / 6) as f32,
            };
            let x: Vec<f32> = (0..3 * from).map(value).collect();
            for isa in Isa::available() {
                let (mut y, mut index) = (vec![0.5; 3 * to], vec![7; 3 * to]);
                with_isa(isa, || forward(&pooling, &x, &mut y, &mut index));
                for (place, (y, index)) in y.iter().zip(&index).enumerate() {
                    let (plane, i, j) = (place / to, place % to / output[1], place % output[1]);
                    let corner = 2 * (i * input[1] + j);
                    let positions = [corner, corner + 1, corner + input[1], corner + input[1] + 1];
                    let wanted = largest(positions.map(|position| (x[plane * from + position], position)));
                    assert_eq!((y.to_bits(), *index), (wanted.0.to_bits(), wanted.1), "{isa:?}, {input:?}, {place}");
                }
            }
        }
    }
}
