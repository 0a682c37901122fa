//! Huber's loss.

use cupola_tensor::Tensor;

use super::{Reduction, number, same_shape};

/// `d^2 / 2` where `d = |x - target|` is below `delta`, `delta (d - delta / 2)` elsewhere, `torch.nn.HuberLoss` (Huber, "Robust
/// Estimation of a Location Parameter", 1964).
#[derive(Clone, Debug, PartialEq)]
pub struct HuberLoss {
    /// Where the parabola turns into a line.
    pub delta: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for HuberLoss {
    fn default() -> Self {
        Self { delta: 1.0, reduction: Reduction::Mean }
    }
}

impl HuberLoss {
    /// The loss.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ or `delta` is not positive.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("huber", x, target);
        assert!(self.delta > 0.0, "huber: delta is {}, expected a positive number", self.delta);
        self.reduction.apply(&bent(&(x - target).abs(), self.delta))
    }
}

/// `d^2 / 2` below `bend`, `bend (d - bend / 2)` above, as `m (d - m / 2)` with `m = min(d, bend)`.
pub(super) fn bent(d: &Tensor, bend: f64) -> Tensor {
    let m = d.minimum(&number(bend, d));
    &m * (d - &m * 0.5)
}

/// The mean of [`HuberLoss`] with `delta` 1.
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn huber(x: &Tensor, target: &Tensor) -> Tensor {
    HuberLoss::default().forward(x, target)
}
