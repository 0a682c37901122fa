//! The JSON Schema of configurations says what the reader takes, neither less nor more.

use cupola_models::ModelSpec;
use cupola_models::spec::preset_names;
use cupola_train::config::{self, Config};
use serde_json::{Value, json};

/// Whether a value keeps to a schema, as far as the schema of configurations goes.
fn accepts(schema: &Value, value: &Value) -> bool {
    let of_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("a type `{other}`"),
    };
    let any = schema["anyOf"].as_array();
    let fields = |(name, value): (&String, &Value)| match &schema["properties"][name] {
        Value::Null => schema["additionalProperties"] != json!(false),
        own => accepts(own, value),
    };
    of_type
        && any.is_none_or(|ways| ways.iter().any(|way| accepts(way, value)))
        && schema["enum"].as_array().is_none_or(|words| words.contains(value))
        && schema.get("const").is_none_or(|only| only == value)
        && schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))
        && value.as_object().is_none_or(|all| all.iter().all(fields))
        && value.as_array().is_none_or(|all| all.iter().all(|item| accepts(&schema["items"], item)))
}

/// The places of all objects in a schema's values: the way there, and their schemas.
fn objects<'a>(schema: &'a Value, place: Vec<String>, all: &mut Vec<(Vec<String>, &'a Value)>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, own) in properties {
            objects(own, [&place[..], std::slice::from_ref(name)].concat(), all);
        }
        all.push((place, schema));
    }
}

/// A configuration with this value at a place, and nothing else.
fn nested(place: &[String], value: Value) -> Value {
    place.iter().rev().fold(value, |value, name| json!({ name.as_str(): value }))
}

#[test]
fn every_preset_s_configuration_is_accepted_and_a_typo_in_any_table_refused() {
    let schema = config::schema();
    for name in preset_names() {
        for part in ["preset", "spec"] {
            let mut config = Config::default();
            match part {
                "preset" => config.model.preset = Some(name.clone()),
                _ => config.model.spec = Some(ModelSpec::preset(&name, 300).expect("it is listed").fields().clone()),
            }
            let shown = serde_json::to_value(&config).expect("plain data");
            assert!(accepts(&schema, &shown), "{name}: {shown}");
            let mut all = Vec::new();
            objects(&schema, Vec::new(), &mut all);
            for (place, _) in all {
                let pointer: String = place.iter().map(|name| format!("/{name}")).collect();
                let mut wrong = shown.clone();
                if let Some(Value::Object(table)) = wrong.pointer_mut(&pointer) {
                    table.insert("hiden_size".to_string(), json!(1));
                    assert!(!accepts(&schema, &wrong), "{name}: a typo in `{pointer}`");
                }
            }
        }
    }
}

#[test]
fn the_schema_has_every_key_that_the_reader_knows_and_no_other() {
    let schema = config::schema();
    let mut all = Vec::new();
    objects(&schema, Vec::new(), &mut all);
    assert!(all.len() > 20, "{}", all.len());
    for (place, own) in all {
        let message =
            serde_json::from_value::<Config>(nested(&place, json!({ "?": 1 }))).expect_err("no key").to_string();
        let known = message.strip_prefix("unknown field `?`").unwrap_or_else(|| panic!("{place:?}: {message}"));
        let mut known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        known.sort_unstable();
        let mut listed: Vec<&String> = own["properties"].as_object().expect("an object").keys().collect();
        listed.sort_unstable();
        assert_eq!(listed, known, "{place:?}");
    }
}

#[test]
fn words_lists_and_alternatives_are_told() {
    let schema = config::schema();
    for (text, right) in [
        (r#"{"optimizer":{"kind":"adamw"}}"#, true),
        (r#"{"optimizer":{"kind":"adamv"}}"#, false),
        (r#"{"schedule":{"kind":"one_cycle"}}"#, true),
        (r#"{"data":{"packing":"tight"}}"#, false),
        (r#"{"data":{"paths":["a"],"sources":[{"paths":["b"],"weight":2}]}}"#, true),
        (r#"{"data":{"sources":[{"path":["b"],"weight":2}]}}"#, false),
        (r#"{"data":{"paths":"a"}}"#, false),
        (r#"{"model":{"gradient_checkpointing":[0,2]}}"#, true),
        (r#"{"model":{"gradient_checkpointing":"none"}}"#, true),
        (r#"{"model":{"gradient_checkpointing":"some"}}"#, false),
        (r#"{"model":{"spec":{"pattern":["mamba2+none"],"mamba2":{"time_step_limit":[0,0.5]}}}}"#, true),
        (r#"{"model":{"spec":{"norm":"rms"}}}"#, false),
        (r#"{"model":{"spec":{"rope_scaling":{"rope_type":"linear","factor":2}}}}"#, true),
        (r#"{"model":{"spec":{"rope_scaling":{"rope_type":"linear","beta_fast":2}}}}"#, false),
        (r#"{"model":{"spec":{"rope_scaling":{"factor":2}}}}"#, false),
        (r#"{"optimizer":{"betas":[0.9,"b"]}}"#, false),
        (r#"{"steps":-1}"#, false),
    ] {
        let value: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(accepts(&schema, &value), right, "{text}");
        // The reader is of the same mind.
        let read = serde_json::from_value::<Config>(value).is_ok_and(|config| config.check().is_ok());
        assert_eq!(read, right, "{text}");
    }
    let rate = &schema["properties"]["optimizer"]["properties"];
    assert_eq!((&rate["learning_rate"]["type"], &rate["clip"]["default"]), (&json!("number"), &json!(1.0)));
}
