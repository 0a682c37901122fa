//! Checkpoints: model directories with all that is needed to go on.
//!
//! ```text
//! step-000300/
//!   config.json model.safetensors tokenizer.json tokenizer_config.json generation_config.json
//!   training/state.json             step, tokens, place in the data, schedule, guards, counters of the optimiser
//!   training/optimizer.safetensors  its tensors
//!   training/weights.safetensors    the weights proper, where model.safetensors holds their average
//!   training/checksums.json         a checksum of every file and of every tensor
//! ```
//!
//! Of a run that trains low-rank additions, `adapter_config.json` and `adapter_model.safetensors` stand in place of the model.
//!
//! Equal runs give equal files: no time and no path stands in them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use cupola_data::Position;
use cupola_data::digest::{Hasher, digest, hex, of_file};
use cupola_io::atomic;
use cupola_io::run::RunDir;
use cupola_io::safetensors::{Metadata, SafeTensors};
use cupola_models::{AdapterInfo, Decoder, ModelSpec};
use cupola_nn::files::{load_tensors, save_tensors};
use cupola_nn::optim::Ema;
use cupola_nn::schedule::Schedule;
use cupola_nn::{Module, StateDict};
use cupola_tensor::{DType, Tensor};
use cupola_tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::optimizer::Optimizer;

/// The folder inside a model directory.
pub const TRAINING: &str = "training";
const CHECKSUMS: &str = "checksums.json";

/// The part of a run's state that is text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// The version of this form.
    pub schema: u32,
    /// Steps done.
    pub step: u64,
    /// Tokens learnt from.
    pub tokens: u64,
    /// The next batch.
    pub position: Position,
    /// The course of the learning rate, with what it was told.
    pub schedule: Schedule,
    /// What the guards remember.
    pub guard: Guard,
    /// The lowest held-out loss so far.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub stale: u64,
    /// The optimiser's options and counters.
    pub optimizer: Value,
}

/// The lowest held-out loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The loss.
    pub loss: f64,
    /// The step it was measured at.
    pub step: u64,
}

/// All that a checkpoint holds, sharing memory with the run until its next step.
pub struct Snapshot {
    /// The text.
    pub state: TrainState,
    /// The model.
    pub model: Decoder,
    /// The optimiser's tensors.
    pub optimizer: BTreeMap<String, Tensor>,
    /// The average of the weights.
    pub ema: Option<BTreeMap<String, Tensor>>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// What stands beside low-rank additions, where those are all that is trained.
    pub adapter: Option<AdapterInfo>,
}

/// Checksums of a folder's files, and of the tensors in them.
#[derive(Serialize, Deserialize)]
struct Checksums {
    files: BTreeMap<String, String>,
    tensors: BTreeMap<String, BTreeMap<String, String>>,
}

impl Snapshot {
    /// Writes the checkpoint of this step, whole or not at all.
    ///
    /// # Errors
    /// When the system refuses; earlier checkpoints are as they were.
    pub fn write(&self, run: &RunDir) -> Result<PathBuf> {
        let path = run.checkpoint_path(self.state.step);
        let parent = path.parent().expect("a checkpoint is inside the run's folder");
        // Not the run's folder itself: when that has gone, what is written into a new one of its name is no run.
        if !parent.is_dir() {
            fs::create_dir(parent).map_err(Error::io(parent, "create"))?;
        }
        atomic::write_dir(&path, |folder| self.fill(folder))?;
        Ok(path)
    }

