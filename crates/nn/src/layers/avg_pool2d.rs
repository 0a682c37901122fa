//! The mean of windows of images.

use cupola_tensor::Tensor;
use cupola_tensor::ops::Window;

use crate::{Layer, Module};

/// The mean of each window of images, `torch.nn.AvgPool2d`: `[.., H, W]` -> `[.., OH, OW]`.
///
/// ```
/// use cupola_nn::{Layer, layers::AvgPool2d};
/// use cupola_tensor::{Tensor, ops::Window};
/// let pool = AvgPool2d::new(Window::new([2, 3]));
/// assert_eq!(pool.forward(&Tensor::ones([1, 4, 6])).shape().dims(), [1, 2, 2]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct AvgPool2d {
    /// The windows.
    pub window: Window<2>,
    /// Whether padding counts as elements; PyTorch's default is that it does.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Windows in which padding counts.
    pub fn new(window: Window<2>) -> Self {
        Self { window, count_include_pad: true }
    }
}

impl Layer for AvgPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool2d(self.window, self.count_include_pad)
    }
}
