//! Low-rank additions in directories of their own, as the library peft lays them out: `adapter_config.json` says how they were made and
//! for which model, `adapter_model.safetensors` holds their matrices.
//!
//! A public file may hold several of our projections in one matrix (GPT-2's `c_attn`). Their additions then stand below and beside
//! each other: `A` is the list of theirs, `B` has theirs in blocks, and rank and alpha count once for each. A file says in its
//! metadata which of our projections it is about, so that it is taken apart again as it was put together.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use cupola_io::safetensors::{Metadata, SafeTensors, Shards};
use cupola_nn::files::{load_tensors, save_tensors};
use cupola_nn::lora::{self, Stored};
use cupola_nn::{Module, StateDict};
use cupola_tensor::{Tensor, no_grad};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::adapter_config::{AdapterConfig, TENSORS, is_adapter};
use super::family::Family;
use crate::decoder::Decoder;
use crate::error::ModelError;

/// What peft's names begin with.
const PREFIX: &str = "base_model.model.";
/// Our projections, in the file's metadata.
const PROJECTIONS: &str = "projections";
/// The checksum of the model that the additions are for, in the file's metadata.
const BASE: &str = "base_sha256";

/// What a directory of additions says beside the matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterInfo {
    /// Rank of each addition.
    pub rank: usize,
    /// Each counts `alpha / rank` times.
    pub alpha: f64,
    /// Dropout of their inputs in training.
    pub dropout: f64,
    /// The directory of the model that they are for.
    pub base: PathBuf,
    /// The checksum of that model, see [`fingerprint`].
    pub base_hash: String,
}

