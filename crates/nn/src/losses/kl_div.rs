//! The Kullback-Leibler divergence.

use cupola_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{number, same_shape, wide};

/// What becomes of the elements of a divergence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlDivReduction {
    /// Nothing: the result has the elements' shape.
    None,
    /// The mean over all elements, PyTorch's default, which is not the divergence.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum over the size of the first dimension: the mean divergence of a batch.
    BatchMean,
}

/// `target (log(target) - x)` of log-probabilities `x`, 0 where the target is 0, `torch.nn.KLDivLoss`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KlDivLoss {
    /// Whether targets are logarithms too.
    pub log_target: bool,
    /// What becomes of the elements.
    pub reduction: KlDivReduction,
}

impl KlDivLoss {
    /// The loss, computed in f32 where `x` is narrower.
    ///
    /// # Shapes
    /// `x` and `target` of one shape; a scalar, or that shape without reduction.
    ///
    /// # Panics
    /// When the shapes differ, or a scalar is to be divided by the size of its first dimension.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, target: &Tensor) -> Tensor {
        same_shape("kl_div", x, target);
        let (x, target) = (wide(x), wide(target));
        let losses = if self.log_target {
            target.exp() * (&target - &x)
        } else {
            // 0 log 0 is 0: any finite number serves for the logarithm.
            let log = target.maximum(&number(1e-37, &target)).log();
            &target * (log - &x)
        };
        match self.reduction {
            KlDivReduction::None => losses,
            KlDivReduction::Mean => losses.mean([]),
            KlDivReduction::Sum => losses.sum([]),
            KlDivReduction::BatchMean => losses.sum([]) / x.dim(0) as f64,
        }
    }
}

/// The mean of [`KlDivLoss`] over all elements.
///
/// # Panics
/// When the shapes differ.
#[track_caller]
pub fn kl_div(x: &Tensor, target: &Tensor) -> Tensor {
    KlDivLoss::default().forward(x, target)
}
