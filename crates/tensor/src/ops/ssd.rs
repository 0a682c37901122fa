//! State-space duality: linear recurrences with a matrix as state.

use crate::chunked::MatrixState;
use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::segments::Segments;
use crate::tensor::Tensor;

/// A linear recurrence for each head, with one decay for each token (Dao and Gu, "Transformers are SSMs", 2024):
///
/// ```text
/// S[t]    = exp(log_decay[t]) S[t - 1] + scale[t] sum over r of k[t, r] v[t, r]^T
/// y[t, r] = q[t, r] S[t]
/// ```
///
/// S before a sequence's first token is its initial state, or zero. With a diagonal, a token reads its own write with that factor and
/// later tokens read it with `scale` (Mamba-3's trapezoidal rule). A second output, if asked for, is S after the last token.
///
/// Computed in chunks of 64 tokens as matrix products. What is kept for backward besides the inputs are the states at chunk borders.
pub struct Ssd(pub MatrixState);

/// What this file offers.
pub const OPS: &[OpInfo] = &[Ssd::INFO];

impl Op for Ssd {
    const NAME: &'static str = "ssd";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.0.forward(Self::NAME, inputs, saved)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        self.0.backward(Self::NAME, cx)
    }
}

/// What [`ssd`] takes besides queries, keys and values.
#[derive(Clone, Copy, Debug, Default)]
pub struct SsdConfig<'a> {
    /// The logarithm of the decay, `[N, H]`; no decay when not given, which is plain linear attention (Katharopoulos et al.,
    /// "Transformers are RNNs", 2020).
    pub log_decay: Option<&'a Tensor>,
    /// Factors of the writes, `[N, H]`; 1 when not given.
    pub scale: Option<&'a Tensor>,
    /// Factors with which tokens read their own writes, `[N, H]`; the scale when not given.
    pub diagonal: Option<&'a Tensor>,
    /// The states before the sequences, `[sequences, H, S, P]`.
    pub state: Option<&'a Tensor>,
    /// Whether the final states are returned.
    pub final_state: bool,
}

/// The recurrence of [`Ssd`]. Computed in f32 (f64 for f64), in which the final states are returned. Within an instruction-set tier a
/// sequence that is cut at multiples of 64 tokens gives the same bits.
///
/// # Shapes
/// `q, k [N, G, S]`, `v [N, H, P]`, H a multiple of G -> `[N, H, P]`, `[sequences, H, S, P]`; head h reads with the queries and keys of group
/// `h / (H / G)`. With R rows for each token `q, k [N, R, G, S]`, `v [N, R, H, P]` -> `[N, R, H, P]`.
///
/// # Panics
/// When the shapes do not fit or a dtype is not floating-point.
#[track_caller]
pub fn ssd(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, config: SsdConfig<'_>) -> (Tensor, Option<Tensor>) {
    let SsdConfig { log_decay, scale, diagonal, state, final_state } = config;
    let none;
    let decay = match log_decay {
        Some(decay) => decay,
        None => {
            none = no_decay(v);
            &none
        }
    };
    let inputs: Vec<&Tensor> =
        [Some(q), Some(k), Some(v), Some(decay), scale, diagonal, state].into_iter().flatten().collect();
    let op = Ssd(MatrixState {
        segments: segments.clone(),
        scale: scale.is_some(),
        diagonal: diagonal.is_some(),
        beta: false,
        state: state.is_some(),
        final_state,
    });
    let mut outputs = op.apply_all(&inputs).into_iter();
    let y = outputs.next().expect("ssd has at least one output");
    (y, outputs.next())
}

