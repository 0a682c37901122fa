//! Softmax and its logarithm over the rows of `[N, width]`.
//!
//! softmax: y = e^(x - m) / sum e^(x - m) with m the largest of the row; dx = y (dy - sum y dy).
//! log_softmax: y = x - m - ln sum e^(x - m); dx = dy - e^y sum dy.
//! Sums are kept in f32 (f64 for f64). A row whose largest element is minus infinity, or that holds a NaN, is NaN.

use cupola_core::{bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{largest, loaded, scratch, stored, sum_mapped, sums, sums2};
use crate::work::{pieces, rows_per_piece};
use crate::{Isa, instantiate, isa, kernel};

kernel! {
    fn softmax_row[I; R: Real](x: &[R], y: &mut [R]) {
        let m = largest(x);
        let sum = sum_mapped(x, y, |x| (x - m).exp_nonpositive::<I>());
        let inverse = R::ONE / sum;
        for y in y {
            *y = *y * inverse;
        }
    }
    fn log_softmax_row[I; R: Real](x: &[R], y: &mut [R]) {
        let m = largest(x);
        let [sum] = sums(x, |x| [(x - m).exp_nonpositive::<I>()]);
        let log = sum.ln::<I>();
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - m) - log;
        }
    }
    fn softmax_backward_row[I; R: Real](y: &[R], dy: &[R], dx: &mut [R]) {
        let [dot] = sums2(y, dy, |y, dy| [y * dy]);
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = y * (dy - dot);
        }
    }
    fn log_softmax_backward_row[I; R: Real](y: &[R], dy: &[R], dx: &mut [R]) {
        let [sum] = sums(dy, |dy| [dy]);
        for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
            *dx = (-y.exp_nonpositive::<I>()).fma::<I>(sum, dy);
        }
    }
}

/// x to y.
type ForwardRow<R> = fn(Isa, &[R], &mut [R]);
/// y and dy to dx.
type BackwardRow<R> = fn(Isa, &[R], &[R], &mut [R]);

#[track_caller]
fn forward<T: Number>(op: &str, x: &[T], width: usize, y: &mut [T], row: ForwardRow<T::Real>) {
    assert_eq!(x.len(), y.len(), "{op}: lengths of x and y");
    assert!(width > 0 || x.is_empty(), "{op}: rows of width 0 hold nothing");
    assert!(x.is_empty() || x.len().is_multiple_of(width), "{op}: {} elements are no rows of {width}", x.len());
    let isa = isa();
    pieces(y, rows_per_piece(width) * width, |first, y| {
        let (mut wide, mut result) = (scratch::<T>(width), scratch::<T>(width));
        let x = &x[first..first + y.len()];
        for (line, y) in x.chunks(width).zip(y.chunks_mut(width)) {
            let x = loaded(isa, line, &mut wide);
            stored(isa, y, &mut result, |y| row(isa, x, y));
        }
    });
}

#[track_caller]
fn backward<T: Number>(op: &str, y: &[T], dy: &[T], width: usize, dx: &mut [T], row: BackwardRow<T::Real>) {
    assert_eq!(y.len(), dx.len(), "{op}: lengths of y and dx");
    assert_eq!(dy.len(), dx.len(), "{op}: lengths of dy and dx");
    assert!(width > 0 || y.is_empty(), "{op}: rows of width 0 hold nothing");
    assert!(y.is_empty() || y.len().is_multiple_of(width), "{op}: {} elements are no rows of {width}", y.len());
    let isa = isa();
    pieces(dx, rows_per_piece(width) * width, |first, dx| {
        let [mut wide_y, mut wide_dy, mut result] = [(); 3].map(|()| scratch::<T>(width));
        let rows = y[first..].chunks(width).zip(dy[first..].chunks(width));
        for ((y, dy), dx) in rows.zip(dx.chunks_mut(width)) {
            let (y, dy) = (loaded(isa, y, &mut wide_y), loaded(isa, dy, &mut wide_dy));
            stored(isa, dx, &mut result, |dx| row(isa, y, dy, dx));
        }
    });
}

#[track_caller]
fn softmax_of<T: Number>(x: &[T], width: usize, y: &mut [T]) {
    forward("softmax", x, width, y, softmax_row::<T::Real>);
}

#[track_caller]
fn softmax_backward_of<T: Number>(y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
    backward("softmax", y, dy, width, dx, softmax_backward_row::<T::Real>);
}

#[track_caller]
fn log_softmax_of<T: Number>(x: &[T], width: usize, y: &mut [T]) {
    forward("log_softmax", x, width, y, log_softmax_row::<T::Real>);
}

