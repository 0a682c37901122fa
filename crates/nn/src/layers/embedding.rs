//! Embeddings.

use cupola_tensor::Tensor;

use crate::init::Init;
use crate::{Layer, Module, Param};

/// A table with a row for each of a number of symbols, `torch.nn.Embedding`. A head that shares its weight takes it from here:
/// `linear(x, &embedding.weight, ..)`.
///
/// ```
/// use cupola_nn::{Layer, Module, layers::Embedding};
/// use cupola_tensor::Tensor;
/// let table = Embedding::new(10, 4).init(0);
/// let tokens = Tensor::from_vec(vec![3i64, 1, 3], [3]);
/// assert_eq!(table.forward(&tokens).shape().dims(), [3, 4]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Embedding {
    /// `[V, D]`, standard normal at first.
    pub weight: Param,
}

impl Embedding {
    /// A table of `symbols` rows of `width`.
    #[track_caller]
    pub fn new(symbols: usize, width: usize) -> Self {
        Self { weight: Param::new([symbols, width], Init::normal(1.0)) }
    }

    /// The same table with other values at first.
    #[must_use]
    pub fn with_init(mut self, init: Init) -> Self {
        self.weight.set_initializer(init);
        self
    }
}

impl Layer for Embedding {
    /// # Shapes
    /// Integers `[..]` -> `[.., D]`.
    ///
    /// # Panics
    /// When a number is outside the table.
    fn forward(&self, x: &Tensor) -> Tensor {
        self.weight.embedding(x)
    }
}
