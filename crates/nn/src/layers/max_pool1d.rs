//! The largest element of windows of sequences.

use cupola_tensor::Tensor;
use cupola_tensor::ops::Window;

use crate::{Layer, Module};

/// The largest element of each window of sequences, `torch.nn.MaxPool1d`: `[.., L]` -> `[.., OL]`.
///
/// ```
/// use cupola_nn::{Layer, layers::MaxPool1d};
/// use cupola_tensor::{Tensor, ops::Window};
/// let pool = MaxPool1d(Window::new([2]));
/// assert_eq!(pool.forward(&Tensor::arange(0.0, 4.0, 1.0).reshape([1, 4])).to_vec::<f32>(), [1.0, 3.0]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct MaxPool1d(pub Window<1>);

impl Layer for MaxPool1d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.max_pool1d(self.0)
    }
}
