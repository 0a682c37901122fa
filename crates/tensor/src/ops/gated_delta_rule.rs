//! The delta rule, gated or not.

use super::ssd::no_decay;
use crate::chunked::MatrixState;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// A linear recurrence that replaces what the state returns for a key instead of adding to it (Yang et al., "Parallelizing Linear
/// Transformers with the Delta Rule over Sequence Length", 2024; with a decay "Gated Delta Networks", 2024):
///
/// ```text
/// P    = exp(log_decay[t]) S[t - 1]
/// S[t] = P + k[t] beta[t] (v[t] - P^T k[t])^T
/// y[t] = q[t] S[t]
/// ```
///
/// S before a sequence's first token is its initial state, or zero. A second output, if asked for, is S after the last token.
///
/// Computed in chunks of 64 tokens: a triangular system gives the writes, the rest is matrix products. What is kept for backward
/// besides the inputs are the states at chunk borders.
pub struct GatedDeltaRule(pub MatrixState);

/// What this file offers.
pub const OPS: &[OpInfo] = &[GatedDeltaRule::INFO];

impl Op for GatedDeltaRule {
    const NAME: &'static str = "gated_delta_rule";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.0.forward(Self::NAME, inputs, saved)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        self.0.backward(Self::NAME, cx)
    }
}

/// What [`gated_delta_rule`] takes besides queries, keys, values and strengths.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeltaRuleConfig<'a> {
    /// The logarithm of the decay, `[N, H]`; no decay when not given, which is DeltaNet.
    pub log_decay: Option<&'a Tensor>,
    /// The states before the sequences, `[sequences, H, S, P]`.
    pub state: Option<&'a Tensor>,
    /// Whether the final states are returned.
    pub final_state: bool,
}

