//! Dropout that keeps mean and variance.

use cupola_tensor::{Tensor, no_grad};

use super::dropout::check;
use crate::training::is_training;
use crate::{Layer, Module};

/// Dropout that keeps mean and variance of self-normalising networks, `torch.nn.AlphaDropout` (Klambauer et al.,
/// "Self-Normalizing Neural Networks", 2017): dropped elements become `alpha' = -lambda alpha` of SELU, and
///
/// `y = a (kept x + dropped alpha') + b`, `a = ((1 - p) (1 + p alpha'^2))^(-1/2)`, `b = -a p alpha'`.
///
/// ```
/// use cupola_nn::{Layer, layers::AlphaDropout, training};
/// use cupola_tensor::{Rng, Tensor};
/// let _scope = training(0, 0);
/// let y = AlphaDropout::new(0.3).forward(&Tensor::randn([100, 100], Rng::seed(0)));
/// assert!(y.mean([]).item().abs() < 0.05 && (y.std([], 0.0).item() - 1.0).abs() < 0.05);
/// ```
#[derive(Module, Clone, Debug)]
pub struct AlphaDropout {
    p: f64,
}

/// `-scale * alpha` of SELU.
const SATURATED: f64 = -1.758_099_340_847_376_6;

impl AlphaDropout {
    /// Drops with probability `p`.
    ///
    /// # Panics
    /// When `p` is not in 0..1.
    #[track_caller]
    pub fn new(p: f64) -> Self {
        check("AlphaDropout", p);
        Self { p }
    }
}

impl Layer for AlphaDropout {
    /// # Panics
    /// When recorded outside of a training scope.
    fn forward(&self, x: &Tensor) -> Tensor {
        if self.p == 0.0 || !is_training("AlphaDropout") {
            return x.clone();
        }
        let kept =
            no_grad(|| Tensor::ones_of(*x.shape(), x.dtype()).dropout(self.p).gt_scalar(0.0).to_dtype(x.dtype()));
        let scale = ((1.0 - self.p) * (1.0 + self.p * SATURATED * SATURATED)).sqrt().recip();
        let shift = -scale * self.p * SATURATED;
        let constant = (1.0 - &kept) * (scale * SATURATED) + shift;
        x * (kept * scale) + constant
    }
}
