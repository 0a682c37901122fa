//! Softmax cross-entropy over rows of logits `[N, V]`, without storing probabilities.
//!
//! With L the log-sum-exp of a row, t its target and c its classes' weights (ones when absent):
//!
//! loss = (1 - s) c_t (L - x_t) + s/V sum_j c_j (L - x_j) + z c_t L^2
//!
//! where s is the label smoothing (Szegedy et al., "Rethinking the inception architecture", 2016) and z the weight of the
//! z-loss (Chowdhery et al., "PaLM", 2022). The forward pass keeps L; the backward pass writes
//!
//! dx_j = scale (((1 - s) c_t + s/V sum c + 2 z c_t L) e^(x_j - L) - (1 - s) c_t [j = t] - s/V c_j)
//!
//! over the logits or elsewhere. Rows whose target is the ignored index have loss and gradient 0. Everything is computed in
//! f32 (f64 for f64).

mod chunks;

pub use chunks::{Running, Span, add_chunk, chunk_gradient, finish_chunks};

use cupola_core::pool::Parts;
use cupola_core::{bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{largest, loaded, scratch, stored, sums, sums2};
use crate::work::{ROW_BLOCK, parallel_for, pieces, rows_per_piece};
use crate::{instantiate, isa, kernel};

/// How rows are compared with their targets.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a, R> {
    /// Rows with this target do not count.
    pub ignore_index: Option<i64>,
    /// The part of the target's probability that is spread over all classes.
    pub label_smoothing: f64,
    /// A factor for each class, `[V]`.
    pub class_weights: Option<&'a [R]>,
    /// The weight of the squared log-sum-exp.
    pub z_loss: f64,
}

impl<R> Default for Options<'_, R> {
    fn default() -> Self {
        Self { ignore_index: None, label_smoothing: 0.0, class_weights: None, z_loss: 0.0 }
    }
}

impl<R: Real> Options<'_, R> {
    /// What PyTorch's mean divides by: the number of rows that count, or the sum of their targets' class weights.
    ///
    /// # Panics
    /// When a target is no class.
    #[track_caller]
    pub fn total_weight(&self, targets: &[i64], classes: usize) -> f64 {
        let weights = targets.iter().enumerate().filter_map(|(row, &t)| self.class(t, row, classes));
        weights.map(|t| self.class_weights.map_or(1.0, |c| c[t].to_f64())).sum()
    }

    /// The class that a row is compared with; `None` when it is ignored.
    #[inline(always)]
    #[track_caller]
    fn class(&self, target: i64, row: usize, classes: usize) -> Option<usize> {
        if self.ignore_index == Some(target) {
            return None;
        }
        let class = usize::try_from(target).ok().filter(|&class| class < classes);
        Some(class.unwrap_or_else(|| panic!("cross_entropy: target {target} of row {row} is outside of 0..{classes}")))
    }
}

/// The factors of one row's loss.
#[derive(Clone, Copy)]
struct Factors<R> {
    /// Where the target stands in the row; beyond its end when it is not in there.
    target: usize,
    /// (1 - s) c_t.
    own: R,
    /// s / V.
    spread: R,
    /// z c_t.
    z: R,
    /// Of the gradient.
    scale: R,
}

kernel! {
    /// (loss, log-sum-exp) of a row.
    fn loss_row[I; R: Real](x: &[R], weights: Option<&[R]>, f: Factors<R>) -> (R, R) {
        let m = largest(x);
        let [sum] = sums(x, |x| [(x - m).exp_nonpositive::<I>()]);
        let log = sum.ln::<I>() + m;
        let spread = if f.spread == R::ZERO {
            R::ZERO
        } else if let Some(weights) = weights {
            let [sum] = sums2(x, weights, |x, w| [w * (log - x)]);
            f.spread * sum
        } else {
            let [sum] = sums(x, |x| [log - x]);
            f.spread * sum
        };
        (f.own.fma::<I>(log - x[f.target], spread) + f.z * log * log, log)
    }
    /// The gradient over the logits of a row.
    fn gradient_row[I; R: Real](x: &mut [R], log: R, weights: Option<&[R]>, total: R, f: Factors<R>) {
        let factor = f.scale * (f.own + f.spread * total + (f.z + f.z) * log);
        let spread = f.scale * f.spread;
        if f.spread == R::ZERO {
            for x in x.iter_mut() {
                *x = factor * (*x - log).exp_nonpositive::<I>();
            }
        } else if let Some(weights) = weights {
            for (x, &w) in x.iter_mut().zip(weights) {
                *x = factor * (*x - log).exp_nonpositive::<I>() - spread * w;
            }
        } else {
            for x in x.iter_mut() {
                *x = factor * (*x - log).exp_nonpositive::<I>() - spread;
            }
        }
        if let Some(x) = x.get_mut(f.target) {
            *x = *x - f.scale * f.own;
        }
    }
}

