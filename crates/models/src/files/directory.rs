//! Writing of model directories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cupola_io::safetensors::{INDEX_NAME, Metadata, SINGLE_NAME};
use cupola_nn::files::save_tensors_in;
use cupola_tensor::Tensor;
use serde_json::Value;

use crate::error::ModelError;

/// Bytes of tensors in one file, unless it is said otherwise: the size at which most public models are split.
pub const MOST_IN_A_FILE: usize = 5_000_000_000;

/// Writes a model's files and then its configuration. What is left of files with which a model was written there before and that
/// would be read in their stead, or by nobody, is removed when the new ones are there.
pub fn write_directory(
    dir: &Path,
    config: &Value,
    tensors: &BTreeMap<String, Tensor>,
    max_bytes: usize,
) -> Result<(), ModelError> {
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Read { path: dir.to_owned(), source })?;
    let metadata = Metadata::from([("format".to_string(), "pt".to_string())]);
    let before = files_of(dir);
    save_tensors_in(dir, tensors, &metadata, max_bytes)?;
    let size = |x: &Tensor| x.numel() * x.dtype().size();
    let split = tensors.len() > 1 && tensors.values().map(size).sum::<usize>() > max_bytes;
    let mut written = files_of(dir);
    // Of both kinds the one that was just written.
    written.retain(|name| (name == SINGLE_NAME) != split);
    for file in before.difference(&written) {
        let path = dir.join(file);
        std::fs::remove_file(&path).map_err(|source| ModelError::Read { path, source })?;
    }
    write_config(dir, config)
}

/// The files in a directory that hold a model's tensors, and their index: by name, and only those that are there.
fn files_of(dir: &Path) -> BTreeSet<String> {
    let index = std::fs::read(dir.join(INDEX_NAME)).ok();
    let index: Option<Value> = index.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let map = index.as_ref().and_then(|index| index.get("weight_map")).and_then(Value::as_object);
    let parts = map.into_iter().flat_map(|map| map.values()).filter_map(Value::as_str);
    // Only what this writer calls so: an index names what it likes.
    let parts = parts.filter(|name| {
        name.starts_with("model-") && name.ends_with(".safetensors") && !name.contains(['/', '\\', ':', '\0'])
    });
    let own = [SINGLE_NAME, INDEX_NAME].into_iter();
    parts.chain(own).filter(|name| dir.join(name).is_file()).map(String::from).collect()
}

pub fn write_config(dir: &Path, config: &Value) -> Result<(), ModelError> {
    let mut text = serde_json::to_string_pretty(config).expect("a JSON value can be written");
    text.push('\n');
    cupola_io::atomic::write_bytes(dir.join("config.json"), text.as_bytes())?;
    Ok(())
}
