//! What goes wrong is named, and what was there before stays.

mod common;

use std::fs;
use std::path::Path;

use common::{Listener, begin, last, micro, resume, train, whole};
use cupola_io::run::{RunDir, Status};
use cupola_models::ModelSpec;
use cupola_train::lock::Lock;
use cupola_train::{Error, checkpoint, config};

#[test]
fn every_damage_to_a_checkpoint_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    whole(&out, micro(folder.path(), &["steps=1"])).expect("it trains");
    let run = RunDir::open(&out).expect("a run");
    let place = run.checkpoint("last").expect("a checkpoint");
    checkpoint::verify(&place).expect("it was just written");
    for (name, bytes) in common::files(&place) {
        let path = place.join(&name);
        let checksums = name.ends_with("checksums.json");
        let step = (bytes.len() * 8 / 200).max(1);
        for bit in (0..bytes.len() * 8).step_by(step) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).expect("the folder is ours");
            let error = checkpoint::verify(&place);
            // A flipped bit in the white space or a tensor's own checksum says nothing about the files.
            if !checksums {
                let error = error.expect_err("a bit was flipped").to_string();
                let shown = name.file_name().expect("a name").to_string_lossy().into_owned();
                assert!(error.contains(&shown), "{error}");
                // Whoever loads the model alone finds the same in what it reads.
                let model = checkpoint::verify_model(&place).map_err(|error| error.to_string());
                assert_eq!(model.err().is_some(), !name.starts_with("training"), "{shown}");
            }
        }
        for length in (0..bytes.len()).step_by(4096) {
            fs::write(&path, &bytes[..length]).expect("the folder is ours");
            checkpoint::verify(&place).expect_err("the file was cut");
        }
        fs::remove_file(&path).expect("the folder is ours");
        checkpoint::verify(&place).expect_err("the file is gone");
        let read = checksums || !name.starts_with("training");
        assert_eq!(checkpoint::verify_model(&place).is_err(), read, "{}", name.display());
        fs::write(&path, bytes).expect("the folder is ours");
    }
    checkpoint::verify(&place).expect("it is whole again");
}

#[test]
fn a_checkpoint_of_another_model_is_refused_with_what_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    whole(&out, micro(folder.path(), &["steps=1"])).expect("it trains");
    let place = RunDir::open(&out).and_then(|run| run.checkpoint("last")).expect("a checkpoint");
    let other = ModelSpec::preset("gpt2-nano", 99).expect("a preset");
    let error = checkpoint::load(&place, &other, None).err().expect("another model");
    assert_eq!(error.exit_code(), 3);
    let error = error.to_string();
    assert!(error.contains("another model: ") && error.contains(" more"), "{error}");
    assert_eq!(error.matches(", expected ").count(), 5, "{error}");
}

#[test]
fn a_run_of_which_no_checkpoint_can_be_used_is_refused_and_never_begun_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(6)).expect("it trains");
    let run = RunDir::open(&out).expect("a run");
    let (info, log) = (run.info().expect("readable"), fs::read(run.metrics_path()).expect("a log"));
    let checkpoints = common::files(&out.join("checkpoints"));
    let refused = |message: &str| {
        let error = resume(&out, &mut ()).err().expect("there is nothing to go on from");
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(error.to_string().contains(message), "{error}");
        assert!(fs::read(run.metrics_path()).expect("a log") == log, "no step is taken again");
    };
    // Of another architecture.
    let mut other = info.clone();
    other.config["model"]["spec"]["hidden_size"] = 32.into();
    run.set_info(&other).expect("the folder is ours");
    refused("step-000006: another model: ");
    assert!(common::files(&out.join("checkpoints")) == checkpoints);
    // Of another vocabulary.
    let mut other = info.clone();
    other.config["model"]["spec"]["vocab_size"] = 99.into();
    run.set_info(&other).expect("the folder is ours");
    refused("vocab_size is 17, expected 99");
    // All damaged.
    run.set_info(&info).expect("the folder is ours");
    for step in run.checkpoints().expect("a list") {
        fs::write(run.checkpoint_path(step).join("config.json"), "{}").expect("the folder is ours");
    }
    refused("step-000006/config.json: the checksum is");
}

