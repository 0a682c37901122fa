//! Means over images of any size.

use cupola_tensor::Tensor;

use crate::{Layer, Module};

/// The means of as many windows as the result is to have elements, `torch.nn.AdaptiveAvgPool2d`: `[.., H, W]` ->
/// `[.., OH, OW]`.
///
/// ```
/// use cupola_nn::{Layer, layers::AdaptiveAvgPool2d};
/// use cupola_tensor::Tensor;
/// let pool = AdaptiveAvgPool2d([1, 1]);
/// assert_eq!(pool.forward(&Tensor::ones([2, 3, 5, 7])).to_vec::<f32>(), [1.0; 6]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct AdaptiveAvgPool2d(pub [usize; 2]);

impl Layer for AdaptiveAvgPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool2d(self.0)
    }
}
