//! A public `config.json`, read key by key, so that a key that nobody has read is noticed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::spec::RopeScaling;

/// Keys that change no result of the model: where it comes from, how it is run, and how a library's own loop picks tokens.
const INERT: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "add_cross_attention",
    "architectures",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "keys_to_ignore_at_inference",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// The settings of a public model.
pub struct Settings<'a> {
    all: &'a Map<String, Value>,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Settings<'a> {
    /// The settings in this value.
    ///
    /// # Errors
    /// When it is no object.
    pub fn new(config: &'a Value) -> Result<Self, String> {
        let all = config.as_object().ok_or("the configuration is not a JSON object")?;
        Ok(Self { all, read: RefCell::default() })
    }

    /// The value of a key, `None` when it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key.to_string());
        self.all.get(key).filter(|value| !value.is_null())
    }

    fn convert<T>(&self, key: &str, what: &str, convert: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| format!("{key} = {value}, expected {what}"))
    }

    /// A size.
    pub fn size(&self, key: &str) -> Result<Option<usize>, String> {
        self.convert(key, "a whole number", |value| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    }

    /// A size that is this where the key is absent. A null is none, not the default: that is how transformers reads it.
    pub fn size_or(&self, key: &str, absent: usize) -> Result<Option<usize>, String> {
        if self.all.contains_key(key) { self.size(key) } else { Ok(Some(absent)) }
    }

    /// A size that others determine, if it is given.
    pub fn determined(&self, key: &str, expected: usize) -> Result<(), String> {
        match self.size(key)? {
            Some(found) if found != expected => Err(format!("{key} = {found}, expected {expected}")),
            _ => Ok(()),
        }
    }

    /// A size that must be there.
    pub fn required(&self, key: &str) -> Result<usize, String> {
        self.size(key)?.ok_or_else(|| format!("{key} is missing"))
    }

    /// A number.
    pub fn number(&self, key: &str, default: f64) -> Result<f64, String> {
        Ok(self.convert(key, "a number", Value::as_f64)?.unwrap_or(default))
    }

    /// A truth value.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        Ok(self.convert(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// A word.
    pub fn word(&self, key: &str, default: &str) -> Result<String, String> {
        Ok(self.convert(key, "a string", |value| value.as_str().map(str::to_string))?.unwrap_or(default.to_string()))
    }

    /// Refuses every value of a key but these; absent is fine.
    pub fn only(&self, key: &str, accepted: &[Value]) -> Result<(), String> {
        match self.get(key) {
            Some(value) if !accepted.contains(value) => {
                let list: Vec<String> = accepted.iter().map(Value::to_string).collect();
                Err(format!("{key} = {value} is not modelled, only {}", list.join(" or ")))
            }
            _ => Ok(()),
        }
    }

    /// Base and stretching of rotary angles, in the form of either generation of the library; the base where none is given.
    pub fn rotary(&self, base: f64) -> Result<(f64, Option<RopeScaling>), String> {
        let mut own = self.rope_table()?;
        let mut nested = |key: &str| match own.remove(key).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| format!("{key} = {value}, expected a number")),
        };
        let (theta, mscale, all) = (nested("rope_theta")?, nested("mscale")?, nested("mscale_all_dim")?);
        let top = self.number("rope_theta", base)?;
        let theta = theta.unwrap_or(top);
        let word = |key: &str| own.get(key).and_then(Value::as_str);
        let kind = word("rope_type").or_else(|| word("type")).unwrap_or("default").to_string();
        if kind == "default" {
            return Ok((theta, None));
        }
        ["type", "partial_rotary_factor"].iter().for_each(|key| drop(own.remove(*key)));
        own.retain(|_, value| !value.is_null());
        if let (Some(mscale), Some(all), Some(factor)) = (mscale, all, own.get("factor").and_then(Value::as_f64))
            && mscale != 0.0
            && all != 0.0
            && kind == "yarn"
        {
            let sharpened = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
            own.entry("attention_factor").or_insert_with(|| Value::from(sharpened(mscale) / sharpened(all)));
        }
        own.insert("rope_type".to_string(), Value::from(kind.clone()));
        let scaling = serde_json::from_value(Value::Object(own))
            .map_err(|error| format!("rope_scaling of type `{kind}` is not modelled: {error}"))?;
        Ok((theta, Some(scaling)))
    }

    /// The words about rotary angles, under the name of either generation.
    fn rope_table(&self) -> Result<Map<String, Value>, String> {
        let (newer, older) = (self.get("rope_parameters"), self.get("rope_scaling"));
        match newer.or(older) {
            None => Ok(Map::new()),
            Some(Value::Object(table)) => Ok(table.clone()),
            Some(other) => Err(format!("rope_scaling = {other}, expected an object")),
        }
    }

    /// Refuses that a part of each head alone is turned, wherever that is said.
    pub fn whole_rotary(&self) -> Result<(), String> {
        match self.partial_rotary(1.0)? {
            1.0 => Ok(()),
            part => Err(format!("partial_rotary_factor = {part} is not modelled, only 1")),
        }
    }

    /// By which scores are sharpened together with rotary angles, where that is said beside these.
    pub fn mscale_all_dim(&self) -> Option<f64> {
        self.rope_table().ok()?.get("mscale_all_dim").and_then(Value::as_f64).filter(|m| *m != 0.0)
    }

    /// The part of each head that is turned: inside of `rope_parameters`, where the newer generation keeps it, or at the top.
    pub fn partial_rotary(&self, default: f64) -> Result<f64, String> {
        let top = self.number("partial_rotary_factor", default)?;
        match self.rope_table()?.get("partial_rotary_factor").filter(|value| !value.is_null()) {
            None => Ok(top),
            Some(value) => value.as_f64().ok_or_else(|| format!("partial_rotary_factor = {value}, expected a number")),
        }
    }

    /// Refuses keys that nobody has asked for and that may change results.
    ///
    /// # Errors
    /// Names them with their values.
    pub fn finish(self) -> Result<(), String> {
        let read = self.read.borrow();
        let unknown = self
            .all
            .iter()
            .filter(|(key, value)| !read.contains(*key) && !INERT.contains(&key.as_str()) && !value.is_null());
        let unknown: Vec<String> = unknown.map(|(key, value)| format!("{key} = {value}")).collect();
        if unknown.is_empty() { Ok(()) } else { Err(format!("settings that are not modelled: {}", unknown.join(", "))) }
    }
}

/// The words that stretch rotary angles, as they stand in a public configuration.
pub fn rope_parameters(theta: f64, scaling: Option<&RopeScaling>) -> Value {
    let mut table = match scaling {
        Some(scaling) => serde_json::to_value(scaling).expect("plain data"),
        None => serde_json::json!({ "rope_type": "default" }),
    };
    table["rope_theta"] = Value::from(theta);
    table
}
