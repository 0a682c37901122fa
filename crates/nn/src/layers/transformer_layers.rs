//! The layers of a Transformer's encoder and decoder.

use cupola_tensor::ops::linear::Activation;
use cupola_tensor::{Segments, Tensor};

use super::{Dropout, LayerNorm, Linear, MultiHeadAttention, MultiHeadAttentionConfig};
use crate::{Layer, Module};

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
    fn attention(&self, width: usize, heads: usize) -> MultiHeadAttention {
        MultiHeadAttention::with(width, heads, MultiHeadAttentionConfig { bias: self.bias, dropout: self.dropout })
    }

    fn linear(&self, inputs: usize, outputs: usize) -> Linear {
        let layer = Linear::new(inputs, outputs);
        if self.bias { layer } else { layer.without_bias() }
    }

    pub(super) fn norm(&self, width: usize) -> LayerNorm {
        let norm = LayerNorm::new(width).with_eps(self.layer_norm_eps);
        if self.bias { norm } else { norm.without_bias() }
    }
}

/// `x + part(norm(x))` or `norm(x + part(x))`.
fn around(x: &Tensor, norm: &LayerNorm, first: bool, part: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    if first { x + part(&norm.forward(x)) } else { norm.forward(&(x + part(x))) }
}

/// Attention of a sequence to itself and a feed-forward part, `torch.nn.TransformerEncoderLayer` (Vaswani et al. 2017).
///
/// ```text
/// x = norm1(x + dropout(self_attn(x)))
/// x = norm2(x + dropout(linear2(dropout(activation(linear1(x))))))
/// ```
/// or, with `norm_first`, each norm at the beginning of its part.
///
/// ```
/// use cupola_nn::{Module, layers::{TransformerEncoderLayer, TransformerLayerConfig}};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let config = TransformerLayerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerLayerConfig::default() };
/// let layer = TransformerEncoderLayer::new(8, 2, config).init(0);
/// let y = layer.forward(&Tensor::randn([2, 5, 8], Rng::seed(1)), &Segments::uniform(2, 5), false);
/// assert_eq!(y.shape().dims(), [2, 5, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoderLayer {
    /// Attention.
    pub self_attn: MultiHeadAttention,
    /// `[F, D]`.
    pub linear1: Linear,
    /// `[D, F]`.
    pub linear2: Linear,
    /// Of the attention part.
    pub norm1: LayerNorm,
    /// Of the feed-forward part.
    pub norm2: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
    norm_first: bool,
}

impl TransformerEncoderLayer {
    /// A layer of width `width` with `heads` heads.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn new(width: usize, heads: usize, config: TransformerLayerConfig) -> Self {
        Self {
            self_attn: config.attention(width, heads),
            linear1: config.linear(width, config.dim_feedforward),
            linear2: config.linear(config.dim_feedforward, width),
            norm1: config.norm(width),
            norm2: config.norm(width),
            dropout: Dropout::new(config.dropout),
            activation: config.activation,
            norm_first: config.norm_first,
        }
    }

    /// The layer's result, causal or not.
    ///
    /// # Shapes
    /// `[N, D]` or `[B, T, D]` -> the same.
    ///
    /// # Panics
    /// When the shapes do not fit, or dropout is recorded outside of a training scope.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, causal: bool) -> Tensor {
        let drop = |y: Tensor| self.dropout.forward(&y);
        let x = around(x, &self.norm1, self.norm_first, |x| drop(self.self_attn.forward(x, segments, causal)));
        around(&x, &self.norm2, self.norm_first, |x| {
            drop(self.linear2.forward(&drop(self.linear1.forward_activated(x, self.activation))))
        })
    }
}

/// Causal attention of a sequence to itself, attention to a memory, and a feed-forward part, `torch.nn.TransformerDecoderLayer`
/// (Vaswani et al. 2017).
///
/// ```text
/// x = norm1(x + dropout(self_attn(x)))
/// x = norm2(x + dropout(multihead_attn(x, memory)))
/// x = norm3(x + dropout(linear2(dropout(activation(linear1(x))))))
/// ```
/// or, with `norm_first`, each norm at the beginning of its part.
///
/// ```
/// use cupola_nn::{Module, layers::{TransformerDecoderLayer, TransformerLayerConfig}};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let config = TransformerLayerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerLayerConfig::default() };
/// let layer = TransformerDecoderLayer::new(8, 2, config).init(0);
/// let (x, memory) = (Tensor::randn([2, 5, 8], Rng::seed(1)), Tensor::randn([2, 3, 8], Rng::seed(2)));
/// let y = layer.forward(&x, &Segments::uniform(2, 5), &memory, &Segments::uniform(2, 3));
/// assert_eq!(y.shape().dims(), [2, 5, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoderLayer {
    /// Causal attention.
    pub self_attn: MultiHeadAttention,
    /// Attention to the memory.
    pub multihead_attn: MultiHeadAttention,
    /// `[F, D]`.
    pub linear1: Linear,
    /// `[D, F]`.
    pub linear2: Linear,
    /// Of the causal attention.
    pub norm1: LayerNorm,
    /// Of the attention to the memory.
    pub norm2: LayerNorm,
    /// Of the feed-forward part.
    pub norm3: LayerNorm,
    dropout: Dropout,
    #[module(skip)]
    activation: Activation,
    norm_first: bool,
}

impl TransformerDecoderLayer {
    /// A layer of width `width` with `heads` heads.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn new(width: usize, heads: usize, config: TransformerLayerConfig) -> Self {
        Self {
            self_attn: config.attention(width, heads),
            multihead_attn: config.attention(width, heads),
            linear1: config.linear(width, config.dim_feedforward),
            linear2: config.linear(config.dim_feedforward, width),
            norm1: config.norm(width),
            norm2: config.norm(width),
            norm3: config.norm(width),
            dropout: Dropout::new(config.dropout),
            activation: config.activation,
            norm_first: config.norm_first,
        }
    }

    /// The layer's result. A token sees itself, those before it, and all of the memory's segment with the same number.
    ///
    /// # Shapes
    /// `x [N, D]` or `[B, T, D]`, `memory [M, D]` or `[B, S, D]` -> the shape of `x`.
    ///
    /// # Panics
    /// When the shapes do not fit, or dropout is recorded outside of a training scope.
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, memory: &Tensor, memories: &Segments) -> Tensor {
        let drop = |y: Tensor| self.dropout.forward(&y);
        let x = around(x, &self.norm1, self.norm_first, |x| drop(self.self_attn.forward(x, segments, true)));
        let x = around(&x, &self.norm2, self.norm_first, |x| {
            drop(self.multihead_attn.forward_cross(x, segments, (memory, memory), memories))
        });
        around(&x, &self.norm3, self.norm_first, |x| {
            drop(self.linear2.forward(&drop(self.linear1.forward_activated(x, self.activation))))
        })
    }
}
