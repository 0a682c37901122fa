//! Losses.
//!
//! Each is a function with PyTorch's defaults (the mean over all elements), and a struct of the name that PyTorch gives its module,
//! whose fields are the options:
//!
//! ```
//! use cupola_nn::losses::{HuberLoss, Reduction, mse};
//! use cupola_tensor::Tensor;
//! let (x, target) = (Tensor::from_vec(vec![1.0f32, 4.0], [2]), Tensor::zeros([2]));
//! assert_eq!(mse(&x, &target).item(), 8.5);
//! let huber = HuberLoss { delta: 2.0, reduction: Reduction::Sum };
//! assert_eq!(huber.forward(&x, &target).item(), 6.5);
//! ```
//!
//! Targets may need gradients too, where the formula has one for them.

mod bce;
mod bce_with_logits;
mod cosine_embedding;
mod cross_entropy;
mod focal;
mod huber;
mod kl_div;
mod l1;
mod mse;
mod nll;
mod smooth_l1;

use cupola_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

pub use bce::{BceLoss, bce};
pub use bce_with_logits::{BceWithLogitsLoss, bce_with_logits};
pub use cosine_embedding::{CosineEmbeddingLoss, cosine_embedding};
pub use cross_entropy::{CrossEntropyLoss, cross_entropy};
pub use focal::{FocalLoss, focal};
pub use huber::{HuberLoss, huber};
pub use kl_div::{KlDivLoss, KlDivReduction, kl_div};
pub use l1::{L1Loss, l1};
pub use mse::{MseLoss, mse};
pub use nll::{NllLoss, nll};
pub use smooth_l1::{SmoothL1Loss, smooth_l1};

/// The names of all losses, which a test walks.
pub const LOSSES: &[&str] = &[
    "mse",
    "l1",
    "smooth_l1",
    "huber",
    "cross_entropy",
    "nll",
    "bce",
    "bce_with_logits",
    "kl_div",
    "focal",
    "cosine_embedding",
];

/// What becomes of the losses of single elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Nothing: the result has the elements' shape.
    None,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    pub(crate) fn apply(self, losses: &Tensor) -> Tensor {
        match self {
            Reduction::None => losses.clone(),
            Reduction::Mean => losses.mean([]),
            Reduction::Sum => losses.sum([]),
        }
    }
}

#[track_caller]
fn same_shape(name: &str, x: &Tensor, target: &Tensor) {
    assert_eq!(x.shape(), target.shape(), "{name}: input and target have different shapes");
}

/// `x`, in f32 where it is narrower: a logarithm of a probability needs more than 8 or 11 bits.
fn wide(x: &Tensor) -> Tensor {
    if matches!(x.dtype(), DType::BF16 | DType::F16) { x.to_dtype(DType::F32) } else { x.clone() }
}

/// A scalar to compare or combine `x` with.
fn number(value: f64, x: &Tensor) -> Tensor {
    Tensor::full_of([], value, x.dtype())
}
