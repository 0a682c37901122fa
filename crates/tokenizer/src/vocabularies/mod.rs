//! Named vocabularies, without a network.
//!
//! The data comes from public crates behind features; nothing of it is in this crate.
//!
//! | feature | names | licence of the data |
//! |---|---|---|
//! | `vocabularies` | cl100k_base, o200k_base, r50k_base, p50k_base, deepseek_v3 | MIT |
//! | `vocabularies` | gpt-oss, o200k_harmony, phi4, olmo2: other special tokens on the ranks of the first two | MIT |
//! | `vocabularies` | qwen2, qwen3, mistral_tekken | Apache-2.0 |
//! | `llama3` | llama3 (3, 3.1, 3.2, 3.3) | Llama 3.1 Community License |
//! | `llama2` | llama2, codellama | Llama 2 Community License |
//! | `gemma` | gemma2, gemma3 | Gemma Terms of Use |
//!
//! The last three are not open-source licences: they limit use, ask for notices and pass on to what is built with the
//! data. No other feature switches them on; who does so accepts them.

#[cfg(feature = "gemma")]
mod gemma;
#[cfg(feature = "llama2")]
mod llama2;
#[cfg(feature = "llama3")]
mod llama3;
#[cfg(feature = "vocabularies")]
mod models;
#[cfg(feature = "vocabularies")]
mod open;
#[cfg(any(feature = "llama3", feature = "vocabularies"))]
mod packed;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// The names that [`Tokenizer::named`] knows.
pub const NAMES: [&str; 17] = [
    "cl100k_base",
    "o200k_base",
    "r50k_base",
    "p50k_base",
    "deepseek_v3",
    "qwen2",
    "mistral_tekken",
    "gpt-oss",
    "o200k_harmony",
    "phi4",
    "olmo2",
    "qwen3",
    "llama3",
    "llama2",
    "codellama",
    "gemma2",
    "gemma3",
];

/// The feature that brings a vocabulary of [`NAMES`], and whether this build has it.
pub fn feature(name: &str) -> Option<(&'static str, bool)> {
    Some(match name {
        "llama3" => ("llama3", cfg!(feature = "llama3")),
        "llama2" | "codellama" => ("llama2", cfg!(feature = "llama2")),
        "gemma2" | "gemma3" => ("gemma", cfg!(feature = "gemma")),
        _ if NAMES.contains(&name) => ("vocabularies", cfg!(feature = "vocabularies")),
        _ => return None,
    })
}

impl Tokenizer {
    /// A vocabulary by its name, one of [`NAMES`].
    ///
    /// # Errors
    /// When the name is not known, or the crate was built without the vocabulary's feature.
    pub fn named(name: &str) -> Result<Self> {
        match name {
            #[cfg(feature = "llama3")]
            "llama3" => llama3::load(),
            #[cfg(feature = "llama2")]
            "llama2" | "codellama" => llama2::load(name),
            #[cfg(feature = "gemma")]
            "gemma2" | "gemma3" => gemma::load(name),
            #[cfg(feature = "vocabularies")]
            _ if feature(name) == Some(("vocabularies", true)) => open::load(name),
            _ => Err(Error::Vocabulary(match feature(name) {
                None => format!("no vocabulary is named {name:?}; there are {}", NAMES.join(", ")),
                Some((feature, _)) => format!(
                    "the vocabulary {name} is not compiled in: build with the feature `{feature}`, or load its file with \
                     Tokenizer::from_path or Tokenizer::from_tiktoken"
                ),
            })),
        }
    }
}

/// The special tokens of a vocabulary of [`NAMES`] whose file (`.tiktoken`) does not hold them; empty for the others.
pub fn special_tokens(name: &str) -> &'static [(&'static str, u32)] {
    match name {
        "cl100k_base" => &[
            ("<|endoftext|>", 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
        "o200k_base" => &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)],
        "r50k_base" | "p50k_base" => &[("<|endoftext|>", 50256)],
        _ => &[],
    }
}
