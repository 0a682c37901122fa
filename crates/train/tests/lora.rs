//! Low-rank additions: the weights stay, checkpoints are small, a resumed run has the bits of the whole one.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Listener, assert_same, begin, last, micro, resume, train, whole};
use cupola_core::pool::with_threads;
use cupola_io::run::RunDir;
use cupola_models::Decoder;
use cupola_nn::{Module, StateDict};
use cupola_tensor::{Segments, Tensor, no_grad};
use cupola_train::Config;

/// A small model trained for a moment.
fn base(folder: &Path) -> PathBuf {
    let out = folder.join("base");
    let model = "model.spec={hidden_size=64,num_hidden_layers=2,attention={num_attention_heads=2}}";
    whole(&out, micro(folder, &[model, "steps=4"])).expect("it trains");
    out
}

fn tuning(folder: &Path, base: &Path, sets: &[&str]) -> Config {
    let from = format!("model.from={}", base.display());
    let usual = [from.as_str(), "lora.rank=2", "lora.dropout=0.1", "optimizer.learning_rate=0.05"];
    let sets: Vec<&str> = usual.iter().chain(sets).copied().collect();
    let mut config = micro(folder, &sets);
    (config.model.spec, config.tokenizer.kind) = (None, None);
    config
}

fn checkpoint(out: &Path, name: &str) -> PathBuf {
    RunDir::open(out).and_then(|run| run.checkpoint(name)).expect("a checkpoint")
}

fn logits(model: &Decoder) -> Tensor {
    let tokens = Tensor::from_vec((0..12).map(|token| token % 7).collect::<Vec<i64>>(), [12]);
    no_grad(|| model.forward(&tokens, &Segments::one(12), None))
}

#[test]
fn only_additions_are_trained_and_kept_and_merged_they_are_the_same_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let out = folder.path().join("tuned");
    let mut trainer = begin(&out, tuning(folder.path(), &base, &["lora.dropout=0.0"]), &mut ()).expect("it begins");
    let is_addition = |name: &str| name.contains(".lora_");
    let before = trainer.model().state_dict();
    let outcome = trainer.train(&cupola_train::Stop::default(), &mut ()).expect("it trains");
    let after = trainer.model().state_dict();
    for (name, value) in &before {
        assert_eq!(is_addition(name), !value.equals(&after[name]), "{name}");
    }
    // Seven projections in each layer.
    assert_eq!(after.keys().filter(|name| is_addition(name)).count(), 2 * 7 * 2);
    let untouched = cupola_models::load(checkpoint(&base, "best")).expect("the base");
    assert!(outcome.val_loss.is_some_and(f64::is_finite));

    let place = checkpoint(&out, "last");
    assert!(place.join("adapter_model.safetensors").exists() && !place.join("model.safetensors").exists());
    let size = |path: PathBuf| fs::metadata(path).expect("a file").len();
    let (small, large) =
        (size(place.join("adapter_model.safetensors")), size(checkpoint(&base, "last").join("model.safetensors")));
    assert!(4 * small < large, "{small} bytes of additions to {large}");
    let optimizer = size(place.join("training/optimizer.safetensors"));
    assert!(2 * optimizer < large, "{optimizer} bytes of state for {large} of weights");

    let (apart, info) = cupola_models::load_adapter(&place, None).expect("additions");
    assert_eq!((info.rank, info.alpha), (2, 16.0));
    assert!(logits(&apart).equals(&logits(trainer.model())));
    let merged = cupola_models::load(&place).expect("a model");
    assert_eq!(merged.named_parameters().len(), untouched.named_parameters().len());
    let (error, moved) =
        (logits(&merged).relative_error(&logits(&apart)), logits(&merged).relative_error(&logits(&untouched)));
    assert!(error < 1e-5 && moved > 1e-3, "{error} {moved}");
}

#[test]
fn a_stopped_run_ends_with_the_bits_of_the_whole_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let ways: [&[&str]; 2] = [
        &["lora.targets=[\"q_proj\", \"v_proj\", \"layers.1.mlp.*\"]"],
        &["model.gradient_checkpointing=all", "dtype=bf16", "guard.nan=rewind"],
    ];
    for (index, way) in ways.iter().enumerate() {
        let reference = folder.path().join(format!("whole-{index}"));
        with_threads(1, || whole(&reference, tuning(folder.path(), &base, way))).expect("it trains");
        for stop in [3, 8] {
            let out = folder.path().join(format!("part-{index}-{stop}"));
            let mut listener = Listener::until(stop);
            let config = tuning(folder.path(), &base, way);
            with_threads(2, || train(begin(&out, config, &mut ()), &mut listener)).expect("it trains");
            let rest = with_threads(3, || train(resume(&out, &mut ()), &mut Listener::default()));
            assert_eq!(rest.expect("it trains").steps, 12);
            assert_same(&last(&reference), &last(&out));
        }
    }
}

#[test]
fn another_model_behind_the_additions_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let out = folder.path().join("tuned");
    let config = tuning(folder.path(), &base, &[]);
    train(begin(&out, config, &mut ()), &mut Listener::until(5)).expect("it trains");
    let file = checkpoint(&base, "best").join("model.safetensors");
    let mut bytes = fs::read(&file).expect("a model");
    let at = bytes.len() - 2;
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("the folder is ours");
    for error in [
        resume(&out, &mut ()).err().expect("it is another model").to_string(),
        cupola_models::load(checkpoint(&out, "last")).err().expect("as above").to_string(),
    ] {
        assert!(error.contains("another model than the one the additions"), "{error}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = base(folder.path());
    let adapters = folder.path().join("adapters");
    whole(&adapters, tuning(folder.path(), &base, &["steps=1"])).expect("it trains");
    let refused = |name: &str, config: Config| {
        let error = begin(&folder.path().join(name), config, &mut ()).err().expect("it is wrong");
        (error.to_string(), error.exit_code())
    };
    let mut alone = micro(folder.path(), &["lora.rank=2"]);
    alone.model.from = None;
    let mut more = tuning(folder.path(), &base, &[]);
    more.tokenizer.kind = Some("bytes".to_string());
    for (name, config, message, code) in [
        ("alone", alone, "[lora] needs model.from", 2),
        ("twice", tuning(folder.path(), &adapters, &[]), "expected a whole model: `cupola model merge`", 2),
        (
            "targets",
            tuning(folder.path(), &base, &["lora.targets=[\"c_attn\"]"]),
            "`c_attn` means no projection; the model has down_proj, gate_proj, k_proj",
            2,
        ),
        ("tokens", more, "whose table [lora] leaves as it is", 3),
        ("dropout", tuning(folder.path(), &base, &["model.dropout=0.1"]), "model.dropout means nothing with [lora]", 2),
    ] {
        let (error, found) = refused(name, config);
        assert!(error.contains(message) && found == code, "{name}: {found} {error}");
    }
    let error = cupola_train::config::read(None, &["lora.rank=2".into(), "optimizer.ema=0.9".into()]);
    assert!(error.expect_err("both").to_string().contains("0 with [lora]"));
}
