//! Public models are read, computed, continued, trained and written as transformers does (`tools/golden/models.py`), and models of
//! architectures that it does not have as twins in PyTorch do (`tools/golden/twins.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cupola_models::spec::TernaryKind;
use cupola_models::{Decoder, Generator, SamplerConfig, load, load_spec, save};
use cupola_nn::files::load_tensors;
use cupola_nn::{Module, training};
use cupola_tensor::{DType, Segments, Tensor, no_grad};

#[path = "support/twin.rs"]
mod twin;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public")
}

/// Every model by name, with what it is expected to say.
fn models() -> Vec<(String, PathBuf, BTreeMap<String, Tensor>)> {
    let entries = std::fs::read_dir(folder()).expect("the folder of public models");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    let read = |name: String| {
        let dir = folder().join(&name);
        let expected = load_tensors(dir.join("expected.safetensors")).unwrap_or_else(|error| panic!("{error}"));
        (name, dir, expected)
    };
    names.into_iter().map(read).collect()
}

fn read(dir: &Path) -> Decoder {
    load(dir).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether inputs are rounded to 8 bits: what lies close to the middle between two steps goes another way in f32 than in f64, so
/// that such a model is compared in f64.
fn rounds_inputs(model: &Decoder) -> bool {
    model.spec().ternary == Some(TernaryKind::A8)
}

#[test]
fn logits_are_those_of_transformers() {
    for (name, dir, expected) in models() {
        let (tokens, logits) = (&expected["tokens"], &expected["logits"]);
        let (batch, time) = (tokens.shape()[0], tokens.shape()[1]);
        let segments = Segments::uniform(batch, time);
        for (dtype, most) in [(DType::F64, 1e-6), (DType::F32, 1e-5)] {
            let model = read(&dir).to_dtype(dtype);
            if dtype == DType::F32 && rounds_inputs(&model) {
                continue;
            }
            let ours = no_grad(|| model.forward(&tokens.reshape([batch * time]), &segments, None));
            let error = ours.to_dtype(DType::F32).relative_error(&logits.reshape([batch * time, logits.dim(2)]));
            assert!(error < most, "{name} in {dtype}: {error}");
        }
    }
}

#[test]
fn greedy_text_is_that_of_transformers() {
    for (name, dir, expected) in models() {
        let mut model = read(&dir);
        if rounds_inputs(&model) {
            model = model.to_dtype(DType::F64);
        }
        let prompt: Vec<u32> = expected["tokens"].select(0, 0).to_indices().iter().map(|&id| id as u32).collect();
        let written: Vec<i64> =
            Generator::new(&model, &prompt, SamplerConfig::greedy()).limit(32).map(i64::from).collect();
        assert_eq!(written, expected["greedy"].to_indices(), "{name}");
    }
}

/// The one model whose training enlarges rounding too far to be compared.
const WITHOUT_LOSSES: &[&str] = &["mamba3-norm"];

#[test]
fn twenty_losses_are_those_of_pytorch() {
    let names: Vec<String> = models().into_iter().map(|(name, ..)| name).collect();
    for family in ["gpt2", "llama", "mamba", "mamba2", "mamba3"] {
        assert!(names.iter().any(|name| name == family), "{family} is not among {names:?}");
    }
    for (name, dir, expected) in models() {
        let batches = expected.get("batches");
        assert_eq!(batches.is_none(), WITHOUT_LOSSES.contains(&name.as_str()), "{name}");
        let Some(batches) = batches else { continue };
        assert_eq!(expected["losses"].dim(0), 20, "{name}");
        let mut model = read(&dir).to_dtype(DType::F64);
        let mut optimizer = twin::adamw(&model);
        let expected = expected["losses"].to_vec::<f64>();
        let (rows, length) = (batches.dim(1), batches.dim(2) - 1);
        for (step, expected) in expected.into_iter().enumerate() {
            let batch = batches.select(0, step);
            let cut = |begin: usize| batch.narrow(1, begin, length).reshape([rows * length]);
            let scope = training(0, step as u64);
            let loss = model.loss_sum(&cut(0), &cut(1), &Segments::uniform(rows, length)) / (rows * length) as f64;
            let mut total = loss.clone();
            for (_, auxiliary) in scope.auxiliary_losses() {
                total = total + auxiliary;
            }
            let mut grads = total.backward();
            scope.finish(&mut model);
            grads.clip_norm(1.0);
            optimizer.step(&mut model, &grads);
            let error = (loss.item() - expected).abs() / expected;
            assert!(error < 1e-5, "{name}: loss {step} is {}, expected {expected}", loss.item());
        }
    }
}

#[test]
fn deepseek_s_loss_of_balance_is_that_of_sequences_unless_it_says_otherwise() {
    let dir = folder().join("deepseek_v2");
    let seq_aux = |dir: &Path| load_spec(dir).ok().and_then(|spec| spec.moe.as_ref().map(|moe| moe.seq_aux));
    assert_eq!(seq_aux(&dir), Some(true));
    let whole = with_config(&dir, |config| config["seq_aux"] = false.into());
    assert_eq!(seq_aux(whole.path()), Some(false));
    let copy = tempfile::tempdir().expect("a folder");
    save(copy.path(), &read(whole.path())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(load_spec(copy.path()).ok(), load_spec(whole.path()).ok());
    let text = std::fs::read_to_string(copy.path().join("config.json")).expect("a configuration");
    assert!(text.contains("\"seq_aux\": false") && text.contains("\"deepseek_v2\""), "{text}");
}

#[test]
fn a_public_model_is_written_as_it_was_read() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, dir, _) in models() {
        let copy = folder.path().join(&name);
        save(&copy, &read(&dir)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(load_spec(&copy).ok(), load_spec(&dir).ok(), "{name}");
        let config = |dir: &Path| -> serde_json::Value {
            let text = std::fs::read_to_string(dir.join("config.json")).expect("a configuration");
            serde_json::from_str(&text).expect("JSON")
        };
        for key in ["model_type", "architectures"] {
            assert_eq!(config(&copy)[key], config(&dir)[key], "{name}: {key}");
        }
        let theirs = cupola_io::safetensors::Shards::open(&dir).expect("a public model");
        let ours = cupola_io::safetensors::Shards::open(&copy).expect("a model just written");
        let bytes = |all: &cupola_io::safetensors::Shards| {
            all.iter().map(|view| (view.name().to_string(), view.bytes().to_vec())).collect::<BTreeMap<_, _>>()
        };
        let (theirs, ours) = (bytes(&theirs), bytes(&ours));
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{name}");
        assert!(ours.iter().all(|(key, value)| *value == theirs[key]), "{name}: values differ");
    }
}

#[test]
fn a_mistral_without_a_window_is_written_as_the_mistral_that_it_was_read_as() {
    let windowless =
        with_config(&folder().join("mistral"), |config| config["sliding_window"] = serde_json::Value::Null);
    let model = read(windowless.path());
    let copy = tempfile::tempdir().expect("a folder");
    save(copy.path(), &model).unwrap_or_else(|error| panic!("{error}"));
    let kind = |dir: &Path| -> serde_json::Value {
        let text = std::fs::read_to_string(dir.join("config.json")).expect("a configuration");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["model_type"].clone()
    };
    assert_eq!((kind(copy.path()), load_spec(copy.path()).ok().as_ref()), ("mistral".into(), Some(model.spec())));
    // Of itself such a specification is LLaMA's.
    let made = Decoder::new(model.spec()).init(1);
    save(copy.path(), &made).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(kind(copy.path()), "llama");
}

#[test]
fn what_transformers_has_no_word_for_is_written_under_our_own_name() {
    let attention = "attention = { num_attention_heads = 2 }";
    let head = "vocab_size = 13\nhidden_size = 16\n";
    let family = |text: &str| {
        let spec = cupola_models::ModelSpec::from_toml(&format!("{head}{text}")).expect("valid");
        let dir = tempfile::tempdir().expect("a folder");
        save(dir.path(), &Decoder::new(&spec).init(1)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(load_spec(dir.path()).ok(), Some(spec));
        let text = std::fs::read_to_string(dir.path().join("config.json")).expect("a configuration");
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")["model_type"].as_str().map(String::from)
    };
    let ntk = "rope_scaling = { rope_type = \"ntk\", factor = 2.0 }";
    assert_eq!(family(&format!("{ntk}\n{attention}")).as_deref(), Some("cupola"));
    let linear = "rope_scaling = { rope_type = \"linear\", factor = 2.0 }";
    assert_eq!(family(&format!("{linear}\n{attention}")).as_deref(), Some("llama"));
    // LLaMA's configuration wants heads that divide the width, Mistral's does not.
    assert_eq!(family("attention = { num_attention_heads = 3, head_dim = 6 }").as_deref(), Some("mistral"));
}

/// A copy of a public model with another configuration.
fn with_config(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a folder");
    std::fs::copy(dir.join("model.safetensors"), copy.path().join("model.safetensors")).expect("a copy");
    let text = std::fs::read_to_string(dir.join("config.json")).expect("a configuration");
    let mut config = serde_json::from_str(&text).expect("JSON");
    change(&mut config);
    std::fs::write(copy.path().join("config.json"), config.to_string()).expect("a writable folder");
    copy
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let llama = folder().join("llama");
    let refused = |key: &str, value: serde_json::Value| {
        let dir = with_config(&llama, |config| config[key] = value.clone());
        let error = load(dir.path()).err().unwrap_or_else(|| panic!("{key} = {value} was accepted")).to_string();
        assert!(error.contains("config.json"), "{error}");
        error
    };
    assert!(refused("model_type", "falcon".into()).contains("model_type `falcon`, expected one of llama"));
    assert!(refused("hidden_act", "gelu".into()).contains("hidden_act = \"gelu\" is not modelled"));
    assert!(refused("pretraining_tp", 2.into()).contains("pretraining_tp = 2"));
    assert!(refused("logit_scale", 0.5.into()).contains("settings that are not modelled: logit_scale = 0.5"));
    assert!(refused("hidden_size", "wide".into()).contains("hidden_size = \"wide\", expected a whole number"));
    assert!(
        refused("num_attention_heads", 5.into())
            .contains("num_key_value_heads = 2 does not divide num_attention_heads = 5")
    );
    assert!(refused("vocab_size", serde_json::Value::Null).contains("vocab_size is missing"));
    let dynamic = serde_json::json!({ "rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4 });
    assert!(refused("rope_parameters", dynamic).contains("rope_scaling of type `dynamic` is not modelled"));
}

#[test]
fn settings_of_mamba_are_read_as_both_generations_write_them() {
    let dir = folder().join("mamba2");
    let refused = |key: &str, value: serde_json::Value| {
        let dir = with_config(&dir, |config| config[key] = value.clone());
        load(dir.path()).err().unwrap_or_else(|| panic!("{key} = {value} was accepted")).to_string()
    };
    assert!(refused("hidden_act", "gelu".into()).contains("hidden_act = \"gelu\" is not modelled"));
    assert!(refused("num_heads", 5.into()).contains("num_heads = 5, expected 6"));
    assert!(refused("rms_norm", false.into()).contains("rms_norm = false is not modelled"));
    assert!(refused("time_step_limit", 3.into()).contains("time_step_limit = 3, expected two numbers"));
    assert!(refused("head_dim", 7.into()).contains("head_dim = 7 does not divide expand * hidden_size = 48"));
    // Python's word for a number that JSON does not have.
    let spec = load_spec(&dir).expect("a public model");
    let copy = with_config(&dir, |config| config["time_step_limit"] = "here".into());
    let path = copy.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("a configuration").replace("\"here\"", "[0.0, Infinity]");
    std::fs::write(&path, text).expect("a writable folder");
    assert_eq!(load_spec(copy.path()).ok(), Some(spec));
}

#[test]
fn tensors_that_do_not_fit_are_all_named() {
    let llama = folder().join("llama");
    let dir = with_config(&llama, |config| config["num_hidden_layers"] = 3.into());
    let error = load(dir.path()).err().expect("a layer too few").to_string();
    assert!(error.contains("missing") && error.contains("layers.2.self_attn.q_proj.weight"), "{error}");
    let dir = with_config(&llama, |config| config["num_hidden_layers"] = 1.into());
    let error = load(dir.path()).err().expect("a layer too many").to_string();
    assert!(error.contains("unexpected") && error.contains("layers.1.mlp.gate_proj.weight"), "{error}");
    let dir = with_config(&llama, |config| config["vocab_size"] = 62.into());
    let error = load(dir.path()).err().expect("another vocabulary").to_string();
    assert!(error.contains("embed_tokens.weight is f32 [61, 32], expected f32 [62, 32]"), "{error}");
    let empty = tempfile::tempdir().expect("a folder");
    assert!(load(empty.path()).err().expect("no model").to_string().contains("config.json"));
    std::fs::write(empty.path().join("config.json"), "{").expect("a writable folder");
    assert!(load(empty.path()).err().expect("no JSON").to_string().contains("config.json: EOF"));
}
