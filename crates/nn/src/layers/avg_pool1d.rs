//! The mean of windows of sequences.

use cupola_tensor::Tensor;
use cupola_tensor::ops::Window;

use crate::{Layer, Module};

/// The mean of each window of sequences, `torch.nn.AvgPool1d`: `[.., L]` -> `[.., OL]`.
///
/// ```
/// use cupola_nn::{Layer, layers::AvgPool1d};
/// use cupola_tensor::{Tensor, ops::Window};
/// let pool = AvgPool1d::new(Window::new([2]));
/// assert_eq!(pool.forward(&Tensor::arange(0.0, 4.0, 1.0).reshape([1, 4])).to_vec::<f32>(), [0.5, 2.5]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct AvgPool1d {
    /// The windows.
    pub window: Window<1>,
    /// Whether padding counts as elements; PyTorch's default is that it does.
    pub count_include_pad: bool,
}

impl AvgPool1d {
    /// Windows in which padding counts.
    pub fn new(window: Window<1>) -> Self {
        Self { window, count_include_pad: true }
    }
}

impl Layer for AvgPool1d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool1d(self.window, self.count_include_pad)
    }
}
