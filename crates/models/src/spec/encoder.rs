//! What an encoder is.

use serde::{Deserialize, Serialize};

use super::{AttentionSpec, ChannelKind, ModelFields, ModelSpec, NormKind, PositionKind, ResidualKind, SpecError};

use super::presets::SIZES;

super::kinds::words! {
    /// What an encoder says about its text.
    EncoderHead {
        /// A vector for each token and one for the whole.
        None = "none",
        /// What stands where tokens were hidden.
        MaskedLm = "masked_lm",
        /// To which class the whole belongs.
        Classification = "classification",
    }
}

/// The fields of an encoder as BERT (Devlin et al., 2018, arXiv:1810.04805) is one, in Hugging Face's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderFields {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Model width D.
    pub hidden_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Heads of each layer.
    pub num_attention_heads: usize,
    /// Width of the channel mixers; four times the model's when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intermediate_size: Option<usize>,
    /// The channel mixer, one without a gate; its activation is the head's, too.
    pub channel: ChannelKind,
    /// The longest text.
    pub max_position_embeddings: usize,
    /// How many parts of a text are told apart (two sentences).
    pub type_vocab_size: usize,
    /// Added to variances.
    pub norm_eps: f64,
    /// Standard deviation of the first weights.
    pub initializer_range: f64,
    /// The probability with which embeddings and what is added to the stream are dropped in training.
    pub dropout: f64,
    /// The probability with which attention probabilities are dropped in training.
    pub attention_dropout: f64,
    /// The same for what a classifier reads; `dropout` when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_dropout: Option<f64>,
    /// What it is for.
    pub head: EncoderHead,
    /// How many classes there are.
    pub num_labels: usize,
}

impl Default for EncoderFields {
    fn default() -> Self {
        Self {
            vocab_size: 0,
            hidden_size: 0,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: None,
            channel: ChannelKind::Mlp,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            norm_eps: 1e-12,
            initializer_range: 0.02,
            dropout: 0.1,
            attention_dropout: 0.1,
            classifier_dropout: None,
            head: EncoderHead::MaskedLm,
            num_labels: 2,
        }
    }
}

/// A valid [`EncoderFields`]. An invalid one cannot exist.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "EncoderFields", into = "EncoderFields")]
pub struct EncoderSpec {
    fields: EncoderFields,
    /// Its layers, as those of a decoder.
    layers: ModelSpec,
}

/// Families of presets of encoders.
pub const ENCODER_FAMILIES: &[&str] = &["bert"];

impl EncoderSpec {
    /// The specification with these fields.
    ///
    /// # Errors
    /// [`SpecError::Rule`] with the rule that is broken and the numbers that break it.
    pub fn new(fields: EncoderFields) -> Result<Self, SpecError> {
        let attention = AttentionSpec {
            attention_bias: true,
            output_bias: true,
            dropout: fields.attention_dropout,
            ..AttentionSpec::heads(fields.num_attention_heads)
        };
        let layers = ModelSpec::new(ModelFields {
            vocab_size: fields.vocab_size,
            hidden_size: fields.hidden_size,
            num_hidden_layers: fields.num_hidden_layers,
            intermediate_size: fields.intermediate_size,
            channel: fields.channel,
            mlp_bias: true,
            norm: NormKind::LayerNorm,
            norm_eps: fields.norm_eps,
            residual: ResidualKind::Post,
            position: PositionKind::Learned,
            max_position_embeddings: fields.max_position_embeddings,
            tie_word_embeddings: true,
            initializer_range: fields.initializer_range,
            dropout: fields.dropout,
            attention: Some(attention),
            ..ModelFields::default()
        })?;
        let broken = |rule: String| Err(SpecError::Rule(rule));
        let plain = [ChannelKind::Mlp, ChannelKind::MlpTanh, ChannelKind::MlpRelu, ChannelKind::MlpSilu];
        if !plain.contains(&fields.channel) {
            return broken(format!("channel = \"{}\" is none of an encoder", fields.channel));
        }
        for (name, value) in [("type_vocab_size", fields.type_vocab_size), ("num_labels", fields.num_labels)] {
            if value == 0 || value > 1 << 24 {
                return broken(format!("{name} = {value} is not between 1 and {}", 1 << 24));
            }
        }
        if fields.classifier_dropout.is_some_and(|p| !(0.0..1.0).contains(&p)) {
            let value = fields.classifier_dropout.unwrap_or_default();
            return broken(format!("classifier_dropout = {value} is not at least 0 and below 1"));
        }
        let fields = EncoderFields { intermediate_size: layers.intermediate_size, ..fields };
        Ok(Self { fields, layers })
    }

    /// The preset `FAMILY-SIZE` for a vocabulary of this size, with a head that fills in hidden tokens.
    ///
    /// # Errors
    /// When there is no such preset.
    pub fn preset(name: &str, vocab_size: usize) -> Result<Self, SpecError> {
        let all = || ENCODER_FAMILIES.iter().flat_map(|family| SIZES.iter().map(move |s| format!("{family}-{}", s.0)));
        let size = name.split_once('-').filter(|(family, _)| ENCODER_FAMILIES.contains(family));
        let found = size.and_then(|(_, size)| SIZES.iter().find(|(known, ..)| *known == size));
        let Some(&(_, layers, width, heads)) = found else {
            let names: Vec<String> = all().collect();
            let near = super::nearest(name, names.iter().map(String::as_str));
            return Err(SpecError::Preset {
                name: name.to_string(),
                suggestion: near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default(),
                families: ENCODER_FAMILIES.join(" "),
                sizes: SIZES.iter().map(|(size, ..)| *size).collect::<Vec<_>>().join(" "),
            });
        };
        Self::new(EncoderFields {
            vocab_size,
            hidden_size: width,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            ..EncoderFields::default()
        })
    }

    /// The layers, as those of a decoder would be specified.
    pub fn layers(&self) -> &ModelSpec {
        &self.layers
    }
}

impl std::ops::Deref for EncoderSpec {
    type Target = EncoderFields;

    fn deref(&self) -> &EncoderFields {
        &self.fields
    }
}

impl TryFrom<EncoderFields> for EncoderSpec {
    type Error = SpecError;

    fn try_from(fields: EncoderFields) -> Result<Self, SpecError> {
        Self::new(fields)
    }
}

impl From<EncoderSpec> for EncoderFields {
    fn from(spec: EncoderSpec) -> Self {
        spec.fields
    }
}
