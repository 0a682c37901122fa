//! Two projections with an activation between them.

use cupola_nn::layers::Linear;
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;
use cupola_tensor::ops::linear::Activation;

use super::{projection, residual_projection};
use crate::spec::{ChannelKind, ModelSpec};

/// `down_proj(act(up_proj(x)))`.
#[derive(Module, Clone)]
pub struct Mlp {
    /// `[D]` to `[F]`.
    pub up_proj: Linear,
    /// `[F]` to `[D]`.
    pub down_proj: Linear,
    activation: Activation,
    /// Whether the activation is squared.
    squared: bool,
}

impl Mlp {
    /// The channel mixer of this specification's layers of kind `kind`.
    pub fn new(kind: ChannelKind, spec: &ModelSpec) -> Self {
        let (width, inner) = (spec.hidden_size, spec.intermediate_size.unwrap_or(4 * spec.hidden_size));
        Self {
            up_proj: projection(Linear::new(width, inner), spec.mlp_bias, spec),
            down_proj: residual_projection(Linear::new(inner, width), spec.mlp_bias, spec),
            activation: activation(kind),
            squared: kind == ChannelKind::MlpRelu2,
        }
    }
}

/// What a mixer of this kind applies, but for squares.
pub(crate) fn activation(kind: ChannelKind) -> Activation {
    match kind {
        ChannelKind::MlpTanh => Activation::GeluTanh,
        ChannelKind::MlpRelu | ChannelKind::MlpRelu2 => Activation::Relu,
        ChannelKind::MlpSilu => Activation::Silu,
        _ => Activation::Gelu,
    }
}

impl Layer for Mlp {
    /// # Shapes
    /// `[N, D]` -> `[N, D]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let inner = self.up_proj.forward_activated(x, self.activation);
        let inner = if self.squared { &inner * &inner } else { inner };
        self.down_proj.forward(&inner)
    }
}
