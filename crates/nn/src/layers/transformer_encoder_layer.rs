//! A layer of a Transformer's encoder.

use cupola_tensor::ops::linear::Activation;
use cupola_tensor::{Segments, Tensor};

use super::transformer_layer::{TransformerLayerConfig, around};
use super::{Dropout, LayerNorm, Linear, MultiHeadAttention};
use crate::{Layer, Module};

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