    /// Bytes of its tensors, which are nearly all of it.
    pub fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| (tensor.numel() * tensor.dtype().size()) as u64;
        // What is not trained stands in no adapter.
        let model: u64 = match self.adapter {
            Some(_) => self.model.trainable_count() as u64 * DType::F32.size() as u64,
            None => self.model.state_dict().values().map(size).sum(),
        };
        model
            + self.optimizer.values().chain(self.ema.iter().flat_map(|average| average.values())).map(size).sum::<u64>()
    }

    fn fill(&self, folder: &Path) -> Result<()> {
        let inner = folder.join(TRAINING);
        fs::create_dir_all(&inner).map_err(Error::io(&inner, "create"))?;
        match (&self.adapter, &self.ema) {
            (Some(info), _) => {
                cupola_models::save_adapter(folder, &self.model, info)?;
                cupola_models::save_spec(folder, self.model.spec())?;
            }
            (None, None) => cupola_models::save(folder, &self.model)?,
            (None, Some(average)) => {
                let mut averaged = Decoder::new(self.model.spec());
                averaged.load_state_dict(average).map_err(|error| Error::checkpoint(folder, error))?;
                cupola_models::save(folder, &averaged)?;
                save_tensors(inner.join("weights.safetensors"), &self.model.state_dict(), &Metadata::new())?;
            }
        }
        let tokenizer = |source| Error::Tokenizer { place: folder.display().to_string(), source };
        self.tokenizer.save_dir(folder).map_err(tokenizer)?;
        let generation = json!({
            "bos_token_id": self.tokenizer.bos(),
            "eos_token_id": self.tokenizer.eos(),
            "do_sample": true,
            "temperature": 0.8,
        });
        write_json(&folder.join("generation_config.json"), &generation)?;
        save_tensors(inner.join("optimizer.safetensors"), &self.optimizer, &Metadata::new())?;
        write_json(&inner.join("state.json"), &self.state)?;
        write_json(&inner.join(CHECKSUMS), &checksums(folder)?)
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).expect("plain data has a JSON form");
    text.push('\n');
    Ok(atomic::write_bytes(path, text.as_bytes())?)
}

/// All files of a folder but the checksums themselves, by their path inside it.
fn files(folder: &Path, prefix: &str, out: &mut Vec<String>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        entries.push(entry.map_err(Error::io(folder, "list"))?);
    }
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            files(&entry.path(), &format!("{name}/"), out)?;
        } else if name != format!("{TRAINING}/{CHECKSUMS}") {
            out.push(name);
        }
    }
    out.sort();
    Ok(())
}

fn checksums(folder: &Path) -> Result<Checksums> {
    let mut all = Checksums { files: BTreeMap::new(), tensors: BTreeMap::new() };
    let mut names = Vec::new();
    files(folder, "", &mut names)?;
    for name in names {
        let path = folder.join(&name);
        if name.ends_with(".safetensors") {
            let (whole, tensors) = of_tensors(&path)?;
            all.files.insert(name.clone(), whole);
            all.tensors.insert(name, tensors);
        } else {
            all.files.insert(name, of_file(&path)?);
        }
    }
    Ok(all)
}

/// The checksums of a file of tensors and of each tensor, from one reading. Through a mapping all of the file would count as memory
/// of this process.
fn of_tensors(path: &Path) -> Result<(String, BTreeMap<String, String>)> {
    let file = SafeTensors::open(path)?;
    // Where each tensor's bytes are, from the addresses: the format has them at the end of the file without holes.
    let address = |bytes: &[u8]| bytes.as_ptr() as usize;
    let first = file.iter().map(|tensor| address(tensor.bytes())).min().unwrap_or(0);
    let total: usize = file.iter().map(|tensor| tensor.bytes().len()).sum();
    let mut places: Vec<(usize, usize, String)> = file
        .iter()
        .map(|tensor| (address(tensor.bytes()) - first, tensor.bytes().len(), tensor.name().to_string()))
        .collect();
    places.sort();
    let mut input = fs::File::open(path).map_err(Error::io(path, "open"))?;
    let length = input.metadata().map_err(Error::io(path, "inspect"))?.len() as usize;
    let mut whole = Hasher::new();
    let mut block = vec![0; 1 << 20];
    let mut take = |mut left: usize, own: &mut Hasher| -> Result<()> {
        while left > 0 {
            let part = left.min(block.len());
            input.read_exact(&mut block[..part]).map_err(Error::io(path, "read"))?;
            whole.update(&block[..part]);
            own.update(&block[..part]);
            left -= part;
        }
        Ok(())
    };
    take(length.saturating_sub(total), &mut Hasher::new())?;
    let mut tensors = BTreeMap::new();
    for (_, size, name) in places {
        let mut own = Hasher::new();
        take(size, &mut own)?;
        tensors.insert(name, hex(&own.finish()));
    }
    Ok((hex(&whole.finish()), tensors))
}

