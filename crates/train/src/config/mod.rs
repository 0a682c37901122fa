//! What a run is to do.
//!
//! - `read`: files and settings in TOML, with the place of every mistake
//! - `check`: the rules that numbers have to keep
//! - `schema`: the same as JSON Schema, for editors
//!
//! Every field that may be left out has a value here, or is decided when the run begins from the size of the text and of the
//! machine ([`crate::automatic`]); what was decided is written into the run's folder, and a resumed run reads it there.

mod check;
mod read;
mod schema;

use std::path::{Path, PathBuf};

use cupola_data::Packing;
use cupola_data::read::OnBad;
use cupola_models::ModelFields;
use serde::{Deserialize, Serialize};

pub use read::{ConfigError, read, settings};
pub use schema::schema;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// All random numbers come from it.
    pub seed: u64,
    /// What products compute in; parameters and their updates are always f32.
    pub dtype: Compute,
    /// Optimiser steps of the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Instead of steps: how many times the text is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<f64>,
    /// Instead of steps: about how many seconds to train. A few steps are measured, and the number of steps is fixed then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    /// Stop as soon as the held-out loss is this low.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_loss: Option<f64>,
    /// The model.
    pub model: ModelConfig,
    /// Low-rank additions that are trained instead of the weights of `model.from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// The tokenizer.
    pub tokenizer: TokenizerConfig,
    /// The text.
    pub data: DataConfig,
    /// Tokens of a step.
    pub batch: BatchConfig,
    /// How parameters change.
    pub optimizer: OptimizerConfig,
    /// The course of the learning rate.
    pub schedule: ScheduleConfig,
    /// Measuring on the held-out text.
    pub eval: EvalConfig,
    /// What is kept.
    pub checkpoint: CheckpointConfig,
    /// What the model writes on the way.
    pub sample: SampleConfig,
    /// What is measured beside the loss.
    pub metrics: MetricsConfig,
    /// What happens when numbers go wrong.
    pub guard: GuardConfig,
}

/// What products compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compute {
    /// Single precision.
    #[default]
    F32,
    /// Products and activations in bfloat16, sums in single precision.
    Bf16,
}

/// `[model]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A preset's name, or a family alone: then the size is chosen from the text and the machine's memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A whole specification instead of a preset; its `vocab_size` is that of the tokenizer when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<ModelFields>,
    /// A model directory or run to go on from, instead of random values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Dropout, instead of the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Layers whose activations are computed again in backward: `"all"`, or numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_checkpointing: Option<Layers>,
    /// Parameters that stay as they are: patterns with `*` over their names.
    pub freeze: Vec<String>,
}

/// Some layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Layers {
    /// `"all"` or `"none"`.
    Word(String),
    /// These.
    List(Vec<usize>),
}

/// `[lora]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of the first matrix of each addition, columns of the second.
    pub rank: usize,
    /// Each counts `alpha / rank` times.
    pub alpha: f64,
    /// Dropout of their inputs.
    pub dropout: f64,
    /// The projections that get one: their names, ends of names, or patterns with `*`. All of the layers when there are none.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, dropout: 0.0, targets: Vec::new() }
    }
}

/// `[tokenizer]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenizerConfig {
    /// `bpe` (trained on the text), `chars`, `bytes`, or a path to a tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Number of tokens of a tokenizer that is trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
}

/// `[data]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Files, folders and patterns; `-` for standard input.
    pub paths: Vec<String>,
    /// Further sources with weights of their own.
    pub sources: Vec<SourceConfig>,
    /// The weight of `paths` beside `sources`.
    pub weight: f64,
    /// Read all files as this format instead of by their endings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<cupola_data::Format>,
    /// The field of a JSON line that holds its text.
    pub field: String,
    /// How documents come into rows; best fit when there are conversations, else as the text runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packing: Option<Packing>,
    /// The part of the text, at its end, that is held out.
    pub held_out: f64,
    /// Whether rows come in another order each epoch.
    pub shuffle: bool,
    /// Threads that read ahead.
    pub workers: usize,
    /// What happens to bad lines and files.
    pub on_bad: OnBad,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            sources: Vec::new(),
            weight: 1.0,
            format: None,
            field: "text".to_string(),
            packing: None,
            held_out: 0.1,
            shuffle: true,
            workers: 1,
            on_bad: OnBad::Refuse,
        }
    }
}

/// `[[data.sources]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Files, folders and patterns.
    pub paths: Vec<String>,
    /// Its share, relative to the others'.
    pub weight: f64,
}

