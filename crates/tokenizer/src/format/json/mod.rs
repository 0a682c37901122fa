//! Hugging Face's `tokenizer.json`.
//!
//! - `file`: the shape of the file
//! - `model`: its models
//! - `read`, `write`: normalisers, pre-tokenisers, templates and decoders in both directions
//! - `directory`: `tokenizer.json` with `tokenizer_config.json` beside it
//!
//! What the crate does not model is refused by the name that the file gives it, never ignored.

mod directory;
mod file;
mod model;
mod read;
mod write;

use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, TokenizerParts};
use std::path::Path;

pub(crate) const FORMAT: &str = "tokenizer.json";

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the text is malformed or asks for something that is not supported.
    pub fn from_json(json: impl AsRef<[u8]>) -> Result<Self> {
        let file: file::File =
            serde_json::from_slice(json.as_ref()).map_err(|e| Error::malformed(FORMAT, e.to_string()))?;
        let (steps, byte_level) = read::pre_tokenizer(file.pre_tokenizer.as_ref())?;
        let (model, added_tokens) = model::read(file.model, &file.added_tokens, byte_level)?;
        let decoder = read::decoder(file.decoder.as_ref())?;
        let special = |content: &str| {
            let added = added_tokens.iter().find(|t| t.content == content).map(|t| t.id);
            added.or_else(|| model.vocab().id(content.as_bytes()))
        };
        let template = read::template(file.post_processor.as_ref(), &special)?;
        Self::new(TokenizerParts {
            normalizers: read::normalizer(file.normalizer.as_ref())?,
            pre_tokenizer: steps,
            added_tokens,
            template,
            decoder,
            truncation: read::truncation(file.truncation.as_ref())?,
            padding: read::padding(file.padding.as_ref())?,
            ..TokenizerParts::new(model)
        })
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// When a part has no form in this format.
    pub fn to_json(&self) -> Result<String> {
        let value = write::tokenizer(self)?;
        serde_json::to_string_pretty(&value).map_err(|e| Error::malformed(FORMAT, e.to_string()))
    }

    /// Writes a `tokenizer.json` file: beside it first, then renamed, so that a reader never sees half of it.
    ///
    /// # Errors
    /// As [`Tokenizer::to_json`], and when the file cannot be written.
    pub fn save_json(&self, path: impl AsRef<Path>) -> Result<()> {
        directory::write_file(path.as_ref(), &self.to_json()?)
    }
}
