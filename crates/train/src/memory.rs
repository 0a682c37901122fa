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
use crate::evaluate;
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
    /// What a step holds at most: activations and gradients, or gradients and what the optimiser works in.
    pub step: u64,
    /// Copies of the weights that stay until the next update: in the form that products read, made by an evaluation, or as they were
    /// before an update that is looked at.
    pub copies: u64,
    /// A second copy of weights and state while a checkpoint is written beside the training and a step changes them meanwhile.
    pub snapshot: u64,
    /// Whether a step comes so soon that this will happen; on a slow disk it can in any run.
    pub snapshot_is_likely: bool,
    /// What lies unused between blocks of memory.
    pub gaps: u64,
}

impl Estimate {
    /// All that has to be there at once in the worst case.
    pub fn total(&self) -> u64 {
        self.program + self.parameters + self.optimizer + self.step + self.copies + self.snapshot + self.gaps
    }

    /// What a machine with room for it will show as used: with the token files, once they have been read.
    pub fn peak(&self) -> u64 {
        let unlikely = if self.snapshot_is_likely { 0 } else { self.snapshot };
        self.total() - unlikely + self.mapped
    }
}

/// What the program has before there is a model: code, tokenizer, threads.
const PROGRAM: u64 = 30 << 20;
/// Steps of fewer tokens are over before a checkpoint is written: 12 bytes a parameter at some 300 MB a second, against 6 operations a
/// parameter and token at some 100 GFLOP a second.
const QUICK: usize = 700;
/// What the optimiser works in, in copies of the largest matrix that Muon turns.
const TURNING: u64 = 4;
/// Memory is taken from the system in regions of 32 MiB, of which the last ones are not full, ...
const GAPS_AT_LEAST: u64 = 16 << 20;
/// ... and blocks of other sizes do not fit into each other's place: one part in so many.
const GAPS_PART: u64 = 20;
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
    let looked_at = happens(config, config.metrics.histograms_every);
    result.copies = if looked_at { trained } else { 0 };
    let rows = config.batch.micro_rows.or(config.batch.rows).unwrap_or(1);
    if result.total() + trained > most {
        // Even without any activations; how far it is off need not be exact.
        let bytes = if config.dtype == Compute::Bf16 { 2 } else { 4 };
        result.step = trained + activations(shape.spec(), config.batch.window.unwrap_or(1), rows, &[], bytes);
        return result;
    }
    let (step, packed) = measured(config, shape, rows);
    let largest = turned(shape).map(|(_, numel)| size(numel)).max().unwrap_or(0);
    let update = if config.optimizer.kind == OptimizerKind::Muon { trained + TURNING * largest } else { trained };
    result.step = step.max(update);
    result.copies = result.copies.max(packed);
    let blocks = result.parameters + result.optimizer + result.step + result.copies;
    result.gaps = GAPS_AT_LEAST + blocks / GAPS_PART;
    result
}

/// Whether what is done every so many steps is done before the run ends.
fn happens(config: &Config, every: Option<u64>) -> bool {
    every.is_some_and(|every| every > 0 && config.steps.is_none_or(|steps| every <= steps))
}

/// The matrices that Muon turns, and their sizes.
fn turned(shape: &Decoder) -> impl Iterator<Item = (String, usize)> {
    let parameters = shape.named_parameters().into_iter().filter(|(_, param)| param.is_trainable());
    let parts: Vec<(String, usize)> = parameters
        .flat_map(|(path, param)| {
            let parts = param.parts(&path).into_iter().map(|(name, rows)| (name, param.part_shape(&rows)));
            parts.filter(|(name, shape)| is_inner_matrix(name, shape.rank())).collect::<Vec<_>>()
        })
        .map(|(name, shape)| (name, shape.numel()))
        .collect();
    parts.into_iter()
}

fn size(count: usize) -> u64 {
    count as u64 * DType::F32.size() as u64
}

/// What stays from step to step.
fn lasting(config: &Config, shape: &Decoder) -> Estimate {
    let trained = size(shape.trainable_count());
    let turned: usize = turned(shape).map(|(_, numel)| numel).sum();
    let slots = match config.optimizer.kind {
        OptimizerKind::Adamw => 2 * trained,
        OptimizerKind::Sgd => trained,
        OptimizerKind::Muon => 2 * trained - size(turned),
    };
    let average = if config.optimizer.ema > 0.0 { size(shape.parameter_count()) } else { 0 };
    // What is not trained is never written, and shared with the checkpoint. Behind the last step nothing changes any more.
    let meets = config.checkpoint.background
        && config.steps.zip(config.checkpoint.every).is_none_or(|(all, every)| every < all);
    let tokens = config.batch.rows.unwrap_or(1) * config.batch.window.unwrap_or(1);
    Estimate {
        parameters: size(shape.parameter_count()),
        optimizer: slots + average,
        snapshot: if meets { trained + slots + average } else { 0 },
        // Muon's own work takes longer than the writing.
        snapshot_is_likely: tokens < QUICK && config.optimizer.kind != OptimizerKind::Muon,
        ..Estimate::default()
    }
}

/// What forward and backward hold at most beside the weights, measured on a part of a step, and what an evaluation leaves.
fn measured(config: &Config, shape: &Decoder, rows: usize) -> (u64, u64) {
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
    let before = alloc::stats().in_use;
    evaluate::batch(&model, config.dtype, &batch(few, length));
    let packed = alloc::stats().in_use.saturating_sub(before) as u64;
    drop(model);
    alloc::trim();
    alloc::reset_peak();
    (result, packed)
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

/// A first guess, for choosing a batch before there is one: bytes that lie between forward and backward for `rows` rows of `window`
/// tokens, elements of `bytes` bytes. Layers that are
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
