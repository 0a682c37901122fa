//! Functions without parameters.

use cupola_tensor::Tensor;

use crate::{Layer, Module};

/// A function without parameters as a layer: `Function(Tensor::relu)`.
#[derive(Module, Clone, Copy)]
pub struct Function(#[module(skip)] pub fn(&Tensor) -> Tensor);

impl Layer for Function {
    fn forward(&self, x: &Tensor) -> Tensor {
        (self.0)(x)
    }
}
