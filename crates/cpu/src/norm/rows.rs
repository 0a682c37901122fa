//! One row of a normalisation. The row is read from the first-level cache in the second and third pass.

use crate::kernel;
use crate::real::Real;
use crate::rows::{sums, sums2, sums3};

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
            let [sum] = sums(h, |h| [h]);
            sum * inverse
        } else {
            R::ZERO
        };
        let [square] = sums(h, |h| [(h - mean) * (h - mean)]);
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
        // Sums of g and of g h', with g = dy w.
        let [sum, dot] = match weight {
            Some(w) => sums3(dy, w, h, |dy, w, h| {
                let g = dy * w;
                [g, g * (h - mean)]
            }),
            None => sums2(dy, h, |dy, h| [dy, dy * (h - mean)]),
        };
        let inverse = R::ONE / R::of(n as f64);
        let shift = if centred { sum * inverse } else { R::ZERO };
        let tilt = dot * rstd * inverse;
        let slope = |g: R, normal: R| ((-tilt).fma::<I>(normal, g) - shift) * rstd;
        match (weight, dw.is_empty(), db.is_empty()) {
            // The common cases in one pass over the row.
            (Some(w), false, true) => {
                for ((((dx, dw), &dy), &w), &h) in dx.iter_mut().zip(dw).zip(dy).zip(w).zip(h) {
                    let normal = (h - mean) * rstd;
                    *dw = dy.fma::<I>(normal, *dw);
                    *dx = slope(dy * w, normal);
                }
            }
            (Some(w), false, false) => {
                for (((((dx, dw), db), &dy), &w), &h) in dx.iter_mut().zip(dw).zip(db).zip(dy).zip(w).zip(h) {
                    let normal = (h - mean) * rstd;
                    *dw = dy.fma::<I>(normal, *dw);
                    *db = *db + dy;
                    *dx = slope(dy * w, normal);
                }
            }
            _ => {
                for ((dw, &dy), &h) in dw.iter_mut().zip(dy).zip(h) {
                    *dw = dy.fma::<I>((h - mean) * rstd, *dw);
                }
                for (db, &dy) in db.iter_mut().zip(dy) {
                    *db = *db + dy;
                }
                match weight {
                    Some(w) => {
                        for (((dx, &dy), &w), &h) in dx.iter_mut().zip(dy).zip(w).zip(h) {
                            *dx = slope(dy * w, (h - mean) * rstd);
                        }
                    }
                    None => {
                        for ((dx, &dy), &h) in dx.iter_mut().zip(dy).zip(h) {
                            *dx = slope(dy, (h - mean) * rstd);
                        }
                    }
                }
            }
        }
        if let Some(dh) = dh {
            for (dx, &dh) in dx.iter_mut().zip(dh) {
                *dx = *dx + dh;
            }
        }
    }
}
