//! A layer of a Transformer's decoder.

use cupola_tensor::ops::linear::Activation;
use cupola_tensor::{Segments, Tensor};

use super::transformer_layer::{TransformerLayerConfig, around};
use super::{Dropout, LayerNorm, Linear, MultiHeadAttention};
use crate::{Layer, Module};

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
