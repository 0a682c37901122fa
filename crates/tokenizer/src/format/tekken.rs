//! Mistral's `tekken.json`: byte-level ranks above a block of special tokens.

use crate::added::AddedToken;
use crate::error::{Error, Result};
use crate::format::tiktoken;
use crate::model::Model;
use crate::model::bpe::Bpe;
use crate::split::PreTokenizer;
use crate::template::Template;
use crate::tokenizer::{Tokenizer, TokenizerParts};
use crate::vocab::Vocab;

const FORMAT: &str = "tekken.json";

#[derive(serde::Deserialize)]
struct File {
    config: Config,
    vocab: Vec<Entry>,
    #[serde(default)]
    special_tokens: Option<Vec<Special>>,
}

#[derive(serde::Deserialize)]
struct Config {
    pattern: String,
    default_vocab_size: usize,
    default_num_special_tokens: usize,
}

#[derive(serde::Deserialize)]
struct Entry {
    rank: u32,
    token_bytes: String,
}

#[derive(serde::Deserialize)]
struct Special {
    rank: u32,
    token_str: String,
}

/// The special tokens of files that do not list them (version 3), in order.
const DEFAULT_SPECIAL: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// Tells the file from a `tokenizer.json` by the keys near its start.
pub(super) fn looks_like(json: &[u8]) -> bool {
    let head = &json[..json.len().min(4096)];
    let has = |key: &[u8]| head.windows(key.len()).any(|w| w == key);
    has(b"\"default_num_special_tokens\"") || has(b"\"token_bytes\"")
}

/// The names of `count` special tokens without a list: the known ones, then numbered fillers.
pub(crate) fn default_special(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| DEFAULT_SPECIAL.get(i).map_or_else(|| format!("<SPECIAL_{i}>"), |s| (*s).to_string()))
}

/// A tokenizer from the ranks of a Tekken vocabulary, without its special tokens.
pub(crate) fn build(
    ranks: impl IntoIterator<Item = (Vec<u8>, u32)>,
    pattern: &str,
    special: Vec<String>,
) -> Result<Tokenizer> {
    let offset = special.len() as u32;
    let vocab = Vocab::new(FORMAT, ranks.into_iter().map(|(token, rank)| (rank.saturating_add(offset), token)))?;
    if let Some(byte) = (0..=255u8).find(|&b| vocab.id(&[b]).is_none()) {
        return Err(Error::malformed(FORMAT, format!("the byte 0x{byte:02x} is not among the tokens")));
    }
    let id = |name: &str| special.iter().position(|s| s == name).map(|i| i as u32);
    let (bos, eos) = (id("<s>"), id("</s>"));
    let template = bos.map_or_else(Template::default, |bos| Template::around(&[bos], &[]));
    let added = special.into_iter().enumerate().map(|(i, s)| AddedToken::special(i as u32, s)).collect();
    Tokenizer::new(TokenizerParts {
        pre_tokenizer: PreTokenizer::pattern(pattern)?,
        added_tokens: added,
        template,
        bos,
        eos,
        ..TokenizerParts::new(Model::Bpe(Bpe::from_ranks(vocab)))
    })
}

impl Tokenizer {
    /// Reads a `tekken.json`. Ranks above the file's own vocabulary size are left out, as its reference does.
    ///
    /// # Errors
    /// When the file is malformed.
    pub fn from_tekken(json: &[u8]) -> Result<Self> {
        let file: File = serde_json::from_slice(json).map_err(|e| Error::malformed(FORMAT, e.to_string()))?;
        let special = file.config.default_num_special_tokens;
        let Some(inner) = file.config.default_vocab_size.checked_sub(special).filter(|_| special <= 1 << 20) else {
            let size = file.config.default_vocab_size;
            return Err(Error::malformed(FORMAT, format!("{special} special tokens in a vocabulary of {size}")));
        };
        let mut names: Vec<String> = default_special(special).collect();
        if let Some(list) = file.special_tokens {
            names = (0..special).map(|i| format!("<SPECIAL_{i}>")).collect();
            for token in list {
                let slot = names.get_mut(token.rank as usize).ok_or_else(|| {
                    Error::malformed(
                        FORMAT,
                        format!("special token {:?} has the rank {} of {special}", token.token_str, token.rank),
                    )
                })?;
                *slot = token.token_str;
            }
        }
        let mut ranks = Vec::with_capacity(inner.min(file.vocab.len()));
        for entry in file.vocab.into_iter().filter(|e| (e.rank as usize) < inner) {
            let bytes = tiktoken::base64(entry.token_bytes.as_bytes());
            let wrong = || Error::malformed(FORMAT, format!("token_bytes of rank {} is not base64", entry.rank));
            ranks.push((bytes.ok_or_else(wrong)?, entry.rank));
        }
        build(ranks, &file.config.pattern, names)
    }
}
