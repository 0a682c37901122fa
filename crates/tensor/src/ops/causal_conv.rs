//! The causal depthwise convolution of sequences.

use cupola_core::{Element, Shape};
use cupola_cpu::conv::causal::{self, Causal, CausalGradients};

use crate::autograd::running::RunningSum;
use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// Each channel of each sequence with a kernel of its own, looking back only (Gu and Dao, "Mamba", 2023):
///
/// `y[t, d] = act(bias[d] + sum over k of w[d, k] x[t - (K - 1) + k, d])`
///
/// x before a sequence's first token comes from its initial state, the K - 1 tokens before it, or is zero. A second output, if
/// asked for, is the state that follows: the last K - 1 tokens. So a sequence may be cut anywhere, down to single tokens.
pub struct CausalConv1d {
    /// Where sequences begin and end.
    pub segments: Segments,
    /// Whether the result passes through SiLU, `x / (1 + exp(-x))`; otherwise act is the identity.
    pub silu: bool,
    /// Whether a bias follows x and weight among the inputs.
    pub bias: bool,
    /// Whether an initial state is the last input.
    pub state: bool,
    /// Whether the final state is a second output.
    pub final_state: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[CausalConv1d::INFO];

impl CausalConv1d {
    fn offsets(&self) -> Vec<usize> {
        let ends = (0..self.segments.count()).map(|i| self.segments.range(i).end);
        std::iter::once(0).chain(ends).collect()
    }

    fn causal<'a>(&self, offsets: &'a [usize], weight: &Shape) -> Causal<'a> {
        Causal { offsets, channels: weight[0], taps: weight[1], silu: self.silu }
    }

    fn parts<'a>(&self, inputs: &'a [Tensor]) -> (Option<&'a Tensor>, Option<&'a Tensor>) {
        (self.bias.then(|| &inputs[2]), self.state.then(|| &inputs[2 + usize::from(self.bias)]))
    }

    #[track_caller]
    fn check(&self, inputs: &[&Tensor]) {
        let shapes: Vec<&Shape> = inputs.iter().map(|x| x.shape()).collect();
        let (x, weight) = (shapes[0], shapes[1]);
        let fits = x.rank() == 2 && weight.rank() == 2 && weight[0] == x[1] && weight[1] > 0;
        assert!(fits, "causal_conv1d: shapes {shapes:?}, expected x [N, D] and weight [D, K]");
        assert!(
            x[0] == self.segments.total(),
            "causal_conv1d: input {x} for segments of {} tokens in all",
            self.segments.total()
        );
        let state = [self.segments.count(), weight[1] - 1, x[1]];
        assert!(
            (!self.bias || shapes[2].dims() == [x[1]]) && (!self.state || shapes[shapes.len() - 1].dims() == state),
            "causal_conv1d: shapes {shapes:?}, expected bias [{}] and initial state {state:?}",
            x[1]
        );
    }
}

