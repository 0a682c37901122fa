//! The input added to what a layer makes of it.

use cupola_tensor::Tensor;

use crate::{Layer, Module};

/// `y = x + inner(x)` (He et al., "Deep Residual Learning for Image Recognition", 2016).
///
/// ```
/// use cupola_nn::{Layer, layers::{Function, Residual}};
/// use cupola_tensor::Tensor;
/// let y = Residual { inner: Function(|x| x * 2.0) }.forward(&Tensor::ones([1]));
/// assert_eq!(y.item(), 3.0);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Residual<L> {
    /// What is added to the input.
    pub inner: L,
}

impl<L: Layer> Layer for Residual<L> {
    /// # Panics
    /// When the inner layer changes the shape.
    fn forward(&self, x: &Tensor) -> Tensor {
        let y = self.inner.forward(x);
        assert_eq!(x.shape(), y.shape(), "Residual: the inner layer changes the shape");
        x + y
    }
}