/// Checks every file of a checkpoint against its checksum.
///
/// # Errors
/// With the first file, and the tensor in it, that is not as it was written.
pub fn verify(folder: &Path) -> Result<()> {
    verify_files(folder, |_| true)
}

/// Checks the model's files of a checkpoint, all but those that training alone reads. A model directory that carries no checksums is
/// taken as it is.
///
/// # Errors
/// As [`verify`].
pub fn verify_model(folder: &Path) -> Result<()> {
    let ours = [CHECKSUMS, "state.json"].iter().any(|name| folder.join(TRAINING).join(name).exists());
    if !ours {
        return Ok(());
    }
    verify_files(folder, |name| !name.starts_with(TRAINING))
}

fn verify_files(folder: &Path, chosen: impl Fn(&str) -> bool) -> Result<()> {
    let path = folder.join(TRAINING).join(CHECKSUMS);
    let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
    let expected: Checksums = serde_json::from_slice(&text).map_err(|error| Error::checkpoint(&path, error))?;
    let mut names = Vec::new();
    files(folder, "", &mut names)?;
    let mut listed = expected.files.keys().filter(|name| chosen(name));
    if let Some(name) = listed.find(|name| !names.contains(name)) {
        return Err(Error::checkpoint(&folder.join(name), "the file is missing, expected one with a checksum"));
    }
    for (name, expected_sum) in expected.files.iter().filter(|(name, _)| chosen(name)) {
        let path = folder.join(name);
        let found = of_file(&path)?;
        if found == *expected_sum {
            continue;
        }
        let mut reason = format!("the checksum is {}, expected {}", &found[..16], expected_sum.get(..16).unwrap_or(""));
        if let (Some(tensors), Ok(file)) = (expected.tensors.get(name), SafeTensors::open(&path)) {
            let changed = file
                .iter()
                .find(|tensor| tensors.get(tensor.name()).is_none_or(|sum| *sum != hex(&digest(tensor.bytes()))));
            if let Some(tensor) = changed {
                reason = format!("tensor `{}` is not as it was written: {reason}", tensor.name());
            }
        }
        return Err(Error::checkpoint(&path, reason));
    }
    Ok(())
}

/// The part of a checkpoint that is text.
///
/// # Errors
/// When it cannot be read, or is of another version.
pub fn state(folder: &Path) -> Result<TrainState> {
    let path = folder.join(TRAINING).join("state.json");
    let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
    let state: TrainState = serde_json::from_slice(&text).map_err(|error| Error::checkpoint(&path, error))?;
    if state.schema != 1 {
        return Err(Error::checkpoint(&path, format!("the schema is {}, expected 1", state.schema)));
    }
    Ok(state)
}

/// A checkpoint that was read back.
pub struct Loaded {
    /// The text.
    pub state: TrainState,
    /// The model with the weights proper.
    pub model: Decoder,
    /// The optimiser's tensors.
    pub optimizer: BTreeMap<String, Tensor>,
    /// The average of the weights.
    pub ema: Option<BTreeMap<String, Tensor>>,
}

/// Reads a checkpoint whose files are whole and whose model is `spec`, with additions to the model of `adapter`.
///
/// # Errors
/// When a file is damaged or missing, or the model is another one, with what differs.
pub fn load(folder: &Path, spec: &ModelSpec, adapter: Option<&AdapterInfo>) -> Result<Loaded> {
    verify(folder)?;
    let inner = folder.join(TRAINING);
    let state = state(folder)?;
    same_model(folder, &cupola_models::load_spec(folder)?, spec)?;
    let mut model = match adapter {
        // The checkpoint is whole: what is wrong lies with the model that the additions are for, and an older checkpoint is no help.
        Some(info) => {
            let loaded = cupola_models::load_adapter(folder, Some(&info.base));
            loaded.map_err(|error| Error::Refused(error.to_string()))?.0
        }
        None => cupola_models::load(folder)?,
    };
    let weights = inner.join("weights.safetensors");
    let ema = if weights.exists() {
        let average = model.state_dict();
        let proper = load_tensors(&weights)?;
        model.load_state_dict(&proper).map_err(|error| Error::checkpoint(&weights, error))?;
        Some(average)
    } else {
        None
    };
    let optimizer = load_tensors(inner.join("optimizer.safetensors"))?;
    Ok(Loaded { state, model, optimizer, ema })
}

