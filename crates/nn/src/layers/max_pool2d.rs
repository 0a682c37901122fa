//! The largest element of windows of images.

use cupola_tensor::Tensor;
use cupola_tensor::ops::Window;

use crate::{Layer, Module};

/// The largest element of each window of images, `torch.nn.MaxPool2d`: `[.., H, W]` -> `[.., OH, OW]`.
///
/// ```
/// use cupola_nn::{Layer, layers::MaxPool2d};
/// use cupola_tensor::{Tensor, ops::Window};
/// let pool = MaxPool2d(Window::new([2, 2]));
/// assert_eq!(pool.forward(&Tensor::ones([1, 4, 6])).shape().dims(), [1, 2, 3]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct MaxPool2d(pub Window<2>);

impl Layer for MaxPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.max_pool2d(self.0)
    }
}
