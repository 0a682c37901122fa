//! How much memory a run will take, before it takes it.

use cupola_core::DType;
use cupola_models::spec::MixerKind;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;

use crate::config::{Compute, Config, OptimizerKind};

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The weights.
    pub parameters: u64,
    /// One gradient for each.
    pub gradients: u64,
    /// What the optimiser and the average keep.
    pub optimizer: u64,
    /// What lies between forward and backward.
    pub activations: u64,
    /// Copies of weights in the form that products read.
    pub packed: u64,
    /// A second copy of weights and state while a checkpoint is written beside the training.
    pub snapshot: u64,
}

impl Estimate {
    /// All together.
    pub fn total(&self) -> u64 {
        self.parameters + self.gradients + self.optimizer + self.activations + self.packed + self.snapshot
    }
}

/// The estimate for a complete configuration.
pub fn estimate(config: &Config, spec: &ModelSpec, recomputed: &[usize]) -> Estimate {
    let model = Decoder::new(spec);
    let size = |count: usize| count as u64 * DType::F32.size() as u64;
    let parameters = size(model.parameter_count());
    let matrices: usize = model
        .named_parameters()
        .iter()
        .filter(|(name, param)| name.starts_with("layers.") && param.shape().rank() == 2)
        .map(|(_, param)| param.shape().numel())
        .sum();
    let slots = match config.optimizer.kind {
        OptimizerKind::Adamw => 2 * parameters,
        OptimizerKind::Sgd => parameters,
        OptimizerKind::Muon => 2 * parameters - size(matrices),
    };
    let window = config.batch.window.unwrap_or(1);
    let rows = config.batch.micro_rows.or(config.batch.rows).unwrap_or(1);
    let bytes = if config.dtype == Compute::Bf16 { 2 } else { 4 };
    let average = if config.optimizer.ema > 0.0 { parameters } else { 0 };
    Estimate {
        parameters,
        gradients: parameters,
        optimizer: slots + average,
        activations: activations(spec, window, rows, recomputed, bytes),
        // Forward and backward read each matrix in a form of its own.
        packed: 2 * size(matrices) * bytes / 4,
        snapshot: if config.checkpoint.background { parameters + slots } else { 0 },
    }
}

/// Bytes that lie between forward and backward for `rows` rows of `window` tokens, elements of `bytes` bytes. Layers that are
/// computed again keep their input alone, and all that one layer keeps once.
pub fn activations(spec: &ModelSpec, window: usize, rows: usize, recomputed: &[usize], bytes: u64) -> u64 {
    let tokens = (window * rows) as u64;
    let width = spec.hidden_size as u64;
    let mut kept = 0;
    let mut largest = 0;
    for layer in 0..spec.num_hidden_layers {
        let own = tokens * bytes * layer_values(spec, layer);
        if recomputed.contains(&layer) {
            kept += tokens * width * bytes;
            largest = own.max(largest);
        } else {
            kept += own;
        }
    }
    // The logits in f32 with their gradient, and the stream at both ends.
    let ends = tokens * (4 * 2 * spec.vocab_size as u64 + 4 * width * 4);
    kept + largest + ends
}

/// Numbers that a layer keeps of each token.
fn layer_values(spec: &ModelSpec, layer: usize) -> u64 {
    let width = spec.hidden_size as u64;
    let (mixer, channel) = spec.layer(layer);
    let inner = spec.intermediate_size.unwrap_or(4 * spec.hidden_size) as u64;
    let mixed = match (mixer, &spec.attention) {
        (MixerKind::Attention, Some(attention)) => {
            let heads = attention.num_attention_heads.max(1) as u64;
            let shared = attention.num_key_value_heads.unwrap_or(attention.num_attention_heads).max(1) as u64;
            // Input, queries, keys and values before and behind the rotation, the output, and a sum for each head.
            width + 2 * width + 3 * width * shared / heads + width + heads
        }
        _ => 8 * width,
    };
    let channelled = match channel {
        cupola_models::spec::ChannelKind::None => 0,
        kind if kind.is_gated() => width + 3 * inner,
        _ => width + 2 * inner,
    };
    // The stream behind each part.
    mixed + channelled + 2 * width
}