impl<R: Real> Options<'_, R> {
    fn factors(&self, target: usize, classes: usize, scale: R) -> Factors<R> {
        let weight = self.class_weights.map_or(R::ONE, |c| c[target]);
        Factors {
            target,
            own: R::of(1.0 - self.label_smoothing) * weight,
            spread: R::of(self.label_smoothing / classes as f64),
            z: R::of(self.z_loss) * weight,
            scale,
        }
    }

    #[track_caller]
    fn check(&self, logits: usize, targets: &[i64], classes: usize) {
        let rows = targets.len();
        assert_eq!(logits, rows * classes, "cross_entropy: length of the logits of {rows} rows and {classes} classes");
        assert!(
            self.class_weights.is_none_or(|c| c.len() == classes),
            "cross_entropy: one weight for each of {classes} classes"
        );
        // Found here, on the calling thread, so that the pieces cannot fail.
        for (row, &target) in targets.iter().enumerate() {
            self.class(target, row, classes);
        }
    }
}

#[track_caller]
fn forward_of<T: Number>(
    logits: &[T],
    targets: &[i64],
    classes: usize,
    options: &Options<'_, <T as Number>::Real>,
    loss: &mut [<T as Number>::Real],
    log_sum_exp: &mut [<T as Number>::Real],
) {
    options.check(logits.len(), targets, classes);
    assert_eq!(
        (loss.len(), log_sum_exp.len()),
        (targets.len(), targets.len()),
        "cross_entropy: lengths of the results"
    );
    let isa = isa();
    let step = rows_per_piece(classes);
    let (loss, logs) = (Parts::new(loss, step), Parts::new(log_sum_exp, step));
    let run = |index: usize| {
        let ((first, loss), (_, logs)) = (loss.take(index), logs.take(index));
        let mut wide = scratch::<T>(classes);
        for (k, (loss, log)) in loss.iter_mut().zip(logs).enumerate() {
            let row = first + k;
            let class = options.class(targets[row], row, classes);
            let x = loaded(isa, &logits[row * classes..(row + 1) * classes], &mut wide);
            let factors = options.factors(class.unwrap_or(0), classes, T::Real::ONE);
            let (value, log_value) = loss_row(isa, x, options.class_weights, factors);
            *loss = if class.is_some() { value } else { T::Real::ZERO };
            *log = log_value;
        }
    };
    if loss.len() <= 2 { (0..loss.len()).for_each(run) } else { parallel_for(loss.len(), &run) }
}

#[track_caller]
fn gradient_rows<T: Number>(
    rows: &mut [T],
    source: Option<&[T]>,
    targets: &[i64],
    classes: usize,
    options: &Options<'_, T::Real>,
    log_sum_exp: &[T::Real],
    scales: &[T::Real],
) {
    options.check(rows.len(), targets, classes);
    assert_eq!(log_sum_exp.len(), targets.len(), "cross_entropy: one log-sum-exp for each row");
    assert!(scales.len() == 1 || scales.len() == targets.len(), "cross_entropy: one scale, or one for each row");
    assert!(source.is_none_or(|source| source.len() == rows.len()), "cross_entropy: lengths of logits and gradient");
    let isa = isa();
    let total = options.class_weights.map_or(T::Real::of(classes as f64), |c| {
        let [total] = sums(c, |c| [c]);
        total
    });
    pieces(rows, rows_per_piece(classes) * classes, |first, rows| {
        let mut wide = scratch::<T>(classes);
        for (k, x) in rows.chunks_mut(classes).enumerate() {
            let row = first / classes + k;
            let Some(class) = options.class(targets[row], row, classes) else {
                x.fill(T::default());
                continue;
            };
            if let Some(source) = source {
                x.copy_from_slice(&source[row * classes..(row + 1) * classes]);
            }
            let factors = options.factors(class, classes, scales[if scales.len() == 1 { 0 } else { row }]);
            if T::as_real(&[]).is_none() {
                T::widen(isa, x, &mut wide);
            }
            stored(isa, x, &mut wide, |x| {
                gradient_row(isa, x, log_sum_exp[row], options.class_weights, total, factors)
            });
        }
    });
}

