//! What distinguishes one attention layer from another.

use serde::{Deserialize, Serialize};

/// The attention of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionSpec {
    /// Heads of the queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values, each shared by as many query heads; as many as there are query heads when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_key_value_heads: Option<usize>,
    /// Width of a head; the model's width divided by the heads when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Whether the projections to queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether the projection of the heads' results has a bias.
    pub output_bias: bool,
    /// A query sees this many keys, its own included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<usize>,
    /// Whether heads come in pairs whose attention is subtracted (Ye et al., "Differential Transformer", 2024, arXiv:2410.05258):
    /// half as many values, each twice as wide as a head.
    pub differential: bool,
    /// Whether queries and keys of each head are normalised by their root mean square before they are turned.
    pub qk_norm: bool,
    /// Scores become `cap * tanh(score / cap)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_cap: Option<f64>,
    /// Factor of the scores; one over the square root of a head's width when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// The probability with which attention probabilities are dropped in training.
    pub dropout: f64,
}

impl Default for AttentionSpec {
    fn default() -> Self {
        Self {
            num_attention_heads: 1,
            num_key_value_heads: None,
            head_dim: None,
            attention_bias: false,
            output_bias: false,
            sliding_window: None,
            differential: false,
            qk_norm: false,
            soft_cap: None,
            scale: None,
            dropout: 0.0,
        }
    }
}

impl AttentionSpec {
    /// Attention with this many heads and nothing else.
    pub fn heads(num_attention_heads: usize) -> Self {
        Self { num_attention_heads, ..Self::default() }
    }

    /// Heads of keys and values.
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Width of a head in a model of this width.
    pub fn head_width(&self, hidden_size: usize) -> usize {
        self.head_dim.unwrap_or_else(|| hidden_size / self.num_attention_heads.max(1))
    }
}
