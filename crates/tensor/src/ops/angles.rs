//! Angles that add up along sequences, and pairs of channels that are turned by them.

use cupola_core::Element;
use cupola_cpu::angles::{self as kernel, Turned};

use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// `y[t] = y[t - 1] + x[t]`, brought back to within half a turn of zero, so that angles stay exact over any length.
///
/// y before a sequence's first token is its initial state, or zero. A second output, if asked for, is y after its last token.
pub struct AngleSum {
    /// Where sequences begin and end.
    pub segments: Segments,
    /// Whether an initial state follows x.
    pub state: bool,
    /// Whether the final state is a second output.
    pub final_state: bool,
}

/// Channels 2 k and 2 k + 1 of each head turned by angle k, for all pairs that have an angle; the others stay as they are.
pub struct RotatePairs;

/// What this file offers.
pub const OPS: &[OpInfo] = &[AngleSum::INFO, RotatePairs::INFO];

impl Op for AngleSum {
    const NAME: &'static str = "angle_sum";

    fn forward(&self, inputs: &[&Tensor], _: &mut Saved) -> Outputs {
        let x = inputs[0];
        let rank = x.rank();
        let state = inputs.get(1).map(|state| state.shape());
        let fits = rank > 0
            && x.dim(0) == self.segments.total()
            && state.is_none_or(|s| s.rank() == rank && s[0] == self.segments.count() && s[1..] == x.shape()[1..]);
        assert!(
            fits,
            "angle_sum: x {} and state {state:?} for {} segments of {} tokens in all",
            x.shape(),
            self.segments.count(),
            self.segments.total()
        );
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let (offsets, width) = (self.segments.offsets(), x.shape()[1..].iter().product());
        let states = x.shape().with_dim(0, if self.final_state { self.segments.count() } else { 0 });
        with_real!(dtype, T => {
            let (mut y, mut last) = (Tensor::build::<T>(*x.shape(), |_| ()), Tensor::build::<T>(states, |_| ()));
            let state = wide.get(1).map(Tensor::slice_of::<T>);
            kernel::sum(&offsets, width, wide[0].slice_of::<T>(), state, writable(&mut y), writable(&mut last));
            let y = y.to_dtype(x.dtype());
            if self.final_state { [y, last].into() } else { y.into() }
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let dy = cx.output_grad_or_zeros(0);
        let dtype = compute_dtype(Self::NAME, &dy);
        let dy = prepare(&dy, dtype);
        let dlast = self.final_state.then(|| cx.output_grad(1)).flatten().map(|d| prepare(&d, dtype));
        let (offsets, shape) = (self.segments.offsets(), *dy.shape());
        let states = shape.with_dim(0, if self.state { self.segments.count() } else { 0 });
        with_real!(dtype, T => {
            let (mut dx, mut dstate) = (Tensor::build::<T>(shape, |_| ()), Tensor::build::<T>(states, |_| ()));
            let dlast = dlast.as_ref().map(Tensor::slice_of::<T>);
            let width = shape[1..].iter().product();
            kernel::sum_backward(&offsets, width, dy.slice_of::<T>(), dlast, writable(&mut dx), writable(&mut dstate));
            let mut grads = vec![Some(dx)];
            grads.extend(self.state.then_some(Some(dstate)));
            in_input_dtypes(cx, grads)
        })
    }
}

#[track_caller]
fn sizes(x: &Tensor, angles: &Tensor) -> Turned {
    let fits = x.rank() == 4
        && angles.rank() == 3
        && angles.dim(0) == x.dim(0)
        && angles.dim(1) == x.dim(2)
        && 2 * angles.dim(2) <= x.dim(3);
    assert!(
        fits,
        "rotate_pairs: x {} and angles {}, expected [N, R, H, S] and [N, H, K] with 2 K up to S",
        x.shape(),
        angles.shape()
    );
    Turned { tokens: x.dim(0), rank: x.dim(1), heads: x.dim(2), width: x.dim(3), pairs: angles.dim(2) }
}

impl Op for RotatePairs {
    const NAME: &'static str = "rotate_pairs";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        let [x, angles] = inputs else { unreachable!("rotate_pairs has two inputs") };
        let (sizes, dtype) = (sizes(x, angles), compute_dtype(Self::NAME, x));
        saved.keep([x, angles]);
        let (wide, angles) = (prepare(x, dtype), prepare(angles, dtype));
        with_real!(dtype, T => {
            let mut y = Tensor::build::<T>(*x.shape(), |_| ());
            kernel::rotate(&sizes, wide.slice_of::<T>(), angles.slice_of(), writable(&mut y));
            y.to_dtype(x.dtype()).into()
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let [x, angles] = cx.saved();
        let (sizes, dtype) = (sizes(x, angles), compute_dtype(Self::NAME, x));
        let (x, angles, dy) = (prepare(x, dtype), prepare(angles, dtype), prepare(&cx.dy(), dtype));
        with_real!(dtype, T => {
            let new = |like: &Tensor| Tensor::build::<T>(*like.shape(), |_| ());
            let (mut dx, mut dangles) = (new(&x), new(&angles));
            let (dx_to, dangles_to) = (writable(&mut dx), writable(&mut dangles));
            kernel::rotate_backward(&sizes, x.slice_of::<T>(), angles.slice_of(), dy.slice_of(), dx_to, dangles_to);
            in_input_dtypes(cx, vec![Some(dx), Some(dangles)])
        })
    }
}

/// The elements of a tensor that was made just now.
fn writable<T: Element>(x: &mut Tensor) -> &mut [T] {
    x.as_mut_slice().expect("a fresh tensor has no other holder")
}

impl Tensor {
    /// Sums of angles along each sequence, from `state` (zero if not given), brought back to within half a turn of zero; with
    /// `final_state` those after each sequence follow. Computed in f32 (f64 for f64).
    ///
    /// # Shapes
    /// `[N, ..]`, `state [sequences, ..]` -> `[N, ..]`, `[sequences, ..]`.
    ///
    /// # Panics
    /// When the shapes do not fit or the dtype is not floating-point.
    #[track_caller]
    pub fn angle_sum(
        &self,
        segments: &Segments,
        state: Option<&Tensor>,
        final_state: bool,
    ) -> (Tensor, Option<Tensor>) {
        let op = AngleSum { segments: segments.clone(), state: state.is_some(), final_state };
        let inputs: Vec<&Tensor> = [Some(self), state].into_iter().flatten().collect();
        let mut outputs = op.apply_all(&inputs).into_iter();
        let y = outputs.next().expect("angle_sum has at least one output");
        (y, outputs.next())
    }

    /// Channels 2 k and 2 k + 1 of each head turned by `angles[.., k]`; channels without an angle stay as they are. Computed in f32
    /// (f64 for f64).
    ///
    /// # Shapes
    /// `[N, R, H, S]` and `angles [N, H, K]` with 2 K up to S -> `[N, R, H, S]`.
    ///
    /// # Panics
    /// When the shapes do not fit or the dtype is not floating-point.
    #[track_caller]
    pub fn rotate_pairs(&self, angles: &Tensor) -> Tensor {
        RotatePairs.apply(&[self, angles])
    }
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    let mut cases = Vec::new();
    // Small enough that no sum passes half a turn, where the result jumps.
    for (lengths, width) in [(&[5][..], 3), (&[4, 0, 3], 2), (&[2, 1], 257), (&[0, 0], 2)] {
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        let known = segments.clone();
        let reference = move |x: &[Array], state: bool| {
            let mut last = vec![0.0; count * width];
            let mut y = vec![0.0; n * width];
            for (sequence, range) in known.iter().enumerate() {
                for w in 0..width {
                    let begin = if state { x[1].at(&[sequence, w]) } else { 0.0 };
                    let end = range.clone().fold(begin, |sum, t| {
                        y[t * width + w] = sum + x[0].at(&[t, w]);
                        y[t * width + w]
                    });
                    last[sequence * width + w] = end;
                }
            }
            vec![Array::new(&[n, width], y), Array::new(&[count, width], last)]
        };
        let (x, state) = (between(-0.3, 0.3, [n, width], 1), uniform([count, width], 2));
        let (parts, full) = (segments.clone(), reference.clone());
        let case = Case::new(format!("sums of {lengths:?} by {width}"), [x.clone(), state], move |x| {
            let (y, last) = x[0].angle_sum(&parts, Some(&x[1]), true);
            vec![y, last.expect("the final state was asked for")]
        });
        cases.push(case.reference(move |x| full(x, true)));
        let case = Case::new(format!("sums of {lengths:?} by {width}, from nothing"), [x], move |x| {
            vec![x[0].angle_sum(&segments, None, false).0]
        });
        cases.push(case.reference(move |x| reference(x, false).into_iter().take(1).collect()));
    }
    for [n, r, h, s, k] in [[3, 2, 2, 6, 2], [2, 1, 3, 5, 2], [1, 1, 1, 66, 33], [2, 1, 1, 3, 0], [0, 1, 2, 4, 2]] {
        let case = Case::new(
            format!("turns of {:?}", [n, r, h, s, k]),
            [uniform([n, r, h, s], 1), between(-4.0, 4.0, [n, h, k], 2)],
            |x| vec![x[0].rotate_pairs(&x[1])],
        );
        let case = if k == 0 { case.forward_only() } else { case };
        cases.push(case.reference(move |x| {
            let y = Array::from_fn(&[n, r, h, s], |i| {
                let pair = i[3] / 2;
                if pair >= k {
                    return x[0].at(i);
                }
                let angle = x[1].at(&[i[0], i[2], pair]);
                let [a, b] = [0, 1].map(|side| x[0].at(&[i[0], i[1], i[2], 2 * pair + side]));
                if i[3] % 2 == 0 { a * angle.cos() - b * angle.sin() } else { a * angle.sin() + b * angle.cos() }
            });
            vec![y]
        }));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_stay_exact_over_a_long_sequence() {
        let tokens = 100_000;
        let x = Tensor::full([tokens, 1], 2.5);
        let y = x.angle_sum(&Segments::one(tokens), None, false).0.to_vec::<f32>();
        assert!(y.iter().all(|y| y.abs() <= std::f32::consts::PI));
        let exact = (tokens as f64 * 2.5) % std::f64::consts::TAU;
        let error = (f64::from(y[tokens - 1]) - exact).rem_euclid(std::f64::consts::TAU);
        assert!(error.min(std::f64::consts::TAU - error) < 1e-2, "{error}");
    }
}
