//! One row of a normalisation. The row is read from the first-level cache in the second and third pass.

use crate::kernel;
use crate::real::Real;
use crate::rows::sums;

/// What the gradient of one row is computed from.
#[derive(Clone, Copy)]
pub(super) struct BackwardRow<'a, R> {
    pub h: &'a [R],
    pub dy: &'a [R],
    pub dh: Option<&'a [R]>,
    pub weight: Option<&'a [R]>,
    pub mean: R,
    pub rstd: R,
    pub centred: bool,
}

kernel! {
    pub(super) fn add_row[_I; R: Real](a: &[R], b: &[R], sum: &mut [R]) {
        for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
            *sum = a + b;
        }
    }
    pub(super) fn accumulate_row[_I; R: Real](sum: &mut [R], x: &[R]) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum = *sum + x;
        }
    }
    pub(super) fn forward_row[I; R: Real](
        h: &[R],
        weight: Option<&[R]>,
        bias: Option<&[R]>,
        eps: R,
        centred: bool,
        y: &mut [R],
    ) -> (R, R) {
        let n = h.len();
        let inverse = R::ONE / R::of(n as f64);
        let mean = if centred {
            let [sum] = sums(n, |k| [h[k]]);
            sum * inverse
        } else {
            R::ZERO
        };
        let [square] = sums(n, |k| {
            let d = h[k] - mean;
            [d * d]
        });
        let rstd = R::ONE / square.fma::<I>(inverse, eps).sqrt();
        let y = &mut y[..n];
        match (weight, bias) {
            (None, None) => {
                for k in 0..n {
                    y[k] = (h[k] - mean) * rstd;
                }
            }
            (Some(w), None) => {
                let w = &w[..n];
                for k in 0..n {
                    y[k] = (h[k] - mean) * rstd * w[k];
                }
            }
            (None, Some(b)) => {
                let b = &b[..n];
                for k in 0..n {
                    y[k] = (h[k] - mean).fma::<I>(rstd, b[k]);
                }
            }
            (Some(w), Some(b)) => {
                let (w, b) = (&w[..n], &b[..n]);
                for k in 0..n {
                    y[k] = ((h[k] - mean) * rstd).fma::<I>(w[k], b[k]);
                }
            }
        }
        (mean, rstd)
    }
}

kernel! {
    /// dx of one row; adds the row's part to `dw` and `db` where these are not empty.
    pub(super) fn backward_row[I; R: Real](row: BackwardRow<'_, R>, dw: &mut [R], db: &mut [R], dx: &mut [R]) {
        let BackwardRow { h, dy, dh, weight, mean, rstd, centred } = row;
        let n = h.len();
        let (dy, dx) = (&dy[..n], &mut dx[..n]);
        // Sums of g and of g h', with g = dy w left in dx.
        let [sum, dot] = match weight {
            Some(w) => {
                let w = &w[..n];
                sums(n, |k| {
                    let g = dy[k] * w[k];
                    dx[k] = g;
                    [g, g * ((h[k] - mean) * rstd)]
                })
            }
            None => sums(n, |k| {
                dx[k] = dy[k];
                [dy[k], dy[k] * ((h[k] - mean) * rstd)]
            }),
        };
        let inverse = R::ONE / R::of(n as f64);
        let shift = if centred { sum * inverse } else { R::ZERO };
        let tilt = dot * inverse;
        if !dw.is_empty() {
            let dw = &mut dw[..n];
            for k in 0..n {
                dw[k] = dy[k].fma::<I>((h[k] - mean) * rstd, dw[k]);
            }
        }
        if !db.is_empty() {
            let db = &mut db[..n];
            for k in 0..n {
                db[k] = db[k] + dy[k];
            }
        }
        let slope = |g: R, h: R| (g - shift - (h - mean) * rstd * tilt) * rstd;
        match dh {
            Some(dh) => {
                let dh = &dh[..n];
                for k in 0..n {
                    dx[k] = slope(dx[k], h[k]) + dh[k];
                }
            }
            None => {
                for k in 0..n {
                    dx[k] = slope(dx[k], h[k]);
                }
            }
        }
    }
}
