//! What distinguishes one latent attention from another.

use serde::{Deserialize, Serialize};

use super::{ModelFields, PositionKind, RopeScaling, SpecError};

/// Multi-head latent attention (DeepSeek-AI, "DeepSeek-V2", 2024, arXiv:2405.04434): the layers of kind `mla`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlaSpec {
    /// Heads.
    pub num_attention_heads: usize,
    /// Width of the latent vector that queries come from; they come from the stream itself when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q_lora_rank: Option<usize>,
    /// Width of the latent vector that keys and values come from, and which is all that is kept of a token beside a rotary key.
    pub kv_lora_rank: usize,
    /// Values of a head's query and key that are not turned.
    pub qk_nope_head_dim: usize,
    /// Values of a head's query that are turned, and of the one turned key that all heads share.
    pub qk_rope_head_dim: usize,
    /// Width of a head's value.
    pub v_head_dim: usize,
    /// Whether the projections to latent vectors and the one of the results have biases.
    pub attention_bias: bool,
    /// A query sees this many keys, its own included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// With YaRN scores are multiplied by `(0.1 m ln(factor) + 1)^2`, where m is this number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mscale_all_dim: Option<f64>,
    /// The probability with which attention probabilities are dropped in training.
    pub dropout: f64,
}

impl Default for MlaSpec {
    fn default() -> Self {
        Self {
            num_attention_heads: 1,
            q_lora_rank: None,
            kv_lora_rank: 0,
            qk_nope_head_dim: 0,
            qk_rope_head_dim: 0,
            v_head_dim: 0,
            attention_bias: false,
            sliding_window: None,
            mscale_all_dim: None,
            dropout: 0.0,
        }
    }
}

impl MlaSpec {
    /// Width of a head's query and key.
    pub fn qk_head_dim(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }

    /// Factor of the scores.
    pub fn scale(&self, scaling: Option<&RopeScaling>) -> f64 {
        let sharpened = match (scaling, self.mscale_all_dim) {
            (Some(RopeScaling::Yarn { factor, .. }), Some(m)) => 0.1 * m * factor.ln() + 1.0,
            _ => 1.0,
        };
        sharpened * sharpened / (self.qk_head_dim() as f64).sqrt()
    }

    /// The first rule that is broken.
    pub(super) fn check(&self, fields: &ModelFields, most: usize) -> Result<(), SpecError> {
        let broken = |rule: String| Err(SpecError::Rule(rule));
        let heads = self.num_attention_heads;
        let widths = [
            ("mla.num_attention_heads", heads),
            ("q_lora_rank", self.q_lora_rank.unwrap_or(1)),
            ("kv_lora_rank", self.kv_lora_rank),
            ("qk_nope_head_dim", self.qk_nope_head_dim),
            ("qk_rope_head_dim", self.qk_rope_head_dim),
            ("v_head_dim", self.v_head_dim),
        ];
        for (name, value) in widths {
            if value == 0 || value.saturating_mul(heads) > most {
                return broken(format!("{name} = {value} with {heads} heads is not between 1 and {most} in all"));
            }
        }
        if fields.position == PositionKind::Rotary && !self.qk_rope_head_dim.is_multiple_of(2) {
            return broken(format!("qk_rope_head_dim = {} is no number of pairs", self.qk_rope_head_dim));
        }
        if fields.position == PositionKind::Alibi {
            return broken("position = \"alibi\" is not modelled for layers of kind `mla`".to_string());
        }
        if self.sliding_window == Some(0) {
            return broken("mla.sliding_window = 0: a query sees at least its own key".to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return broken(format!("mla.dropout = {} is not at least 0 and below 1", self.dropout));
        }
        let scale = self.scale(fields.rope_scaling.as_ref());
        let yarn = matches!(fields.rope_scaling, Some(RopeScaling::Yarn { .. }));
        match self.mscale_all_dim {
            Some(m) if !yarn || !m.is_finite() => {
                broken(format!("mscale_all_dim = {m} is a number that belongs to rope_type = \"yarn\""))
            }
            Some(m) if !(scale > 0.0 && scale.is_finite()) => broken(format!(
                "mscale_all_dim = {m} makes the factor of scores {scale}, which is not a positive number"
            )),
            _ => Ok(()),
        }
    }
}