/// Whether two specifications are the same, with the first five fields that differ.
fn same_model(folder: &Path, found: &ModelSpec, expected: &ModelSpec) -> Result<()> {
    let fields = |spec: &ModelSpec| serde_json::to_value(spec).expect("a specification is plain data");
    let (found, expected) = (fields(found), fields(expected));
    let keys = |value: &Value| value.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let mut names = keys(&found);
    names.extend(keys(&expected));
    names.sort();
    names.dedup();
    let differ: Vec<String> = names
        .iter()
        .filter(|name| found.get(name.as_str()) != expected.get(name.as_str()))
        .map(|name| {
            let show = |value: &Value| value.get(name.as_str()).map_or("nothing".to_string(), Value::to_string);
            format!("{name} is {}, expected {}", show(&found), show(&expected))
        })
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    let more = if differ.len() > 5 { format!(" and {} more", differ.len() - 5) } else { String::new() };
    Err(Error::checkpoint(folder, format!("another model: {}{more}", differ[..differ.len().min(5)].join("; "))))
}

/// The newest checkpoint of a run that is whole; and what was wrong with newer ones. `None` of a run that has none yet.
///
/// # Errors
/// When there are checkpoints and none can be used, with what is wrong with the newest; when the folder cannot be listed, or additions
/// are for another model than that of `adapter`.
pub fn newest(run: &RunDir, spec: &ModelSpec, adapter: Option<&AdapterInfo>) -> Result<(Option<Loaded>, Vec<String>)> {
    let mut damaged = Vec::new();
    let mut newest = None;
    for step in run.checkpoints()?.into_iter().rev() {
        let path = run.checkpoint_path(step);
        match load(&path, spec, adapter) {
            Ok(loaded) => return Ok((Some(loaded), damaged)),
            Err(error @ Error::Refused(_)) => return Err(error),
            Err(error) => {
                damaged.push(error.to_string());
                newest.get_or_insert(error);
            }
        }
    }
    // To begin again would throw away what was learnt, and in silence.
    newest.map_or(Ok((None, damaged)), Err)
}

/// Puts the run's folder in order after a crash: finishes an interrupted replacement, and removes what was half written.
/// Returns what was removed.
///
/// # Errors
/// When the system refuses.
pub fn sweep(run: &RunDir) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for folder in [run.path().to_owned(), run.path().join("checkpoints")] {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.map_err(Error::io(&folder, "list"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Some(target) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".previous")) {
                atomic::recover_dir(folder.join(target))?;
            } else if name.starts_with('.') && name.ends_with(".tmp") {
                let done = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                done.map_err(Error::io(&path, "delete"))?;
                removed.push(path);
            }
        }
    }
    Ok(removed)
}

/// Deletes all checkpoints but the newest `keep` and those that have a name.
///
/// # Errors
/// When the system refuses.
pub fn prune(run: &RunDir, keep: usize) -> Result<()> {
    let steps = run.checkpoints()?;
    let named: Vec<PathBuf> = ["best", "last"].iter().filter_map(|name| run.checkpoint(name).ok()).collect();
    for step in &steps[..steps.len().saturating_sub(keep.max(1))] {
        let path = run.checkpoint_path(*step);
        if !named.contains(&path) {
            // Under another name first: a folder that is half deleted is no checkpoint.
            let doomed = path.with_file_name(format!(".step-{step}.tmp"));
            fs::rename(&path, &doomed).map_err(Error::io(&path, "delete"))?;
            fs::remove_dir_all(&doomed).map_err(Error::io(&doomed, "delete"))?;
        }
    }
    Ok(())
}

/// The average of the weights that goes on from `values`.
pub fn average(values: BTreeMap<String, Tensor>, decay: f64) -> Ema {
    Ema::from_values(values, decay)
}

/// What an optimiser and a schedule need to go on.
pub fn restore_optimizer(optimizer: &mut Optimizer, loaded: &mut Loaded, folder: &Path) -> Result<()> {
    let tensors = std::mem::take(&mut loaded.optimizer);
    optimizer.restore(&loaded.state.optimizer, tensors).map_err(|reason| Error::checkpoint(folder, reason))
}
