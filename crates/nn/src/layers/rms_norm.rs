//! Normalisation by the root mean square.

use cupola_tensor::Tensor;

use crate::init::Init;
use crate::{Layer, Module, Param};

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension, `torch.nn.RMSNorm` (Zhang and Sennrich, "Root Mean Square
/// Layer Normalization", 2019).
///
/// ```
/// use cupola_nn::{Layer, Module, layers::RmsNorm};
/// use cupola_tensor::Tensor;
/// let norm = RmsNorm::new(4).init(0);
/// let y = norm.forward(&Tensor::full([1, 4], 3.0));
/// assert!((y.to_vec::<f32>()[0] - 1.0).abs() < 1e-5);
/// ```
#[derive(Module, Clone, Debug)]
pub struct RmsNorm {
    /// `[D]`, ones at first.
    pub weight: Param,
    /// Added to mean squares; 1e-5 unless set otherwise (PyTorch's default is the dtype's epsilon).
    pub eps: f64,
}

impl RmsNorm {
    /// A norm of vectors of this width.
    #[track_caller]
    pub fn new(width: usize) -> Self {
        Self { weight: Param::new([width], Init::Ones), eps: 1e-5 }
    }

    /// The same norm with another `eps`.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// `h = x + residual` and the norm of `h`, in one pass: `(y, h)`.
    ///
    /// # Shapes
    /// `[.., D]` twice -> `[.., D]` twice.
    #[track_caller]
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> (Tensor, Tensor) {
        x.rms_norm_residual(residual, Some(&self.weight), self.eps)
    }
}

impl Layer for RmsNorm {
    /// # Shapes
    /// `[.., D]` -> `[.., D]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm(Some(&self.weight), self.eps)
    }
}
