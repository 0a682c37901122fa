//! What a model is, in Hugging Face's words.
//!
//! ```
//! use cupola_models::ModelSpec;
//!
//! let spec = ModelSpec::from_toml(r#"
//!     vocab_size = 256
//!     hidden_size = 64
//!     num_hidden_layers = 4
//!     pattern = ["attention", "attention+mlp"]   # repeated over the layers
//!     channel = "swiglu"
//!     attention = { num_attention_heads = 4, num_key_value_heads = 2, sliding_window = 32 }
//! "#)?;
//! assert_eq!(spec.intermediate_size, Some(192));
//!
//! let wrong = ModelSpec::from_toml("vocab_size = 256\nhidden_size = 512\nattention = { num_attention_heads = 7 }");
//! assert!(wrong.unwrap_err().to_string().contains("num_attention_heads = 7 does not divide hidden_size = 512"));
//! # Ok::<(), cupola_models::SpecError>(())
//! ```

mod attention;
mod encoder;
mod kinds;
mod mla;
mod moe;
mod nearest;
mod presets;
mod recurrent;
mod recurrent_rules;
mod rope;
mod rotary_rules;
mod validate;

use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use attention::AttentionSpec;
pub use encoder::{ENCODER_FAMILIES, EncoderFields, EncoderHead, EncoderSpec};
pub use kinds::{ChannelKind, LayerKind, MixerKind, NormKind, PositionKind, ResidualKind, RouterKind, TernaryKind};
pub use mla::MlaSpec;
pub use moe::MoeSpec;
pub use nearest::nearest;
pub use presets::{FAMILIES, SIZES, preset_names};
pub use recurrent::{
    DeltaNetSpec, GatedDeltaNetSpec, GlaSpec, LinearAttentionSpec, Mamba2Spec, Mamba3Spec, MambaSpec, TimeSteps,
};
pub use rope::RopeScaling;

/// Why a specification describes no model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A rule that the numbers break.
    #[error("{0}")]
    Rule(String),
    /// The text is not TOML or JSON, or has a key or value that does not belong there.
    #[error("{0}")]
    Syntax(String),
    /// There is no preset of this name.
    #[error(
        "there is no preset `{name}`{suggestion}; presets are FAMILY-SIZE with families {families} and sizes {sizes}"
    )]
    Preset {
        /// The name.
        name: String,
        /// The nearest that exists, as half a sentence.
        suggestion: String,
        /// What there is.
        families: String,
        /// What there is.
        sizes: String,
    },
}

/// The fields of a specification as they are written: what is left out has a default.
///
/// Defaults that depend on other fields are `None` here and filled in by [`ModelSpec::new`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelFields {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Model width D.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Width F of the channel mixers; four times the model's, or 8/3 of it (rounded up to a multiple of 64) where a gate is
    /// multiplied in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// Kinds of the first layers, before the pattern begins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prologue: Vec<LayerKind>,
    /// Kinds of the layers, repeated over what is left of them.
    pub pattern: Vec<LayerKind>,
    /// The channel mixer of layers that do not name one.
    pub channel: ChannelKind,
    /// Whether the channel mixers' projections have biases.
    pub mlp_bias: bool,
    /// The normalisation.
    pub norm: NormKind,
    /// Added to variances and mean squares.
    pub norm_eps: f64,
    /// How a layer's parts are added to the stream.
    pub residual: ResidualKind,
    /// How tokens know where they are.
    pub position: PositionKind,
    /// The longest sequence that positions are known for.
    pub max_position_embeddings: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// The part of a head that is turned.
    pub partial_rotary_factor: f64,
    /// How rotary angles are stretched for contexts longer than those trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether the head has a bias.
    pub lm_head_bias: bool,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// Whether the last projection of each part begins smaller by the square root of the number of parts in all layers (GPT-2: twice
    /// the number of layers).
    pub scale_residual_init: bool,
    /// The probability with which embeddings and what is added to the stream are dropped in training.
    pub dropout: f64,
    /// The same for embeddings alone; `dropout` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_dropout: Option<f64>,
    /// Attention, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionSpec>,
    /// Latent attention, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mla: Option<MlaSpec>,
    /// The mixture of experts, if a layer has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moe: Option<MoeSpec>,
    /// Whether and how the projections of layers have weights of three values. Routers, convolutions and the small maps inside of
    /// Mamba (to time steps, B and C) keep theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ternary: Option<TernaryKind>,
    /// Mamba, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba: Option<MambaSpec>,
    /// Mamba-2, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba2: Option<Mamba2Spec>,
    /// Mamba-3, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mamba3: Option<Mamba3Spec>,
    /// Linear attention, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_attention: Option<LinearAttentionSpec>,
    /// Gated linear attention, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gla: Option<GlaSpec>,
    /// DeltaNet, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deltanet: Option<DeltaNetSpec>,
    /// Gated DeltaNet, if a layer is of that kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gated_deltanet: Option<GatedDeltaNetSpec>,
}

