//! Models on their way to text and to files.

mod support;

use std::path::Path;

use cupola_models::files::save_split;
use cupola_models::{Decoder, Generator, ModelFields, ModelSpec, SamplerConfig, load, save};
use cupola_nn::{Module, StateDict};
use cupola_tensor::{DType, Segments, Tensor, no_grad};
use support::{model, tokens, zoo};

fn named(wanted: &str, longest: usize) -> ModelSpec {
    let (_, spec) = zoo().into_iter().find(|(name, _)| *name == wanted).expect("a name of the zoo");
    ModelSpec::new(ModelFields { max_position_embeddings: longest, ..spec.fields().clone() })
        .expect("as valid as before")
}

#[test]
fn a_long_prompt_is_read_in_pieces_and_says_the_same() {
    for name in ["llama", "mistral", "mamba2 and attention in turn", "mamba3"] {
        let model = model(&named(name, 2048), 1);
        let mut all = tokens(1100, 2).to_vec::<i64>();
        let prompt: Vec<u32> = all.iter().map(|&id| id as u32).collect();
        let written: Vec<u32> = Generator::new(&model, &prompt, SamplerConfig::greedy()).limit(3).collect();
        let mut expected = Vec::new();
        for _ in 0..3 {
            let x = Tensor::from_vec(all.clone(), [all.len()]);
            let logits = no_grad(|| model.forward(&x, &Segments::one(all.len()), None)).to_dtype(DType::F32);
            let last = logits.narrow(0, all.len() - 1, 1).contiguous().to_vec::<f32>();
            let best = (0..last.len()).max_by(|&a, &b| last[a].total_cmp(&last[b])).expect("a token");
            expected.push(best as u32);
            all.push(best as i64);
        }
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn a_text_ends_with_the_context_only_where_positions_do() {
    let count = |name: &str| {
        let model = model(&named(name, 20), 1);
        Generator::new(&model, &[1, 2, 3], SamplerConfig::greedy()).limit(40).count()
    };
    // The last token is written behind the last position.
    assert_eq!(count("llama"), 18);
    for name in ["mamba", "mamba2", "mamba3", "linear attention", "gla", "deltanet", "gated deltanet"] {
        assert_eq!(count(name), 40, "{name}");
    }
    assert_eq!(count("alibi with norms and caps"), 40);
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let mut all: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect();
    all.sort();
    all
}

fn same(a: &Decoder, b: &Decoder) -> bool {
    let (a, b) = (a.state_dict(), b.state_dict());
    a.len() == b.len() && a.iter().all(|(name, x)| x.same_bits(&b[name]))
}

#[test]
fn a_model_above_a_size_is_split_with_an_index_and_read_back_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    let first = Decoder::new(&named("llama", 64)).init(1);
    let second = Decoder::new(&named("llama", 64)).init(2);
    save(dir, &first).expect("a writable folder");
    assert_eq!(files(dir), ["config.json", "model.safetensors"]);
    // The file that was there would go before the index.
    save_split(dir, &second, 6000).expect("a writable folder");
    let parts = files(dir);
    let [config, shards @ .., index] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!((config.as_str(), index.as_str()), ("config.json", "model.safetensors.index.json"));
    assert!(shards.len() > 2, "{parts:?}");
    for (number, name) in shards.iter().enumerate() {
        assert_eq!(*name, format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len()));
        let file = cupola_io::safetensors::SafeTensors::open(dir.join(name)).expect("a file just written");
        let bytes: usize = file.iter().map(|view| view.bytes().len()).sum();
        assert!(bytes <= 6000 || file.len() == 1, "{name} holds {bytes} bytes");
    }
    let text = std::fs::read_to_string(dir.join(index)).expect("an index");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["metadata"]["total_size"], second.parameter_count() * 4);
    assert_eq!(value["weight_map"]["model.layers.1.self_attn.q_proj.weight"].as_str().map(|s| &s[..6]), Some("model-"));
    assert!(same(&load(dir).expect("a model"), &second));
    // In fewer files, and in one again: nothing of the others is left.
    save_split(dir, &first, 12_000).expect("a writable folder");
    assert!(files(dir).len() < parts.len() && same(&load(dir).expect("a model"), &first));
    save(dir, &load(dir).expect("a model")).expect("a writable folder");
    assert_eq!(files(dir), ["config.json", "model.safetensors"]);
    assert!(same(&load(dir).expect("a model"), &first));
}

/// Where its `config.json` says that first values are scaled, transformers scales the weights that it has read.
#[test]
fn a_mamba_s_directory_does_not_ask_for_its_weights_to_be_scaled_again() {
    for preset in ["mamba-nano", "mamba2-nano"] {
        let folder = tempfile::tempdir().expect("a folder");
        let spec = ModelSpec::preset(preset, 300).expect("a preset");
        assert!(spec.scale_residual_init, "{preset}: first values are scaled");
        save(folder.path(), &Decoder::new(&spec).init(1)).expect("a writable folder");
        let config = std::fs::read_to_string(folder.path().join("config.json")).expect("a file");
        assert!(config.contains("\"rescale_prenorm_residual\": false"), "{preset}: {config}");
    }
}
