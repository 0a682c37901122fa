//! Three projections, one of them a gate (Shazeer, "GLU Variants Improve Transformer", 2020, arXiv:2002.05202).

use cupola_nn::layers::Linear;
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;
use cupola_tensor::ops::glu::Gate;

use super::{projection, residual_projection};
use crate::spec::{ChannelKind, ModelSpec};

/// `down_proj(f(gate_proj(x)) * up_proj(x))`, gate and up from one product.
#[derive(Module, Clone)]
pub struct GatedMlp {
    /// `gate_proj` and `up_proj` under each other, `[D]` to `[2 F]`.
    #[module(flatten)]
    pub gate_up: Linear,
    /// `[F]` to `[D]`.
    pub down_proj: Linear,
    #[module(skip)]
    gate: Gate,
}

impl GatedMlp {
    /// The channel mixer of this specification's layers of kind `kind`.
    pub fn new(kind: ChannelKind, spec: &ModelSpec) -> Self {
        Self::sized(kind, spec.intermediate_size.unwrap_or(4 * spec.hidden_size), spec)
    }

    /// The same with an inner width of its own.
    pub fn sized(kind: ChannelKind, inner: usize, spec: &ModelSpec) -> Self {
        let gate_up = Linear::fused(spec.hidden_size, &[("gate_proj", inner), ("up_proj", inner)]);
        Self {
            gate_up: projection(gate_up, spec.mlp_bias, spec),
            down_proj: residual_projection(Linear::new(inner, spec.hidden_size), spec.mlp_bias, spec),
            gate: if kind == ChannelKind::Geglu { Gate::Gelu } else { Gate::Silu },
        }
    }
}

impl Layer for GatedMlp {
    /// # Shapes
    /// `[N, D]` -> `[N, D]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let both = self.gate_up.forward(x).chunk(1, 2);
        self.down_proj.forward(&both[0].glu(&both[1], self.gate))
    }
}
