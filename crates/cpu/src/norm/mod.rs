//! Layer normalisation (Ba et al., "Layer normalization", 2016) and its form without centring, RMS normalisation (Zhang and
//! Sennrich, "Root mean square layer normalization", 2019), over the rows of `[N, width]`.
//!
//! layer_norm: y = (h - mean) rstd w + b with rstd = 1 / sqrt(mean of (h - mean)^2 + eps).
//! rms_norm: y = h rstd w with rstd = 1 / sqrt(mean of h^2 + eps).
//! h is x, or x + residual rounded to the type of x.
//!
//! Weights, biases, statistics and all sums are f32 (f64 for f64). Backward needs h, the statistics and the weight; the
//! gradients of weight and bias add up within blocks of 256 rows, and the blocks are added in order to what is there.

mod rows;
#[cfg(test)]
mod tests;

use cupola_core::pool::Parts;
use cupola_core::{bf16, f16};

use crate::real::{Number, Real};
use crate::rows::{loaded, scratch, stored};
use crate::work::{ROW_BLOCK, parallel_for, rows_per_piece};
use crate::{instantiate, isa};
use rows::{BackwardRow, backward_row, forward_row};

/// What is normalised, and how.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a, T: Number> {
    /// `[N, width]`.
    pub x: &'a [T],
    /// `[N, width]`, added to x first.
    pub residual: Option<&'a [T]>,
    /// `[width]`; ones when absent.
    pub weight: Option<&'a [T::Real]>,
    /// `[width]`; zeros when absent. Only for layer_norm.
    pub bias: Option<&'a [T::Real]>,
    /// Added to the variance.
    pub eps: f64,
    /// Elements of a row.
    pub width: usize,
}

/// What the forward pass writes.
#[derive(Debug)]
pub struct Output<'a, T: Number> {
    /// `[N, width]`.
    pub y: &'a mut [T],
    /// h = x + residual, `[N, width]`; wanted exactly when there is a residual.
    pub sum: Option<&'a mut [T]>,
    /// `[N]`, for layer_norm; empty for rms_norm.
    pub mean: &'a mut [T::Real],
    /// `[N]`.
    pub rstd: &'a mut [T::Real],
}

/// What the backward pass reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a, T: Number> {
    /// What was normalised, `[N, width]`: x, or the sum with the residual.
    pub h: &'a [T],
    /// `[width]`; ones when absent.
    pub weight: Option<&'a [T::Real]>,
    /// `[N]`, for layer_norm; empty for rms_norm.
    pub mean: &'a [T::Real],
    /// `[N]`.
    pub rstd: &'a [T::Real],
    /// The gradient that reaches h on the residual path, `[N, width]`, added to dx.
    pub dh: Option<&'a [T]>,
    /// Elements of a row.
    pub width: usize,
}

/// What the backward pass writes.
#[derive(Debug)]
pub struct Gradient<'a, T: Number> {
    /// The gradient of x and of the residual, `[N, width]`.
    pub dx: &'a mut [T],
    /// `[width]`, added to.
    pub dweight: Option<&'a mut [T::Real]>,
    /// `[width]`, added to. Only for layer_norm.
    pub dbias: Option<&'a mut [T::Real]>,
}

#[track_caller]
fn check<T: Number>(op: &str, input: &Input<'_, T>, output: &Output<'_, T>, centred: bool) -> usize {
    let width = input.width;
    assert!(width > 0, "{op}: rows of width 0 cannot be normalised");
    assert!(input.x.len().is_multiple_of(width), "{op}: {} elements are no rows of {width}", input.x.len());
    let rows = input.x.len() / width;
    assert_eq!(output.y.len(), input.x.len(), "{op}: lengths of x and y");
    assert_eq!(output.rstd.len(), rows, "{op}: length of rstd for {rows} rows");
    assert_eq!(output.mean.len(), if centred { rows } else { 0 }, "{op}: length of mean for {rows} rows");
    assert_eq!(
        input.residual.is_some(),
        output.sum.is_some(),
        "{op}: the sum is written exactly when there is a residual"
    );
    for (name, len) in [("residual", input.residual.map(<[T]>::len)), ("sum", output.sum.as_ref().map(|s| s.len()))] {
        assert!(len.is_none_or(|len| len == input.x.len()), "{op}: length of {name}");
    }
    for (name, vector) in [("weight", input.weight), ("bias", input.bias)] {
        assert!(vector.is_none_or(|v| v.len() == width), "{op}: length of {name} for rows of {width}");
    }
    assert!(centred || input.bias.is_none(), "{op} has no bias");
    rows
}

