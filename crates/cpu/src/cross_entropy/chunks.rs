//! Cross-entropy of rows whose logits come a range of classes at a time, so that not all of them are ever there.
//!
//! Each row carries the largest logit m so far and the sum of e^(x - m) (Milakov and Gimelshein, "Online normalizer calculation for
//! softmax", 2018), its target's logit, and with label smoothing the sum of c (a - x), where a is the largest logit of the first
//! range. A row's bits depend on where the classes are cut, and on nothing else.

use std::ops::Range;

use super::{Factors, Options, gradient_row};
use crate::real::Real;
use crate::rows::{largest, sums, sums2};
use crate::work::{pieces, pieces2, rows_per_piece};
use crate::{instantiate, isa, kernel};

/// A range of the classes, and how many there are in all.
#[derive(Clone, Debug)]
pub struct Span {
    /// Those whose logits are given.
    pub classes: Range<usize>,
    /// V.
    pub all: usize,
}

/// What is known of a row after some ranges of classes.
#[derive(Clone, Copy, Debug)]
pub struct Running<R> {
    largest: R,
    sum: R,
    target: R,
    anchor: R,
    spread: R,
}

impl<R: Real> Running<R> {
    /// Before the first range.
    pub fn new() -> Self {
        Self { largest: -R::INFINITY, sum: R::ZERO, target: R::ZERO, anchor: R::ZERO, spread: R::ZERO }
    }
}

impl<R: Real> Default for Running<R> {
    fn default() -> Self {
        Self::new()
    }
}

kernel! {
    /// (largest, sum of e^(x - largest)) of a row's range.
    fn exponentials[I; R: Real](x: &[R]) -> (R, R) {
        let m = largest(x);
        let [sum] = sums(x, |x| [(x - m).exp_nonpositive::<I>()]);
        (m, sum)
    }
    /// The two sums over different largest elements as one.
    fn merged[I; R: Real](a: (R, R), b: (R, R)) -> (R, R) {
        let m = a.0.larger(b.0);
        (m, a.1 * (a.0 - m).exp_nonpositive::<I>() + b.1 * (b.0 - m).exp_nonpositive::<I>())
    }
    /// Sum of c (anchor - x).
    fn distances[_I; R: Real](x: &[R], weights: Option<&[R]>, anchor: R) -> R {
        let [sum] = match weights {
            Some(weights) => sums2(x, weights, |x, w| [w * (anchor - x)]),
            None => sums(x, |x| [anchor - x]),
        };
        sum
    }
    /// (loss, log-sum-exp) of a row that has seen all classes, whose weights add up to `total`.
    fn finished[I; R: Real](row: Running<R>, total: R, f: Factors<R>) -> (R, R) {
        let log = row.sum.ln::<I>() + row.largest;
        let spread = if f.spread == R::ZERO {
            R::ZERO
        } else {
            f.spread * (log - row.anchor).fma::<I>(total, row.spread)
        };
        (f.own.fma::<I>(log - row.target, spread) + f.z * log * log, log)
    }
}

#[track_caller]
fn check<R: Real>(op: &str, logits: usize, rows: usize, span: &Span, options: &Options<'_, R>) -> usize {
    let width = span.classes.len();
    assert!(
        logits == rows * width && span.classes.end <= span.all,
        "{op}: {logits} logits of {rows} rows and classes {:?} of {}",
        span.classes,
        span.all
    );
    assert!(
        options.class_weights.is_none_or(|c| c.len() == span.all),
        "{op}: one weight for each of {} classes",
        span.all
    );
    width
}

#[track_caller]
fn add_chunk_of<R: Real>(
    logits: &[R],
    span: &Span,
    targets: &[i64],
    options: &Options<'_, R>,
    running: &mut [Running<R>],
) {
    let rows = running.len();
    assert_eq!(targets.len(), rows, "cross_entropy: one target for each row");
    let width = check("cross_entropy", logits.len(), rows, span, options);
    for (row, &target) in targets.iter().enumerate() {
        options.class(target, row, span.all);
    }
    if width == 0 {
        return;
    }
    let isa = isa();
    let weights = options.class_weights.map(|c| &c[span.classes.clone()]);
    pieces(running, rows_per_piece(width), |first, running| {
        for (k, state) in running.iter_mut().enumerate() {
            let row = first + k;
            let Some(class) = options.class(targets[row], row, span.all) else { continue };
            let x = &logits[row * width..(row + 1) * width];
            let found = exponentials(isa, x);
            (state.largest, state.sum) = merged(isa, (state.largest, state.sum), found);
            if span.classes.contains(&class) {
                state.target = x[class - span.classes.start];
            }
            if options.label_smoothing != 0.0 {
                if span.classes.start == 0 {
                    state.anchor = found.0;
                }
                state.spread = state.spread + distances(isa, x, weights, state.anchor);
            }
        }
    });
}

