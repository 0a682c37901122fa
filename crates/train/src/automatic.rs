//! What is decided when nothing is said: from the size of the text and of the machine, never from how busy it is.

use cupola_models::spec::SIZES;
use cupola_models::{Decoder, ModelFields, ModelSpec, SpecError};
use cupola_nn::Module;

use crate::config::{Config, Layers, OptimizerKind, ScheduleKind};

/// What the decisions depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Bytes of the text to train on.
    pub bytes: u64,
    /// Tokens of it; 0 before there is a tokenizer.
    pub tokens: u64,
    /// Documents of it.
    pub documents: u64,
    /// Whether there are conversations, whose answers alone are learnt.
    pub conversations: bool,
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Bytes of memory of the machine.
    pub memory: u64,
}

/// Bytes of memory of this machine, or what this process or its group is confined to.
pub fn machine_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().to_string();
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    });
    let limit = read("/sys/fs/cgroup/memory.max").and_then(|text| text.trim().parse::<u64>().ok());
    let limit = limit.or_else(|| {
        read("/sys/fs/cgroup/memory/memory.limit_in_bytes").and_then(|text| text.trim().parse::<u64>().ok())
    });
    // A limit on the addresses of this process counts as well.
    let addresses = read("/proc/self/limits").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("Max address space"))?.to_string();
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let limit = limit.into_iter().chain(addresses).min();
    // Where the system does not say, what any machine has that is worth training on.
    let total = total.unwrap_or(8 << 30);
    limit.map_or(total, |limit| limit.min(total))
}

/// Number of tokens of a tokenizer that is trained on so many bytes: more text can carry more words.
pub fn vocab_size(bytes: u64) -> usize {
    match bytes {
        0..400_000 => 512,
        400_000..1_500_000 => 1024,
        1_500_000..6_000_000 => 2048,
        6_000_000..60_000_000 => 4096,
        60_000_000..600_000_000 => 8192,
        _ => 16_384,
    }
}

/// The model of a configuration.
///
/// # Errors
/// When the preset does not exist or the numbers do not fit.
pub fn spec(config: &Config, vocab_size: usize) -> Result<ModelSpec, SpecError> {
    let mut fields: ModelFields = match (&config.model.spec, &config.model.preset) {
        (Some(fields), _) => ModelFields {
            vocab_size: if fields.vocab_size == 0 { vocab_size } else { fields.vocab_size },
            ..fields.clone()
        },
        (None, Some(preset)) => ModelSpec::preset(preset, vocab_size)?.fields().clone(),
        (None, None) => ModelSpec::preset(&format!("{FAMILY}-{}", SIZES[0].0), vocab_size)?.fields().clone(),
    };
    if let Some(dropout) = config.model.dropout {
        (fields.dropout, fields.embedding_dropout) = (dropout, None);
    }
    if fields.vocab_size < vocab_size {
        return Err(SpecError::Rule(format!(
            "vocab_size = {} of the model is below the {vocab_size} tokens of the tokenizer",
            fields.vocab_size
        )));
    }
    ModelSpec::new(fields)
}

/// The family when none is asked for.
pub const FAMILY: &str = "llama";

/// Bytes that training takes for each parameter: the weight, its gradient, two averages, and a checkpoint of all but the gradient.
const BYTES_OF_A_PARAMETER: u64 = 28;

/// The preset of this family for the text and the machine: the size that the text has enough for, or the largest below it whose
/// parameters take no more than half of the memory.
///
/// # Errors
/// When there is no such family.
pub fn preset(family: &str, facts: &Facts) -> Result<String, SpecError> {
    let sizes = match facts.bytes {
        0..20_000_000 => 1,
        20_000_000..1_000_000_000 => 2,
        _ => 3,
    };
    let name = |size: &str| format!("{family}-{size}");
    for (size, ..) in SIZES[1..sizes].iter().rev() {
        let parameters = Decoder::new(&ModelSpec::preset(&name(size), facts.vocab_size)?).parameter_count();
        if parameters as u64 * BYTES_OF_A_PARAMETER <= facts.memory / 2 {
            return Ok(name(size));
        }
    }
    Ok(name(SIZES[0].0))
}