#[track_caller]
fn forward<T: Number, const CENTRED: bool>(op: &str, input: Input<'_, T>, output: Output<'_, T>) {
    let rows = check(op, &input, &output, CENTRED);
    let Input { x, residual, weight, bias, eps, width } = input;
    let isa = isa();
    let step = rows_per_piece(width);
    let step = if rows <= 2 * step { rows } else { step };
    let (y, rstd) = (Parts::new(output.y, step * width), Parts::new(output.rstd, step));
    let mean = Parts::new(output.mean, step);
    let sum = output.sum.map(|sum| Parts::new(sum, step * width));
    let eps = T::Real::of(eps);
    parallel_for(rstd.len(), &|index| {
        let ((first, y), (first_row, rstd)) = (y.take(index), rstd.take(index));
        let mut mean = if CENTRED { mean.take(index).1.iter_mut() } else { [].iter_mut() };
        let mut sum = sum.as_ref().map(|sum| sum.take(index).1.chunks_mut(width));
        let [mut wide, mut other, mut result] = [(); 3].map(|()| scratch::<T>(width));
        // With a residual the row is built here, in the type of computing, before it is stored and read back.
        let mut built = vec![T::Real::ZERO; if residual.is_some() { width } else { 0 }];
        for (k, (y, rstd)) in y.chunks_mut(width).zip(rstd).enumerate() {
            let at = first + k * width;
            debug_assert_eq!(at, (first_row + k) * width);
            let x = &x[at..at + width];
            let h = match (residual, sum.as_mut().and_then(Iterator::next)) {
                (Some(residual), Some(sum)) => {
                    let x = loaded(isa, x, &mut wide);
                    let r = loaded(isa, &residual[at..at + width], &mut other);
                    rows::add_row(isa, x, r, &mut built);
                    T::narrow(isa, &built, sum);
                    T::widen(isa, sum, &mut built);
                    &built
                }
                _ => loaded(isa, x, &mut wide),
            };
            let (m, s) = stored(isa, y, &mut result, |y| forward_row(isa, h, weight, bias, eps, CENTRED, y));
            *rstd = s;
            if let Some(mean) = mean.next() {
                *mean = m;
            }
        }
    });
}