/// Zeros for values `[N, .., H, P]`.
pub(crate) fn no_decay(v: &Tensor) -> Tensor {
    let heads = if v.rank() >= 2 { v.dim(-2) } else { 0 };
    Tensor::zeros_of([v.shape().dims().first().copied().unwrap_or(0), heads], v.dtype())
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::chunked::testing::Definition;
    use crate::testing::{Array, Case, between, uniform};
    // Lengths; R, G, H, S, P.
    let all: [(&[usize], [usize; 5]); 8] = [
        (&[5], [1, 1, 2, 3, 4]),
        (&[4, 0, 7, 1], [1, 2, 2, 2, 3]),
        (&[66], [1, 1, 1, 2, 1]),
        (&[3, 13], [3, 1, 1, 1, 2]),
        (&[4, 1], [3, 2, 4, 2, 2]),
        (&[2], [1, 1, 7, 1, 1]),
        (&[2], [1, 1, 1, 33, 17]),
        (&[0, 0], [1, 1, 2, 2, 3]),
    ];
    let mut cases = Vec::new();
    for (lengths, sizes) in all {
        let [ranks, groups, heads, keys, values] = sizes;
        let segments = Segments::from_lengths(lengths);
        let (n, count) = (segments.total(), segments.count());
        let shape = |width: [usize; 2]| {
            if ranks == 1 { vec![n, width[0], width[1]] } else { vec![n, ranks, width[0], width[1]] }
        };
        let (of_keys, of_values) = (shape([groups, keys]), shape([heads, values]));
        let array = |shape: &[usize], seed| uniform(shape, seed);
        let [q, k, v] = [array(&of_keys, 1), array(&of_keys, 2), array(&of_values, 3)];
        let decay = between(-1.5, 0.0, [n, heads], 4);
        let (scale, diagonal) = (uniform([n, heads], 5), uniform([n, heads], 6));
        let state = uniform([count, heads, keys, values], 7);
        let name = format!("{lengths:?}, R G H S P {sizes:?}");
        let outputs = move |(y, last): (Vec<f64>, Vec<f64>)| {
            vec![Array::new(&of_values, y), Array::new(&[count, heads, keys, values], last)]
        };
        let (parts, arrange) = (segments.clone(), outputs.clone());
        let inputs = [q.clone(), k.clone(), v.clone(), decay.clone(), scale, diagonal, state];
        let full = Case::new(name.clone(), inputs, {
            let parts = parts.clone();
            move |x: &[Tensor]| {
                let config = SsdConfig {
                    log_decay: Some(&x[3]),
                    scale: Some(&x[4]),
                    diagonal: Some(&x[5]),
                    state: Some(&x[6]),
                    final_state: true,
                };
                let (y, last) = ssd(&x[0], &x[1], &x[2], &parts, config);
                vec![y, last.expect("the final state was asked for")]
            }
        });
        cases.push(full.reference(move |x| {
            let plain = Definition::plain(&parts, sizes, [&x[0], &x[1], &x[2]]);
            let (decay, scale, diagonal, state) = (Some(&x[3]), Some(&x[4]), Some(&x[5]), Some(&x[6]));
            arrange(Definition { decay, scale, diagonal, state, ..plain }.compute())
        }));
        let parts = segments.clone();
        let plain = Case::new(format!("{name}, from nothing"), [q.clone(), k.clone(), v.clone(), decay], move |x| {
            vec![ssd(&x[0], &x[1], &x[2], &parts, SsdConfig { log_decay: Some(&x[3]), ..SsdConfig::default() }).0]
        });
        let (parts, arrange) = (segments.clone(), outputs.clone());
        let first = |mut outputs: Vec<Array>| {
            outputs.truncate(1);
            outputs
        };
        cases.push(plain.reference(move |x| {
            let plain = Definition::plain(&parts, sizes, [&x[0], &x[1], &x[2]]);
            first(arrange(Definition { decay: Some(&x[3]), ..plain }.compute()))
        }));
        if n > 0 {
            let parts = segments.clone();
            let bare = Case::new(format!("{name}, without decay"), [q, k, v], move |x| {
                vec![ssd(&x[0], &x[1], &x[2], &parts, SsdConfig::default()).0]
            });
            cases.push(bare.reference(move |x| {
                first(outputs(Definition::plain(&segments, sizes, [&x[0], &x[1], &x[2]]).compute()))
            }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::scans::{self, Scanner};
    use crate::testing::{between, uniform};

    /// Five heads that share keys in one group, R rows for each token.
    struct Heads(usize);

    impl Scanner for Heads {
        fn inputs(&self, tokens: usize) -> Vec<Tensor> {
            let shape = |heads, width| {
                if self.0 == 1 { vec![tokens, heads, width] } else { vec![tokens, self.0, heads, width] }
            };
            vec![
                uniform(&shape(1, 7)[..], 1),
                uniform(&shape(1, 7)[..], 2),
                uniform(&shape(5, 3)[..], 3),
                between(-0.5, 0.0, [tokens, 5], 4),
                uniform([tokens, 5], 5),
                uniform([tokens, 5], 6),
            ]
        }
        fn state(&self, sequences: usize) -> Tensor {
            uniform([sequences, 5, 7, 3], 7)
        }
        fn run(&self, x: &[Tensor], state: Option<&Tensor>, segments: &Segments) -> (Tensor, Tensor) {
            let (log_decay, scale, diagonal) = (Some(&x[3]), Some(&x[4]), Some(&x[5]));
            let config = SsdConfig { log_decay, scale, diagonal, state, final_state: true };
            let (y, last) = ssd(&x[0], &x[1], &x[2], segments, config);
            (y, last.expect("the final state was asked for"))
        }
    }

    #[test]
    fn whole_chunks_and_single_tokens_are_the_same() {
        for rank in [1, 3] {
            scans::whole_equals_pieces(&Heads(rank));
            scans::cutting_keeps_bits(&Heads(rank), 64);
        }
    }

    #[test]
    fn gradients_pass_through_a_carried_state() {
        scans::carried_state_has_gradients(&Heads(1));
        scans::carried_state_has_gradients(&Heads(3));
    }

    #[test]
    fn a_later_token_and_another_sequence_leave_a_result_alone() {
        scans::causal_and_apart(&Heads(1));
        scans::causal_and_apart(&Heads(3));
    }

    #[test]
    fn threads_change_no_bit() {
        scans::threads_change_nothing(&Heads(1));
        scans::threads_change_nothing(&Heads(3));
    }
}
