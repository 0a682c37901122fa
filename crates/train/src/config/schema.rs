//! The configuration as JSON Schema, for editors that complete and check.

use cupola_models::ModelFields;
use cupola_models::spec::{
    AttentionSpec, DeltaNetSpec, GatedDeltaNetSpec, GlaSpec, LayerKind, LinearAttentionSpec, Mamba2Spec, Mamba3Spec,
    MambaSpec, MixerKind, MlaSpec, MoeSpec, RopeScaling, TernaryKind,
};
use serde_json::{Map, Value, json};

use super::{Config, SourceConfig};

/// The schema. Types and defaults are taken from a configuration in which every field stands, so that none can be forgotten, and words
/// from what the reader says it knows.
pub fn schema() -> Value {
    let full = serde_json::to_value(full()).expect("a configuration is plain data");
    let defaults = serde_json::to_value(Config::default()).expect("as above");
    let mut schema = Describer { full: &full }.describe(&full, Some(&defaults), "");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Configuration of cupola train");
    schema
}

/// Every optional field with some value.
fn full() -> Config {
    let mut config =
        Config { steps: Some(1000), epochs: Some(1.5), time: Some(180.5), until_loss: Some(1.5), ..Config::default() };
    config.model.preset = Some("llama-nano".to_string());
    config.model.from = Some("runs/first".into());
    config.model.dropout = Some(0.0);
    config.model.gradient_checkpointing = Some(super::Layers::Word("all".to_string()));
    config.model.spec = Some(fields());
    config.model.freeze = vec!["embed_tokens*".to_string()];
    config.lora = Some(super::LoraConfig { targets: vec!["q_proj".to_string()], ..super::LoraConfig::default() });
    config.tokenizer = super::TokenizerConfig { kind: Some("bpe".to_string()), vocab_size: Some(4096) };
    config.data.paths = vec!["notes/".to_string()];
    config.data.sources = vec![SourceConfig { paths: vec!["more/".to_string()], weight: 1.0 }];
    config.data.format = Some(cupola_data::Format::Text);
    config.data.packing = Some(cupola_data::Packing::Contiguous);
    config.batch = super::BatchConfig { window: Some(256), rows: Some(16), micro_rows: Some(16) };
    config.optimizer.learning_rate = Some(1e-3);
    config.schedule.warmup = Some(100);
    config.eval.every = Some(250);
    config.checkpoint.every = Some(250);
    config.sample.every = Some(250);
    config.sample.prompts = vec!["The ".to_string()];
    config.metrics.histograms_every = Some(50);
    config
}

/// A model's specification in which every field stands, whether they go together or not.
fn fields() -> ModelFields {
    let layers = vec![LayerKind::from(MixerKind::Attention)];
    ModelFields {
        intermediate_size: Some(1024),
        prologue: layers.clone(),
        pattern: layers,
        rope_scaling: ropes().pop(),
        embedding_dropout: Some(0.0),
        attention: Some(AttentionSpec {
            num_key_value_heads: Some(2),
            head_dim: Some(64),
            sliding_window: Some(512),
            soft_cap: Some(50.0),
            scale: Some(0.125),
            ..AttentionSpec::default()
        }),
        mla: Some(MlaSpec {
            q_lora_rank: Some(96),
            sliding_window: Some(512),
            mscale_all_dim: Some(1.0),
            ..MlaSpec::default()
        }),
        moe: Some(MoeSpec {
            moe_intermediate_size: Some(256),
            norm_topk_prob: Some(true),
            n_group: Some(1),
            topk_group: Some(1),
            bias_update_speed: Some(1e-3),
            ..MoeSpec::default()
        }),
        ternary: Some(TernaryKind::A8),
        mamba: Some(MambaSpec { time_step_rank: Some(16), ..MambaSpec::default() }),
        mamba2: Some(Mamba2Spec { time_step_limit: Some([0.0, 1.0]), ..Mamba2Spec::default() }),
        mamba3: Some(Mamba3Spec::default()),
        linear_attention: Some(LinearAttentionSpec { head_dim: Some(64), ..LinearAttentionSpec::default() }),
        gla: Some(GlaSpec { head_dim: Some(32), head_v_dim: Some(64), ..GlaSpec::default() }),
        deltanet: Some(DeltaNetSpec { head_dim: Some(64), ..DeltaNetSpec::default() }),
        gated_deltanet: Some(GatedDeltaNetSpec {
            head_dim: Some(48),
            head_v_dim: Some(96),
            ..GatedDeltaNetSpec::default()
        }),
        ..ModelFields::default()
    }
}

/// Each way to stretch rotary angles, with all of its fields.
fn ropes() -> Vec<RopeScaling> {
    let original_max_position_embeddings = 4096;
    vec![
        RopeScaling::Linear { factor: 2.0 },
        RopeScaling::Ntk { factor: 2.0 },
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings,
        },
        RopeScaling::Yarn {
            factor: 4.0,
            original_max_position_embeddings,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: Some(1.0),
        },
    ]
}

struct Describer<'a> {
    full: &'a Value,
}

impl Describer<'_> {
    /// The schema of what stands at `place`, a JSON pointer.
    fn describe(&self, value: &Value, default: Option<&Value>, place: &str) -> Value {
        match place {
            "/model/gradient_checkpointing" => {
                let layers = json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
                return json!({ "anyOf": [{ "type": "string", "enum": ["all", "none"] }, layers] });
            }
            "/model/spec/rope_scaling" => {
                let one = |rope: RopeScaling| {
                    let value = serde_json::to_value(rope).expect("as above");
                    let mut schema = self.object(&value, None, place);
                    schema["properties"]["rope_type"] = json!({ "const": value["rope_type"] });
                    schema["required"] = json!(["rope_type"]);
                    schema
                };
                return json!({ "anyOf": ropes().into_iter().map(one).collect::<Vec<Value>>() });
            }
            _ => {}
        }
        let mut schema = match value {
            Value::Object(_) => return self.object(value, default, place),
            Value::Array(items) => {
                let first = items.first().map_or(json!({}), |item| self.describe(item, None, &format!("{place}/0")));
                json!({ "type": "array", "items": first })
            }
            Value::String(_) => match self.words(place) {
                Some(words) => json!({ "type": "string", "enum": words }),
                None => json!({ "type": "string" }),
            },
            Value::Bool(_) => json!({ "type": "boolean" }),
            Value::Number(number) if number.is_u64() => json!({ "type": "integer", "minimum": 0 }),
            Value::Number(_) => json!({ "type": "number" }),
            Value::Null => json!({}),
        };
        if let Some(default) = default {
            schema["default"] = default.clone();
        }
        schema
    }

    fn object(&self, value: &Value, default: Option<&Value>, place: &str) -> Value {
        let fields = value.as_object().into_iter().flatten();
        let one = |(name, value): (&String, &Value)| {
            let default = default.and_then(|all| all.get(name));
            (name.clone(), self.describe(value, default, &format!("{place}/{name}")))
        };
        let properties: Map<String, Value> = fields.map(one).collect();
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    }

    /// The words that can stand at a place, if it is not any text: those that the reader offers for one that cannot.
    fn words(&self, place: &str) -> Option<Vec<String>> {
        let mut wrong = self.full.clone();
        *wrong.pointer_mut(place)? = json!("?");
        let message = serde_json::from_value::<Config>(wrong).err()?.to_string();
        let known = message.strip_prefix("unknown variant `?`")?;
        Some(known.split('`').skip(1).step_by(2).map(str::to_string).collect())
    }
}
