//! The gated recurrent unit over whole sequences.

use cupola_cpu::rnn::gru;

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::recurrent::{CellWeights, Order, Recurrent};
use crate::tensor::Tensor;

/// One layer in one direction (Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014), gates in
/// PyTorch's order and form:
///
/// ```text
/// r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
/// z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
/// n = tanh(W_in x + b_in + r (W_hn h + b_hn))
/// h' = (1 - z) n + z h
/// ```
pub struct Gru(pub Recurrent);

/// What this file offers.
pub const OPS: &[OpInfo] = &[Gru::INFO];

impl Op for Gru {
    const NAME: &'static str = "gru";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.0.forward(Self::NAME, gru::Gru, inputs, saved)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        self.0.backward(Self::NAME, gru::Gru, cx)
    }
}

/// One layer of GRU in one direction, see [`Gru`]: the hidden state after each token, and the final one. Computed in f32 (f64
/// for f64), also under autocast; the results have x's dtype.
///
/// # Shapes
/// `x [B, T, D]`, `w_ih [3 H, D]`, `w_hh [3 H, H]`, biases `[3 H]`, state `[B, H]` -> `[B, T, H]`, `[B, H]`.
///
/// # Panics
/// When the shapes or lengths do not fit or a dtype is not floating-point.
#[track_caller]
pub fn gru(x: &Tensor, weights: CellWeights<'_>, state: Option<&Tensor>, order: &Order) -> (Tensor, Tensor) {
    let mut inputs = vec![x, weights.w_ih, weights.w_hh];
    inputs.extend(weights.bias.into_iter().flat_map(|(a, b)| [a, b]).chain(state));
    let op = Gru(Recurrent::new(&weights, state.is_some(), order));
    let [y, h] = <[Tensor; 2]>::try_from(op.apply_all(&inputs)).expect("gru has two outputs");
    (y, h)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    crate::recurrent::testing::cases(
        3,
        false,
        |x, weights, state, order| {
            let (y, h) = gru(x, weights, state.map(|s| &s[0]), order);
            vec![y, h]
        },
        |input, hidden, h, _| {
            let n = h.len();
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let unit = |k: usize| {
                let (r, z) = (sigmoid(input[k] + hidden[k]), sigmoid(input[n + k] + hidden[n + k]));
                let new = (input[2 * n + k] + r * hidden[2 * n + k]).tanh();
                (1.0 - z) * new + z * h[k]
            };
            ((0..n).map(unit).collect(), Vec::new())
        },
    )
}
