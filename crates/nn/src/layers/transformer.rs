//! The sequence-to-sequence Transformer.

use cupola_tensor::{Segments, Tensor};

use super::{TransformerDecoder, TransformerEncoder, TransformerLayerConfig};
use crate::Module;
use crate::init::Init;

/// The sequence-to-sequence Transformer, `torch.nn.Transformer` (Vaswani et al. 2017): an encoder reads the source, a causal decoder
/// writes the target. Embeddings, positions and the head are the user's. Every matrix is Xavier uniform at first.
///
/// ```
/// use cupola_nn::{Module, layers::{Transformer, TransformerLayerConfig}};
/// use cupola_tensor::{Rng, Segments, Tensor};
/// let config = TransformerLayerConfig { dim_feedforward: 16, dropout: 0.0, ..TransformerLayerConfig::default() };
/// let model = Transformer::new(8, 2, [2, 2], config).init(0);
/// let (source, target) = (Tensor::randn([2, 6, 8], Rng::seed(1)), Tensor::randn([2, 4, 8], Rng::seed(2)));
/// let y = model.forward(&source, &Segments::uniform(2, 6), &target, &Segments::uniform(2, 4));
/// assert_eq!(y.shape().dims(), [2, 4, 8]);
/// ```
#[derive(Module, Clone, Debug)]
pub struct Transformer {
    /// Reads the source.
    pub encoder: TransformerEncoder,
    /// Writes the target.
    pub decoder: TransformerDecoder,
}

impl Transformer {
    /// A Transformer of width `width` with `heads` heads and the given numbers of encoder and decoder layers.
    ///
    /// # Panics
    /// When the heads do not divide the width or the dropout is not in 0..1.
    #[track_caller]
    pub fn new(width: usize, heads: usize, [encoder, decoder]: [usize; 2], config: TransformerLayerConfig) -> Self {
        let mut model = Self {
            encoder: TransformerEncoder::new(encoder, width, heads, config),
            decoder: TransformerDecoder::new(decoder, width, heads, config),
        };
        for (_, param) in model.named_parameters_mut() {
            if param.shape().rank() > 1 {
                param.set_initializer(Init::XavierUniform { gain: 1.0 });
            }
        }
        model
    }

    /// What the decoder makes of the target so far and all of the source.
    ///
    /// # Shapes
    /// `source [M, D]` or `[B, S, D]`, `target [N, D]` or `[B, T, D]` -> the shape of `target`.
    ///
    /// # Panics
    /// As [`super::TransformerDecoderLayer::forward`].
    #[track_caller]
    pub fn forward(&self, source: &Tensor, sources: &Segments, target: &Tensor, targets: &Segments) -> Tensor {
        let memory = self.encoder.forward(source, sources, false);
        self.decoder.forward(target, targets, &memory, sources)
    }
}
