//! The binary cross-entropy of probabilities.

use cupola_tensor::{DType, Tensor, no_grad};

use super::{Reduction, number, same_shape, wide};

/// `-(target log(x) + (1 - target) log(1 - x))` of probabilities `x`, with logarithms not below -100, `torch.nn.BCELoss`. Where
/// `x` comes from a sigmoid, [`super::BceWithLogitsLoss`] is more exact.
#[derive(Clone, Debug, Default)]
pub struct BceLoss {
    /// A factor for each element, of any shape that broadcasts.
    pub weight: Option<Tensor>,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl BceLoss {
    /// The loss, computed in f32 where `x` is narrower. Where a logarithm is bounded, its gradient is 0.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("bce", x, target);
        let (x, target) = (wide(x), wide(target));
        let losses = -(&target * bounded_log(&x) + (1.0 - &target) * bounded_log(&(1.0 - &x)));
        self.reduction.apply(&match &self.weight {
            Some(weight) => losses * weight,
            None => losses,
        })
    }
}

/// `max(log(p), -100)`. The argument is bounded rather than the logarithm, which keeps the gradient finite; in f32, where
/// `e^-100` has no full precision, only 0 itself comes to -100.
fn bounded_log(p: &Tensor) -> Tensor {
    let floor = if p.dtype() == DType::F64 { (-100f64).exp() } else { f64::from(f32::MIN_POSITIVE) };
    let zero = no_grad(|| p.eq_scalar(0.0).to_dtype(p.dtype()));
    p.maximum(&number(floor, p)).log() * (1.0 - &zero) - zero * 100.0
}

/// The mean of [`BceLoss`].
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn bce(x: &Tensor, target: &Tensor) -> Tensor {
    BceLoss::default().forward(x, target)
}