/// The recurrence of [`GatedDeltaRule`]. Keys are taken as they are; the papers' layers normalise them to length 1, without which the
/// state may grow. Computed in f32 (f64 for f64), in which the final states are returned. Within an instruction-set tier a sequence
/// that is cut at multiples of 64 tokens gives the same bits.
///
/// # Shapes
/// `q, k [N, G, S]`, `v [N, H, P]`, `beta [N, H]`, H a multiple of G -> `[N, H, P]`, `[sequences, H, S, P]`; head h reads with the queries and
/// keys of group `h / (H / G)`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn gated_delta_rule(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    beta: &Tensor,
    segments: &Segments,
    config: DeltaRuleConfig<'_>,
) -> (Tensor, Option<Tensor>) {
    let DeltaRuleConfig { log_decay, state, final_state } = config;
    let none;
    let decay = match log_decay {
        Some(decay) => decay,
        None => {
            none = no_decay(v);
            &none
        }
    };
    let inputs: Vec<&Tensor> =
        [Some(q), Some(k), Some(v), Some(decay), Some(beta), state].into_iter().flatten().collect();
    let op = GatedDeltaRule(MatrixState {
        segments: segments.clone(),
        scale: false,
        diagonal: false,
        beta: true,
        state: state.is_some(),
        final_state,
    });
    let mut outputs = op.apply_all(&inputs).into_iter();
    let y = outputs.next().expect("gated_delta_rule has at least one output");
    (y, outputs.next())
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::chunked::testing::Definition;
    use crate::testing::{Array, Case, between, uniform};
    // Lengths; G, H, S, P.
    let all: [(&[usize], [usize; 4]); 7] = [
        (&[5], [1, 2, 3, 4]),
        (&[4, 0, 7, 1], [2, 2, 2, 3]),
        (&[66], [1, 1, 2, 1]),
        (&[18, 1], [1, 1, 2, 2]),
        (&[2], [1, 6, 1, 2]),
        (&[2], [1, 1, 33, 17]),
        (&[0, 0], [1, 2, 2, 3]),
    ];
    let mut cases = Vec::new();
    for (lengths, [groups, heads, keys, values]) in all {
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        // Keys shorter than 1 keep the products of a chunk's corrections from growing.
        let short = 1.0 / (keys as f64).sqrt();
        let inputs = [
            uniform([n, groups, keys], 1),
            between(-short, short, [n, groups, keys], 2),
            uniform([n, heads, values], 3),
            between(0.0, 1.0, [n, heads], 5),
            between(-1.5, 0.0, [n, heads], 4),
            uniform([count, heads, keys, values], 7),
        ];
        let [q, k, v, beta, ..] = inputs.clone();
        let sizes = [1, groups, heads, keys, values];
        let name = format!("{lengths:?}, G H S P {:?}", &sizes[1..]);
        let outputs = move |(y, last): (Vec<f64>, Vec<f64>)| {
            vec![Array::new(&[n, heads, values], y), Array::new(&[count, heads, keys, values], last)]
        };
        let parts = segments.clone();
        let full = Case::new(name.clone(), inputs, move |x| {
            let config = DeltaRuleConfig { log_decay: Some(&x[4]), state: Some(&x[5]), final_state: true };
            let (y, last) = gated_delta_rule(&x[0], &x[1], &x[2], &x[3], &parts, config);
            vec![y, last.expect("the final state was asked for")]
        });
        let parts = segments.clone();
        cases.push(full.reference(move |x| {
            let plain = Definition::plain(&parts, sizes, [&x[0], &x[1], &x[2]]);
            let (beta, decay, state) = (Some(&x[3]), Some(&x[4]), Some(&x[5]));
            outputs(Definition { beta, decay, state, ..plain }.compute())
        }));
        let parts = segments.clone();
        let bare = Case::new(format!("{name}, without decay"), [q, k, v, beta], move |x| {
            vec![gated_delta_rule(&x[0], &x[1], &x[2], &x[3], &parts, DeltaRuleConfig::default()).0]
        });
        cases.push(bare.reference(move |x| {
            let plain = Definition::plain(&segments, sizes, [&x[0], &x[1], &x[2]]);
            let all = outputs(Definition { beta: Some(&x[3]), ..plain }.compute());
            all.into_iter().take(1).collect()
        }));
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scans::{self, Scanner};
    use crate::testing::{between, uniform};

    /// Four heads of values over two of keys.
    struct Heads;

    impl Scanner for Heads {
        fn inputs(&self, tokens: usize) -> Vec<Tensor> {
            vec![
                uniform([tokens, 2, 6], 1),
                between(-0.4, 0.4, [tokens, 2, 6], 2),
                uniform([tokens, 4, 3], 3),
                between(0.0, 1.0, [tokens, 4], 5),
                between(-0.5, 0.0, [tokens, 4], 4),
            ]
        }
        fn state(&self, sequences: usize) -> Tensor {
            uniform([sequences, 4, 6, 3], 7)
        }
        fn run(&self, x: &[Tensor], state: Option<&Tensor>, segments: &Segments) -> (Tensor, Tensor) {
            let config = DeltaRuleConfig { log_decay: Some(&x[4]), state, final_state: true };
            let (y, last) = gated_delta_rule(&x[0], &x[1], &x[2], &x[3], segments, config);
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

    /// With beta 1 and keys of length 1 the state returns what was last written for a key.
    #[test]
    fn a_key_returns_its_last_value() {
        let axis = |i: usize| (0..4).map(|s| if s == i { 1.0f32 } else { 0.0 }).collect::<Vec<_>>();
        let keys: Vec<f32> = [0, 1, 0, 2, 0].iter().flat_map(|&i| axis(i)).collect();
        let k = Tensor::from_vec(keys, [5, 1, 4]);
        let v = Tensor::from_vec(vec![1.0f32, 2.0, 3.0, 4.0, 5.0], [5, 1, 1]);
        let q = Tensor::from_vec((0..5).flat_map(|_| axis(0)).collect::<Vec<_>>(), [5, 1, 4]);
        let beta = Tensor::ones([5, 1]);
        let (y, _) = gated_delta_rule(&q, &k, &v, &beta, &Segments::one(5), DeltaRuleConfig::default());
        assert_eq!(y.to_vec::<f32>(), [1.0, 1.0, 3.0, 3.0, 5.0]);
    }
}