#[test]
fn mapped_tokens_do_not_count_against_the_memory_of_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("text.txt"), common::text().repeat(3500)).expect("the folder is ours");
    let config = micro(folder.path(), &["tokenizer.kind=bytes"]);
    let setup = cupola_train::Setup::prepare(config, &folder.path().join("run"), &mut |_| {}).expect("text");
    let memory = setup.memory;
    // Two bytes for each byte of text.
    assert!(memory.mapped > 16 << 20 && !memory.snapshot_is_likely, "{memory:?}");
    assert_eq!(memory.peak(), memory.total() - memory.snapshot + memory.mapped, "{memory:?}");
    let (room, none) = (memory.total() + (8 << 20), memory.total() - (8 << 20));
    let setup = setup.checked(room).expect("the tokens stay on the disk");
    let error = setup.checked(none).err().expect("the rest does not");
    assert!(error.exit_code() == 3 && error.to_string().contains("the run would take about"), "{error}");
}

#[test]
fn settings_that_would_have_no_effect_are_refused_with_both_names() {
    for (sets, names) in [
        (&["model.from=a", "model.preset=llama-nano"][..], ["model.preset", "model.from"]),
        (&["model.from=a", "model.spec={hidden_size=16}"], ["model.spec", "model.from"]),
        (&["data.held_out=0.0", "until_loss=2.0"], ["until_loss", "data.held_out = 0"]),
        (&["data.held_out=0.0", "eval.patience=2"], ["eval.patience", "data.held_out = 0"]),
        (&["data.held_out=0.0", "schedule.kind=plateau"], ["schedule.kind", "data.held_out = 0"]),
    ] {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let error = config::read(None, &sets).expect_err("one of them says nothing").to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{error}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_named_and_stop_the_run_by_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    // At this rate the weights leave all bounds at once.
    let wild = ["optimizer.learning_rate=1e30", "optimizer.kind=adamw", "schedule.warmup=0", "guard.most=3"];
    for (policy, message) in [("stop", "step 2: "), ("skip", "3 times in a row"), ("rewind", "3 times in a row")] {
        let out = folder.path().join(policy);
        let nan = format!("guard.nan={policy}");
        let sets: Vec<&str> = wild.iter().copied().chain([nan.as_str(), "checkpoint.every=1"]).collect();
        let mut listener = Listener::default();
        let error = train(begin(&out, micro(folder.path(), &sets), &mut ()), &mut listener);
        let error = error.expect_err("it diverges");
        assert!(matches!(error, Error::Diverged(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains(message) && text.contains('`'), "{policy}: {text}");
        assert_eq!(RunDir::open(&out).and_then(|run| run.info()).expect("a run").status, Status::Failed);
        let told = listener.events("nan");
        assert_eq!(told.len(), if policy == "stop" { 1 } else { 4 }, "{told:?}");
        let word = if policy == "rewind" { "back to step 1" } else { "" };
        assert!(told[0].contains(word), "{told:?}");
    }
}

#[test]
fn a_run_ends_early_when_its_goal_is_reached_or_nothing_improves() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut listener = Listener::default();
    let config = micro(folder.path(), &["until_loss=50.0"]);
    let outcome = train(begin(&folder.path().join("goal"), config, &mut ()), &mut listener).expect("it trains");
    assert_eq!((outcome.steps, outcome.interrupted, listener.events("reached").len()), (5, false, 1));
    let mut listener = Listener::default();
    let config = micro(folder.path(), &["eval.patience=2", "eval.every=2", "eval.min_delta=1e6"]);
    let outcome = train(begin(&folder.path().join("stale"), config, &mut ()), &mut listener).expect("it trains");
    // The first evaluation is the best; two more are not better by so much.
    assert_eq!((outcome.steps, listener.events("early-stop").len()), (6, 1));
}

#[test]
fn frozen_parameters_stay_and_a_pattern_that_matches_nothing_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let config = micro(folder.path(), &["model.freeze=[\"embed_tokens*\"]", "steps=3"]);
    let mut trainer = begin(&out, config, &mut ()).expect("it begins");
    let embedding = |model: &cupola_models::Decoder| model.embed_tokens.weight.detach().to_vec::<f32>();
    let head = |model: &cupola_models::Decoder| {
        model.lm_head.as_ref().expect("it is not tied").weight.detach().to_vec::<f32>()
    };
    let before = (embedding(trainer.model()), head(trainer.model()));
    trainer.train(&cupola_train::Stop::default(), &mut ()).expect("it trains");
    assert_eq!(embedding(trainer.model()), before.0);
    assert_ne!(head(trainer.model()), before.1);
    let config = micro(folder.path(), &["model.freeze=[\"nothing*\"]"]);
    let error = begin(&folder.path().join("none"), config, &mut ()).err().expect("no parameter is called so");
    assert!(error.to_string().contains("model.freeze: the pattern `nothing*` matches no parameter"), "{error}");
}

#[test]
fn what_does_not_decay_is_named_by_the_configuration_and_names_of_nothing_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let embedding = |name: &str, sets: &[&str]| {
        let out = folder.path().join(name);
        let usual = ["steps=3", "optimizer.kind=sgd", "optimizer.weight_decay=10.0"];
        whole(&out, micro(folder.path(), &usual.iter().chain(sets).copied().collect::<Vec<&str>>()))
            .expect("it trains");
        last(&out).remove(Path::new("model.safetensors")).expect("a model")
    };
    let usual = embedding("usual", &[]);
    let same = embedding("same", &["optimizer.no_decay=[\"norms\", \"biases\", \"scans\", \"vectors\"]"]);
    assert!(usual == same && usual != embedding("all", &["optimizer.no_decay=[]"]));
    let config = micro(folder.path(), &["optimizer.no_decay=[\"norms\", \"nothing*\"]"]);
    let error = begin(&folder.path().join("none"), config, &mut ()).err().expect("no parameter is called so");
    assert!(error.to_string().contains("optimizer.no_decay: the pattern `nothing*` matches no parameter"), "{error}");
    let error =
        config::read(None, &["optimizer.no_decay=[\"norm\"]".to_string()]).expect_err("no such kind").to_string();
    assert!(error.contains("found `norm`, expected vectors, biases, norms, scans, embeddings or a pattern"), "{error}");
}

