//! The long short-term memory over whole sequences.

use cupola_cpu::rnn::lstm;

use crate::op::{Backward, InputGrads, Op, OpInfo, Outputs, Saved};
use crate::recurrent::{CellWeights, Order, Recurrent};
use crate::tensor::Tensor;

/// One layer in one direction (Hochreiter and Schmidhuber, "Long short-term memory", 1997), gates in PyTorch's order:
///
/// ```text
/// i, f, g, o = sigmoid, sigmoid, tanh, sigmoid (W_ih x + b_ih + W_hh h + b_hh)
/// c' = f c + i g
/// h' = o tanh(c')
/// ```
pub struct Lstm(pub Recurrent);

/// What this file offers.
pub const OPS: &[OpInfo] = &[Lstm::INFO];

impl Op for Lstm {
    const NAME: &'static str = "lstm";

    fn forward(&self, inputs: &[&Tensor], saved: &mut Saved) -> Outputs {
        self.0.forward(Self::NAME, lstm::Lstm, inputs, saved)
    }

    fn backward(&self, cx: &mut Backward<'_>) -> InputGrads {
        self.0.backward(Self::NAME, lstm::Lstm, cx)
    }
}

/// One layer of LSTM in one direction, see [`Lstm`]: the hidden state after each token, and the final h and c. Computed in f32
/// (f64 for f64), also under autocast; the results have x's dtype.
///
/// # Shapes
/// `x [B, T, D]`, `w_ih [4 H, D]`, `w_hh [4 H, H]`, biases `[4 H]`, states `[B, H]` -> `[B, T, H]`, `[B, H]`, `[B, H]`.
///
/// # Panics
/// When the shapes or lengths do not fit or a dtype is not floating-point.
#[track_caller]
pub fn lstm(
    x: &Tensor,
    weights: CellWeights<'_>,
    state: Option<(&Tensor, &Tensor)>,
    order: &Order,
) -> (Tensor, Tensor, Tensor) {
    let mut inputs = vec![x, weights.w_ih, weights.w_hh];
    inputs.extend(weights.bias.into_iter().chain(state).flat_map(|(a, b)| [a, b]));
    let op = Lstm(Recurrent::new(&weights, state.is_some(), order));
    let [y, h, c] = <[Tensor; 3]>::try_from(op.apply_all(&inputs)).expect("lstm has three outputs");
    (y, h, c)
}

#[cfg(test)]
pub(super) fn cases() -> Vec<crate::testing::Case> {
    crate::recurrent::testing::cases(
        4,
        true,
        |x, weights, state, order| {
            let (y, h, c) = lstm(x, weights, state.map(|s| (&s[0], &s[1])), order);
            vec![y, h, c]
        },
        |input, hidden, h, c| {
            let n = h.len();
            let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
            let gate = |g: usize, k: usize| input[g * n + k] + hidden[g * n + k];
            let next: Vec<f64> =
                (0..n).map(|k| sigmoid(gate(1, k)) * c[k] + sigmoid(gate(0, k)) * gate(2, k).tanh()).collect();
            ((0..n).map(|k| sigmoid(gate(3, k)) * next[k].tanh()).collect(), next)
        },
    )
}

#[cfg(test)]
mod tests {
    use cupola_core::Rng;
    use cupola_core::pool::with_threads;

    use super::*;

    #[test]
    fn the_number_of_threads_leaves_every_bit() {
        let run = |threads| {
            with_threads(threads, || {
                let x = Tensor::randn([19, 7, 20], Rng::seed(1)).requires_grad();
                let (w_ih, w_hh) =
                    (Tensor::randn([160, 20], Rng::seed(2)), Tensor::randn([160, 40], Rng::seed(3)) * 0.2);
                let (w_ih, w_hh) = (w_ih.requires_grad(), w_hh.requires_grad());
                let weights = CellWeights { w_ih: &w_ih, w_hh: &w_hh, bias: None };
                let (y, h, c) = lstm(&x, weights, None, &Order::default());
                let grads = (y.sum([]) + h.sum([]) + c.sum([])).backward();
                [y.detach(), grads[&x].clone(), grads[&w_ih].clone(), grads[&w_hh].clone()]
            })
        };
        let one = run(1);
        for threads in [2, 4, 7] {
            assert!(one.iter().zip(&run(threads)).all(|(a, b)| a.same_bits(b)), "{threads} threads");
        }
    }

    #[test]
    fn a_sequence_in_two_pieces_is_the_sequence() {
        let x = Tensor::randn([3, 9, 5], Rng::seed(1));
        let (w_ih, w_hh) = (Tensor::randn([16, 5], Rng::seed(2)), Tensor::randn([16, 4], Rng::seed(3)));
        let weights = CellWeights { w_ih: &w_ih, w_hh: &w_hh, bias: None };
        let (whole, h, c) = lstm(&x, weights, None, &Order::default());
        let (first, h1, c1) = lstm(&x.narrow(1, 0, 4), weights, None, &Order::default());
        let (second, h2, c2) = lstm(&x.narrow(1, 4, 5), weights, Some((&h1, &c1)), &Order::default());
        assert!(Tensor::cat(&[&first, &second], 1).equals(&whole) && h.equals(&h2) && c.equals(&c2));
    }

    #[test]
    #[should_panic(expected = "lstm: lengths Some([3, 4]) do not fit input [2, 3, 5]")]
    fn a_length_beyond_the_batch_is_refused() {
        let (w_ih, w_hh) = (Tensor::zeros([16, 5]), Tensor::zeros([16, 4]));
        let order = Order { lengths: Some([3, 4].into()), reverse: false };
        lstm(&Tensor::zeros([2, 3, 5]), CellWeights { w_ih: &w_ih, w_hh: &w_hh, bias: None }, None, &order);
    }
}
