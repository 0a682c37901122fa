//! Pooling.

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

impl AvgPool1d {
    /// Windows in which padding counts.
    pub fn new(window: Window<1>) -> Self {
        Self { window, count_include_pad: true }
    }
}

impl AvgPool2d {
    /// Windows in which padding counts.
    pub fn new(window: Window<2>) -> Self {
        Self { window, count_include_pad: true }
    }
}

impl Layer for MaxPool1d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.max_pool1d(self.0)
    }
}

impl Layer for MaxPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.max_pool2d(self.0)
    }
}

impl Layer for AvgPool1d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool1d(self.window, self.count_include_pad)
    }
}

impl Layer for AvgPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.avg_pool2d(self.window, self.count_include_pad)
    }
}

impl Layer for AdaptiveAvgPool2d {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.adaptive_avg_pool2d(self.0)
    }
}