#[test]
fn a_run_goes_on_from_another_model_with_more_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = folder.path().join("first");
    whole(&first, micro(folder.path(), &["steps=3"])).expect("it trains");
    fs::write(folder.path().join("text.txt"), format!("QXZ{}", common::text())).expect("the folder is ours");
    let from = format!("model.from={}", first.display());
    let mut config = micro(folder.path(), &[&from, "tokenizer.kind=chars", "steps=1", "model.dropout=0.3"]);
    config.model.spec = None;
    let trainer = begin(&folder.path().join("second"), config, &mut ()).expect("it begins");
    let old = cupola_models::load(RunDir::open(&first).and_then(|run| run.checkpoint("best")).expect("a checkpoint"));
    let (old, new) = (old.expect("a model"), trainer.model());
    assert_eq!(new.spec().vocab_size, old.spec().vocab_size + 3);
    assert_eq!((old.spec().dropout, new.spec().dropout), (0.0, 0.3));
    let rows = old.spec().vocab_size * 16;
    let table = |model: &cupola_models::Decoder| model.embed_tokens.weight.detach().to_vec::<f32>();
    assert_eq!(table(new)[..rows], table(&old)[..]);
}

#[test]
fn a_folder_in_use_is_refused_and_free_again_afterwards() {
    let folder = tempfile::tempdir().expect("a folder");
    let lock = Lock::take(folder.path()).expect("it is free");
    let error = Lock::take(folder.path()).expect_err("it is taken").to_string();
    assert!(error.contains(&format!("in use by process {} on ", std::process::id())), "{error}");
    drop(lock);
    Lock::take(folder.path()).expect("it is free again");
}

