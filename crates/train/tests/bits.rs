//! How a step is computed leaves its bits alone: layers that are computed again in backward, batches that go through in parts.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{last, micro, text, whole};

/// Models of two layers of 16 channels with one mixer of each kind whose gradients are sums over tokens.
const MODELS: [(&str, &str); 10] = [
    ("attention", "attention={num_attention_heads=2}"),
    (
        "gpt",
        "position='learned',max_position_embeddings=256,norm='layer_norm',channel='mlp_tanh',\
         tie_word_embeddings=true,mlp_bias=true,attention={num_attention_heads=2,attention_bias=true}",
    ),
    ("mamba", "pattern=['mamba','attention'],mamba={state_size=4},attention={num_attention_heads=2}"),
    ("mamba2", "pattern=['mamba2','attention'],mamba2={state_size=4,head_dim=8},attention={num_attention_heads=2}"),
    ("mamba2 alone", "pattern=['mamba2+none'],mamba2={state_size=4,head_dim=8,n_groups=2}"),
    ("mamba3", "pattern=['mamba3'],mamba3={state_size=8,head_dim=8}"),
    (
        "gated_deltanet",
        "pattern=['gated_deltanet','attention'],gated_deltanet={num_heads=2},attention={num_attention_heads=2}",
    ),
    ("deltanet", "pattern=['deltanet'],deltanet={num_heads=2}"),
    ("gla", "pattern=['gla'],gla={num_heads=2}"),
    ("linear_attention", "pattern=['linear_attention'],linear_attention={num_heads=2}"),
];

fn model(fields: &str) -> String {
    format!("model.spec={{hidden_size=16,num_hidden_layers=2,{fields}}}")
}

/// Tensors by name.
type Weights = BTreeMap<String, Vec<u8>>;

/// The tensors of a safetensors file.
fn tensors(file: &[u8]) -> Weights {
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&file[8..8 + length]).expect("a header");
    let all = header.into_iter().filter(|(name, _)| name != "__metadata__").map(|(name, entry)| {
        let [from, to] = [0, 1].map(|end: usize| entry["data_offsets"][end].as_u64().expect("an offset") as usize);
        (name, file[8 + length..][from..to].to_vec())
    });
    all.collect()
}

/// The names of tensors that differ.
fn differing<'a>(a: &'a Weights, b: &Weights) -> Vec<&'a str> {
    assert!(!a.is_empty() && a.keys().eq(b.keys()));
    a.iter().filter(|(name, bytes)| **bytes != b[*name]).map(|(name, _)| name.as_str()).collect()
}

/// The weights that a run of this configuration ends with, and the optimiser's state, where the last bits of small gradients show.
fn weights(folder: &Path, name: &str, sets: &[&str]) -> Weights {
    let out = folder.join(name);
    let documents = folder.join("documents.jsonl");
    if !documents.exists() {
        // Documents of all lengths, so that sequences begin everywhere.
        let text = text();
        let line = |index: usize| {
            let from = index * 97 % 1500;
            let part = &text[from..from + 1 + index * 53 % 330];
            format!("{}\n", serde_json::json!({ "text": part }))
        };
        fs::write(&documents, (0..90).map(line).collect::<String>()).expect("the folder is ours");
    }
    let usual = ["eval.every=100", "sample.every=0", "checkpoint.every=100"];
    let mut config = micro(folder, &usual.iter().chain(sets).copied().collect::<Vec<&str>>());
    config.data.paths = vec![documents.display().to_string()];
    whole(&out, config).expect("it trains");
    let files = last(&out).into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "safetensors"));
    let all: Weights = files.flat_map(|(_, file)| tensors(&file)).collect();
    assert!(all.keys().any(|name| name.ends_with("exp_avg")), "{:?}", all.keys());
    all
}

#[test]
fn layers_that_are_computed_again_learn_the_same_to_the_last_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, fields) in MODELS {
        let model = model(fields);
        for way in [&["model.dropout=0.0"][..], &["model.dropout=0.2"], &["dtype=bf16"]] {
            let made = ["none", "[1]", "all"].map(|layers| {
                let set = format!("model.gradient_checkpointing={layers}");
                // A step in two parts: sums over the tokens of the second go on from those of the first.
                let sets = [&model, &set, "batch.window=48", "batch.rows=4", "batch.micro_rows=2", "steps=3"];
                let sets: Vec<&str> = sets.iter().chain(way).copied().collect();
                weights(folder.path(), &format!("{name}{way:?}{layers}"), &sets)
            });
            for (again, layers) in made[1..].iter().zip(["the second", "all"]) {
                let other = differing(&made[0], again);
                assert!(other.is_empty(), "{name}, {way:?}, {layers}: {other:?}");
            }
        }
    }
}

#[test]
fn eight_micro_batches_have_the_bits_of_one_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, fields) in MODELS {
        let model = model(fields);
        for way in [&[][..], &["dtype=bf16"], &["model.gradient_checkpointing=[0]"]] {
            let made = [1, 2, 8].map(|micro_rows| {
                let rows = format!("batch.micro_rows={micro_rows}");
                // Sums over tokens are made in blocks of 256; the last row of the text, which is shorter, is not reached.
                let sets = [&model, "batch.window=256", "batch.rows=8", &rows, "data.shuffle=false", "steps=2"];
                let sets: Vec<&str> = sets.iter().chain(way).copied().collect();
                weights(folder.path(), &format!("{name}{way:?}{micro_rows}"), &sets)
            });
            for parts in &made[..2] {
                let other = differing(&made[2], parts);
                assert!(other.is_empty(), "{name}, {way:?}: {other:?}");
            }
        }
    }
}
