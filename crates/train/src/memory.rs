//! How much memory a run will take, before it takes it.
//!
//! What stays is counted. What a step holds at most is measured: a small part of a step is computed with a model of zeros, and the
//! rest follows in proportion, so that every layer counts what it really keeps.

use cupola_core::{DType, alloc};
use cupola_data::Batch;
use cupola_models::spec::MixerKind;
use cupola_models::{Decoder, ModelSpec};
use cupola_nn::Module;
use cupola_tensor::Tensor;

use crate::config::{Compute, Config, OptimizerKind};
use crate::optimizer::is_inner_matrix;
use crate::trainer::step::gradients;

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The program itself, its threads and the tokenizer.
    pub program: u64,
    /// The token files, which are mapped: what there is room for stays in memory, and nothing has to.
    pub mapped: u64,
    /// The weights.
    pub parameters: u64,
    /// What the optimiser and the average keep.
    pub optimizer: u64,
    /// What forward and backward hold at most: activations, gradients, copies of weights in the form that products read.
    pub step: u64,
    /// A second copy of weights and state while a checkpoint is written beside the training, or of the weights alone while a step's
    /// change of them is looked at.
    pub snapshot: u64,
}

impl Estimate {
    /// All that has to be there at once.
    pub fn total(&self) -> u64 {
        self.program + self.parameters + self.optimizer + self.step + self.snapshot
    }

    /// What a machine with room for it will show as used: with the token files, once they have been read.
    pub fn peak(&self) -> u64 {
        self.total() + self.mapped
    }
}

/// What the program has before there is a model.
const PROGRAM: u64 = 40 << 20;
/// Tokens of a row that are computed to measure at most.
const ROW: usize = 512;
/// Tokens that are computed to measure at least, where the step has as many: below, sizes of blocks count too much.
const LEAST: usize = 256;

/// The estimate for a complete configuration and the shape of its model. `data` is the size of the token files in bytes, which are
/// mapped and read once and again; `most` is what there is: a model that does not fit is not tried.
pub fn estimate(config: &Config, shape: &Decoder, data: u64, most: u64) -> Estimate {
    let mut result = lasting(config, shape);
    (result.program, result.mapped) = (PROGRAM, data);
    let trained = size(shape.trainable_count());
    let rows = config.batch.micro_rows.or(config.batch.rows).unwrap_or(1);
    if result.total() + trained > most {
        // Even without any activations; how far it is off need not be exact.
        let bytes = if config.dtype == Compute::Bf16 { 2 } else { 4 };
        result.step = trained + activations(shape.spec(), config.batch.window.unwrap_or(1), rows, &[], bytes);
        return result;
    }
    result.step = measured(config, shape, rows);
    result
}

fn size(count: usize) -> u64 {
    count as u64 * DType::F32.size() as u64
}

/// What stays from step to step.
fn lasting(config: &Config, shape: &Decoder) -> Estimate {
    let trained = size(shape.trainable_count());
    let turned: usize = shape
        .named_parameters()
        .iter()
        .filter(|(_, param)| param.is_trainable())
        .flat_map(|(path, param)| {
            let parts = param.parts(path).into_iter().map(|(name, rows)| (name, param.part_shape(&rows)));
            parts.collect::<Vec<_>>()
        })
        .filter(|(name, shape)| is_inner_matrix(name, shape.rank()))
        .map(|(_, shape)| shape.numel())
        .sum();
    let slots = match config.optimizer.kind {
        OptimizerKind::Adamw => 2 * trained,
        OptimizerKind::Sgd => trained,
        OptimizerKind::Muon => 2 * trained - size(turned),
    };
    let average = if config.optimizer.ema > 0.0 { size(shape.parameter_count()) } else { 0 };
    let looked_at = if config.metrics.histograms_every.unwrap_or(0) == 0 { 0 } else { trained };
    Estimate {
        parameters: size(shape.parameter_count()),
        optimizer: slots + average,
        // What is not trained is never written, and shared with the checkpoint. What a look has given back serves for it.
        snapshot: if config.checkpoint.background { trained + slots + average } else { looked_at },
        ..Estimate::default()
    }
}

/// What forward and backward hold at most beside the weights, measured on a part of a step.
fn measured(config: &Config, shape: &Decoder, rows: usize) -> u64 {
    let window = config.batch.window.unwrap_or(1);
    let mut model = shape.clone();
    for (_, param) in model.named_parameters_mut() {
        let zeros = Tensor::zeros(*param.shape());
        param.set(&zeros);
    }
    // Gradients of earlier parts of a step are there while a later part goes forward.
    let several = config.batch.rows.is_some_and(|all| all > rows);
    let before = alloc::stats().in_use;
    let mut most = |rows: usize, length: usize| {
        let mut config = config.clone();
        config.batch.micro_rows = Some(rows);
        let batch = batch(if several { 2 * rows } else { rows }, length);
        alloc::reset_peak();
        gradients(&mut model, &batch, &config, 0);
        alloc::stats().peak_in_use.saturating_sub(before) as u64
    };
    let length = window.min(ROW);
    let few = if length < window { 1 } else { LEAST.div_ceil(length).min(rows) };
    let tokens = (rows * window) as f64;
    // Once for what is kept with the weights.
    most(few, length);
    let result = if few * length * 2 >= rows * window {
        most(rows, window)
    } else {
        let (small, large) = match few {
            1 if length < window => (most(1, length / 2) as f64, most(1, length) as f64),
            _ => (most(few, length) as f64, most(2 * few, length) as f64),
        };
        let (from, to) = if length < window { (length / 2, length) } else { (few * length, 2 * few * length) };
        let each = ((large - small) / (to - from) as f64).max(0.0);
        (large + each * (tokens - to as f64)) as u64
    };
    drop(model);
    alloc::trim();
    alloc::reset_peak();
    result
}

/// Rows of one token repeated.
fn batch(rows: usize, length: usize) -> Batch {
    Batch {
        tokens: vec![0; rows * length],
        targets: vec![0; rows * length],
        lengths: vec![length; rows],
        rows: (1..=rows).map(|row| (row * length, row)).collect(),
    }
}

/// A first guess, for choosing a batch before there is one: bytes that lie between forward and backward for `rows` rows of `window` tokens, elements of `bytes` bytes. Layers that are
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