#[test]
fn what_does_not_fit_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = |heads: usize| {
        format!("model.spec={{hidden_size=16,num_hidden_layers=1,attention={{num_attention_heads={heads}}}}}")
    };
    for (set, message, code) in [
        (spec(3), "num_attention_heads = 3 does not divide hidden_size = 16", 2),
        ("batch.window=4000".to_string(), "batch.window = 4000 does not fit into a text of", 3),
        ("batch.window=5000".to_string(), "batch.window = 5000 is longer than max_position_embeddings = 4096", 3),
        ("model.preset=llama-nani".to_string(), "did you mean `llama-nano`?", 2),
        ("tokenizer.kind=char".to_string(), "expected bpe, chars, bytes or the path", 2),
        ("model.gradient_checkpointing=[7]".to_string(), "layer 7 of 2", 2),
        (
            "model.spec={vocab_size=3,hidden_size=16,num_hidden_layers=1,attention={num_attention_heads=2}}"
                .to_string(),
            "vocab_size = 3 of the model is below the 17 tokens of the tokenizer",
            2,
        ),
    ] {
        let mut config = match set.strip_prefix("model.preset=") {
            None => micro(folder.path(), &[&set]),
            Some(_) => micro(folder.path(), &[]),
        };
        if let Some(preset) = set.strip_prefix("model.preset=") {
            (config.model.preset, config.model.spec) = (Some(preset.to_string()), None);
        }
        let error = begin(&folder.path().join("run"), config, &mut ()).err().expect("it does not fit");
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!(error.exit_code(), code, "{error}");
    }
}

#[test]
fn data_that_was_exchanged_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(2)).expect("it trains");
    let held = out.join("data/held-out-0/00000.shard");
    fs::copy(held, out.join("data/train-0/00000.shard")).expect("the folder is ours");
    let error = resume(&out, &mut ()).err().expect("other data");
    assert!(error.to_string().contains("the data is"), "{error}");
}

#[test]
fn settings_are_the_inverse_of_reading() {
    let sets = ["optimizer.learning_rate=0.003", "data.packing=best_fit", "steps=7"].map(String::from);
    let config = config::read(None, &sets).expect("right");
    let lines = config::settings(&config);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let sets: Vec<String> = lines.iter().map(|line| line.replace('"', "")).collect();
    assert_eq!(config::read(None, &sets).expect("right"), config);
    let schema = config::schema();
    let rate = &schema["properties"]["optimizer"]["properties"]["learning_rate"];
    assert_eq!(rate["type"], "number");
    assert_eq!(schema["properties"]["guard"]["properties"]["most"]["default"], 20);
}

#[test]
fn mistakes_in_files_are_told_with_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.toml");
    let long = format!("{} = 1", "k".repeat(900_000));
    for (text, message) in [
        (
            "[optimizer]\nkind = \"muon\"\n\nlearning_rat = 1e-3",
            "run.toml:4:1: unknown key `learning_rat` in [optimizer]; did you mean `learning_rate`?",
        ),
        ("[optimiser]\nlearning_rate = 1", "run.toml:1:2: unknown key `optimiser`; did you mean `optimizer`?"),
        ("seed = 1\nsteps = \"many\"", "run.toml:2:9: invalid type: string \"many\""),
        ("steps = -3", "run.toml:1:9: "),
        ("[batch]\n  rows = 0", "run.toml:2:3: batch.rows: found 0, expected a number above 0"),
        ("[batch]\nrows = 99999999999", "batch.rows: found 99999999999, expected a number from 1 to 10000000"),
        ("seed = 1\nseed = 2", "run.toml:2:1: duplicate key"),
        ("[optimizer]\nkind = \"moun\"", "unknown word `moun`"),
        ("steps = 1\nepochs = 2.0", "found more than one of steps, epochs and time"),
        ("seed = [1", "run.toml:1:"),
        (long.as_str(), "run.toml:1:1: unknown key `kkk"),
    ] {
        fs::write(&path, text).expect("the folder is ours");
        let error = config::read(Some(&path), &[]).expect_err(&text[..text.len().min(40)]).to_string();
        assert!(error.contains(message) && error.len() < 1000, "{error}");
    }
    fs::write(&path, "").expect("the folder is ours");
    assert_eq!(config::read(Some(&path), &[]).expect("all is left open"), config::Config::default());
    fs::write(&path, "\u{feff}seed = 5\n").expect("the folder is ours");
    assert_eq!(config::read(Some(&path), &["steps=3".to_string()]).expect("a mark is no text").seed, 5);
    for (set, message) in [
        ("optimizer.learning_rat=1", "--set optimizer.learning_rat=1: unknown key `learning_rat` in [optimizer]"),
        ("steps", "expected KEY=VALUE"),
        ("steps.x=1", "--set steps.x=1: "),
        ("batch.window=0", "batch.window: found 0"),
    ] {
        let error = config::read(None, &[set.to_string()]).expect_err(set).to_string();
        assert!(error.contains(message), "{error}");
    }
}