/// `[batch]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Tokens of a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Rows of a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<usize>,
    /// Rows that go through the model at once; their gradients are added up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_rows: Option<usize>,
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Muon for the matrices inside the layers, AdamW for the rest.
    Muon,
    /// AdamW for all.
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// `[optimizer]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Which.
    pub kind: OptimizerKind,
    /// The full learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// How fast parameters shrink by themselves, but for those that `no_decay` names.
    pub weight_decay: f64,
    /// Parameters that do not: `vectors`, `biases`, `norms`, `scans` (what state-space models step by: `A_log`, `D`, `dt_bias`),
    /// `embeddings`, or patterns with `*` over their names.
    pub no_decay: Vec<String>,
    /// AdamW's decays of mean and mean square.
    pub betas: [f64; 2],
    /// AdamW's least denominator.
    pub eps: f64,
    /// Muon's and SGD's decay of the mean.
    pub momentum: f64,
    /// The norm that the gradients are brought down to; 0 for never.
    pub clip: f64,
    /// Decay of an average of the weights, which is evaluated and kept instead of them; 0 for none.
    pub ema: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Muon,
            learning_rate: None,
            weight_decay: 0.1,
            no_decay: ["vectors", "biases", "norms", "scans"].map(String::from).into(),
            betas: [0.9, 0.95],
            eps: 1e-8,
            momentum: 0.95,
            clip: 1.0,
            ema: 0.0,
        }
    }
}

/// The course of the learning rate behind the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// The full rate, and at the end down in a straight line.
    Stable,
    /// Half a cosine wave.
    Cosine,
    /// A straight line.
    Linear,
    /// The full rate throughout.
    Constant,
    /// The full rate, and at the end down as one minus a square root.
    StableSqrt,
    /// Half a cosine wave up and one down (one cycle).
    OneCycle,
    /// Halved whenever the held-out loss no longer falls.
    Plateau,
}

/// `[schedule]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The form.
    pub kind: ScheduleKind,
    /// Steps of the linear rise at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
    /// The part of the steps that the fall at the end takes, for the stable forms.
    pub decay: f64,
    /// The last rate as a part of the full one.
    pub end: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Stable, warmup: None, decay: 0.4, end: 0.05 }
    }
}

/// `[eval]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Steps between two evaluations; 0 for one at the end alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Evaluations without improvement after which the run ends early; 0 for never.
    pub patience: u64,
    /// By how much a loss must be lower to count as improved.
    pub min_delta: f64,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { every: None, patience: 0, min_delta: 0.0 }
    }
}

/// `[checkpoint]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between two checkpoints; there is always one at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// How many are kept, beside the best.
    pub keep: usize,
    /// Whether they are written while training goes on.
    pub background: bool,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self { every: None, keep: 2, background: true }
    }
}

/// `[sample]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SampleConfig {
    /// Steps between two samples; 0 for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// What the model goes on from; the beginning of the held-out text when there are none.
    pub prompts: Vec<String>,
    /// Tokens of a sample.
    pub tokens: usize,
    /// The sampler's temperature.
    pub temperature: f64,
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self { every: None, prompts: Vec::new(), tokens: 64, temperature: 0.8 }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Steps between two looks at each layer: its update-to-weight ratio, and the histograms of its weights, gradients and
    /// updates; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histograms_every: Option<u64>,
}

/// What to do about a number that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Leave the step's update out.
    Skip,
    /// Go back to the last checkpoint and pass over the batches since then.
    Rewind,
    /// End the run.
    Stop,
    /// Take no notice.
    Ignore,
}

/// `[guard]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// When a loss, gradient or weight is not finite.
    pub nan: Policy,
    /// When the loss is far above what it was.
    pub spike: Policy,
    /// How many standard deviations of the recent losses that is.
    pub spike_deviations: f64,
    /// Interventions in a row, or returns to one checkpoint, after which the run ends.
    pub most: u64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { nan: Policy::Skip, spike: Policy::Skip, spike_deviations: 8.0, most: 20 }
    }
}

impl Config {
    /// Makes all paths absolute, so that a run can be gone on with from any folder.
    pub fn make_paths_absolute(&mut self) {
        // What has no absolute form, an empty path, is refused by whoever opens it.
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let sources = self.data.sources.iter_mut().flat_map(|source| &mut source.paths);
        for path in self.data.paths.iter_mut().chain(sources).filter(|path| *path != "-") {
            if let Some(text) = whole(Path::new(path)).to_str() {
                *path = text.to_string();
            }
        }
        if let Some(from) = &mut self.model.from {
            *from = whole(from);
        }
        if let Some(kind) =
            self.tokenizer.kind.as_mut().filter(|kind| !["bpe", "chars", "bytes"].contains(&kind.as_str()))
            && let Some(text) = whole(Path::new(kind)).to_str()
        {
            *kind = text.to_string();
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 1,
            dtype: Compute::F32,
            steps: None,
            epochs: None,
            time: None,
            until_loss: None,
            model: ModelConfig::default(),
            lora: None,
            tokenizer: TokenizerConfig::default(),
            data: DataConfig::default(),
            batch: BatchConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            eval: EvalConfig::default(),
            checkpoint: CheckpointConfig::default(),
            sample: SampleConfig::default(),
            metrics: MetricsConfig::default(),
            guard: GuardConfig::default(),
        }
    }
}