#[track_caller]
fn log_softmax_backward_of<T: Number>(y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
    backward("log_softmax", y, dy, width, dx, log_softmax_backward_row::<T::Real>);
}

instantiate! {
    /// Elements that softmax works on.
    Softmax: Number, for [f64, f32, bf16, f16] {
        /// y = softmax(x) over rows of `width`.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn softmax(x: &[T], width: usize, y: &mut [T]) = softmax_of;
        /// dx from y = softmax(x) and dy.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn softmax_backward(y: &[T], dy: &[T], width: usize, dx: &mut [T]) = softmax_backward_of;
        /// y = ln softmax(x) over rows of `width`.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn log_softmax(x: &[T], width: usize, y: &mut [T]) = log_softmax_of;
        /// dx from y = log_softmax(x) and dy.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn log_softmax_backward(y: &[T], dy: &[T], width: usize, dx: &mut [T]) = log_softmax_backward_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, each_tier_same_on_threads, normal, tolerance, wide};

    fn reference(x: &[f64], dy: &[f64]) -> [Vec<f64>; 4] {
        let m = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log = x.iter().map(|x| (x - m).exp()).sum::<f64>().ln() + m;
        let l: Vec<f64> = x.iter().map(|x| x - log).collect();
        let y: Vec<f64> = l.iter().map(|l| l.exp()).collect();
        let dot: f64 = y.iter().zip(dy).map(|(y, dy)| y * dy).sum();
        let sum: f64 = dy.iter().sum();
        let dx = y.iter().zip(dy).map(|(y, dy)| y * (dy - dot)).collect();
        let dl = y.iter().zip(dy).map(|(y, dy)| dy - y * sum).collect();
        [y, dx, l, dl]
    }

    fn check<T: Softmax<T>>() {
        for (rows, width) in [(0, 5), (3, 1), (4, 31), (300, 33), (1, 65), (40, 257), (7, 16_411)] {
            let x: Vec<T> = normal(rows * width, 3.0, 1);
            let dy: Vec<T> = normal(rows * width, 1.0, 2);
            let mut expected = [const { Vec::new() }; 4];
            for (x, dy) in wide(&x).chunks(width).zip(wide(&dy).chunks(width)) {
                for (all, row) in expected.iter_mut().zip(reference(x, dy)) {
                    all.extend(row);
                }
            }
            for results in each_tier_same_on_threads(|| {
                let mut all = [(); 4].map(|()| vec![T::default(); x.len()]);
                let [y, dx, l, dl] = &mut all;
                softmax(&x, width, y);
                softmax_backward(y, &dy, width, dx);
                log_softmax(&x, width, l);
                log_softmax_backward(l, &dy, width, dl);
                all
            }) {
                for (k, (actual, expected)) in results.iter().zip(&expected).enumerate() {
                    // Gradients come from results that were rounded to T.
                    let bound = tolerance::<T>() * [1.0, 3.0, 1.0, 8.0][k];
                    close(actual, expected, bound, &format!("{k} {} {rows}x{width}", T::DTYPE));
                }
            }
        }
    }

    #[test]
    fn rows_agree_with_the_formula() {
        check::<f64>();
        check::<f32>();
        check::<bf16>();
        check::<f16>();
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        let (x, dy): (Vec<f64>, Vec<f64>) = (normal(37, 1.0, 3), normal(37, 1.0, 4));
        type Forward = fn(&[f64], usize, &mut [f64]);
        type Backward = fn(&[f64], &[f64], usize, &mut [f64]);
        let ops: [(Forward, Backward); 2] = [(softmax, softmax_backward), (log_softmax, log_softmax_backward)];
        for (forward, backward) in ops {
            let loss = |x: &[f64]| {
                let mut y = vec![0.0; 37];
                forward(x, 37, &mut y);
                (y.iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>(), y)
            };
            let mut dx = vec![0.0; 37];
            backward(&loss(&x).1, &dy, 37, &mut dx);
            for k in 0..37 {
                let moved = |h: f64| {
                    let mut x = x.clone();
                    x[k] += h;
                    loss(&x).0
                };
                let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!((difference - dx[k]).abs() < 1e-8, "{k}: {difference} {}", dx[k]);
            }
        }
    }

    #[test]
    fn large_arguments_neither_overflow_nor_vanish() {
        let mut y = [0.0f32; 3];
        softmax(&[1e30, 1e30, -1e30], 3, &mut y);
        assert_eq!(y, [0.5, 0.5, 0.0]);
        softmax(&[0.0, f32::NEG_INFINITY, 0.0], 3, &mut y);
        assert_eq!(y, [0.5, 0.0, 0.5]);
        softmax(&[0.0, f32::NAN, 0.0], 3, &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
    }
}