#[track_caller]
fn backward_of<T: Number>(
    logits: &[T],
    targets: &[i64],
    classes: usize,
    options: &Options<'_, <T as Number>::Real>,
    log_sum_exp: &[<T as Number>::Real],
    scales: &[<T as Number>::Real],
    dlogits: &mut [T],
) {
    gradient_rows(dlogits, Some(logits), targets, classes, options, log_sum_exp, scales);
}

#[track_caller]
fn backward_in_place_of<T: Number>(
    logits: &mut [T],
    targets: &[i64],
    classes: usize,
    options: &Options<'_, <T as Number>::Real>,
    log_sum_exp: &[<T as Number>::Real],
    scales: &[<T as Number>::Real],
) {
    gradient_rows(logits, None, targets, classes, options, log_sum_exp, scales);
}

/// The sum of numbers that belong to rows: in order within blocks of 256, and the blocks in order onto `begin`. Sums of the
/// parts of a batch therefore have the bits of the sum of the whole, where the parts are multiples of 256 rows.
pub fn sum_of_rows<R: Real>(begin: R, values: &[R]) -> R {
    let block = |block: &[R]| block.iter().fold(R::ZERO, |sum, &x| sum + x);
    values.chunks(ROW_BLOCK).fold(begin, |sum, values| sum + block(values))
}

