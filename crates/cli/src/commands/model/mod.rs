//! `cupola model`.
//!
//! - `merge`: low-rank additions into the weights

mod merge;

use crate::terminal::grouped;
use anyhow::Context;
use clap::{Args, Subcommand};
use cupola_core::DType;
use cupola_data::digest::{Hasher, hex};
use cupola_io::safetensors::Shards;
use cupola_models::spec::preset_names;
use cupola_models::{Decoder, ModelSpec, load_spec};
use cupola_nn::Module;
use cupola_train::setup::model_folder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Show what a model is: its specification, and every tensor with shape, dtype and size
    Inspect(Inspect),
    /// Merge low-rank additions into the weights of their model: a plain model directory
    Merge(merge::Merge),
    /// List the presets that `train --preset` knows
    Presets,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Inspect(command) => command.run(),
            Self::Merge(command) => command.run(),
            Self::Presets => {
                let mut out = io::stdout().lock();
                for name in preset_names() {
                    let spec = ModelSpec::preset(&name, 4096)?;
                    let count = grouped(Decoder::new(&spec).parameter_count());
                    writeln!(
                        out,
                        "{name:<22} {} layers, {} wide, {count} parameters with 4,096 tokens",
                        spec.num_hidden_layers, spec.hidden_size
                    )
                    .context("standard output")?;
                }
                Ok(())
            }
        }
    }
}

#[derive(Args)]
pub struct Inspect {
    /// A run's folder or a model directory
    model: PathBuf,
    /// Which checkpoint of a run
    #[arg(long, value_name = "NAME")]
    checkpoint: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A tensor as it is shown.
struct Row {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    bytes: usize,
    digest: [u8; 32],
    not_finite: usize,
}

impl Inspect {
    fn run(self) -> anyhow::Result<()> {
        let folder = model_folder(&self.model, self.checkpoint.as_deref())?;
        let spec = load_spec(&folder)?;
        let adapter = cupola_models::is_adapter(&folder).then(|| folder.join("adapter_model.safetensors"));
        let files = Shards::open(adapter.as_deref().unwrap_or(&folder))?;
        let mut rows = Vec::new();
        for view in files.iter() {
            let tensor = cupola_tensor::Tensor::from_buffer(view.buffer()?, view.shape());
            let not_finite = match view.dtype().is_float() {
                true => tensor.to_f64_vec().iter().filter(|value| !value.is_finite()).count(),
                false => 0,
            };
            rows.push(Row {
                name: view.name().to_string(),
                shape: view.shape().to_vec(),
                dtype: view.dtype(),
                bytes: view.bytes().len(),
                digest: cupola_data::digest::digest(view.bytes()),
                not_finite,
            });
        }
        rows.sort_by_key(|row| natural(&row.name));
        let mut hasher = Hasher::new();
        for row in &rows {
            hasher.update(format!("{} {} {:?} ", row.name, row.dtype, row.shape).as_bytes());
            hasher.update(&row.digest);
        }
        let hash = hex(&hasher.finish());
        let numbers: usize = rows.iter().map(|row| row.shape.iter().product::<usize>()).sum();
        let bytes: usize = rows.iter().map(|row| row.bytes).sum();
        let mut out = io::stdout().lock();
        if self.json {
            let tensors: Vec<Value> = rows
                .iter()
                .map(|row| {
                    json!({
                        "name": row.name, "shape": row.shape, "dtype": row.dtype.to_string(), "bytes": row.bytes,
                        "sha256": hex(&row.digest), "not_finite": row.not_finite,
                    })
                })
                .collect();
            let value = json!({
                "path": folder, "spec": spec, "numbers": numbers, "bytes": bytes, "sha256": hash, "tensors": tensors,
            });
            return writeln!(out, "{value}").context("standard output");
        }
        writeln!(
            out,
            "{}\n{} layers, {} wide, vocabulary {}, context {}; {} numbers, {:.1} MB, sha256 {}",
            folder.display(),
            spec.num_hidden_layers,
            spec.hidden_size,
            grouped(spec.vocab_size),
            grouped(spec.max_position_embeddings),
            grouped(numbers),
            bytes as f64 / 1e6,
            &hash[..16]
        )
        .context("standard output")?;
        tree(&rows, &mut out).context("standard output")
    }
}

/// Names in the order of people: `layers.2` before `layers.10`.
fn natural(name: &str) -> Vec<(u64, String)> {
    name.split('.').map(|part| (part.parse().unwrap_or(u64::MAX), part.to_string())).collect()
}

/// The names as a tree, with the size of each branch.
fn tree(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        for (at, _) in row.name.match_indices('.') {
            *sizes.entry(row.name[..at].to_string()).or_default() += row.bytes;
        }
    }
    let mut open: Vec<&str> = Vec::new();
    for row in rows {
        let parts: Vec<&str> = row.name.split('.').collect();
        let (last, branches) = parts.split_last().expect("a name has at least one part");
        let shared = open.iter().zip(branches).take_while(|(a, b)| a == b).count();
        open.truncate(shared);
        for (depth, branch) in branches.iter().enumerate().skip(shared) {
            let size = sizes.get(&branches[..=depth].join(".")).copied().unwrap_or(0);
            writeln!(out, "{:indent$}{branch}  {:.2} MB", "", size as f64 / 1e6, indent = 2 * depth)?;
            open.push(branch);
        }
        let bad = if row.not_finite > 0 { format!("  {} not finite", row.not_finite) } else { String::new() };
        let indent = 2 * branches.len();
        writeln!(out, "{:indent$}{last}  {} {:?}{bad}", "", row.dtype, row.shape)?;
    }
    Ok(())
}
