//! The simple recurrence over whole sequences.

use cupola_cpu::rnn::elman::{ElmanRelu, ElmanTanh};

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::recurrent::{CellWeights, Order, Recurrent};
use crate::tensor::Tensor;

/// What the sum of a simple recurrence passes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nonlinearity {
    /// The hyperbolic tangent.
    #[default]
    Tanh,
    /// `max(0, x)`
    Relu,
}

/// One layer in one direction (Elman, "Finding structure in time", 1990): `h' = act(W_ih x + b_ih + W_hh h + b_hh)`.
pub struct Rnn {
    /// Which inputs there are, and their order in time.
    pub recurrent: Recurrent,
    /// act
    pub nonlinearity: Nonlinearity,
}

/// What this file offers.
pub const OPS: &[OpInfo] = &[Rnn::INFO];

impl Op for Rnn {
    const NAME: &'static str = "rnn";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        match self.nonlinearity {
            Nonlinearity::Tanh => self.recurrent.forward(Self::NAME, ElmanTanh, inputs, saved),
            Nonlinearity::Relu => self.recurrent.forward(Self::NAME, ElmanRelu, inputs, saved),
        }
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        match self.nonlinearity {
            Nonlinearity::Tanh => self.recurrent.backward(Self::NAME, ElmanTanh, cx),
            Nonlinearity::Relu => self.recurrent.backward(Self::NAME, ElmanRelu, cx),
        }
    }
}

/// One layer of a simple recurrence in one direction, see [`Rnn`]: the hidden state after each token, and the final one.
/// Computed in f32 (f64 for f64), also under autocast; the results have x's dtype.
///
/// # Shapes
/// `x [B, T, D]`, `w_ih [H, D]`, `w_hh [H, H]`, biases `[H]`, state `[B, H]` -> `[B, T, H]`, `[B, H]`.
///
/// # Panics
/// When the shapes or lengths do not fit or a dtype is not floating-point.
#[track_caller]
pub fn rnn(
    x: &Tensor,
    weights: CellWeights<'_>,
    state: Option<&Tensor>,
    nonlinearity: Nonlinearity,
    order: &Order,
) -> (Tensor, Tensor) {
    let mut inputs = vec![x, weights.w_ih, weights.w_hh];
    inputs.extend(weights.bias.into_iter().flat_map(|(a, b)| [a, b]).chain(state));
    let op = Rnn { recurrent: Recurrent::new(&weights, state.is_some(), order), nonlinearity };
    let [y, h] = <[Tensor; 2]>::try_from(op.apply_all(&inputs)).expect("rnn has two outputs");
    (y, h)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    use crate::recurrent::testing::cases;
    let mut all = cases(
        1,
        false,
        |x, weights, state, order| {
            let (y, h) = rnn(x, weights, state.map(|s| &s[0]), Nonlinearity::Tanh, order);
            vec![y, h]
        },
        |input, hidden, _, _| (input.iter().zip(hidden).map(|(a, b)| (a + b).tanh()).collect(), Vec::new()),
    );
    all.extend(cases(
        1,
        false,
        |x, weights, state, order| {
            let (y, h) = rnn(x, weights, state.map(|s| &s[0]), Nonlinearity::Relu, order);
            vec![y, h]
        },
        |input, hidden, _, _| (input.iter().zip(hidden).map(|(a, b)| (a + b).max(0.0)).collect(), Vec::new()),
    ));
    all
}
