//! The mean absolute error.

use cupola_tensor::Tensor;

use super::{Reduction, same_shape};

/// `|x - target|`, `torch.nn.L1Loss`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct L1Loss {
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl L1Loss {
    /// The loss.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("l1", x, target);
        self.reduction.apply(&(x - target).abs())
    }
}

/// The mean of `|x - target|`; see [`L1Loss`].
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn l1(x: &Tensor, target: &Tensor) -> Tensor {
    L1Loss::default().forward(x, target)
}