/// The sum of the class weights.
fn total<R: Real>(classes: usize, options: &Options<'_, R>) -> R {
    options.class_weights.map_or(R::of(classes as f64), |c| {
        let [total] = sums(c, |c| [c]);
        total
    })
}

#[track_caller]
fn finish_chunks_of<R: Real>(
    running: &[Running<R>],
    targets: &[i64],
    classes: usize,
    options: &Options<'_, R>,
    loss: &mut [R],
    log_sum_exp: &mut [R],
) {
    let rows = running.len();
    let lengths = (targets.len(), loss.len(), log_sum_exp.len());
    assert_eq!(lengths, (rows, rows, rows), "cross_entropy: lengths of targets and results of {rows} rows");
    let (isa, total) = (isa(), total(classes, options));
    let step = rows_per_piece(1);
    pieces2((loss, step), (log_sum_exp, step), |first, loss, logs| {
        for (k, (loss, log)) in loss.iter_mut().zip(logs).enumerate() {
            let row = first + k;
            (*loss, *log) = match options.class(targets[row], row, classes) {
                Some(class) => finished(isa, running[row], total, options.factors(class, classes, R::ONE)),
                None => (R::ZERO, R::ZERO),
            };
        }
    });
}

#[track_caller]
fn chunk_gradient_of<R: Real>(
    logits: Option<&[R]>,
    span: &Span,
    targets: &[i64],
    options: &Options<'_, R>,
    log_sum_exp: &[R],
    scales: &[R],
    gradient: &mut [R],
) {
    let rows = targets.len();
    let width = check("cross_entropy", gradient.len(), rows, span, options);
    assert_eq!(log_sum_exp.len(), rows, "cross_entropy: one log-sum-exp for each row");
    assert!(scales.len() == 1 || scales.len() == rows, "cross_entropy: one scale, or one for each row");
    assert!(logits.is_none_or(|x| x.len() == gradient.len()), "cross_entropy: lengths of logits and gradient");
    for (row, &target) in targets.iter().enumerate() {
        options.class(target, row, span.all);
    }
    if width == 0 {
        return;
    }
    let (isa, total) = (isa(), total(span.all, options));
    let weights = options.class_weights.map(|c| &c[span.classes.clone()]);
    pieces(gradient, rows_per_piece(width) * width, |first, gradient| {
        for (k, x) in gradient.chunks_mut(width).enumerate() {
            let row = first / width + k;
            let Some(class) = options.class(targets[row], row, span.all) else {
                x.fill(R::ZERO);
                continue;
            };
            if let Some(logits) = logits {
                x.copy_from_slice(&logits[row * width..(row + 1) * width]);
            }
            let scale = scales[if scales.len() == 1 { 0 } else { row }];
            let mut factors = options.factors(class, span.all, scale);
            factors.target = class.checked_sub(span.classes.start).unwrap_or(usize::MAX);
            gradient_row(isa, x, log_sum_exp[row], weights, total, factors);
        }
    });
}

instantiate! {
    /// What logits that come in chunks are computed in.
    Chunked: Real, for [f64, f32] {
        /// Takes the logits `[N, W]` of a range of W classes into account; the ranges follow each other from class 0 on.
        ///
        /// # Panics
        /// When the lengths do not fit or a target is neither a class nor ignored.
        fn add_chunk(
            logits: &[T],
            span: &Span,
            targets: &[i64],
            options: &Options<'_, T>,
            running: &mut [Running<T>],
        ) = add_chunk_of;
        /// The loss and the log-sum-exp of each row, all of whose classes have been added; both 0 for an ignored row.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn finish_chunks(
            running: &[Running<T>],
            targets: &[i64],
            classes: usize,
            options: &Options<'_, T>,
            loss: &mut [T],
            log_sum_exp: &mut [T],
        ) = finish_chunks_of;
        /// The gradient of the logits of a range of classes, from `logits` or over what `gradient` holds; `scales` is the gradient
        /// of each row's loss, or one number for all.
        ///
        /// # Panics
        /// As [`add_chunk`].
        fn chunk_gradient(
            logits: Option<&[T]>,
            span: &Span,
            targets: &[i64],
            options: &Options<'_, T>,
            log_sum_exp: &[T],
            scales: &[T],
            gradient: &mut [T],
        ) = chunk_gradient_of;
    }
}

