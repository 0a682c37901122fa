//! Low-rank additions on every kind of model: written, read, merged; and those that peft wrote (`tools/golden/lora.py`).

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupola_models::{AdapterInfo, Decoder, fingerprint, load, load_adapter, save, save_adapter};
use cupola_nn::files::load_tensors;
use cupola_nn::lora::{LoraConfig, adapt, candidates};
use cupola_nn::{Module, StateDict};
use cupola_tensor::{DType, Rng, Segments, Tensor, no_grad};
use support::{ragged, tokens, zoo};

/// Random additions to the projections of the layers that `choose` accepts.
fn adapted(model: &mut Decoder, choose: impl Fn(&str) -> bool) -> usize {
    let config = LoraConfig { rank: 2, alpha: 3.0, dropout: 0.0 };
    let names = adapt(model, &config, |name| name.starts_with("layers.") && choose(name)).expect("plain projections");
    for (path, param) in model.named_parameters_mut() {
        if path.contains(".lora_") {
            param.set(&(Tensor::randn(*param.shape(), Rng::seed(5).named(&path)) * 0.3));
        }
    }
    names.len()
}

fn info(base: &Path) -> AdapterInfo {
    let base_hash = fingerprint(base).expect("a model");
    AdapterInfo { rank: 2, alpha: 3.0, dropout: 0.0, base: base.to_owned(), base_hash }
}

fn logits(model: &Decoder) -> Tensor {
    no_grad(|| model.forward(&tokens(12, 3), &ragged(), None))
}

/// Additions to all projections, and to some of those that a public file holds in one matrix.
const CHOICES: [fn(&str) -> bool; 2] =
    [|_| true, |name| ["q_proj", "v_proj", "in_proj", "down_proj", "kv_b_proj"].iter().any(|end| name.ends_with(end))];

#[test]
fn additions_to_every_kind_of_model_come_back_from_their_files_and_merge() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut several = 0;
    for (name, spec) in zoo().into_iter().filter(|(_, spec)| spec.ternary.is_none()) {
        for (choice, choose) in CHOICES.iter().enumerate() {
            let place = |what: &str| folder.path().join(format!("{name}-{choice}-{what}"));
            let mut model = Decoder::new(&spec).init(1);
            let base = place("base");
            save(&base, &model).expect("writable");
            let plain = logits(&model);
            if candidates(&mut model).iter().all(|name| !choose(name) || !name.starts_with("layers.")) {
                continue;
            }
            adapted(&mut model, choose);
            several += 1;
            let expected = logits(&model);
            save_adapter(place("adapter"), &model, &info(&base)).expect("writable");
            let (back, read) = load_adapter(place("adapter"), None).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(read, info(&base), "{name}");
            let (ours, theirs) = (model.state_dict(), back.state_dict());
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
            assert!(ours.iter().all(|(name, value)| value.same_bits(&theirs[name])), "{name}");
            assert!(back.named_parameters().iter().all(|(path, p)| p.is_trainable() == path.contains(".lora_")));
            let merged = load(place("adapter")).unwrap_or_else(|error| panic!("{name}: {error}"));
            let error = logits(&merged).relative_error(&expected);
            let moved = expected.relative_error(&plain);
            assert!(error < 2e-5 && moved > 1e-4, "{name}: {error}, moved by {moved}");
            save(place("merged"), &merged).expect("writable");
            assert!(logits(&load(place("merged")).expect("a plain model")).same_bits(&logits(&merged)), "{name}");
        }
    }
    assert!(several > 40, "{several}");
}