/// A checksum over the files that hold a model's tensors.
///
/// # Errors
/// When there are none, or they cannot be read.
pub fn fingerprint(dir: impl AsRef<Path>) -> Result<String, ModelError> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    for file in Shards::open(dir)?.files() {
        let wrong = |source| ModelError::Read { path: file.path().to_owned(), source };
        let mut file = std::fs::File::open(file.path()).map_err(wrong)?;
        loop {
            match file.read(&mut block).map_err(wrong)? {
                0 => break,
                count => hasher.update(&block[..count]),
            }
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where a projection of ours stands in a public model.
struct Place {
    /// The public module's name.
    theirs: String,
    /// Our projections in it, in order.
    ours: Vec<String>,
}

/// The place of our projection `name`.
fn place_of(family: Option<&Family>, name: &str) -> Option<Place> {
    let Some(family) = family else { return Some(Place { theirs: name.to_string(), ours: vec![name.to_string()] }) };
    let (theirs, _) = family.names.theirs_of(&format!("{name}.weight"))?;
    place_in(Some(family), theirs.strip_suffix(".weight")?)
}

/// What stands at a public module.
fn place_in(family: Option<&Family>, theirs: &str) -> Option<Place> {
    let ours = match family {
        None => vec![theirs.to_string()],
        Some(family) => {
            let (weights, _) = family.names.ours_in(&format!("{theirs}.weight"))?;
            weights.iter().map(|name| name.strip_suffix(".weight").map(String::from)).collect::<Option<_>>()?
        }
    };
    Some(Place { theirs: theirs.to_string(), ours })
}

/// Rows of each projection's weight.
fn rows(model: &Decoder) -> BTreeMap<String, usize> {
    let weights = model.state_shapes().into_iter().filter(|(_, (shape, _))| shape.rank() == 2);
    weights.filter_map(|(name, (shape, _))| Some((name.strip_suffix(".weight")?.to_string(), shape[0]))).collect()
}

/// Writes the additions of `model`, whole or not at all. Equal additions give equal bytes.
///
/// # Errors
/// When the system refuses, or the model has none.
pub fn save_adapter(dir: impl AsRef<Path>, model: &Decoder, info: &AdapterInfo) -> Result<(), ModelError> {
    let dir = dir.as_ref();
    let all = lora::stored(model);
    if all.is_empty() {
        let what = "the model has no low-rank additions to write".to_string();
        return Err(ModelError::Tensors { path: dir.to_owned(), what });
    }
    let family = Family::of(model.spec());
    let rows = rows(model);
    let projections: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
    let projections = projections.join(",");
    let mut groups: BTreeMap<String, (Place, Vec<Stored>)> = BTreeMap::new();
    for one in all {
        let place = place_of(family.as_ref(), &one.name);
        let place = place.unwrap_or_else(|| panic!("the table of names has no place for {}", one.name));
        groups.entry(place.theirs.clone()).or_insert_with(|| (place, Vec::new())).1.push(one);
    }
    let mut tensors = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (theirs, (place, own)) in groups {
        counts.insert(theirs.clone(), own.len());
        let (a, b) = joined(&place, &own, &rows);
        tensors.insert(format!("{PREFIX}{theirs}.lora_A.weight"), a);
        tensors.insert(format!("{PREFIX}{theirs}.lora_B.weight"), b);
    }
    let theirs = |name: &String| place_of(family.as_ref(), name).map(|place| place.theirs);
    let modules: BTreeSet<String> = rows.keys().filter_map(theirs).collect();
    let transposed = family.as_ref().is_some_and(|family| family.names.is_any_transposed());
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Read { path: dir.to_owned(), source })?;
    let metadata = Metadata::from([
        ("format".to_string(), "pt".to_string()),
        (PROJECTIONS.to_string(), projections),
        (BASE.to_string(), info.base_hash.clone()),
    ]);
    save_tensors(dir.join(TENSORS), &tensors, &metadata)?;
    AdapterConfig::write(dir, &config_of(info, &counts, &modules, transposed))
}

/// The matrices of a public module: one of ours as it is, or several in blocks.
fn joined(place: &Place, own: &[Stored], rows: &BTreeMap<String, usize>) -> (Tensor, Tensor) {
    if place.ours.len() == 1 {
        return (own[0].a.clone(), own[0].b.clone());
    }
    no_grad(|| {
        let a = Tensor::cat(&own.iter().map(|one| &one.a).collect::<Vec<_>>(), 0);
        let blocks: Vec<Tensor> = place
            .ours
            .iter()
            .map(|name| {
                let height = rows.get(name).copied().unwrap_or(0);
                let wide: Vec<Tensor> = own
                    .iter()
                    .map(|one| {
                        if one.name == *name {
                            one.b.clone()
                        } else {
                            Tensor::zeros_of([height, one.b.dim(1)], one.b.dtype())
                        }
                    })
                    .collect();
                Tensor::cat(&wide.iter().collect::<Vec<_>>(), 1)
            })
            .collect();
        (a, Tensor::cat(&blocks.iter().collect::<Vec<_>>(), 0))
    })
}

/// `adapter_config.json`. `counts`: how many of our projections each public module stands for; `modules`: all public modules with a
/// weight.
fn config_of(
    info: &AdapterInfo,
    counts: &BTreeMap<String, usize>,
    modules: &BTreeSet<String>,
    transposed: bool,
) -> Value {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let of_last = |name: &str| modules.iter().filter(|other| last(other) == last(name)).count();
    let adapted = |name: &str| counts.keys().filter(|other| last(other) == last(name)).count();
    let mut targets = BTreeSet::new();
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for (name, &count) in counts {
        // A name that stands for all modules that end so, or the module's own.
        let key = if adapted(name) == of_last(name) { last(name) } else { name.clone() };
        targets.insert(key);
        if count > 1 {
            let alike = counts.iter().all(|(other, &own)| last(other) != last(name) || own == count);
            let key = if alike { last(name) } else { name.clone() };
            ranks.insert(key.clone(), json!(count * info.rank));
            alphas.insert(key, json!(count as f64 * info.alpha));
        }
    }
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": info.base,
        "r": info.rank,
        "lora_alpha": info.alpha,
        "lora_dropout": info.dropout,
        "target_modules": targets,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "init_lora_weights": true,
        "inference_mode": true,
        "modules_to_save": null,
        "use_rslora": false,
        "use_dora": false,
    })
}

