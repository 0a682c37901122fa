//! Layer normalisation.

use cupola_core::Shape;
use cupola_tensor::Tensor;

use crate::init::Init;
use crate::{Layer, Module, Param};

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimensions, with the biased variance, `torch.nn.LayerNorm` (Ba
/// et al., "Layer Normalization", 2016).
///
/// ```
/// use cupola_nn::{Layer, Module, layers::LayerNorm};
/// use cupola_tensor::{Rng, Tensor};
/// let norm = LayerNorm::new(8).init(0);
/// let y = norm.forward(&Tensor::randn([5, 8], Rng::seed(1)));
/// assert!(y.mean([1]).abs().max([]).item() < 1e-6);
/// ```
#[derive(Module, Clone, Debug)]
pub struct LayerNorm {
    /// Of the normalised dimensions, ones at first.
    pub weight: Option<Param>,
    /// Likewise, zeros at first.
    pub bias: Option<Param>,
    /// Added to variances; 1e-5 unless set otherwise.
    pub eps: f64,
    shape: Shape,
}

impl LayerNorm {
    /// A norm over last dimensions of this shape.
    ///
    /// # Panics
    /// When the shape has no dimension.
    #[track_caller]
    pub fn new(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert!(shape.rank() > 0, "LayerNorm: there is no dimension to normalise");
        Self {
            weight: Some(Param::new(shape, Init::Ones)),
            bias: Some(Param::new(shape, Init::Zeros)),
            eps: 1e-5,
            shape,
        }
    }

    /// The same norm with another `eps`.
    #[must_use]
    pub fn with_eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// The same norm without a bias.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// The same norm without weight and bias.
    #[must_use]
    pub fn without_affine(self) -> Self {
        Self { weight: None, bias: None, ..self }
    }

    /// `h = x + residual` and the norm of `h`, in one pass: `(y, h)`.
    ///
    /// # Panics
    /// When the last dimensions are others, or the two shapes differ.
    #[track_caller]
    pub fn forward_residual(&self, x: &Tensor, residual: &Tensor) -> (Tensor, Tensor) {
        let (rows, weight, bias) = self.rows(x);
        let (y, h) = rows.layer_norm_residual(&self.rows(residual).0, weight.as_ref(), bias.as_ref(), self.eps);
        (y.reshape(x.shape()), h.reshape(x.shape()))
    }

    /// `x` with all normalised dimensions in one, and weight and bias likewise.
    #[track_caller]
    fn rows(&self, x: &Tensor) -> (Tensor, Option<Tensor>, Option<Tensor>) {
        let outer = x.rank().checked_sub(self.shape.rank());
        let fits = outer.is_some_and(|outer| x.shape()[outer..] == *self.shape);
        assert!(fits, "LayerNorm: input {} does not end in {}", x.shape(), self.shape);
        if self.shape.rank() == 1 {
            return (x.clone(), self.weight.as_deref().cloned(), self.bias.as_deref().cloned());
        }
        let width = self.shape.numel();
        let flat = |param: &Option<Param>| param.as_ref().map(|param| param.reshape([width]));
        let rows = x.reshape([x.numel().checked_div(width).unwrap_or(0), width]);
        (rows, flat(&self.weight), flat(&self.bias))
    }
}

impl Layer for LayerNorm {
    /// # Shapes
    /// `[.., D]` -> `[.., D]`, where D stands for all normalised dimensions.
    ///
    /// # Panics
    /// When the last dimensions are others.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (rows, weight, bias) = self.rows(x);
        let y = rows.layer_norm(weight.as_ref(), bias.as_ref(), self.eps);
        if self.shape.rank() == 1 { y } else { y.reshape(x.shape()) }
    }
}