#[test]
fn equal_additions_give_equal_files_of_peft_s_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public/gpt2");
    let mut model = load(&base).expect("a model");
    adapted(&mut model, |name| name.ends_with("q_proj") || name.ends_with("v_proj") || name.ends_with("up_proj"));
    let write = |name: &str| {
        save_adapter(folder.path().join(name), &model, &info(&base)).expect("writable");
        ["adapter_config.json", "adapter_model.safetensors"]
            .map(|file| std::fs::read(folder.path().join(name).join(file)).expect("a file"))
    };
    assert!(write("a") == write("b"));
    let config: serde_json::Value = serde_json::from_slice(&write("a")[0]).expect("JSON");
    assert_eq!(config["target_modules"], serde_json::json!(["c_attn", "c_fc"]));
    assert_eq!(config["rank_pattern"], serde_json::json!({ "c_attn": 4 }));
    assert_eq!(config["alpha_pattern"], serde_json::json!({ "c_attn": 6.0 }));
    assert_eq!(config["fan_in_fan_out"], true);
    let tensors = load_tensors(folder.path().join("a/adapter_model.safetensors")).expect("tensors");
    let name = |part: &str| format!("base_model.model.transformer.h.0.attn.c_attn.lora_{part}.weight");
    let (a, b) = (&tensors[&name("A")], &tensors[&name("B")]);
    assert_eq!((a.dim(0), b.dim(1), b.dim(0)), (4, 4, 3 * a.dim(1)));
    // The keys, in the middle, have no addition.
    assert!(b.narrow(0, a.dim(1), a.dim(1)).to_vec::<f32>().iter().all(|&x| x == 0.0));
}

#[test]
fn additions_that_do_not_fit_are_refused_with_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let [first, second] = [1, 2].map(|seed| {
        let base = folder.path().join(format!("base-{seed}"));
        save(&base, &Decoder::new(&zoo()[0].1).init(seed)).expect("writable");
        base
    });
    let mut model = load(&first).expect("a model");
    adapted(&mut model, |name| name.ends_with("o_proj"));
    let place = folder.path().join("adapter");
    save_adapter(&place, &model, &info(&first)).expect("writable");
    let refused = |place: &Path, base: Option<&Path>| load_adapter(place, base).err().expect("refused").to_string();
    assert!(refused(&place, Some(&second)).contains("another model than the one the additions"));
    assert!(refused(&place, Some(&place)).contains("merge them first"));
    assert!(refused(&place, Some(Path::new("nowhere"))).contains("is not at nowhere"));
    let file = place.join("adapter_model.safetensors");
    let mut tensors = load_tensors(&file).expect("tensors");
    let write = |tensors: &BTreeMap<String, Tensor>| {
        cupola_nn::files::save_tensors(&file, tensors, &BTreeMap::new()).expect("writable");
    };
    let b = "base_model.model.model.layers.0.self_attn.o_proj.lora_B.weight";
    let former = tensors.insert(b.to_string(), Tensor::ones([3, 2])).expect("it is there");
    write(&tensors);
    assert!(refused(&place, None).contains("o_proj: matrices of shapes [2, 16] and [3, 2]"));
    tensors.insert(b.to_string(), former);
    tensors.insert("base_model.model.model.layers.0.x.lora_A.weight".to_string(), Tensor::ones([2, 2]));
    write(&tensors);
    assert!(refused(&place, None).contains("x has a lora_A and no lora_B"));
    tensors.insert("base_model.model.model.layers.0.x.lora_B.weight".to_string(), Tensor::ones([2, 2]));
    write(&tensors);
    assert!(refused(&place, None).contains("the model has no projection model.layers.0.x"));
}

#[test]
fn a_model_with_additions_of_peft_s_says_what_it_says_in_peft() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters");
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("readable").path()).collect();
    names.sort();
    assert!(names.len() >= 3, "{names:?}");
    for place in names {
        let name = place.file_name().expect("a name").to_string_lossy().into_owned();
        let kind = name.split('-').next().expect("a family");
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public").join(kind);
        let expected = load_tensors(place.join("expected.safetensors")).expect("tensors");
        let (model, _) = load_adapter(&place, Some(&base)).unwrap_or_else(|error| panic!("{name}: {error}"));
        for (dtype, most) in [(DType::F64, 1e-6), (DType::F32, 1e-5)] {
            let model = model.clone().to_dtype(dtype);
            let tokens = expected["tokens"].reshape([expected["tokens"].numel()]);
            let ours = no_grad(|| model.forward(&tokens, &Segments::one(tokens.numel()), None));
            let error = ours.to_dtype(DType::F32).relative_error(&expected["logits"]);
            assert!(error < most, "{name} in {dtype}: {error}");
        }
    }
}
