//! The delta rule's writes: a triangular system for each chunk and head.
//!
//! With `u[i] = v[i] - exp(c[i]) k[i] S` the writes x solve `x[i] = beta[i] (u[i] - sum over j < i of exp(c[i] - c[j]) (k[i] . k[j]) x[j])`.
//! The matrices below hold the *negative* of what stands left of x, so that everything is an addition.

use super::block::product;
use crate::Isa;
use crate::gemm::{MatMut, MatRef};
use crate::kernel;
use crate::lanes::sum;
use crate::multiply::Multiply;
use crate::real::Real;

/// Rows that are solved one by one; the rest is matrix products.
const STEP: usize = 16;

kernel! {
    /// `m[i][j] = -beta[i] exp(c[i] - c[j]) g[i][j]` below the diagonal, where g are the products of keys; 0 elsewhere.
    pub(super) fn system[I; T: Real](stride: usize, g: &[T], sums: &[T], beta: &[T], m: &mut [T]) {
        let rows = sums.len();
        for i in 0..rows {
            let (g, m) = (&g[i * stride..][..rows], &mut m[i * stride..][..rows]);
            let (now, beta) = (sums[i], beta[i]);
            for ((m, &g), &then) in m[..i].iter_mut().zip(g).zip(sums) {
                *m = -(beta * (g * (now - then).exp::<I>()));
            }
            m[i..].fill(T::ZERO);
        }
    }

    /// From `dm`, the gradient of m: the gradient of g added to `dg`, those of the sums of decays and of beta to theirs.
    pub(super) fn system_back[I; T: Real](
        stride: usize,
        g: &[T],
        sums: &[T],
        beta: &[T],
        dm: &[T],
        dg: &mut [T],
        dsums: &mut [T],
        dbeta: &mut [T],
        rows_of: [&mut [T]; 2],
    ) {
        let rows = sums.len();
        let [of_sums, of_beta] = rows_of;
        for i in 0..rows {
            let (g, dm, dg) = (&g[i * stride..][..i], &dm[i * stride..][..i], &mut dg[i * stride..][..i]);
            let (now, own) = (sums[i], beta[i]);
            let (of_sums, of_beta, then, dthen) = (&mut of_sums[..i], &mut of_beta[..i], &sums[..i], &mut dsums[..i]);
            for j in 0..i {
                let left = (now - then[j]).exp::<I>();
                let without = g[j] * left;
                of_beta[j] = -(dm[j] * without);
                dg[j] = dg[j] - dm[j] * (own * left);
                of_sums[j] = of_beta[j] * own;
                dthen[j] = dthen[j] - of_sums[j];
            }
            dsums[i] = dsums[i] + sum(of_sums);
            dbeta[i] = dbeta[i] + sum(of_beta);
        }
    }

    /// Solves rows `rows` of x, where all other rows' parts have been added.
    fn solve_rows[I; T: Real](
        stride: usize,
        m: &[T],
        x: &mut [T],
        width: usize,
        columns: std::ops::Range<usize>,
        rows: std::ops::Range<usize>,
    ) {
        for i in rows.clone() {
            let (before, x) = x.split_at_mut(i * width);
            let x = &mut x[columns.clone()];
            for j in rows.start..i {
                let factor = m[i * stride + j];
                for (x, &y) in x.iter_mut().zip(&before[j * width..][columns.clone()]) {
                    *x = factor.fma::<I>(y, *x);
                }
            }
        }
    }

    /// As `solve_rows`, with the transpose.
    fn solve_rows_back[I; T: Real](
        stride: usize,
        m: &[T],
        x: &mut [T],
        width: usize,
        columns: std::ops::Range<usize>,
        rows: std::ops::Range<usize>,
    ) {
        for i in rows.clone().rev() {
            let (x, after) = x.split_at_mut((i + 1) * width);
            let x = &mut x[i * width..][columns.clone()];
            for j in (i + 1..rows.end).rev() {
                let factor = m[j * stride + i];
                for (x, &y) in x.iter_mut().zip(&after[(j - i - 1) * width..][columns.clone()]) {
                    *x = factor.fma::<I>(y, *x);
                }
            }
        }
    }

    /// `x[i] = beta[i] (x[i] - left[i] ks[i])`; x without beta goes to `u` unless that is empty.
    pub(super) fn right_side[I; T: Real](
        x: &mut [T],
        ks: Option<&[T]>,
        u: &mut [T],
        width: usize,
        columns: std::ops::Range<usize>,
        left: &[T],
        beta: &[T],
    ) {
        for (i, (x, &beta)) in x.chunks_exact_mut(width).zip(beta).enumerate() {
            let x = &mut x[columns.clone()];
            if let Some(ks) = ks {
                for (x, &ks) in x.iter_mut().zip(&ks[i * width..][columns.clone()]) {
                    *x = (-left[i]).fma::<I>(ks, *x);
                }
            }
            if !u.is_empty() {
                u[i * width..][columns.clone()].copy_from_slice(x);
            }
            x.iter_mut().for_each(|x| *x = *x * beta);
        }
    }
}

/// Solves `x = x + m x` for columns `columns` of `rows` rows of `width`, in place.
pub(super) fn solve<T: Multiply>(
    isa: Isa,
    stride: usize,
    m: &[T],
    x: &mut [T],
    rows: usize,
    width: usize,
    columns: std::ops::Range<usize>,
) {
    for first in (0..rows).step_by(STEP) {
        let end = rows.min(first + STEP);
        if first > 0 {
            let (done, x) = x.split_at_mut(first * width);
            product(
                MatRef::strided(m, first * stride, end - first, first, stride as isize, 1),
                MatRef::strided(done, columns.start, first, columns.len(), width as isize, 1),
                MatMut::strided(x, columns.start, end - first, columns.len(), width),
                true,
            );
        }
        solve_rows::<T>(isa, stride, m, x, width, columns.clone(), first..end);
    }
}

/// Solves `x = x + m^T x`, as [`solve`].
pub(super) fn solve_back<T: Multiply>(
    isa: Isa,
    stride: usize,
    m: &[T],
    x: &mut [T],
    rows: usize,
    width: usize,
    columns: std::ops::Range<usize>,
) {
    for first in (0..rows).step_by(STEP).rev() {
        let end = rows.min(first + STEP);
        if end < rows {
            let (x, done) = x.split_at_mut(end * width);
            product(
                MatRef::strided(m, end * stride + first, rows - end, end - first, stride as isize, 1).t(),
                MatRef::strided(done, columns.start, rows - end, columns.len(), width as isize, 1),
                MatMut::strided(x, first * width + columns.start, end - first, columns.len(), width),
                true,
            );
        }
        solve_rows_back::<T>(isa, stride, m, x, width, columns.clone(), first..end);
    }
}
