//! The words of a specification.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are words in files and messages.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// All words.
            pub const WORDS: &[&str] = &[$($word),*];

            /// The word for it.
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("unknown {} `{text}`, expected one of {}", stringify!($name), Self::WORDS.join(", "))),
                }
            }
        }
    };
}

pub(super) use words;

words! {
    /// What moves information between the tokens of a layer.
    MixerKind {
        /// Softmax attention.
        Attention = "attention",
        /// Softmax attention with latent keys and values.
        Mla = "mla",
        /// A selective scan, channel by channel (Mamba).
        Mamba = "mamba",
        /// State-space duality (Mamba-2).
        Mamba2 = "mamba2",
        /// The same with the trapezoidal rule, states that turn and several inputs and outputs (Mamba-3).
        Mamba3 = "mamba3",
        /// Attention whose softmax is a product of features.
        LinearAttention = "linear_attention",
        /// Linear attention with a decay for each key channel.
        Gla = "gla",
        /// The delta rule.
        DeltaNet = "deltanet",
        /// The delta rule with a decay.
        GatedDeltaNet = "gated_deltanet",
    }
}

words! {
    /// What works on each token alone.
    ChannelKind {
        /// Nothing: the layer is its mixer.
        None = "none",
        /// `down(gelu(up(x)))` with the exact GELU.
        Mlp = "mlp",
        /// The same with the tanh form of GELU.
        MlpTanh = "mlp_tanh",
        /// The same with ReLU.
        MlpRelu = "mlp_relu",
        /// The same with the square of ReLU (So et al., "Primer", 2021).
        MlpRelu2 = "mlp_relu2",
        /// The same with SiLU.
        MlpSilu = "mlp_silu",
        /// `down(silu(gate(x)) * up(x))` (Shazeer 2020).
        Swiglu = "swiglu",
        /// `down(gelu(gate(x)) * up(x))`.
        Geglu = "geglu",
        /// A few of many experts, each as `swiglu`.
        Moe = "moe",
    }
}

words! {
    /// How a router weighs experts.
    RouterKind {
        /// The softmax of its logits over all experts.
        Softmax = "softmax",
        /// The sigmoid of each logit.
        Sigmoid = "sigmoid",
    }
}

words! {
    /// How linear layers with weights of three values read their input (Ma et al., "BitNet b1.58", 2024).
    TernaryKind {
        /// As it is.
        A16 = "a16",
        /// Normalised and rounded to 8 bits.
        A8 = "a8",
    }
}

impl ChannelKind {
    /// Whether a gate is multiplied in, so that there are three projections and not two.
    pub fn is_gated(self) -> bool {
        matches!(self, Self::Swiglu | Self::Geglu | Self::Moe)
    }
}

words! {
    /// The normalisation of a model.
    NormKind {
        /// By the root mean square, with a weight.
        RmsNorm = "rms_norm",
        /// By mean and variance, with weight and bias.
        LayerNorm = "layer_norm",
        /// By mean and variance, with a weight alone.
        LayerNormWithoutBias = "layer_norm_without_bias",
    }
}

words! {
    /// How the parts of a layer are added to the stream.
    ResidualKind {
        /// `x += mixer(norm(x)); x += channel(norm(x))`.
        Pre = "pre",
        /// `x += mixer(norm(x)) + channel(norm(x))` with one norm.
        Parallel = "parallel",
        /// `x = norm(x + mixer(x)); x = norm(x + channel(x))`.
        Post = "post",
    }
}

words! {
    /// How tokens know where they are.
    PositionKind {
        /// Queries and keys are turned by their position (Su et al., "RoFormer", 2021).
        Rotary = "rotary",
        /// A learned vector for each position is added to the embedding.
        Learned = "learned",
        /// Sines and cosines of the position are added to the embedding.
        Sinusoidal = "sinusoidal",
        /// Scores fall with distance (Press et al., "ALiBi", 2021).
        Alibi = "alibi",
        /// They do not, or the mixers know by themselves.
        None = "none",
    }
}

/// The kind of one layer: `"attention"`, or `"attention+mlp"` with a channel mixer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerKind {
    /// What moves information between tokens.
    pub mixer: MixerKind,
    /// The channel mixer, where it is not the model's usual one.
    pub channel: Option<ChannelKind>,
}

impl From<MixerKind> for LayerKind {
    fn from(mixer: MixerKind) -> Self {
        Self { mixer, channel: None }
    }
}

impl FromStr for LayerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mixer, channel) = match text.split_once('+') {
            Some((mixer, channel)) => (mixer, Some(channel.parse()?)),
            None => (text, None),
        };
        Ok(Self { mixer: mixer.parse()?, channel })
    }
}

impl TryFrom<String> for LayerKind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.channel {
            Some(channel) => write!(f, "{}+{channel}", self.mixer),
            None => write!(f, "{}", self.mixer),
        }
    }
}

impl From<LayerKind> for String {
    fn from(kind: LayerKind) -> Self {
        kind.to_string()
    }
}
