//! The smooth absolute error.

use cupola_tensor::Tensor;

use super::huber::bent;
use super::{Reduction, same_shape};

/// `d^2 / (2 beta)` where `d = |x - target|` is below `beta`, `d - beta / 2` elsewhere, `torch.nn.SmoothL1Loss` (Girshick, "Fast
/// R-CNN", 2015).
#[derive(Clone, Debug, PartialEq)]
pub struct SmoothL1Loss {
    /// Where the parabola turns into a line; with 0 there is no parabola.
    pub beta: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for SmoothL1Loss {
    fn default() -> Self {
        Self { beta: 1.0, reduction: Reduction::Mean }
    }
}

impl SmoothL1Loss {
    /// The loss.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ or `beta` is negative.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("smooth_l1", x, target);
        assert!(self.beta >= 0.0, "smooth_l1: beta is {}, expected no negative number", self.beta);
        let d = (x - target).abs();
        self.reduction.apply(&if self.beta == 0.0 { d } else { bent(&d, self.beta) / self.beta })
    }
}

/// The mean of [`SmoothL1Loss`] with `beta` 1.
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn smooth_l1(x: &Tensor, target: &Tensor) -> Tensor {
    SmoothL1Loss::default().forward(x, target)
}
