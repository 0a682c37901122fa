//! `adapter_config.json`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::ModelError;

/// The file that says how additions were made.
const CONFIG: &str = "adapter_config.json";
/// The file that holds them.
pub const TENSORS: &str = "adapter_model.safetensors";

/// Whether a directory holds additions to another model instead of a model.
pub fn is_adapter(dir: impl AsRef<Path>) -> bool {
    dir.as_ref().join(CONFIG).is_file()
}

/// What `adapter_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    pub rank: usize,
    pub alpha: f64,
    pub dropout: f64,
    pub base: PathBuf,
    /// Alpha of modules whose names end so.
    alphas: Vec<(String, f64)>,
    /// Whether additions count `alpha` by the root of their rank (Kalajdzievski 2023, arXiv:2312.03732).
    by_root: bool,
}

/// Settings that change results and are not modelled.
const REFUSED: [&str; 9] = [
    "use_dora",
    "use_qalora",
    "lora_bias",
    "layer_replication",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_bdlora",
];

impl AdapterConfig {
    /// Reads the file of a directory.
    ///
    /// # Errors
    /// When it cannot be read, or says something that is not modelled.
    pub fn read(dir: &Path) -> Result<Self, ModelError> {
        let path = dir.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
        let parsed = super::parse(&bytes).map_err(|error| error.to_string());
        parsed.and_then(|value| Self::of(&value)).map_err(|what| ModelError::Config { path, what })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(dir: &Path, config: &Value) -> Result<(), ModelError> {
        let mut text = serde_json::to_string_pretty(config).expect("a JSON value can be written");
        text.push('\n');
        Ok(cupola_io::atomic::write_bytes(dir.join(CONFIG), text.as_bytes())?)
    }

    fn of(value: &Value) -> Result<Self, String> {
        let get = |key: &str| value.get(key).unwrap_or(&Value::Null);
        let must = |key: &str, expected: &str| Err(format!("`{key}` is {}, expected {expected}", get(key)));
        if get("peft_type") != "LORA" {
            return must("peft_type", "\"LORA\"");
        }
        let nothing = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            _ => false,
        };
        if let Some(key) = REFUSED.into_iter().find(|key| !nothing(get(key))) {
            return must(key, "nothing: it is not modelled");
        }
        if !(nothing(get("bias")) || get("bias") == "none") {
            return must("bias", "\"none\"");
        }
        // Other ways to begin change the model's own weights.
        if !matches!(get("init_lora_weights"), Value::Null | Value::Bool(_)) && get("init_lora_weights") != "gaussian" {
            return must("init_lora_weights", "a boolean or \"gaussian\"");
        }
        let Some(rank) = get("r").as_u64().filter(|&rank| (1..=1 << 20).contains(&rank)) else {
            return must("r", "a whole number from 1 on");
        };
        let positive = |value: &Value| value.as_f64().filter(|alpha| alpha.is_finite() && *alpha > 0.0);
        let Some(alpha) = positive(get("lora_alpha")) else { return must("lora_alpha", "a number above 0") };
        let dropout = if get("lora_dropout").is_null() { Some(0.0) } else { get("lora_dropout").as_f64() };
        let Some(dropout) = dropout.filter(|dropout| (0.0..1.0).contains(dropout)) else {
            return must("lora_dropout", "a number from 0 to below 1");
        };
        let Some(base) = get("base_model_name_or_path").as_str() else {
            return must("base_model_name_or_path", "the directory of a model");
        };
        let none = Map::new();
        let mut alphas = Vec::new();
        for (key, value) in get("alpha_pattern").as_object().unwrap_or(&none) {
            let Some(alpha) = positive(value).filter(|_| key.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)))
            else {
                return must("alpha_pattern", "ends of names with numbers above 0");
            };
            alphas.push((key.clone(), alpha));
        }
        let by_root = get("use_rslora") == true;
        Ok(Self { rank: rank as usize, alpha, dropout, base: PathBuf::from(base), alphas, by_root })
    }

    /// What the product of two matrices of this rank counts in the public module `name`.
    pub fn scale(&self, name: &str, rank: usize) -> f64 {
        let ends = |key: &str| name == key || name.strip_suffix(key).is_some_and(|front| front.ends_with('.'));
        let alpha = self.alphas.iter().find(|(key, _)| ends(key)).map_or(self.alpha, |(_, alpha)| *alpha);
        let rank = rank.max(1) as f64;
        alpha / if self.by_root { rank.sqrt() } else { rank }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(changes: &Value) -> Result<AdapterConfig, String> {
        let mut all = json!({ "peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "model" });
        let fields = all.as_object_mut().expect("an object");
        fields.extend(changes.as_object().expect("an object").clone());
        AdapterConfig::of(&all)
    }

    #[test]
    fn scales_follow_the_patterns_and_the_root() {
        let plain = config(&json!({ "alpha_pattern": { "c_attn": 24, "h.1.x": 2.0 } })).expect("plain");
        assert_eq!(plain.scale("h.0.attn.c_attn", 12), 2.0);
        assert_eq!(plain.scale("h.1.x", 4), 0.5);
        assert_eq!(plain.scale("hh.1.x", 4), 2.0);
        assert_eq!(config(&json!({ "use_rslora": true })).expect("by the root").scale("x", 4), 4.0);
    }

    #[test]
    fn what_is_not_modelled_is_named() {
        for (change, expected) in [
            (json!({ "peft_type": "IA3" }), "`peft_type` is \"IA3\", expected \"LORA\""),
            (json!({ "use_dora": true }), "`use_dora` is true"),
            (json!({ "modules_to_save": ["lm_head"] }), "`modules_to_save` is [\"lm_head\"]"),
            (json!({ "bias": "all" }), "`bias` is \"all\""),
            (json!({ "init_lora_weights": "pissa" }), "`init_lora_weights` is \"pissa\""),
            (json!({ "r": 0 }), "`r` is 0"),
            (json!({ "lora_alpha": -1 }), "`lora_alpha` is -1"),
            (json!({ "alpha_pattern": { "a.*b": 1 } }), "`alpha_pattern` is"),
        ] {
            let error = config(&change).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
