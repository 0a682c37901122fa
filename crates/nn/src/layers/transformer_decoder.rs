//! A Transformer's decoder.

use cupola_tensor::{Segments, Tensor};

use super::{LayerNorm, TransformerDecoderLayer, TransformerLayerConfig};
use crate::{Layer, Module};

/// Decoder layers one after the other, `torch.nn.TransformerDecoder`.
///
/// ```
/// use cupola_nn::{Module, layers::{TransformerDecoder, TransformerLayerConfig}};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let config = TransformerLayerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerLayerConfig::default() };
/// let decoder = TransformerDecoder::new(2, 8, 2, config).init(0);
/// let (x, memory) = (Tensor::randn([4, 8], Rng::seed(1)), Tensor::randn([3, 8], Rng::seed(2)));
/// let y = decoder.forward(&x, &Segments::one(4), &memory, &Segments::one(3));
/// assert_eq!(y.shape().dims(), [4, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerDecoder {
    /// The layers.
    pub layers: Vec<TransformerDecoderLayer>,
    /// A norm behind the last.
    pub norm: Option<LayerNorm>,
}

impl TransformerDecoder {
    /// `depth` layers and a norm.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn new(depth: usize, width: usize, heads: usize, config: TransformerLayerConfig) -> Self {
        let layers = (0..depth).map(|_| TransformerDecoderLayer::new(width, heads, config)).collect();
        Self { layers, norm: Some(config.norm(width)) }
    }

    /// The same without the last norm.
    #[must_use]
    pub fn without_norm(self) -> Self {
        Self { norm: None, ..self }
    }

    /// The result of the last layer.
    ///
    /// # Shapes
    /// `x [N, D]` or `[B, T, D]`, `memory [M, D]` or `[B, S, D]` -> the shape of `x`.
    ///
    /// # Panics
    /// As [`TransformerDecoderLayer::forward`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, memory: &Tensor, memories: &Segments) -> Tensor {
        let x = self.layers.iter().fold(x.clone(), |x, layer| layer.forward(&x, segments, memory, memories));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(&x))
    }
}