impl Op for CausalConv1d {
    const NAME: &'static str = "causal_conv1d";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.check(inputs);
        let (x, weight) = (inputs[0], inputs[1]);
        let dtype = compute_dtype(Self::NAME, x);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        inputs.iter().for_each(|input| saved.keep([input]));
        let (offsets, (bias, state)) = (self.offsets(), self.parts(&wide));
        let causal = self.causal(&offsets, weight.shape());
        with_real!(dtype, T => {
            let values = wide[0].slice_of::<T>();
            let (bias, state) = (bias.map(Tensor::slice_of::<T>), state.map(Tensor::slice_of::<T>));
            let y = Tensor::build::<T>(*x.shape(), |y| causal::forward(&causal, values, wide[1].slice_of(), bias, state, y));
            let mut outputs = vec![y.to_dtype(x.dtype())];
            if self.final_state {
                let shape = [self.segments.count(), causal.taps - 1, causal.channels];
                let last = Tensor::build::<T>(shape, |last| causal::final_state(&causal, values, state, last));
                outputs.push(last.to_dtype(x.dtype()));
            }
            outputs.into()
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let dtype = compute_dtype(Self::NAME, &saved[0]);
        let wide: Vec<Tensor> = saved.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.output_grad_or_zeros(0), dtype);
        let dlast = self.final_state.then(|| cx.output_grad(1)).flatten().map(|d| prepare(&d, dtype));
        let (offsets, (bias, state)) = (self.offsets(), self.parts(&wide));
        let causal = self.causal(&offsets, saved[1].shape());
        with_real!(dtype, T => {
            let mut dstate = state.map_or(Vec::new(), |state| vec![0 as T; state.numel()]);
            let (weight, channels) = (*wide[1].shape(), Shape::new(&[causal.channels]));
            let mut dw = RunningSum::wanted(cx, Some(1), weight, dtype);
            let mut dbias = RunningSum::wanted(cx, self.bias.then_some(2), channels, dtype);
            let (bias_values, state_values) = (bias.map(Tensor::slice_of::<T>), state.map(Tensor::slice_of::<T>));
            let upstream = (dy.slice_of::<T>(), dlast.as_ref().map(Tensor::slice_of::<T>));
            let dx = Tensor::build::<T>(*wide[0].shape(), |dx| {
                let (dw, dbias) = (dw.slice(), dbias.slice());
                let grads = CausalGradients { dx, dw, dbias, dstate: &mut dstate };
                let (x, weight) = (wide[0].slice_of(), wide[1].slice_of());
                causal::backward(&causal, upstream, x, weight, bias_values, state_values, grads);
            });
            let mut all = vec![Some(dx), Some(dw.finish())];
            all.extend(bias.map(|_| Some(dbias.finish())));
            all.extend(state.map(|state| Some(Tensor::from_vec(dstate, *state.shape()))));
            debug_assert_eq!(T::DTYPE, dtype);
            in_input_dtypes(cx, all)
        })
    }
}

/// What [`causal_conv1d`] does besides convolving.
#[derive(Clone, Copy, Debug, Default)]
pub struct CausalConvConfig {
    /// Whether the result passes through SiLU.
    pub silu: bool,
    /// Whether the final state is returned.
    pub final_state: bool,
}

/// The causal depthwise convolution; see [`CausalConv1d`]. Sums are kept in f32 (f64 for f64). The state is returned where the
/// configuration asks for it.
///
/// # Shapes
/// `x [N, D]`, `weight [D, K]`, `bias [D]`, `state [sequences, K - 1, D]` -> `[N, D]`, `[sequences, K - 1, D]`. An input
/// `[B, T, D]` is `x.reshape([B * T, D])` with [`Segments::uniform`].
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn causal_conv1d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    state: Option<&Tensor>,
    segments: &Segments,
    config: CausalConvConfig,
) -> (Tensor, Option<Tensor>) {
    let inputs: Vec<&Tensor> = [Some(x), Some(weight), bias, state].into_iter().flatten().collect();
    let op = CausalConv1d {
        segments: segments.clone(),
        silu: config.silu,
        bias: bias.is_some(),
        state: state.is_some(),
        final_state: config.final_state,
    };
    let mut outputs = op.apply_all(&inputs).into_iter();
    let y = outputs.next().expect("causal_conv1d has at least one output");
    (y, outputs.next())
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, uniform};
    let act = |x: f64, silu: bool| if silu { x / (1.0 + (-x).exp()) } else { x };
    let all: [(&[usize], usize, usize, bool); 7] = [
        (&[5], 3, 4, false),
        (&[4, 0, 7, 1], 5, 4, true),
        (&[2, 2, 2], 33, 3, true),
        (&[1, 1, 1], 2, 4, false),
        (&[6], 4, 1, true),
        (&[300], 1, 2, false),
        (&[0, 0], 2, 3, false),
    ];
    let mut cases = Vec::new();
    for (lengths, channels, taps, silu) in all {
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        let known = segments.clone();
        let reference = move |x: &Array, w: &Array, bias: Option<&Array>, state: Option<&Array>| {
            // Token t of a sequence, counted from its first one; the state ends at -1.
            let at = |sequence: usize, t: isize, d: usize| match t {
                0.. => x.at(&[known.range(sequence).start + t as usize, d]),
                _ => state.map_or(0.0, |s| s.at(&[sequence, (taps as isize - 1 + t) as usize, d])),
            };
            let y = Array::from_fn(&[n, channels], |i| {
                let sequence =
                    (0..count).find(|&s| known.range(s).contains(&i[0])).expect("every token is in a sequence");
                let t = (i[0] - known.range(sequence).start) as isize;
                let sum: f64 =
                    (0..taps).map(|k| w.at(&[i[1], k]) * at(sequence, t - (taps - 1 - k) as isize, i[1])).sum();
                act(sum + bias.map_or(0.0, |b| b.data[i[1]]), silu)
            });
            let last = Array::from_fn(&[count, taps - 1, channels], |i| {
                at(i[0], known.range(i[0]).len() as isize - (taps - 1 - i[1]) as isize, i[2])
            });
            (y, last)
        };
        let config = CausalConvConfig { silu, final_state: true };
        let [x, w, b] = [uniform([n, channels], 1), uniform([channels, taps], 2), uniform([channels], 3)];
        let state = uniform([count, taps - 1, channels], 4);
        let (parts, full) = (segments.clone(), reference.clone());
        let case =
            Case::new(format!("{lengths:?} by {channels}, {taps} taps"), [x.clone(), w.clone(), b, state], move |x| {
                let (y, last) = causal_conv1d(&x[0], &x[1], Some(&x[2]), Some(&x[3]), &parts, config);
                vec![y, last.expect("the final state was asked for")]
            });
        cases.push(case.reference(move |x| {
            let (y, last) = full(&x[0], &x[1], Some(&x[2]), Some(&x[3]));
            vec![y, last]
        }));
        let run = move |x: &[Tensor]| {
            let config = CausalConvConfig { silu, final_state: false };
            let (y, last) = causal_conv1d(&x[0], &x[1], None, None, &segments, config);
            assert!(last.is_none());
            vec![y]
        };
        let case = Case::new(format!("{lengths:?} by {channels}, {taps} taps, from nothing"), [x, w], run);
        cases.push(case.reference(move |x| vec![reference(&x[0], &x[1], None, None).0]));
    }
    cases
}

