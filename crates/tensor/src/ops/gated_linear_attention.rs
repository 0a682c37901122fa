//! Gated linear attention.

use cupola_core::{Element, Shape};
use cupola_cpu::gla::{self as kernel, Gated, Gla, Gradients, Inputs};

use crate::compute::{compute_dtype, in_input_dtypes, prepare, with_real};
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// A linear recurrence for each head, with a decay for each key channel and token (Yang et al., "Gated Linear Attention Transformers
/// with Hardware-Efficient Training", 2023):
///
/// ```text
/// S[t] = diag(exp(log_decay[t])) S[t - 1] + k[t] v[t]^T
/// y[t] = q[t] S[t]
/// ```
///
/// S before a sequence's first token is its initial state, or zero. A second output, if asked for, is S after the last token.
///
/// Computed in chunks of 64 tokens. What is kept for backward besides the inputs are the states at chunk borders.
pub struct GatedLinearAttention {
    /// Where sequences begin and end.
    pub segments: Segments,
    /// Whether an initial state is the last input.
    pub state: bool,
    /// Whether the final state is a second output.
    pub final_state: bool,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[GatedLinearAttention::INFO];

impl GatedLinearAttention {
    #[track_caller]
    fn check(&self, inputs: &[&Tensor]) {
        let shapes: Vec<&Shape> = inputs.iter().map(|x| x.shape()).collect();
        let [q, k, v, decay] = [shapes[0], shapes[1], shapes[2], shapes[3]];
        let fits = q.rank() == 3 && k == q && decay == q && v.rank() == 3 && v[..2] == q[..2];
        assert!(fits, "gated_linear_attention: shapes {shapes:?}, expected q, k, log_decay [N, H, S] and v [N, H, P]");
        assert!(
            q[0] == self.segments.total(),
            "gated_linear_attention: q {q} for segments of {} tokens in all",
            self.segments.total()
        );
        let state = [self.segments.count(), q[1], q[2], v[2]];
        assert!(
            !self.state || shapes[4].dims() == state,
            "gated_linear_attention: shapes {shapes:?}, expected an initial state {state:?}"
        );
    }

    fn gla<'a>(&self, offsets: &'a [usize], q: &Shape, v: &Shape) -> Gla<'a> {
        Gla { offsets, heads: q[1], keys: q[2], values: v[2] }
    }

    fn operands<'a, T: Gated<T>>(&self, wide: &'a [Tensor]) -> Inputs<'a, T> {
        let slice = |index: usize| wide[index].slice_of::<T>();
        Inputs { q: slice(0), k: slice(1), v: slice(2), decay: slice(3), state: self.state.then(|| slice(4)) }
    }
}

impl Op for GatedLinearAttention {
    const NAME: &'static str = "gated_linear_attention";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.check(inputs);
        let dtype = compute_dtype(Self::NAME, inputs[0]);
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        inputs.iter().for_each(|input| saved.keep([input]));
        let offsets = self.segments.offsets();
        let gla = self.gla(&offsets, inputs[0].shape(), inputs[2].shape());
        with_real!(dtype, T => {
            let kept = if saved.is_enabled() { gla.borders_len() } else { 0 };
            let states = if self.final_state { self.segments.count() } else { 0 };
            let new = |shape: &[usize]| Tensor::build::<T>(shape, |_| ());
            let mut y = new(inputs[2].shape());
            let mut last = new(&[states, gla.heads, gla.keys, gla.values]);
            let mut borders = new(&[kept]);
            let operands = self.operands::<T>(&wide);
            kernel::forward(&gla, &operands, writable(&mut y), writable(&mut last), writable(&mut borders));
            saved.keep([&borders]);
            let y = y.to_dtype(inputs[0].dtype());
            if self.final_state { [y, last].into() } else { y.into() }
        })
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        let saved = cx.all_saved();
        let dtype = compute_dtype(Self::NAME, &saved[0]);
        let (borders, inputs) = saved.split_last().expect("forward keeps the borders last");
        let wide: Vec<Tensor> = inputs.iter().map(|x| prepare(x, dtype)).collect();
        let dy = prepare(&cx.output_grad_or_zeros(0), dtype);
        let dlast = self.final_state.then(|| cx.output_grad(1)).flatten().map(|d| prepare(&d, dtype));
        let offsets = self.segments.offsets();
        let gla = self.gla(&offsets, inputs[0].shape(), inputs[2].shape());
        with_real!(dtype, T => {
            let mut grads: Vec<Tensor> = wide.iter().map(|x| Tensor::build::<T>(*x.shape(), |_| ())).collect();
            {
                let mut rest = grads.iter_mut().map(writable::<T>);
                let mut next = || rest.next().unwrap_or_default();
                let gradients = Gradients { dq: next(), dk: next(), dv: next(), ddecay: next(), dstate: next() };
                let dlast = dlast.as_ref().map(Tensor::slice_of::<T>);
                kernel::backward(&gla, &self.operands::<T>(&wide), borders.slice_of(), dy.slice_of(), dlast, gradients);
            }
            in_input_dtypes(cx, grads.into_iter().map(Some).collect())
        })
    }
}

/// The elements of a tensor that was made just now.
fn writable<T: Element>(x: &mut Tensor) -> &mut [T] {
    x.as_mut_slice().expect("a fresh tensor has no other holder")
}

