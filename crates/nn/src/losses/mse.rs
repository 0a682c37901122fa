//! The mean squared error.

use cupola_tensor::Tensor;

use super::{Reduction, same_shape};

/// `(x - target)^2`, `torch.nn.MSELoss`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MseLoss {
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl MseLoss {
    /// The loss.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("mse", x, target);
        self.reduction.apply(&(x - target).square())
    }
}

/// The mean of `(x - target)^2`; see [`MseLoss`].
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn mse(x: &Tensor, target: &Tensor) -> Tensor {
    MseLoss::default().forward(x, target)
}
