//! Files: reading and writing vocabularies.
//!
//! - `json`: Hugging Face's `tokenizer.json` and model directories
//! - `tiktoken`: `.tiktoken` rank files
//! - `sentencepiece`: SentencePiece `.model` files, over `protobuf`
//! - `spm`: the pieces of such a file as text
//! - `tekken`: Mistral's `tekken.json`
//! - `gguf`: the vocabulary inside a GGUF file
//! - `byte_chars`: the printable characters that stand for bytes

pub(crate) mod byte_chars;
pub mod gguf;
pub mod json;
mod protobuf;
pub mod sentencepiece;
pub mod spm;
pub mod tekken;
pub mod tiktoken;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use std::path::Path;

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::file(path, e))
}

impl Tokenizer {
    /// Loads a tokenizer from a model directory, or from a file whose format is known by its content: `tokenizer.json`,
    /// `tekken.json`, a SentencePiece `.model` or a GGUF file. A `.tiktoken` file does not know its pattern: use
    /// [`Tokenizer::from_tiktoken`].
    ///
    /// # Errors
    /// When the file cannot be read, is malformed, or asks for something that is not supported.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::from_dir(path);
        }
        if path.extension().is_some_and(|e| e == "tiktoken") {
            return Err(Error::Config(format!(
                "{}: a .tiktoken file does not say by which pattern text is cut; load it with Tokenizer::from_tiktoken",
                path.display()
            )));
        }
        let bytes = read(path)?;
        Self::from_bytes(&bytes)
    }

    /// [`Tokenizer::from_path`] for a file that is in memory.
    ///
    /// # Errors
    /// As [`Tokenizer::from_path`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let first = bytes.iter().find(|b| !b.is_ascii_whitespace());
        if bytes.starts_with(b"GGUF") {
            Self::from_gguf(bytes)
        } else if first == Some(&b'{') {
            if tekken::looks_like(bytes) { Self::from_tekken(bytes) } else { Self::from_json(bytes) }
        } else {
            Self::from_sentencepiece(bytes)
        }
    }
}
