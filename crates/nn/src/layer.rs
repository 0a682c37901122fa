//! Layers of one tensor.

use cupola_tensor::Tensor;

use crate::module::Module;

/// A module that turns one tensor into another, so that it can stand in a [`crate::layers::Sequential`] and be used in the explicit
/// mode ([`crate::explicit`]). Modules with other signatures have a `forward` of their own.
pub trait Layer: Module {
    /// What the layer computes.
    #[track_caller]
    fn forward(&self, x: &Tensor) -> Tensor;
}

impl<L: Layer + ?Sized> Layer for Box<L> {
    fn forward(&self, x: &Tensor) -> Tensor {
        (**self).forward(x)
    }
}
