//! Model directories: `tokenizer.json` and, beside it, `tokenizer_config.json` with the special tokens by role and the
//! chat template.

use crate::error::{Error, Result};
use crate::format::read;
use crate::tokenizer::{Tokenizer, TokenizerParts};
use serde_json::{Map, Value, json};
use std::path::Path;

const CONFIG: &str = "tokenizer_config.json";

/// Writes beside the file, then renames.
pub(super) fn write_file(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    std::fs::write(&partial, text).map_err(|e| Error::file(&partial, e))?;
    std::fs::rename(&partial, path).map_err(|e| Error::file(path, e))
}

/// A token in the config: a text, or an object with the text inside.
fn token(config: &Value, key: &str) -> Option<String> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str()).map(String::from)
}

/// The chat template: a text, or a list of named ones of which `default` counts.
fn chat_template(config: &Value) -> Option<String> {
    let value = config.get("chat_template")?;
    if let Some(text) = value.as_str() {
        return Some(text.to_string());
    }
    let named = value.as_array()?;
    let default = named.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"))?;
    default.get("template")?.as_str().map(String::from)
}

impl Tokenizer {
    /// Loads a model directory: `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja` if they are there;
    /// without a `tokenizer.json`, `tekken.json` or `tokenizer.model`.
    ///
    /// # Errors
    /// When none of the files is there, or one of them is malformed.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let names = ["tokenizer.json", "tekken.json", "tokenizer.model"];
        let Some(path) = names.iter().map(|n| dir.join(n)).find(|p| p.is_file()) else {
            return Err(Error::Config(format!("{} holds none of {}", dir.display(), names.join(", "))));
        };
        let tokenizer = Self::from_bytes(&read(&path)?)?;
        let mut parts = TokenizerParts::clone(tokenizer.parts());
        let path = dir.join(CONFIG);
        if path.is_file() {
            let config: Value =
                serde_json::from_slice(&read(&path)?).map_err(|e| Error::malformed(CONFIG, e.to_string()))?;
            let id = |key: &str| token(&config, key).and_then(|t| tokenizer.token_to_id(&t));
            parts.bos = id("bos_token").or(parts.bos);
            parts.eos = id("eos_token").or(parts.eos);
            parts.chat_template = chat_template(&config).or(parts.chat_template);
        }
        let path = dir.join("chat_template.jinja");
        if path.is_file() {
            let text = String::from_utf8(read(&path)?)
                .map_err(|e| Error::malformed("chat_template.jinja", format!("not UTF-8: {e}")))?;
            parts.chat_template = Some(text);
        }
        Self::new(parts)
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` into a directory, which is made if it is not there.
    ///
    /// # Errors
    /// As [`Tokenizer::to_json`], and when a file cannot be written.
    pub fn save_dir(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|e| Error::file(dir, e))?;
        write_file(&dir.join("tokenizer.json"), &self.to_json()?)?;
        let mut config = Map::new();
        config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
        for (key, id) in [("bos_token", self.bos()), ("eos_token", self.eos())] {
            if let Some(text) = id.and_then(|id| self.id_to_token(id)) {
                config.insert(key.into(), json!(text));
            }
        }
        if let Some(template) = &self.parts().chat_template {
            config.insert("chat_template".into(), json!(template));
        }
        let text = serde_json::to_string_pretty(&config).map_err(|e| Error::malformed(CONFIG, e.to_string()))?;
        write_file(&dir.join(CONFIG), &text)
    }
}