/// Fills in everything that was left open. `parameters` counts those of the model's layers.
pub fn complete(config: &mut Config, facts: &Facts, spec: &ModelSpec, parameters: usize) {
    let width = spec.hidden_size;
    let longest = spec.longest().unwrap_or(usize::MAX);
    // A window that several rows of fit into the text.
    let fits = (facts.tokens / 8).max(2) as usize;
    let wished = match width {
        0..=192 => 128,
        193..=512 => 256,
        _ => 512,
    };
    let window = *config.batch.window.get_or_insert(wished.min(longest).min(fits));
    let tokens_per_step = match width {
        0..=192 => 2048,
        193..=512 => 8192,
        _ => 32_768,
    };
    let rows = *config.batch.rows.get_or_insert((tokens_per_step / window).max(1));
    if config.batch.micro_rows.is_none() {
        // What lies between forward and backward may take a quarter of the memory.
        let per_row = activation_bytes(spec, window, 1).max(1);
        let most = (facts.memory / 4 / per_row).max(1) as usize;
        // Rows of a step in equal parts, as few as fit.
        let parts = (1..=rows).find(|parts| rows.div_ceil(*parts) <= most).unwrap_or(rows);
        config.batch.micro_rows = Some(rows.div_ceil(parts));
    }
    let per_step = (rows * window) as u64;
    if config.steps.is_none() && config.time.is_none() {
        let (wanted, least) = match config.epochs {
            Some(epochs) => ((facts.tokens as f64 * epochs) as u64, 1),
            // Twenty tokens a parameter (Hoffmann et al., "Training Compute-Optimal Large Language Models", 2022), but no
            // text more than so often that it is learnt by heart.
            None => ((20 * parameters as u64).min(12 * facts.tokens), 100),
        };
        config.steps = Some(wanted.div_ceil(per_step).clamp(least, 1_000_000_000));
    }
    let lr = match config.optimizer.kind {
        OptimizerKind::Sgd => 0.1,
        OptimizerKind::Adamw => 1e-3 * (384.0 / width as f64).clamp(0.5, 2.0),
        OptimizerKind::Muon => 4e-3 * (128.0 / width as f64).sqrt().clamp(0.25, 2.0),
    };
    config.optimizer.learning_rate.get_or_insert(lr);
    config.data.packing.get_or_insert(if facts.conversations || facts.documents > 16 {
        cupola_data::Packing::BestFit
    } else {
        cupola_data::Packing::Contiguous
    });
    if let Some(steps) = config.steps {
        by_steps(config, steps);
    }
}

/// What depends on the number of steps.
pub fn by_steps(config: &mut Config, steps: u64) {
    config.steps = Some(steps);
    let warmup = match config.schedule.kind {
        ScheduleKind::OneCycle => 0,
        _ => (steps / 20).clamp(1, 1000),
    };
    config.schedule.warmup.get_or_insert(warmup);
    let often = (steps / 8).clamp(1, 1000);
    config.eval.every.get_or_insert(often);
    config.checkpoint.every.get_or_insert(often);
    config.sample.every.get_or_insert(often);
    // A look takes some hundredths of a step, and about a hundred of them show all of a run.
    config.metrics.histograms_every.get_or_insert((steps / 100).clamp(25, 1000));
}

/// The layers whose activations are computed again.
pub fn recomputed(config: &Config, layers: usize) -> Result<Vec<usize>, String> {
    match &config.model.gradient_checkpointing {
        None => Ok(Vec::new()),
        Some(Layers::Word(word)) => Ok(if word == "all" { (0..layers).collect() } else { Vec::new() }),
        Some(Layers::List(list)) => match list.iter().find(|&&layer| layer >= layers) {
            Some(layer) => Err(format!("model.gradient_checkpointing names layer {layer} of {layers}")),
            None => Ok(list.clone()),
        },
    }
}

/// Bytes that lie between forward and backward for `rows` rows of `window` tokens, more or less; see [`crate::memory`].
pub fn activation_bytes(spec: &ModelSpec, window: usize, rows: usize) -> u64 {
    crate::memory::activations(spec, window, rows, &[], 4)
}