impl Default for ModelFields {
    fn default() -> Self {
        Self {
            vocab_size: 0,
            hidden_size: 0,
            num_hidden_layers: 1,
            intermediate_size: None,
            prologue: Vec::new(),
            pattern: vec![LayerKind { mixer: MixerKind::Attention, channel: None }],
            channel: ChannelKind::Swiglu,
            mlp_bias: false,
            norm: NormKind::RmsNorm,
            norm_eps: 1e-5,
            residual: ResidualKind::Pre,
            position: PositionKind::Rotary,
            max_position_embeddings: 4096,
            rope_theta: 10_000.0,
            partial_rotary_factor: 1.0,
            rope_scaling: None,
            tie_word_embeddings: false,
            lm_head_bias: false,
            initializer_range: 0.02,
            scale_residual_init: false,
            dropout: 0.0,
            embedding_dropout: None,
            attention: None,
            mla: None,
            moe: None,
            ternary: None,
            mamba: None,
            mamba2: None,
            mamba3: None,
            linear_attention: None,
            gla: None,
            deltanet: None,
            gated_deltanet: None,
        }
    }
}

/// A valid [`ModelFields`], every default filled in. An invalid one cannot exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ModelFields", into = "ModelFields")]
pub struct ModelSpec(ModelFields);

impl ModelSpec {
    /// The specification with these fields.
    ///
    /// # Errors
    /// [`SpecError::Rule`] with the rule that is broken and the numbers that break it.
    pub fn new(fields: ModelFields) -> Result<Self, SpecError> {
        let mut fields = fields;
        validate::complete(&mut fields);
        validate::check(&fields)?;
        Ok(Self(fields))
    }

    /// The preset `FAMILY-SIZE` for a vocabulary of this size.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn preset(name: &str, vocab_size: usize) -> Result<Self, SpecError> {
        Self::new(presets::fields(name, vocab_size)?)
    }

    /// A specification written in TOML.
    ///
    /// # Errors
    /// When a key is unknown (with the nearest known one), a value has the wrong type, or the numbers do not fit.
    pub fn from_toml(text: &str) -> Result<Self, SpecError> {
        let fields: ModelFields =
            toml::from_str(text).map_err(|error| SpecError::Syntax(nearest::with_suggestion(&error.to_string())))?;
        Self::new(fields)
    }

    /// A specification written in JSON.
    ///
    /// # Errors
    /// As [`ModelSpec::from_toml`].
    pub fn from_json(text: &str) -> Result<Self, SpecError> {
        let fields: ModelFields = serde_json::from_str(text)
            .map_err(|error| SpecError::Syntax(nearest::with_suggestion(&error.to_string())))?;
        Self::new(fields)
    }

    /// The kind of layer `index`, its channel mixer named.
    pub fn layer(&self, index: usize) -> (MixerKind, ChannelKind) {
        let kind = match self.prologue.get(index) {
            Some(kind) => kind,
            None => &self.pattern[(index - self.prologue.len()) % self.pattern.len()],
        };
        (kind.mixer, kind.channel.unwrap_or(self.channel))
    }

    /// Whether a layer is of this kind.
    pub fn has_mixer(&self, kind: MixerKind) -> bool {
        (0..self.num_hidden_layers).any(|layer| self.layer(layer).0 == kind)
    }

    /// The longest sequence; `None` where no layer asks for a position that ends: positions follow from a recurrence, from distances,
    /// or are not told.
    pub fn longest(&self) -> Option<usize> {
        let ends = match self.position {
            PositionKind::Learned | PositionKind::Sinusoidal => true,
            PositionKind::Rotary => self.has_mixer(MixerKind::Attention) || self.has_mixer(MixerKind::Mla),
            PositionKind::Alibi | PositionKind::None => false,
        };
        ends.then_some(self.max_position_embeddings)
    }

    /// The fields, to change some of them and build another specification.
    pub fn fields(&self) -> &ModelFields {
        &self.0
    }
}

impl Deref for ModelSpec {
    type Target = ModelFields;

    fn deref(&self) -> &ModelFields {
        &self.0
    }
}

impl TryFrom<ModelFields> for ModelSpec {
    type Error = SpecError;

    fn try_from(fields: ModelFields) -> Result<Self, SpecError> {
        Self::new(fields)
    }
}

impl From<ModelSpec> for ModelFields {
    fn from(spec: ModelSpec) -> Self {
        spec.0
    }
}

#[cfg(test)]
mod tests;
