//! A Transformer's encoder.

use cupola_tensor::{Segments, Tensor};

use super::{LayerNorm, TransformerEncoderLayer, TransformerLayerConfig};
use crate::{Layer, Module};

/// Encoder layers one after the other, `torch.nn.TransformerEncoder`.
///
/// ```
/// use cupola_nn::{Module, layers::{TransformerEncoder, TransformerLayerConfig}};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let config = TransformerLayerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerLayerConfig::default() };
/// let encoder = TransformerEncoder::new(2, 8, 2, config).init(0);
/// let y = encoder.forward(&Tensor::randn([5, 8], Rng::seed(1)), &Segments::from_lengths(&[3, 2]), false);
/// assert_eq!(y.shape().dims(), [5, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct TransformerEncoder {
    /// The layers.
    pub layers: Vec<TransformerEncoderLayer>,
    /// A norm behind the last.
    pub norm: Option<LayerNorm>,
}

impl TransformerEncoder {
    /// `depth` layers and a norm.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn new(depth: usize, width: usize, heads: usize, config: TransformerLayerConfig) -> Self {
        let layers = (0..depth).map(|_| TransformerEncoderLayer::new(width, heads, config)).collect();
        Self { layers, norm: Some(config.norm(width)) }
    }

    /// The same without the last norm.
    #[must_use]
    pub fn without_norm(self) -> Self {
        Self { norm: None, ..self }
    }

    /// The result of the last layer, causal or not.
    ///
    /// # Shapes
    /// `[N, D]` or `[B, T, D]` -> the same.
    ///
    /// # Panics
    /// As [`TransformerEncoderLayer::forward`].
    #[track_caller]
    pub fn forward(&self, x: &Tensor, segments: &Segments, causal: bool) -> Tensor {
        let x = self.layers.iter().fold(x.clone(), |x, layer| layer.forward(&x, segments, causal));
        self.norm.as_ref().map_or(x.clone(), |norm| norm.forward(&x))
    }
}