#[cfg(test)]
mod tests {
    use cupola_core::Rng;

    use super::*;

    #[test]
    fn a_sequence_may_be_cut_anywhere() {
        let x = Tensor::randn([9, 5], Rng::seed(1));
        let (w, b) = (Tensor::randn([5, 4], Rng::seed(2)), Tensor::randn([5], Rng::seed(3)));
        let config = CausalConvConfig { silu: true, final_state: true };
        let (whole, last) = causal_conv1d(&x, &w, Some(&b), None, &Segments::one(9), config);
        for lengths in [vec![1; 9], vec![2, 3, 4], vec![8, 1]] {
            let (mut state, mut start, mut pieces) = (Tensor::zeros([1, 3, 5]), 0, Vec::new());
            for &length in &lengths {
                let piece = x.narrow(0, start, length);
                let (y, next) = causal_conv1d(&piece, &w, Some(&b), Some(&state), &Segments::one(length), config);
                state = next.expect("the final state was asked for");
                start += length;
                pieces.push(y);
            }
            let joined = Tensor::cat(&pieces.iter().collect::<Vec<_>>(), 0);
            assert!(joined.relative_error(&whole) < 1e-6, "{lengths:?}");
            assert!(state.equals(last.as_ref().expect("the final state was asked for")));
        }
    }

    #[test]
    fn a_later_token_and_another_sequence_leave_a_result_alone() {
        let segments = Segments::from_lengths(&[4, 5]);
        let x = Tensor::randn([9, 3], Rng::seed(1));
        let w = Tensor::randn([3, 4], Rng::seed(2));
        let run = |x: &Tensor| causal_conv1d(x, &w, None, None, &segments, CausalConvConfig::default()).0;
        let mut moved = x.to_vec::<f32>();
        moved[6 * 3..].iter_mut().for_each(|v| *v += 1.0);
        moved[..4 * 3].iter_mut().for_each(|v| *v -= 1.0);
        let (before, after) = (run(&x), run(&Tensor::from_vec(moved, [9, 3])));
        assert!(before.narrow(0, 4, 2).equals(&after.narrow(0, 4, 2)));
        assert!(!before.narrow(0, 6, 3).equals(&after.narrow(0, 6, 3)));
    }
}
