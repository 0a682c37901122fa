//! What works on each token alone: one channel mixer a file.

pub mod gated;
pub mod mlp;
pub mod moe;
pub mod router;

use cupola_nn::init::Init;
use cupola_nn::layers::{Linear, Ternary};
use cupola_nn::{Layer, Module};
use cupola_tensor::{Segments, Tensor};

pub use gated::GatedMlp;
pub use mlp::Mlp;
pub use moe::Moe;

use crate::spec::{ChannelKind, ModelSpec, TernaryKind};

/// The channel mixer of a layer, called `mlp` in names.
// A model has a few dozen: room is not worth a box.
#[allow(clippy::large_enum_variant)]
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
    /// A few of many experts.
    Moe {
        /// The layer.
        mlp: Moe,
    },
}

impl Channel {
    /// The channel mixer that the specification has in layers of this kind; `None` where there is none.
    pub fn new(kind: ChannelKind, spec: &ModelSpec) -> Option<Self> {
        match kind {
            ChannelKind::None => None,
            ChannelKind::Moe => Some(Channel::Moe { mlp: Moe::new(spec) }),
            kind if kind.is_gated() => Some(Channel::Gated { mlp: GatedMlp::new(kind, spec) }),
            kind => Some(Channel::Mlp { mlp: Mlp::new(kind, spec) }),
        }
    }

    /// `[N, D]` -> `[N, D]`, of tokens that are cut into these sequences.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments) -> Tensor {
        match self {
            Channel::Mlp { mlp } => mlp.forward(x),
            Channel::Gated { mlp } => mlp.forward(x),
            Channel::Moe { mlp } => mlp.forward_sequences(x, segments),
        }
    }
}

/// `linear` with weights that begin normal with the specification's deviation and biases, where wanted, that begin at zero; with
/// weights of three values where the specification asks for them.
pub(crate) fn projection(linear: Linear, bias: bool, spec: &ModelSpec) -> Linear {
    Linear { ternary: ternary(spec), ..initialised(linear, bias, spec.initializer_range) }
}

/// As [`projection`], for one whose result is added to the stream: as many of them add up as [`residuals`] counts, so that each may
/// begin smaller by the square root of that (Radford et al. 2019).
pub(crate) fn residual_projection(linear: Linear, bias: bool, spec: &ModelSpec) -> Linear {
    Linear { ternary: ternary(spec), ..initialised(linear, bias, residual_std(spec)) }
}

/// As [`projection`], for one outside of layers, whose weight stays what it is.
pub(crate) fn head(linear: Linear, bias: bool, spec: &ModelSpec) -> Linear {
    initialised(linear, bias, spec.initializer_range)
}

/// The deviation of the first weights of [`residual_projection`].
pub(crate) fn residual_std(spec: &ModelSpec) -> f64 {
    spec.initializer_range / if spec.scale_residual_init { residuals(spec).sqrt() } else { 1.0 }
}

/// How many parts are added to the stream: a layer's mixer, and its channel mixer where it has one.
pub(crate) fn residuals(spec: &ModelSpec) -> f64 {
    let parts = |layer| if spec.layer(layer).1 == ChannelKind::None { 1.0 } else { 2.0 };
    (0..spec.num_hidden_layers).map(parts).sum()
}

/// How projections compute.
pub(crate) fn ternary(spec: &ModelSpec) -> Option<Ternary> {
    spec.ternary.map(|kind| match kind {
        TernaryKind::A16 => Ternary::A16,
        TernaryKind::A8 => Ternary::A8,
    })
}

fn initialised(mut linear: Linear, bias: bool, std: f64) -> Linear {
    linear.weight.set_initializer(Init::normal(std));
    if let Some(bias) = &mut linear.bias {
        bias.set_initializer(Init::Zeros);
    }
    if bias { linear } else { linear.without_bias() }
}
