//! `POST /tokenize` and `POST /detokenize`.

use serde_json::Value;

use super::completions::Prompt;
use super::fields::Fields;
use super::{leftovers, messages};
use crate::error::ApiResult;

/// What `/tokenize` is given.
#[derive(Clone, Debug)]
pub enum Source {
    /// Text as it stands.
    Text(String),
    /// Messages, through the model's chat template.
    Messages(Vec<Value>),
}

/// Text to tokens.
#[derive(Clone, Debug)]
pub struct TokenizeRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The text.
    pub source: Source,
    /// Put the tokenizer's special tokens around a text.
    pub add_special_tokens: bool,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

impl TokenizeRequest {
    /// Reads a body: `prompt`, `text`, `content` or `messages`.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let mut text = None;
        for name in ["prompt", "text", "content"] {
            text = text.or(fields.text(name)?);
        }
        let source = match text {
            Some(text) => Source::Text(text),
            None => match fields.take("messages") {
                Some(value) => {
                    let mut inner = Fields::new(serde_json::json!({"messages": value}), String::new())?;
                    let read = messages::take(&mut inner)?;
                    fields.absorb(inner);
                    Source::Messages(read)
                }
                None => return Err(fields.missing("prompt")),
            },
        };
        let add_special_tokens = fields.flag("add_special_tokens")?.or(fields.flag("add_special")?).unwrap_or(true);
        Ok(Self { model, source, add_special_tokens, ignored: leftovers(fields, Vec::new()) })
    }
}

/// Tokens to text.
#[derive(Clone, Debug)]
pub struct DetokenizeRequest {
    /// The model's id; the only one when absent.
    pub model: Option<String>,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Fields without effect.
    pub ignored: Vec<String>,
}

impl DetokenizeRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn parse(body: &[u8]) -> ApiResult<Self> {
        let mut fields = Fields::parse(body)?;
        let model = fields.text("model")?;
        let tokens = match fields.array("tokens", usize::MAX)? {
            None => return Err(fields.missing("tokens")),
            Some(items) if items.is_empty() => Vec::new(),
            Some(items) => {
                let mut inner = Fields::new(serde_json::json!({"tokens": items}), String::new())?;
                match Prompt::take(&mut inner, "tokens")?.pop() {
                    Some(Prompt::Ids(ids)) => ids,
                    _ => return Err(fields.wrong("tokens", "an array of token numbers", &Value::Array(Vec::new()))),
                }
            }
        };
        Ok(Self { model, tokens, ignored: leftovers(fields, Vec::new()) })
    }
}