instantiate! {
    /// Elements that logits may have.
    CrossEntropy: Number, for [f64, f32, bf16, f16] {
        /// The loss and the log-sum-exp of each row of `logits [N, classes]`, both `[N]`; `targets` are `[N]`.
        ///
        /// # Panics
        /// When the lengths do not fit or a target is neither a class nor ignored.
        fn forward(
            logits: &[T],
            targets: &[i64],
            classes: usize,
            options: &Options<'_, <T as Number>::Real>,
            loss: &mut [<T as Number>::Real],
            log_sum_exp: &mut [<T as Number>::Real],
        ) = forward_of;
        /// The gradient of the logits; `scales` holds the gradient of each row's loss, or one number for all.
        ///
        /// # Panics
        /// As [`forward`].
        fn backward(
            logits: &[T],
            targets: &[i64],
            classes: usize,
            options: &Options<'_, <T as Number>::Real>,
            log_sum_exp: &[<T as Number>::Real],
            scales: &[<T as Number>::Real],
            dlogits: &mut [T],
        ) = backward_of;
        /// As [`backward`], written over the logits.
        ///
        /// # Panics
        /// As [`forward`].
        fn backward_in_place(
            logits: &mut [T],
            targets: &[i64],
            classes: usize,
            options: &Options<'_, <T as Number>::Real>,
            log_sum_exp: &[<T as Number>::Real],
            scales: &[<T as Number>::Real],
        ) = backward_in_place_of;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{close, each_tier_same_on_threads, normal, tolerance, uniform, wide};
    use cupola_core::{Element, Rng};

    fn reference(x: &[f64], t: usize, s: f64, c: &[f64], z: f64) -> f64 {
        let log = x.iter().map(|x| x.exp()).sum::<f64>().ln();
        let spread: f64 = x.iter().zip(c).map(|(x, c)| c * (log - x)).sum();
        (1.0 - s) * c[t] * (log - x[t]) + s / x.len() as f64 * spread + z * c[t] * log * log
    }

    fn difference(x: &[f64], k: usize, loss: impl Fn(&[f64]) -> f64) -> f64 {
        let moved = |h: f64| {
            let mut x = x.to_vec();
            x[k] += h;
            loss(&x)
        };
        (moved(1e-5) - moved(-1e-5)) / 2e-5
    }

    fn check<T: CrossEntropy<T>>() {
        for (rows, classes) in [(0, 3), (3, 1), (9, 31), (5, 33), (300, 65), (4, 257), (3, 12_289)] {
            let x: Vec<T> = normal(rows * classes, 2.0, 1);
            let rng = Rng::seed(7);
            let mut targets: Vec<i64> = (0..rows as u64).map(|i| rng.below(i, classes as u64) as i64).collect();
            targets.iter_mut().skip(1).step_by(4).for_each(|t| *t = -100);
            let weights: Vec<T::Real> = uniform(classes, 0.5, 1.5, 2);
            let scales: Vec<T::Real> = uniform(rows, 0.5, 1.5, 3);
            for (smoothing, weighted, z) in [(0.0, false, 0.0), (0.1, false, 0.0), (0.0, true, 1e-2), (0.2, true, 1e-2)]
            {
                let class_weights = weighted.then_some(&weights[..]);
                let options =
                    Options { ignore_index: Some(-100), label_smoothing: smoothing, class_weights, z_loss: z };
                let c = if weighted { wide(&weights) } else { vec![1.0; classes] };
                let loss_of = |row: usize, x: &[f64]| match usize::try_from(targets[row]) {
                    Ok(t) => reference(x, t, smoothing, &c, z),
                    Err(_) => 0.0,
                };
                let logits = wide(&x);
                let expected: Vec<f64> = logits.chunks(classes).enumerate().map(|(row, x)| loss_of(row, x)).collect();
                for (loss, dx) in each_tier_same_on_threads(|| {
                    let (mut loss, mut logs) = (vec![T::Real::ONE; rows], vec![T::Real::ONE; rows]);
                    forward(&x, &targets, classes, &options, &mut loss, &mut logs);
                    let mut dx = vec![T::default(); x.len()];
                    backward(&x, &targets, classes, &options, &logs, &scales, &mut dx);
                    let mut same = x.clone();
                    backward_in_place(&mut same, &targets, classes, &options, &logs, &scales);
                    assert!(same == dx, "in place differs");
                    (loss, dx)
                }) {
                    let what = format!("{} {rows}x{classes} {smoothing} {weighted}", T::DTYPE);
                    let real = if T::DTYPE == cupola_core::DType::F64 { 1e-12 } else { 3e-6 };
                    close(&loss, &expected, real, &what);
                    for row in 0..rows {
                        let x = &logits[row * classes..(row + 1) * classes];
                        let slopes = wide(&dx[row * classes..(row + 1) * classes]);
                        let largest = slopes.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
                        for k in (0..classes).step_by(classes.div_ceil(9)) {
                            let slope = difference(x, k, |x| loss_of(row, x)) * scales[row].to_f64();
                            let error = (slope - slopes[k]).abs();
                            // The log-sum-exp carries an absolute error of its own size, which the exponential turns into a
                            // relative one.
                            let relative = match T::DTYPE {
                                cupola_core::DType::F64 => 1e-8,
                                _ => tolerance::<T>().max(6e-6),
                            };
                            let bound = relative * largest + 2e-9;
                            assert!(error <= bound, "{what} row {row} class {k}: {} {slope}", slopes[k]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn losses_agree_with_the_formula_and_gradients_with_differences() {
        check::<f64>();
        check::<f32>();
        check::<bf16>();
        check::<f16>();
    }

    #[test]
    fn the_mean_divides_by_what_counts() {
        let weights = [1.0f32, 2.0, 4.0];
        let mut options = Options { ignore_index: Some(1), ..Options::default() };
        assert_eq!(options.total_weight(&[0, 1, 2, 2], 3), 3.0);
        options.class_weights = Some(&weights);
        assert_eq!(options.total_weight(&[0, 1, 2, 2], 3), 9.0);
    }

    #[test]
    fn sums_of_rows_do_not_depend_on_the_cut() {
        let x: Vec<f32> = normal(2000, 1.0, 5);
        assert_eq!(sum_of_rows(0.0, &x), sum_of_rows(sum_of_rows(0.0, &x[..768]), &x[768..]));
    }

    #[test]
    #[should_panic(expected = "cross_entropy: target 3 of row 1 is outside of 0..3")]
    fn a_target_that_is_no_class_is_named() {
        forward(&[0.0f32; 6], &[0, 3], 3, &Options::default(), &mut [0.0; 2], &mut [0.0; 2]);
    }
}