#[track_caller]
fn backward<T: Number, const CENTRED: bool>(op: &str, saved: Saved<'_, T>, dy: &[T], gradient: Gradient<'_, T>) {
    let Saved { h, weight, mean, rstd, dh, width } = saved;
    assert!(width > 0, "{op}: rows of width 0 cannot be normalised");
    let rows = h.len() / width;
    assert_eq!(h.len(), rows * width, "{op}: {} elements are no rows of {width}", h.len());
    assert_eq!((dy.len(), gradient.dx.len()), (h.len(), h.len()), "{op}: lengths of dy and dx");
    assert_eq!(rstd.len(), rows, "{op}: length of rstd for {rows} rows");
    assert_eq!(mean.len(), if CENTRED { rows } else { 0 }, "{op}: length of mean for {rows} rows");
    assert!(dh.is_none_or(|dh| dh.len() == h.len()), "{op}: length of the residual's gradient");
    assert!(weight.is_none_or(|w| w.len() == width), "{op}: length of weight for rows of {width}");
    assert!(CENTRED || gradient.dbias.is_none(), "{op} has no bias");
    let isa = isa();
    let blocks = rows.div_ceil(ROW_BLOCK);
    let vectors = usize::from(gradient.dweight.is_some()) + usize::from(gradient.dbias.is_some());
    // Partial sums of dweight, then of dbias, for each block of rows.
    let mut partial = vec![T::Real::ZERO; blocks * vectors * width];
    let has_weight = gradient.dweight.is_some();
    {
        let dx = Parts::new(gradient.dx, ROW_BLOCK * width);
        let partial = Parts::new(&mut partial, (vectors * width).max(1));
        let run = |index: usize| {
            let (first, dx) = dx.take(index);
            let sums: &mut [T::Real] = if vectors == 0 { &mut [] } else { partial.take(index).1 };
            let (dw, db) = sums.split_at_mut(if has_weight { width } else { 0 });
            let [mut wide_h, mut wide_dy, mut wide_dh, mut result] = [(); 4].map(|()| scratch::<T>(width));
            for (k, dx) in dx.chunks_mut(width).enumerate() {
                let at = first + k * width;
                let row = at / width;
                let h = loaded(isa, &h[at..at + width], &mut wide_h);
                let dy = loaded(isa, &dy[at..at + width], &mut wide_dy);
                let dh = dh.map(|dh| loaded(isa, &dh[at..at + width], &mut wide_dh));
                let mean = if CENTRED { mean[row] } else { T::Real::ZERO };
                let saved = BackwardRow { h, dy, dh, weight, mean, rstd: rstd[row], centred: CENTRED };
                stored(isa, dx, &mut result, |dx| backward_row(isa, saved, dw, db, dx));
            }
        };
        if rows * width <= 2 * crate::work::PIECE { (0..blocks).for_each(run) } else { parallel_for(blocks, &run) }
    }
    let targets = [gradient.dweight, gradient.dbias];
    for (k, target) in targets.into_iter().flatten().enumerate() {
        assert_eq!(target.len(), width, "{op}: length of a weight's gradient for rows of {width}");
        for block in partial.chunks(vectors * width) {
            rows::accumulate_row(isa, target, &block[k * width..(k + 1) * width]);
        }
    }
}

#[track_caller]
fn layer_norm_of<T: Number>(input: Input<'_, T>, output: Output<'_, T>) {
    forward::<T, true>("layer_norm", input, output);
}

#[track_caller]
fn rms_norm_of<T: Number>(input: Input<'_, T>, output: Output<'_, T>) {
    forward::<T, false>("rms_norm", input, output);
}

#[track_caller]
fn layer_norm_backward_of<T: Number>(saved: Saved<'_, T>, dy: &[T], gradient: Gradient<'_, T>) {
    backward::<T, true>("layer_norm", saved, dy, gradient);
}

#[track_caller]
fn rms_norm_backward_of<T: Number>(saved: Saved<'_, T>, dy: &[T], gradient: Gradient<'_, T>) {
    backward::<T, false>("rms_norm", saved, dy, gradient);
}

instantiate! {
    /// Elements that can be normalised.
    Norm: Number, for [f64, f32, bf16, f16] {
        /// y = (h - mean) rstd w + b.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn layer_norm(input: Input<'_, T>, output: Output<'_, T>) = layer_norm_of;
        /// With h' = (h - mean) rstd and g = dy w: dx = rstd (g - mean of g - h' mean of g h') + dh; dw += sum of dy h'; db +=
        /// sum of dy.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn layer_norm_backward(saved: Saved<'_, T>, dy: &[T], gradient: Gradient<'_, T>) = layer_norm_backward_of;
        /// y = h rstd w.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn rms_norm(input: Input<'_, T>, output: Output<'_, T>) = rms_norm_of;
        /// With h' = h rstd and g = dy w: dx = rstd (g - h' mean of g h') + dh; dw += sum of dy h'.
        ///
        /// # Panics
        /// When the lengths do not fit.
        fn rms_norm_backward(saved: Saved<'_, T>, dy: &[T], gradient: Gradient<'_, T>) = rms_norm_backward_of;
    }
}