/// The model of a directory of additions, with these beside its weights, which are frozen. `base` is where that model is, if not
/// where the directory says.
///
/// # Errors
/// When a file cannot be read, the additions are of a kind that is not modelled or do not fit, or the model is another one than
/// the one they were trained for.
pub fn load_adapter(dir: impl AsRef<Path>, base: Option<&Path>) -> Result<(Decoder, AdapterInfo), ModelError> {
    let dir = dir.as_ref();
    let config = AdapterConfig::read(dir)?;
    let base = base.map_or_else(|| config.base.clone(), Path::to_owned);
    let wrong = |path: &Path, what: String| ModelError::Tensors { path: path.to_owned(), what };
    if !base.is_dir() {
        let what = format!("the model that the additions are for is not at {}", base.display());
        return Err(wrong(dir, what));
    }
    if is_adapter(&base) {
        return Err(wrong(
            &base,
            "these are additions themselves, expected a whole model: merge them first".to_string(),
        ));
    }
    let path = dir.join(TENSORS);
    let file = SafeTensors::open(&path)?;
    let hash = fingerprint(&base)?;
    if let Some(expected) = file.metadata_value(BASE)
        && expected != hash
    {
        let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_string();
        let what = format!(
            "its sha256 is {}, expected {}: another model than the one the additions in {} were trained for",
            short(&hash),
            short(expected),
            dir.display()
        );
        return Err(wrong(&base, what));
    }
    let written: Option<BTreeSet<String>> =
        file.metadata_value(PROJECTIONS).map(|list| list.split(',').map(String::from).collect());
    let mut model = super::load(&base)?;
    let family = Family::of(model.spec());
    let rows = rows(&model);
    for (theirs, (a, b)) in pairs(load_tensors(&path)?).map_err(|what| wrong(&path, what))? {
        let unknown = || wrong(&path, format!("the model has no projection {theirs}"));
        let place = place_in(family.as_ref(), &theirs).ok_or_else(unknown)?;
        let options = (config.scale(&theirs, a.dim(0)), config.dropout);
        let chosen: Vec<&String> =
            place.ours.iter().filter(|name| written.as_ref().is_none_or(|all| all.contains(*name))).collect();
        for (name, a, b) in taken_apart(&place, &chosen, (&a, &b), written.is_some(), &rows) {
            lora::attach(&mut model, &name, (&a, &b), options).map_err(|what| wrong(&path, what))?;
        }
    }
    for (name, param) in model.named_parameters_mut() {
        // Frozen and thawed, they are leaves numbered in the order of the fields, as those of a model that begins: sums over all
        // gradients follow it.
        param.set_trainable(false);
        param.set_trainable(name.ends_with(".lora_A") || name.ends_with(".lora_B"));
    }
    let AdapterConfig { rank, alpha, dropout, .. } = config;
    Ok((model, AdapterInfo { rank, alpha, dropout, base, base_hash: hash }))
}

/// Both matrices of every module, by its public name.
fn pairs(tensors: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, (Tensor, Tensor)>, String> {
    let mut sides: [BTreeMap<String, Tensor>; 2] = Default::default();
    for (name, tensor) in tensors {
        let bare = name.strip_prefix(PREFIX).and_then(|bare| bare.strip_suffix(".weight"));
        // Older files have the addition's own name in between.
        let bare = bare.map(|bare| bare.strip_suffix(".default").unwrap_or(bare));
        let side = |suffix: &str| bare.and_then(|bare| bare.strip_suffix(suffix)).filter(|_| tensor.rank() == 2);
        match (side(".lora_A"), side(".lora_B")) {
            (Some(module), _) => sides[0].insert(module.to_string(), tensor.clone()),
            (_, Some(module)) => sides[1].insert(module.to_string(), tensor.clone()),
            _ => {
                let shape = tensor.shape();
                return Err(format!("`{name}` {shape}, expected matrices {PREFIX}*.lora_A.weight and *.lora_B.weight"));
            }
        };
    }
    let [first, mut second] = sides;
    let mut all = BTreeMap::new();
    for (module, a) in first {
        let b = second.remove(&module).ok_or_else(|| format!("{module} has a lora_A and no lora_B"))?;
        if a.dim(0) != b.dim(1) {
            return Err(format!("{module} has a lora_A {} and a lora_B {} of another rank", a.shape(), b.shape()));
        }
        all.insert(module, (a, b));
    }
    match second.into_keys().next() {
        Some(module) => Err(format!("{module} has a lora_B and no lora_A")),
        None => Ok(all),
    }
}

/// The matrices of our projections out of those of a public module: in blocks where we wrote them, else all of `A` for each.
fn taken_apart(
    place: &Place,
    chosen: &[&String],
    (a, b): (&Tensor, &Tensor),
    in_blocks: bool,
    rows: &BTreeMap<String, usize>,
) -> Vec<(String, Tensor, Tensor)> {
    if place.ours.len() == 1 {
        return vec![(place.ours[0].clone(), a.clone(), b.clone())];
    }
    let whole = place.ours.iter().map(|name| rows.get(name).copied().unwrap_or(0)).sum::<usize>() == b.dim(0);
    let even = !chosen.is_empty() && a.dim(0).is_multiple_of(chosen.len());
    if !whole || (in_blocks && !even) {
        // Whoever attaches it says what does not fit.
        return place.ours.iter().map(|name| (name.clone(), a.clone(), b.clone())).collect();
    }
    let rank = a.dim(0) / chosen.len();
    let mut row = 0;
    let mut all = Vec::new();
    for name in &place.ours {
        let height = rows.get(name).copied().unwrap_or(0);
        let own = no_grad(|| b.narrow(0, row, height));
        row += height;
        let Some(index) = chosen.iter().position(|other| *other == name) else { continue };
        all.push(no_grad(|| match in_blocks {
            true => {
                let own = own.narrow(1, index * rank, rank).contiguous();
                (name.clone(), a.narrow(0, index * rank, rank).contiguous(), own)
            }
            false => (name.clone(), a.clone(), own.contiguous()),
        }));
    }
    all
}
