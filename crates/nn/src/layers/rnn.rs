//! Plain recurrent layers.

use cupola_tensor::Tensor;
use cupola_tensor::ops::{CellWeights, Nonlinearity, Order, rnn};

use super::recurrent::{CellParams, RecurrentConfig, Stack};
use crate::Module;

/// Layers of plain recurrence `h' = f(W_ih x + b_ih + W_hh h + b_hh)` over whole sequences, `torch.nn.RNN` with `batch_first` (Elman,
/// "Finding Structure in Time", 1990). Parameters are called as there: `weight_ih_l0 [H, D]`, `weight_hh_l0`, `bias_ih_l0`,
/// `bias_hh_l0`, `weight_ih_l0_reverse` and so on, all uniform within `1 / sqrt(H)` at first.
///
/// ```
/// use cupola_nn::{Module, layers::{Rnn, RecurrentConfig}};
/// use cupola_tensor::Tensor;
/// let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::default() };
/// let layer = Rnn::with(3, 5, config).init(0);
/// let (y, h) = layer.forward(&Tensor::ones([2, 7, 3]), None, None);
/// assert_eq!((y.shape().dims(), h.shape().dims()), (&[2, 7, 10][..], &[2, 2, 5][..]));
/// ```
#[derive(Module, Clone, Debug)]
pub struct Rnn {
    #[module(flatten)]
    stack: Stack,
    /// `f`; the hyperbolic tangent unless set otherwise.
    pub nonlinearity: Nonlinearity,
}

impl Rnn {
    /// One layer in one direction.
    #[track_caller]
    pub fn new(inputs: usize, hidden: usize) -> Self {
        Self::with(inputs, hidden, RecurrentConfig::default())
    }

    /// Layers as `config` says.
    ///
    /// # Panics
    /// When there are no layers or the dropout is not in 0..1.
    #[track_caller]
    pub fn with(inputs: usize, hidden: usize, config: RecurrentConfig) -> Self {
        Self { stack: Stack::new("Rnn", inputs, hidden, 1, config), nonlinearity: Nonlinearity::Tanh }
    }

    /// The same with another function.
    #[must_use]
    pub fn with_nonlinearity(self, nonlinearity: Nonlinearity) -> Self {
        Self { nonlinearity, ..self }
    }

    /// The outputs of the last layer and the final states of all.
    ///
    /// Sequence `b` has `lengths[b]` tokens, all of them without lengths; outputs are zero behind its end, where its final state is
    /// taken, and the reverse direction begins there. States are zero at first unless given.
    ///
    /// # Shapes
    /// `x [B, T, D]`, states `[layers * directions, B, H]` -> `[B, T, directions * H]` and states.
    ///
    /// # Panics
    /// When the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, state: Option<&Tensor>, lengths: Option<&[usize]>) -> (Tensor, Tensor) {
        let states: Vec<&Tensor> = state.into_iter().collect();
        let (y, mut finals) = self.stack.run("Rnn", x, &states, lengths, |x, weights, first, order| {
            let (y, h) = rnn(x, weights, first.first(), self.nonlinearity, order);
            (y, vec![h])
        });
        (y, finals.swap_remove(0))
    }
}

/// One step of [`Rnn`], `torch.nn.RNNCell`.
///
/// ```
/// use cupola_nn::{Module, layers::RnnCell};
/// use cupola_tensor::Tensor;
/// let cell = RnnCell::new(3, 5).init(0);
/// let h = cell.forward(&Tensor::ones([2, 3]), None);
/// assert_eq!(cell.forward(&Tensor::ones([2, 3]), Some(&h)).shape().dims(), [2, 5]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct RnnCell {
    #[module(flatten)]
    params: CellParams,
    /// `f`; the hyperbolic tangent unless set otherwise.
    pub nonlinearity: Nonlinearity,
}

impl RnnCell {
    /// A cell with biases.
    #[track_caller]
    pub fn new(inputs: usize, hidden: usize) -> Self {
        Self { params: CellParams::new(inputs, hidden, 1, true), nonlinearity: Nonlinearity::Tanh }
    }

    /// A cell without biases.
    #[track_caller]
    pub fn without_bias(inputs: usize, hidden: usize) -> Self {
        Self { params: CellParams::new(inputs, hidden, 1, false), nonlinearity: Nonlinearity::Tanh }
    }

    /// The same with another function.
    #[must_use]
    pub fn with_nonlinearity(self, nonlinearity: Nonlinearity) -> Self {
        Self { nonlinearity, ..self }
    }

    /// The next state; from a zero state without a given one.
    ///
    /// # Shapes
    /// `x [B, D]`, state `[B, H]` -> `[B, H]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, state: Option<&Tensor>) -> Tensor {
        let step =
            |x: &Tensor, weights: CellWeights<'_>| vec![rnn(x, weights, state, self.nonlinearity, &Order::default()).1];
        self.params.step("RnnCell", x, step).swap_remove(0)
    }
}
