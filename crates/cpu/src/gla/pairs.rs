//! The weights of a chunk's triangle, and their gradient.

use crate::chunked::product;
use crate::gemm::{MatMut, MatRef};
use crate::lanes::sum_of;
use crate::multiply::Multiply;
use crate::real::Real;
use crate::{Isa, kernel};

/// Rows whose weights are computed pair by pair.
const STEP: usize = 16;

/// A chunk of one head, row after row of `keys` elements.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a, T> {
    pub rows: usize,
    pub keys: usize,
    pub q: &'a [T],
    pub k: &'a [T],
    /// Sums of decays since the chunk's begin.
    pub sums: &'a [T],
}

/// `a`, rows by rows; zero above the diagonal. `near` and `far` are room for rows of keys.
pub(super) fn weights<T: Multiply>(isa: Isa, chunk: Chunk<'_, T>, a: &mut [T], near: &mut [T], far: &mut [T]) {
    let Chunk { rows, keys, .. } = chunk;
    for first in (0..rows).step_by(STEP) {
        let end = rows.min(first + STEP);
        if first > 0 {
            to_border::<T>(isa, chunk, first, end, near, far);
            product(
                MatRef::new(near, end - first, keys),
                MatRef::new(far, first, keys).t(),
                MatMut::strided(a, first * rows, end - first, first, rows),
                false,
            );
        }
        pair_weights::<T>(isa, chunk, first, end, a);
    }
}

/// From the gradient `da` of the weights those of queries and keys, added to `dq` and `dk`. `near` and `far` are room for rows of
/// keys, as are `dnear` and `dfar`.
pub(super) fn weights_back<T: Multiply>(
    isa: Isa,
    chunk: Chunk<'_, T>,
    da: &[T],
    [dq, dk]: [&mut [T]; 2],
    [near, far, dnear, dfar]: [&mut [T]; 4],
) {
    let Chunk { rows, keys, .. } = chunk;
    for first in (0..rows).step_by(STEP) {
        let end = rows.min(first + STEP);
        if first > 0 {
            to_border::<T>(isa, chunk, first, end, near, far);
            let da = MatRef::strided(da, first * rows, end - first, first, rows as isize, 1);
            product(da, MatRef::new(far, first, keys), MatMut::new(dnear, end - first, keys), false);
            product(da.t(), MatRef::new(near, end - first, keys), MatMut::new(dfar, first, keys), false);
            from_border::<T>(isa, chunk, first, end, [&*dnear, &*dfar], &mut *dq, &mut *dk);
        }
        pair_gradients::<T>(isa, chunk, first, end, da, &mut *dq, &mut *dk);
    }
}

kernel! {
    /// Queries of rows `first..end` and keys of the rows before, both decayed to the border before `first`.
    fn to_border[I; T: Real](chunk: Chunk<'_, T>, first: usize, end: usize, near: &mut [T], far: &mut [T]) {
        let keys = chunk.keys;
        let border = &chunk.sums[(first - 1) * keys..first * keys];
        for row in first..end {
            let (q, sums) = (&chunk.q[row * keys..][..keys], &chunk.sums[row * keys..][..keys]);
            let near = &mut near[(row - first) * keys..][..keys];
            for d in 0..keys {
                near[d] = q[d] * (sums[d] - border[d]).exp::<I>();
            }
        }
        for row in 0..first {
            let (k, sums) = (&chunk.k[row * keys..][..keys], &chunk.sums[row * keys..][..keys]);
            let far = &mut far[row * keys..][..keys];
            for d in 0..keys {
                far[d] = k[d] * (border[d] - sums[d]).exp::<I>();
            }
        }
    }

    /// Adds the gradients of what `to_border` computes.
    fn from_border[I; T: Real](
        chunk: Chunk<'_, T>,
        first: usize,
        end: usize,
        grads: [&[T]; 2],
        dq: &mut [T],
        dk: &mut [T],
    ) {
        let keys = chunk.keys;
        let border = &chunk.sums[(first - 1) * keys..first * keys];
        let [dnear, dfar] = grads;
        for row in first..end {
            let (sums, dq) = (&chunk.sums[row * keys..][..keys], &mut dq[row * keys..][..keys]);
            let dnear = &dnear[(row - first) * keys..][..keys];
            for d in 0..keys {
                dq[d] = dnear[d].fma::<I>((sums[d] - border[d]).exp::<I>(), dq[d]);
            }
        }
        for row in 0..first {
            let (sums, dk) = (&chunk.sums[row * keys..][..keys], &mut dk[row * keys..][..keys]);
            let dfar = &dfar[row * keys..][..keys];
            for d in 0..keys {
                dk[d] = dfar[d].fma::<I>((border[d] - sums[d]).exp::<I>(), dk[d]);
            }
        }
    }

    /// The weights within rows `first..end`, and zeros behind them.
    fn pair_weights[I; T: Real](chunk: Chunk<'_, T>, first: usize, end: usize, a: &mut [T]) {
        let (keys, rows) = (chunk.keys, chunk.rows);
        for i in first..end {
            let (q, now) = (&chunk.q[i * keys..][..keys], &chunk.sums[i * keys..][..keys]);
            for j in first..i {
                let (k, then) = (&chunk.k[j * keys..][..keys], &chunk.sums[j * keys..][..keys]);
                a[i * rows + j] = sum_of(keys, |d| q[d] * k[d] * (now[d] - then[d]).exp::<I>());
            }
            let k = &chunk.k[i * keys..][..keys];
            a[i * rows + i] = sum_of(keys, |d| q[d] * k[d]);
            a[i * rows + i + 1..(i + 1) * rows].fill(T::ZERO);
        }
    }

    /// The gradients of what `pair_weights` computes.
    fn pair_gradients[I; T: Real](
        chunk: Chunk<'_, T>,
        first: usize,
        end: usize,
        da: &[T],
        dq: &mut [T],
        dk: &mut [T],
    ) {
        let (keys, rows) = (chunk.keys, chunk.rows);
        for i in first..end {
            let (q, now) = (&chunk.q[i * keys..][..keys], &chunk.sums[i * keys..][..keys]);
            let dq = &mut dq[i * keys..][..keys];
            for j in first..=i {
                let (k, then) = (&chunk.k[j * keys..][..keys], &chunk.sums[j * keys..][..keys]);
                let (da, dk) = (da[i * rows + j], &mut dk[j * keys..][..keys]);
                for d in 0..keys {
                    let weight = da * (now[d] - then[d]).exp::<I>();
                    dq[d] = weight.fma::<I>(k[d], dq[d]);
                    dk[d] = weight.fma::<I>(q[d], dk[d]);
                }
            }
        }
    }
}
