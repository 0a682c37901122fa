//! The binary cross-entropy of logits.

use cupola_tensor::Tensor;

use super::{Reduction, same_shape, wide};

/// `-(w target log(s) + (1 - target) log(1 - s))` with `s = sigmoid(x)` and the positive class's weight `w`,
/// `torch.nn.BCEWithLogitsLoss`.
///
/// Computed as `(1 - target) x + (1 + (w - 1) target) softplus(-x)`, which neither overflows nor loses digits.
#[derive(Clone, Debug, Default)]
pub struct BceWithLogitsLoss {
    /// A factor for each element, of any shape that broadcasts.
    pub weight: Option<Tensor>,
    /// The weight of positive targets, of any shape that broadcasts.
    pub pos_weight: Option<Tensor>,
    /// What becomes of the elements.
    pub reduction: Reduction,
}

impl BceWithLogitsLoss {
    /// The loss, computed in f32 where `x` is narrower.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("bce_with_logits", x, target);
        let losses = elements(&wide(x), &wide(target), self.pos_weight.as_ref());
        self.reduction.apply(&match &self.weight {
            Some(weight) => losses * weight,
            None => losses,
        })
    }
}

pub(super) fn elements(x: &Tensor, target: &Tensor, pos_weight: Option<&Tensor>) -> Tensor {
    let tail = (-x).softplus();
    let tail = match pos_weight {
        Some(weight) => (1.0 + (weight - 1.0) * target) * tail,
        None => tail,
    };
    (1.0 - target) * x + tail
}

/// The mean of [`BceWithLogitsLoss`].
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn bce_with_logits(x: &Tensor, target: &Tensor) -> Tensor {
    BceWithLogitsLoss::default().forward(x, target)
}
