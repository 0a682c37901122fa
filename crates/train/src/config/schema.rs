//! The configuration as JSON Schema, for editors that complete and check.

use serde_json::{Map, Value, json};

use super::Config;

/// The schema. Types and defaults are taken from a configuration in which every field stands, so that none can be forgotten.
pub fn schema() -> Value {
    let full = full();
    let value = serde_json::to_value(&full).expect("a configuration is plain data");
    let defaults = serde_json::to_value(Config::default()).expect("as above");
    let mut schema = describe(&value, Some(&defaults));
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Configuration of cupola train");
    schema
}

/// Every optional field with some value.
fn full() -> Config {
    let mut config =
        Config { steps: Some(1000), epochs: Some(1.0), time: Some(180.0), until_loss: Some(1.5), ..Config::default() };
    config.model.preset = Some("llama-nano".to_string());
    config.model.from = Some("runs/first".into());
    config.model.dropout = Some(0.0);
    config.model.gradient_checkpointing = Some(super::Layers::Word("all".to_string()));
    config.model.spec = Some(cupola_models::ModelFields::default());
    config.lora = Some(super::LoraConfig::default());
    config.tokenizer = super::TokenizerConfig { kind: Some("bpe".to_string()), vocab_size: Some(4096) };
    config.data.format = Some(cupola_data::Format::Text);
    config.data.packing = Some(cupola_data::Packing::Contiguous);
    config.batch = super::BatchConfig { window: Some(256), rows: Some(16), micro_rows: Some(16) };
    config.optimizer.learning_rate = Some(1e-3);
    config.schedule.warmup = Some(100);
    config.eval.every = Some(250);
    config.checkpoint.every = Some(250);
    config.sample.every = Some(250);
    config.metrics.histograms_every = Some(50);
    config
}

fn describe(value: &Value, default: Option<&Value>) -> Value {
    let mut schema = match value {
        Value::Object(fields) => {
            let properties: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), describe(value, default.and_then(|all| all.get(name)))))
                .collect();
            return json!({ "type": "object", "properties": properties, "additionalProperties": false });
        }
        Value::Array(_) => json!({ "type": "array" }),
        Value::String(_) => json!({ "type": "string" }),
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