/// The recurrence of [`GatedLinearAttention`], from `state` (zero if not given); with `final_state` the states at the end follow.
/// Computed in f32 (f64 for f64), in which the final states are returned. Within an instruction-set tier a sequence that is cut at
/// multiples of 64 tokens gives the same bits.
///
/// # Shapes
/// `q, k, log_decay [N, H, S]`, `v [N, H, P]`, `state [sequences, H, S, P]` -> `[N, H, P]`, `[sequences, H, S, P]`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn gated_linear_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    log_decay: &Tensor,
    segments: &Segments,
    state: Option<&Tensor>,
    final_state: bool,
) -> (Tensor, Option<Tensor>) {
    let inputs: Vec<&Tensor> = [Some(q), Some(k), Some(v), Some(log_decay), state].into_iter().flatten().collect();
    let op = GatedLinearAttention { segments: segments.clone(), state: state.is_some(), final_state };
    let mut outputs = op.apply_all(&inputs).into_iter();
    let y = outputs.next().expect("gated_linear_attention has at least one output");
    (y, outputs.next())
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::testing::{Array, Case, between, uniform};
    // Lengths; H, S, P.
    let all: [(&[usize], [usize; 3]); 7] = [
        (&[5], [2, 3, 4]),
        (&[4, 0, 7, 1], [2, 2, 3]),
        (&[66], [1, 2, 1]),
        (&[18, 17], [1, 3, 2]),
        (&[2], [1, 33, 17]),
        (&[3], [1, 1, 1]),
        (&[0, 0], [2, 2, 3]),
    ];
    let mut cases = Vec::new();
    for (lengths, [heads, keys, values]) in all {
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        let known = segments.clone();
        let reference = move |x: &[Array], state: bool| {
            let mut y = vec![0.0; n * heads * values];
            let mut last = vec![0.0; count * heads * keys * values];
            for (sequence, range) in known.iter().enumerate() {
                for (h, s, p) in
                    (0..heads * keys * values).map(|i| (i / (keys * values), i / values % keys, i % values))
                {
                    let mut one = if state { x[4].at(&[sequence, h, s, p]) } else { 0.0 };
                    for t in range.clone() {
                        one = one * x[3].at(&[t, h, s]).exp() + x[1].at(&[t, h, s]) * x[2].at(&[t, h, p]);
                        y[(t * heads + h) * values + p] += x[0].at(&[t, h, s]) * one;
                    }
                    last[((sequence * heads + h) * keys + s) * values + p] = one;
                }
            }
            vec![Array::new(&[n, heads, values], y), Array::new(&[count, heads, keys, values], last)]
        };
        let keyed = |seed| uniform([n, heads, keys], seed);
        let [q, k, v] = [keyed(1), keyed(2), uniform([n, heads, values], 3)];
        let decay = between(-3.0, 0.0, [n, heads, keys], 4);
        let state = uniform([count, heads, keys, values], 7);
        let name = format!("{lengths:?}, H S P {:?}", [heads, keys, values]);
        let inputs = [q.clone(), k.clone(), v.clone(), decay.clone(), state];
        let (parts, full) = (segments.clone(), reference.clone());
        let case = Case::new(name.clone(), inputs, move |x| {
            let (y, last) = gated_linear_attention(&x[0], &x[1], &x[2], &x[3], &parts, Some(&x[4]), true);
            vec![y, last.expect("the final state was asked for")]
        });
        cases.push(case.reference(move |x| full(x, true)));
        let case = Case::new(format!("{name}, from nothing"), [q, k, v, decay], move |x| {
            vec![gated_linear_attention(&x[0], &x[1], &x[2], &x[3], &segments, None, false).0]
        });
        cases.push(case.reference(move |x| reference(x, false).into_iter().take(1).collect()));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scans::{self, Scanner};
    use crate::testing::{between, uniform};

    /// Three heads.
    struct Heads;

    impl Scanner for Heads {
        fn inputs(&self, tokens: usize) -> Vec<Tensor> {
            let keyed = |seed| uniform([tokens, 3, 6], seed);
            vec![keyed(1), keyed(2), uniform([tokens, 3, 4], 3), between(-0.5, 0.0, [tokens, 3, 6], 4)]
        }
        fn state(&self, sequences: usize) -> Tensor {
            uniform([sequences, 3, 6, 4], 7)
        }
        fn run(&self, x: &[Tensor], state: Option<&Tensor>, segments: &Segments) -> (Tensor, Tensor) {
            let (y, last) = gated_linear_attention(&x[0], &x[1], &x[2], &x[3], segments, state, true);
            (y, last.expect("the final state was asked for"))
        }
    }

    #[test]
    fn whole_chunks_and_single_tokens_are_the_same() {
        scans::whole_equals_pieces(&Heads);
        scans::cutting_keeps_bits(&Heads, 64);
    }

    #[test]
    fn gradients_pass_through_a_carried_state() {
        scans::carried_state_has_gradients(&Heads);
    }

    #[test]
    fn a_later_token_and_another_sequence_leave_a_result_alone() {
        scans::causal_and_apart(&Heads);
    }

    #[test]
    fn threads_change_no_bit() {
        scans::threads_change_nothing(&Heads);
    }

    /// Decays of exp(-60) at every token: quotients of exponentials would be infinite over zero.
    #[test]
    fn strong_decays_leave_finite_results() {
        let x = [0, 1, 2].map(|i| Tensor::randn([100, 1, 4], cupola_core::Rng::seed(i)).requires_grad());
        let decay = Tensor::full([100, 1, 4], -60.0).requires_grad();
        let (y, _) = gated_linear_attention(&x[0], &x[1], &x[2], &decay, &Segments::one(100), None, false);
        // Nothing is left of earlier tokens.
        let own = (&x[0] * &x[1]).sum([-1]).unsqueeze(-1) * &x[2];
        assert!(y.relative_error(&own) < 1e-6);
        let grads = y.sum([]).backward();
        assert!(x.iter().chain([&decay]).all(|x| grads[x].to_f64_vec().iter().all(|g| g.is_finite())));
    }
}