#[cfg(test)]
mod tests {
    use super::super::{backward, forward};
    use super::*;
    use crate::testing::{close, each_tier_same_on_threads, normal, uniform, wide};

    /// Loss, log-sum-exp and gradient with the classes cut at `step`.
    fn in_chunks<R: Chunked<R>>(
        x: &[R],
        targets: &[i64],
        classes: usize,
        step: usize,
        options: &Options<'_, R>,
        scales: &[R],
    ) -> (Vec<R>, Vec<R>, Vec<R>) {
        let rows = targets.len();
        let spans =
            (0..classes).step_by(step).map(|first| Span { classes: first..classes.min(first + step), all: classes });
        let part = |span: &Span| -> Vec<R> {
            x.chunks(classes).flat_map(|row| row[span.classes.clone()].iter().copied()).collect()
        };
        let mut running = vec![Running::new(); rows];
        spans.clone().for_each(|span| add_chunk(&part(&span), &span, targets, options, &mut running));
        let (mut loss, mut logs) = (vec![R::ONE; rows], vec![R::ONE; rows]);
        finish_chunks(&running, targets, classes, options, &mut loss, &mut logs);
        let mut dx = vec![R::ZERO; x.len()];
        for span in spans {
            let mut gradient = part(&span);
            let mut same = vec![R::ONE; gradient.len()];
            chunk_gradient(Some(&gradient), &span, targets, options, &logs, scales, &mut same);
            chunk_gradient(None, &span, targets, options, &logs, scales, &mut gradient);
            assert!(same == gradient, "in place differs");
            for (to, from) in dx.chunks_mut(classes).zip(gradient.chunks(span.classes.len())) {
                to[span.classes.clone()].copy_from_slice(from);
            }
        }
        (loss, logs, dx)
    }

    fn check<R: Chunked<R> + super::super::CrossEntropy<R>>(tolerance: f64) {
        for (rows, classes, step) in [(5, 33, 7), (3, 65, 64), (300, 9, 2), (4, 257, 257), (0, 3, 2)] {
            let x: Vec<R> = normal(rows * classes, 3.0, 1);
            let mut targets: Vec<i64> = (0..rows).map(|i| (i * 7 % classes) as i64).collect();
            targets.iter_mut().skip(1).step_by(3).for_each(|t| *t = -100);
            let (weights, scales): (Vec<R>, Vec<R>) = (uniform(classes, 0.5, 1.5, 2), uniform(rows, 0.5, 1.5, 3));
            for (smoothing, weighted, z) in [(0.0, false, 0.0), (0.2, false, 0.0), (0.1, true, 1e-2)] {
                let class_weights = weighted.then_some(&weights[..]);
                let options =
                    Options { ignore_index: Some(-100), label_smoothing: smoothing, class_weights, z_loss: z };
                for (loss, dx, plain, dplain) in each_tier_same_on_threads(|| {
                    let (loss, _, dx) = in_chunks(&x, &targets, classes, step, &options, &scales);
                    let (mut plain, mut logs) = (vec![R::ONE; rows], vec![R::ONE; rows]);
                    forward(&x, &targets, classes, &options, &mut plain, &mut logs);
                    let mut dplain = vec![R::ZERO; x.len()];
                    backward(&x, &targets, classes, &options, &logs, &scales, &mut dplain);
                    (loss, dx, plain, dplain)
                }) {
                    let what = format!("{} {rows}x{classes} by {step} {smoothing} {weighted}", R::DTYPE);
                    close(&loss, &wide(&plain), tolerance, &what);
                    close(&dx, &wide(&dplain), tolerance, &what);
                    if step == classes && smoothing == 0.0 {
                        assert!(loss == plain && dx == dplain, "{what}: one chunk differs from none");
                    }
                }
            }
        }
    }

    #[test]
    fn chunks_of_classes_give_what_all_of_them_give() {
        check::<f64>(1e-12);
        check::<f32>(3e-6);
    }

    #[test]
    #[should_panic(expected = "cross_entropy: target 5 of row 0 is outside of 0..5")]
    fn a_target_that_is_no_class_is_named() {
        let span = Span { classes: 0..2, all: 5 };
        add_chunk(&[0.0f32; 2], &span, &[5], &Options::default(), &mut [Running::new()]);
    }
}
