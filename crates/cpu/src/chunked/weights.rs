//! The triangle of a chunk: what each row reads of each earlier row's write.

use crate::kernel;
use crate::lanes::sum;
use crate::real::Real;

/// One head's factors of a chunk, row by row.
#[derive(Clone, Copy)]
pub(super) struct Triangle<'a, T> {
    /// Rows of a token.
    pub rank: usize,
    /// Elements from one row of a matrix to the next.
    pub stride: usize,
    /// Sums of decays.
    pub sums: &'a [T],
    /// Factors of writes.
    pub scales: &'a [T],
    /// Factors with which a token reads its own writes.
    pub diagonals: &'a [T],
}

kernel! {
    /// `a[i][j] = g[i][j] exp(c[i] - c[j]) scale[j]` for rows of earlier tokens, `g[i][j] diagonal[i]` in a token, 0 for later ones.
    pub(super) fn weigh[I; T: Real](triangle: &Triangle<'_, T>, g: &[T], a: &mut [T]) {
        let Triangle { rank, stride, sums, scales, diagonals } = *triangle;
        let rows = sums.len();
        for i in 0..rows {
            let (own, now) = (i / rank * rank, sums[i]);
            let (g, a) = (&g[i * stride..][..rows], &mut a[i * stride..][..rows]);
            let (earlier, rest) = a.split_at_mut(own);
            for (((a, &g), &then), &scale) in earlier.iter_mut().zip(g).zip(sums).zip(scales) {
                *a = g * ((now - then).exp::<I>() * scale);
            }
            let (same, later) = rest.split_at_mut(rank);
            same.iter_mut().zip(&g[own..]).for_each(|(a, &g)| *a = g * diagonals[i]);
            later.fill(T::ZERO);
        }
    }

    /// From the gradient `da` of the weights: the weights `a`, the gradient of g added to `dg`, that of the sums of decays added to
    /// `dsums`, those of scales and diagonals to theirs. `row` is room for a row.
    pub(super) fn weigh_back[I; T: Real](
        triangle: &Triangle<'_, T>,
        g: &[T],
        da: &[T],
        a: &mut [T],
        dg: &mut [T],
        dsums: &mut [T],
        dscales: &mut [T],
        ddiagonals: &mut [T],
        row: &mut [T],
    ) {
        let Triangle { rank, stride, sums, scales, diagonals } = *triangle;
        let rows = sums.len();
        for i in 0..rows {
            let (own, now) = (i / rank * rank, sums[i]);
            let (g, da) = (&g[i * stride..][..rows], &da[i * stride..][..rows]);
            let (a, dg) = (&mut a[i * stride..][..rows], &mut dg[i * stride..][..rows]);
            {
                let (a, dg, row) = (&mut a[..own], &mut dg[..own], &mut row[..own]);
                let (g, da, then, scales) = (&g[..own], &da[..own], &sums[..own], &scales[..own]);
                let (dthen, dscales) = (&mut dsums[..own], &mut dscales[..own]);
                for j in 0..own {
                    let left = (now - then[j]).exp::<I>();
                    let weight = left * scales[j];
                    a[j] = g[j] * weight;
                    dg[j] = da[j].fma::<I>(weight, dg[j]);
                    let of_scale = da[j] * g[j] * left;
                    dscales[j] = dscales[j] + of_scale;
                    row[j] = of_scale * scales[j];
                    dthen[j] = dthen[j] - row[j];
                }
                dsums[i] = dsums[i] + sum(row);
            }
            for j in own..own + rank {
                a[j] = g[j] * diagonals[i];
                dg[j] = da[j].fma::<I>(diagonals[i], dg[j]);
                ddiagonals[i] = da[j].fma::<I>(g[j], ddiagonals[i]);
            }
            a[own + rank..].fill(T::ZERO);
        }
    }
}
