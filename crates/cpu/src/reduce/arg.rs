//! Where the extrema are, and any and all of booleans.

use cupola_core::{bf16, f16};

use super::Dims;
use crate::binary::Lane;
use crate::instantiate;
use crate::work::{PIECE, pieces};

#[track_caller]
fn argmax_of<T: Lane>(x: &[T], dims: Dims, y: &mut [i64]) {
    dims.check("argmax", x.len(), y.len());
    extremum(x, dims, y, "argmax", |x, best| x > best);
}

#[track_caller]
fn argmin_of<T: Lane>(x: &[T], dims: Dims, y: &mut [i64]) {
    dims.check("argmin", x.len(), y.len());
    extremum(x, dims, y, "argmin", |x, best| x < best);
}

#[track_caller]
fn extremum<T: Lane>(x: &[T], dims: Dims, y: &mut [i64], op: &str, better: fn(T::Compute, T::Compute) -> bool) {
    let Dims { n, inner, .. } = dims;
    assert!(n > 0 || y.is_empty(), "{op}: dimension of size 0 has no extremum");
    pieces(y, (PIECE / n.max(1)).max(1), |first, y| {
        for (k, y) in y.iter_mut().enumerate() {
            let (o, i) = ((first + k) / inner, (first + k) % inner);
            let at = |row: usize| x[(o * n + row) * inner + i].up();
            let (mut best, mut index) = (at(0), 0);
            for row in 1..n {
                let value = at(row);
                // NaN differs from itself: the first one wins over every number.
                #[allow(clippy::eq_op)]
                let wins = better(value, best) || (value != value && best == best);
                if wins {
                    (best, index) = (value, row);
                }
            }
            *y = index as i64;
        }
    });
}

instantiate! {
    /// Elements that have a largest and a smallest.
    Ordered: Lane, for [f64, f32, bf16, f16, i64, i32, u32, i8, u8] {
        /// The index along n of the first largest element; a NaN counts as larger than every number.
        ///
        /// # Panics
        /// When the lengths do not fit or n is 0.
        fn argmax(x: &[T], dims: Dims, y: &mut [i64]) = argmax_of;
        /// The index along n of the first smallest element; a NaN counts as smaller than every number.
        ///
        /// # Panics
        /// When the lengths do not fit or n is 0.
        fn argmin(x: &[T], dims: Dims, y: &mut [i64]) = argmin_of;
    }
}

/// Whether one of the n elements is true; false of nothing.
///
/// # Panics
/// When the lengths do not fit.
#[track_caller]
pub fn any(x: &[bool], dims: Dims, y: &mut [bool]) {
    dims.check("any", x.len(), y.len());
    join(x, dims, y, false, |a, b| a | b);
}

/// Whether all of the n elements are true; true of nothing.
///
/// # Panics
/// When the lengths do not fit.
#[track_caller]
pub fn all(x: &[bool], dims: Dims, y: &mut [bool]) {
    dims.check("all", x.len(), y.len());
    join(x, dims, y, true, |a, b| a & b);
}

fn join(x: &[bool], Dims { n, inner, .. }: Dims, y: &mut [bool], begin: bool, merge: fn(bool, bool) -> bool) {
    y.fill(begin);
    if n == 0 || inner == 0 {
        return;
    }
    let rows = (PIECE / (n * inner)).max(1);
    pieces(y, rows * inner, |first, y| {
        for (y, x) in y.chunks_mut(inner).zip(x[first * n..].chunks(n * inner)) {
            for row in x.chunks(inner) {
                y.iter_mut().zip(row).for_each(|(y, &x)| *y = merge(*y, x));
            }
        }
    });
}
