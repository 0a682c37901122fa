//! What works on each token alone: one channel mixer a file.

pub mod gated;
pub mod mlp;

use cupola_nn::init::Init;
use cupola_nn::layers::Linear;
use cupola_nn::{Layer, Module};
use cupola_tensor::Tensor;

pub use gated::GatedMlp;
pub use mlp::Mlp;

use crate::spec::{ChannelKind, ModelSpec};

/// The channel mixer of a layer, called `mlp` in names.
#[derive(Module, Clone)]
pub enum Channel {
    /// Two projections.
    Mlp {
        /// The layer.
        mlp: Mlp,
    },
    /// Three projections, one of them a gate.
    Gated {
        /// The layer.
        mlp: GatedMlp,
    },
}

impl Channel {
    /// The channel mixer that the specification has in layers of this kind; `None` where there is none.
    pub fn new(kind: ChannelKind, spec: &ModelSpec) -> Option<Self> {
        match kind {
            ChannelKind::None => None,
            kind if kind.is_gated() => Some(Channel::Gated { mlp: GatedMlp::new(kind, spec) }),
            kind => Some(Channel::Mlp { mlp: Mlp::new(kind, spec) }),
        }
    }

    /// `[N, D]` -> `[N, D]`.
    #[track_caller]
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Channel::Mlp { mlp } => mlp.forward(x),
            Channel::Gated { mlp } => mlp.forward(x),
        }
    }
}

/// `linear` with weights that begin normal with the specification's deviation and biases, where wanted, that begin at zero.
pub(crate) fn projection(linear: Linear, bias: bool, spec: &ModelSpec) -> Linear {
    initialised(linear, bias, spec.initializer_range)
}

/// As [`projection`], for one whose result is added to the stream: 2 L of them add up, so that each may begin smaller by the
/// square root of that (Radford et al. 2019).
pub(crate) fn residual_projection(linear: Linear, bias: bool, spec: &ModelSpec) -> Linear {
    let parts = 2.0 * spec.num_hidden_layers as f64;
    let smaller = if spec.scale_residual_init { parts.sqrt() } else { 1.0 };
    initialised(linear, bias, spec.initializer_range / smaller)
}

fn initialised(linear: Linear, bias: bool, std: f64) -> Linear {
    let Linear { mut weight, bias: mut biases } = linear;
    weight.set_initializer(Init::normal(std));
    if let Some(bias) = &mut biases {
        bias.set_initializer(Init::Zeros);
    }
    Linear { weight, bias: biases.filter(|_| bias) }
}
