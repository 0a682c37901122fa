//! The focal loss.

use cupola_tensor::Tensor;

use super::bce_with_logits::elements;
use super::{Reduction, number, same_shape, wide};

/// `-alpha_t (1 - p_t)^gamma log(p_t)` of logits, where `p_t` is the probability given to the target and `alpha_t` is `alpha` for
/// positive targets and `1 - alpha` for others (Lin et al., "Focal Loss for Dense Object Detection", 2017).
#[derive(Clone, Debug, PartialEq)]
pub struct FocalLoss {
    /// The weight of positive targets; `None` for none.
    pub alpha: Option<f64>,
    /// How much easy elements count less.
    pub gamma: f64,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl Default for FocalLoss {
    fn default() -> Self {
        Self { alpha: Some(0.25), gamma: 2.0, reduction: Reduction::Mean }
    }
}

impl FocalLoss {
    /// The loss, computed in f32 where `x` is narrower.
    ///
    /// # Shapes
    /// Logits `x` and `target` (from 0 to 1) of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ or `gamma` is negative.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("focal", x, target);
        assert!(self.gamma >= 0.0, "focal: gamma is {}, expected no negative number", self.gamma);
        let (x, target) = (wide(x), wide(target));
        let mut losses = elements(&x, &target, None);
        if self.gamma > 0.0 {
            let p = x.sigmoid();
            let missed = &p + &target - (&p * &target) * 2.0;
            // Where nothing is missed the power has no slope that could be multiplied by the zero behind it.
            let missed = missed.maximum(&number(1e-30, &x));
            losses = losses * missed.pow(&number(self.gamma, &x));
        }
        if let Some(alpha) = self.alpha {
            losses = losses * (&target * (2.0 * alpha - 1.0) + (1.0 - alpha));
        }
        self.reduction.apply(&losses)
    }
}

/// The mean of [`FocalLoss`] with the paper's constants.
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn focal(x: &Tensor, target: &Tensor) -> Tensor {
    FocalLoss::default().forward(x, target)
}
