//! How rotary angles are stretched.

use serde::{Deserialize, Serialize};

/// Rotary frequencies for contexts longer than the ones a model was trained on, in Hugging Face's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Every position divided by `factor` (Chen et al., "Position Interpolation", 2023).
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// The base multiplied by `factor^(d / (d - 2))`, so that the slowest pair turns `factor` times slower and the fastest as before.
    Ntk {
        /// How much longer the context is.
        factor: f64,
    },
    /// Slow pairs interpolated, fast ones left, those between mixed; scores sharpened (Peng et al., "YaRN", 2023).
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// The context of the training.
        original_max_position_embeddings: usize,
        /// Pairs that turn more often than this in the training context are left.
        #[serde(default = "beta_fast")]
        beta_fast: f64,
        /// Pairs that turn less often than this are interpolated.
        #[serde(default = "beta_slow")]
        beta_slow: f64,
        /// Factor of cosines and sines; `0.1 ln(factor) + 1` when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
    },
    /// As Llama 3.1: like YaRN by wavelength, with bounds of its own and no sharpening.
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are left.
        high_freq_factor: f64,
        /// The context of the training.
        original_max_position_embeddings: usize,
    },
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}
