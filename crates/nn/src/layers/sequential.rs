//! Layers one after the other.

use std::fmt;

use cupola_tensor::Tensor;

use crate::module::{Field, Path, Visitor, VisitorMut};
use crate::{Layer, Module};

/// A layer that can stand in a [`Sequential`]; every `Layer` that can be cloned is one.
pub trait Stackable: Layer + Send + Sync {
    /// A clone behind a box.
    fn clone_boxed(&self) -> Box<dyn Stackable>;
}

impl<L: Layer + Clone + Send + Sync + 'static> Stackable for L {
    fn clone_boxed(&self) -> Box<dyn Stackable> {
        Box::new(self.clone())
    }
}

/// Layers that each take the result of the one before, `torch.nn.Sequential`. Parameters are called `0.weight`, `2.bias` and so on.
///
/// ```
/// use cupola_nn::{Layer, Module, layers::{Function, Linear, Sequential}};
/// use cupola_tensor::Tensor;
/// let net = Sequential::new().then(Linear::new(4, 8)).then(Function(Tensor::relu)).then(Linear::new(8, 2)).init(0);
/// assert_eq!(net.forward(&Tensor::ones([3, 4])).shape().dims(), [3, 2]);
/// assert!(net.parameter("2.weight").is_some());
/// ```
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Stackable>>,
}

impl Sequential {
    /// No layers: the input itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// These layers and `layer` behind them.
    #[must_use]
    pub fn then(mut self, layer: impl Stackable + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }

    /// How many layers there are.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Field for Sequential {
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn Visitor<'a>) {
        visitor.enter(path, "Sequential");
        for (index, layer) in self.layers.iter().enumerate() {
            path.push(&index.to_string());
            layer.visit(path, visitor);
            path.pop();
        }
        visitor.leave(path);
    }

    fn visit_mut<'a>(&'a mut self, path: &mut Path, visitor: &mut dyn VisitorMut<'a>) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            path.push(&index.to_string());
            layer.visit_mut(path, visitor);
            path.pop();
        }
    }
}

impl Module for Sequential {}

impl Layer for Sequential {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.layers.iter().fold(x.clone(), |x, layer| layer.forward(&x))
    }
}

impl Clone for Sequential {
    fn clone(&self) -> Self {
        Self { layers: self.layers.iter().map(|layer| (**layer).clone_boxed()).collect() }
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::summary(self))
    }
}
