//! What the layers of a Transformer's encoder and decoder have in common.

use cupola_tensor::Tensor;
use cupola_tensor::ops::linear::Activation;

use super::{LayerNorm, Linear, MultiHeadAttention, MultiHeadAttentionConfig};
use crate::Layer;

/// What distinguishes one Transformer layer from another; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerLayerConfig {
    /// Width of the hidden layer of the feed-forward part, F.
    pub dim_feedforward: usize,
    /// The probability with which anything is dropped in training.
    pub dropout: f64,
    /// The activation of the feed-forward part.
    pub activation: Activation,
    /// Added to variances in norms.
    pub layer_norm_eps: f64,
    /// Whether each part normalises its input (pre-norm) rather than the sum that it ends with.
    pub norm_first: bool,
    /// Whether projections and norms have biases.
    pub bias: bool,
}

impl Default for TransformerLayerConfig {
    fn default() -> Self {
        Self {
            dim_feedforward: 2048,
            dropout: 0.1,
            activation: Activation::Relu,
            layer_norm_eps: 1e-5,
            norm_first: false,
            bias: true,
        }
    }
}

impl TransformerLayerConfig {
    #[track_caller]
    pub(super) fn attention(&self, width: usize, heads: usize) -> MultiHeadAttention {
        MultiHeadAttention::with(width, heads, MultiHeadAttentionConfig { bias: self.bias, dropout: self.dropout })
    }

    pub(super) fn linear(&self, inputs: usize, outputs: usize) -> Linear {
        let layer = Linear::new(inputs, outputs);
        if self.bias { layer } else { layer.without_bias() }
    }

    pub(super) fn norm(&self, width: usize) -> LayerNorm {
        let norm = LayerNorm::new(width).with_eps(self.layer_norm_eps);
        if self.bias { norm } else { norm.without_bias() }
    }
}

/// `x + part(norm(x))` or `norm(x + part(x))`.
pub(super) fn around(x: &Tensor, norm: &LayerNorm, first: bool, part: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    if first { x + part(&norm.forward(x)) } else { norm.forward(&(x + part(x))) }
}
