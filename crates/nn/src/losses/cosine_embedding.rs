//! The loss of pairs of embeddings.

use cupola_tensor::Tensor;

use super::{Reduction, number};

/// Of pairs of vectors `x` and `other`: `1 - cos(x, other)` where the target is 1, `max(0, cos(x, other) - margin)` where it is -1,
/// `torch.nn.CosineEmbeddingLoss`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CosineEmbeddingLoss {
    /// How similar pairs may be that do not belong together.
    pub margin: f64,
    /// What becomes of the pairs.
    pub reduction: Reduction,
}

impl CosineEmbeddingLoss {
    /// The loss.
    ///
    /// # Shapes
    /// `x` and `other` `[.., D]`, `target` `[..]` of integers or floats 1 and -1; a scalar, or `[..]` without reduction.
    ///
    /// # Panics
    /// When the shapes do not fit.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, other: &Tensor, target: &Tensor) -> Tensor {
        assert!(
            x.shape() == other.shape() && x.rank() > 0 && target.shape().dims() == &x.shape()[..x.rank() - 1],
            "cosine_embedding: inputs {} and {}, target {}; expected [.., D] twice and [..]",
            x.shape(),
            other.shape(),
            target.shape()
        );
        // PyTorch's: keeps the norms of zero vectors from dividing.
        let square = |v: &Tensor| v.square().sum([-1]) + 1e-12;
        let cos = (x * other).sum([-1]) / (square(x) * square(other)).sqrt();
        let is = |value: f64| target.to_dtype(x.dtype()).eq_scalar(value).to_dtype(x.dtype());
        let apart = (&cos - self.margin).maximum(&number(0.0, &cos));
        self.reduction.apply(&(is(1.0) * (1.0 - &cos) + is(-1.0) * apart))
    }
}

/// The mean of [`CosineEmbeddingLoss`] with margin 0.
///
/// # Panics
/// When the shapes do not fit.
#[track_caller]
pub fn cosine_embedding(x: &Tensor, other: &Tensor, target: &Tensor) -> Tensor {
    CosineEmbeddingLoss::default().forward(x, other, target)
}
