//! `POST /v1/embeddings`.

use super::completions::Prompt;
use super::fields::Fields;
use super::leftovers;
use crate::error::ApiResult;

/// Texts to be turned into vectors.
#[derive(Clone, Debug)]
pub struct EmbeddingRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The texts.
    pub inputs: Vec<Prompt>,
    /// Little-endian f32 in base 64 instead of numbers.
    pub base64: bool,
    /// The width asked for.
    pub dimensions: Option<usize>,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

impl EmbeddingRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let inputs = Prompt::take(&mut fields, "input")?;
        let base64 = fields.choice("encoding_format", &["float", "base64"])? == Some("base64");
        let dimensions = fields.count("dimensions", 1..=usize::MAX)?;
        Ok(Self { model, inputs, base64, dimensions, ignored: leftovers(fields, Vec::new()) })
    }
}
