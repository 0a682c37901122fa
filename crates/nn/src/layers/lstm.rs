//! Long short-term memory.

use cupola_tensor::Tensor;
use cupola_tensor::ops::{Order, lstm};

use super::recurrent::{CellParams, RecurrentConfig, Stack};
use crate::Module;

/// Layers of long short-term memory over whole sequences, `torch.nn.LSTM` with `batch_first` (Hochreiter and Schmidhuber, 1997).
/// Parameters are called as there: `weight_ih_l0 [4 H, D]` (gates input, forget, cell, output), `weight_hh_l0`, `bias_ih_l0`,
/// `bias_hh_l0`, `weight_ih_l0_reverse` and so on, all uniform within `1 / sqrt(H)` at first.
///
/// ```
/// use cupola_nn::{Module, layers::{Lstm, RecurrentConfig}};
/// use cupola_tensor::Tensor;
/// let config = RecurrentConfig { num_layers: 2, bidirectional: true, ..RecurrentConfig::default() };
/// let lstm = Lstm::with(3, 5, config).init(0);
/// let (y, (h, c)) = lstm.forward(&Tensor::ones([2, 7, 3]), None, Some(&[7, 4]));
/// assert_eq!(y.shape().dims(), [2, 7, 10]);
/// assert_eq!((h.shape().dims(), c.shape().dims()), (&[4, 2, 5][..], &[4, 2, 5][..]));
/// ```
#[derive(Module, Clone, Debug)]
pub struct Lstm {
    #[module(flatten)]
    stack: Stack,
}

impl Lstm {
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
        Self { stack: Stack::new("Lstm", inputs, hidden, 4, config) }
    }

    /// The outputs of the last layer and the final states `(h, c)` of all.
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
    pub fn forward(
        &self,
        x: &Tensor,
        state: Option<(&Tensor, &Tensor)>,
        lengths: Option<&[usize]>,
    ) -> (Tensor, (Tensor, Tensor)) {
        let states: Vec<&Tensor> = state.into_iter().flat_map(|(h, c)| [h, c]).collect();
        let (y, finals) = self.stack.run("Lstm", x, &states, lengths, |x, weights, first, order| {
            let first = if let [h, c] = first { Some((h, c)) } else { None };
            let (y, h, c) = lstm(x, weights, first, order);
            (y, vec![h, c])
        });
        let [h, c] = <[Tensor; 2]>::try_from(finals).expect("the cell returns two states");
        (y, (h, c))
    }
}

/// One step of long short-term memory, `torch.nn.LSTMCell`.
///
/// ```
/// use cupola_nn::{Module, layers::LstmCell};
/// use cupola_tensor::Tensor;
/// let cell = LstmCell::new(3, 5).init(0);
/// let (h, c) = cell.forward(&Tensor::ones([2, 3]), None);
/// let (h, _) = cell.forward(&Tensor::ones([2, 3]), Some((&h, &c)));
/// assert_eq!(h.shape().dims(), [2, 5]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct LstmCell {
    #[module(flatten)]
    params: CellParams,
}

impl LstmCell {
    /// A cell with biases.
    #[track_caller]
    pub fn new(inputs: usize, hidden: usize) -> Self {
        Self { params: CellParams::new(inputs, hidden, 4, true) }
    }

    /// A cell without biases.
    #[track_caller]
    pub fn without_bias(inputs: usize, hidden: usize) -> Self {
        Self { params: CellParams::new(inputs, hidden, 4, false) }
    }

    /// The next states `(h, c)`; from zero states without given ones.
    ///
    /// # Shapes
    /// `x [B, D]`, states `[B, H]` -> states.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, state: Option<(&Tensor, &Tensor)>) -> (Tensor, Tensor) {
        let next = self.params.step("LstmCell", x, |x, weights| {
            let (_, h, c) = lstm(x, weights, state, &Order::default());
            vec![h, c]
        });
        let [h, c] = <[Tensor; 2]>::try_from(next).expect("the cell returns two states");
        (h, c)
    }
}
