//! Model directories, as Hugging Face lays them out.
//!
//! `config.json` says what the model is, `model.safetensors` (or several files with an index, for models above [`MOST_IN_A_FILE`])
//! holds its parameters in f32.
//! Families that transformers knows are written under their public names; the rest as `model_type: "cupola"` with the whole
//! specification inside. Low-rank additions to a model are kept apart from it, as peft does ([`save_adapter`]).

mod adapter;
mod adapter_config;
mod bert;
mod deepseek;
mod directory;
mod family;
mod gpt2;
mod llama;
mod mamba;
mod mixtral;
mod names;
mod phi;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupola_io::safetensors::Shards;
use cupola_nn::{Module, StateDict, lora};
use cupola_tensor::Tensor;
use serde_json::{Value, json};

use crate::decoder::Decoder;
use crate::error::ModelError;
use crate::spec::ModelSpec;

pub use adapter::{AdapterInfo, fingerprint, load_adapter, save_adapter};
pub use adapter_config::is_adapter;
pub use bert::{load_encoder, save_encoder};
pub use directory::MOST_IN_A_FILE;

use directory::{write_config, write_directory};
use family::Family;

/// The name under which specifications of our own stand in `config.json`.
const OWN: &str = "cupola";

/// What the `config.json` of a directory says the model is.
///
/// # Errors
/// When the file cannot be read, is of a family that is not known, or has a setting that changes results and is not modelled.
pub fn load_spec(dir: impl AsRef<Path>) -> Result<ModelSpec, ModelError> {
    let dir = dir.as_ref();
    if is_adapter(dir) && !dir.join("config.json").exists() {
        return Ok(read_config(&adapter_config::AdapterConfig::read(dir)?.base)?.1);
    }
    Ok(read_config(dir)?.1)
}

/// The model in a directory. Of low-rank additions to another model it is that model with these merged into its weights.
///
/// # Errors
/// As [`load_spec`]; and when tensors are missing, left over or of another shape, with all their names.
pub fn load(dir: impl AsRef<Path>) -> Result<Decoder, ModelError> {
    let dir = dir.as_ref();
    if is_adapter(dir) {
        let (mut model, _) = load_adapter(dir, None)?;
        lora::merge(&mut model);
        model.set_trainable(true, |_| true);
        return Ok(model);
    }
    let (family, spec) = read_config(dir)?;
    let mut model = Decoder::new(&spec);
    if let Some(family) = &family {
        model.set_family(family.name);
    }
    let wrong = |what: String| ModelError::Tensors { path: dir.to_owned(), what };
    let mut tensors = read_tensors(dir)?;
    if let Some(family) = &family {
        let shapes = model.state_shapes();
        let rows = |name: &str| shapes.get(name).and_then(|(shape, _)| shape.first().copied());
        tensors = names::to_ours(&family.names, tensors, rows).map_err(wrong)?;
        // Some files hold a head that is the embedding a second time.
        let head = tensors.get("lm_head.weight").filter(|_| spec.tie_word_embeddings);
        if head.zip(tensors.get("embed_tokens.weight")).is_some_and(|(head, table)| head.equals(table)) {
            tensors.remove("lm_head.weight");
        }
    }
    model.load_state_dict(&tensors).map_err(|error| wrong(error.to_string()))?;
    Ok(model)
}

/// Writes `config.json` and `model.safetensors`, each whole or not at all; makes the directory if need be. Equal models give equal
/// bytes. A model of more than [`MOST_IN_A_FILE`] bytes is split as by [`save_split`].
///
/// # Errors
/// When the system refuses.
pub fn save(dir: impl AsRef<Path>, model: &Decoder) -> Result<(), ModelError> {
    save_split(dir, model, MOST_IN_A_FILE)
}

/// As [`save`], with files of at most so many bytes of tensors each and an index where one file is not enough. A tensor that is
/// larger has a file of its own.
///
/// # Errors
/// When the system refuses.
pub fn save_split(dir: impl AsRef<Path>, model: &Decoder, max_bytes: usize) -> Result<(), ModelError> {
    let mut tensors = model.state_dict();
    let family = Family::of_model(model);
    if let Some(family) = &family {
        tensors = names::to_theirs(&family.names, tensors);
    }
    write_directory(dir.as_ref(), &config_of(family, model.spec()), &tensors, max_bytes)
}

/// Writes `config.json` alone, for additions to a model.
///
/// # Errors
/// When the system refuses.
pub fn save_spec(dir: impl AsRef<Path>, spec: &ModelSpec) -> Result<(), ModelError> {
    let dir = dir.as_ref();
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Read { path: dir.to_owned(), source })?;
    write_config(dir, &config_of(Family::of(spec), spec))
}

fn config_of(family: Option<Family>, spec: &ModelSpec) -> Value {
    match family {
        Some(family) => (family.write)(spec),
        None => json!({ "model_type": OWN, "architectures": ["CupolaForCausalLM"], "spec": spec }),
    }
}

/// The public family, by its `model_type`, whose directories can hold this model.
pub fn family_of(spec: &ModelSpec) -> Option<&'static str> {
    Family::of(spec).map(|family| family.name)
}

/// JSON, in which Python also writes the word `Infinity` for a number: that becomes null.
fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|error| {
        let Ok(text) = std::str::from_utf8(bytes) else { return Err(error) };
        if !text.contains("Infinity") {
            return Err(error);
        }
        // Every second piece between quotation marks is a string; none of these configurations escapes one.
        let pieces = text.split('"').enumerate();
        let plain = |(index, piece): (usize, &str)| match index % 2 {
            0 => piece.replace("-Infinity", "null").replace("Infinity", "null"),
            _ => piece.to_string(),
        };
        serde_json::from_str(&pieces.map(plain).collect::<Vec<_>>().join("\"")).map_err(|_| error)
    })
}

/// The configuration of a directory, and where it stands.
fn config(dir: &Path) -> Result<(PathBuf, Value), ModelError> {
    let path = dir.join("config.json");
    let bytes = std::fs::read(&path).map_err(|source| ModelError::Read { path: path.clone(), source })?;
    let config = parse(&bytes).map_err(|error| ModelError::Config { path: path.clone(), what: error.to_string() })?;
    Ok((path, config))
}

fn read_config(dir: &Path) -> Result<(Option<Family>, ModelSpec), ModelError> {
    let (path, config) = config(dir)?;
    let kind = config.get("model_type").and_then(Value::as_str);
    if kind == Some(OWN) {
        let spec = config.get("spec").cloned().unwrap_or_default();
        let spec = ModelSpec::from_json(&spec.to_string()).map_err(|error| ModelError::Spec { path, error })?;
        return Ok((None, spec));
    }
    let config_error = |what: String| ModelError::Config { path: path.clone(), what };
    let family = kind.and_then(Family::named).ok_or_else(|| {
        let found = kind.map_or("no model_type".to_string(), |kind| format!("model_type `{kind}`"));
        config_error(format!("{found}, expected one of {}, {OWN}", Family::all_names().join(", ")))
    })?;
    let fields = family.fields(&config).map_err(config_error)?;
    let spec = ModelSpec::new(fields).map_err(|error| ModelError::Spec { path: path.clone(), error })?;
    Ok((Some(family), spec))
}

fn read_tensors(dir: &Path) -> Result<BTreeMap<String, Tensor>, ModelError> {
    let all = Shards::open(dir)?;
    let tensor = |view: cupola_io::safetensors::TensorView<'_>| {
        Ok((view.name().to_string(), Tensor::from_buffer(view.buffer()?, view.shape())))
    };
    all.iter().map(tensor).collect()
}
