//! Every way to train that a setting names does what it says: mixtures, several shards, schedules, what is kept, what is written on
//! the way.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Listener, assert_same, begin, byte_tokenizer, last, micro, resume, shard, text, train, whole};
use cupola_io::run::{Record, RunDir};
use cupola_models::ModelSpec;
use cupola_models::spec::{PositionKind, preset_names};
use cupola_train::config::SourceConfig;
use cupola_train::trainer::fix_steps;
use cupola_train::{Config, Setup};

/// Stopped at each of these steps and gone on with, a run of this configuration ends with the bits of the whole one.
#[track_caller]
fn assert_resumes(folder: &Path, config: &Config, stops: &[u64]) {
    let reference = folder.join("whole");
    let outcome = whole(&reference, config.clone()).expect("it trains");
    assert!(outcome.val_loss.is_some_and(f64::is_finite));
    for &stop in stops {
        let out = folder.join(format!("stopped-{stop}"));
        let first = train(begin(&out, config.clone(), &mut ()), &mut Listener::until(stop)).expect("it trains");
        assert_eq!((first.steps, first.interrupted), (stop, true));
        train(resume(&out, &mut ()), &mut Listener::default()).expect("it trains");
        assert_same(&last(&reference), &last(&out));
    }
}

#[test]
fn a_mixture_is_trained_measured_and_resumed_and_its_weights_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.txt");
    fs::write(&other, "slag runs over the yard before the metal is lit.\n".repeat(60)).expect("the folder is ours");
    let mixture = |weight: f64| {
        let mut config = micro(folder.path(), &["data.workers=3"]);
        config.data.sources = vec![SourceConfig { paths: vec![other.display().to_string()], weight }];
        config
    };
    assert_resumes(folder.path(), &mixture(2.0), &[3, 7]);
    let heavy = folder.path().join("heavy");
    let outcome = whole(&heavy, mixture(9.0)).expect("it trains");
    let state = |out: &Path| {
        let place = RunDir::open(out).and_then(|run| run.checkpoint("last")).expect("a checkpoint");
        cupola_train::checkpoint::state(&place).expect("readable").position
    };
    let drawn = |out: &Path| state(out).sources.iter().map(|source| source.drawn).collect::<Vec<u64>>();
    // Twelve steps of four rows.
    assert_eq!(drawn(&folder.path().join("whole")), [16, 32]);
    assert_eq!(drawn(&heavy), [5, 43]);
    // Both held-out parts are measured.
    let setup = Setup::look(&RunDir::open(&heavy).expect("a run")).expect("as before");
    assert_eq!(setup.held_out.len(), 2);
    assert!(outcome.val_loss.is_some());
}

#[test]
fn a_run_over_several_shards_is_resumed_in_the_middle_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("tokenizer");
    let vocabulary = byte_tokenizer(&place);
    let shards = folder.path().join("shards");
    fs::create_dir(&shards).expect("the folder is ours");
    // Pieces of the text whose lengths fit no row.
    for (index, part) in text().as_bytes().chunks(777).enumerate() {
        let ids: Vec<u32> = part.iter().map(|&byte| byte.into()).collect();
        shard(&shards.join(format!("{index:05}.shard")), &vocabulary, &ids, part.len() as u64);
    }
    for packing in ["contiguous", "best_fit"] {
        let sets =
            [format!("tokenizer.kind={}", place.display()), format!("data.packing={packing}"), "steps=24".to_string()];
        let mut config = micro(folder.path(), &sets.each_ref().map(String::as_str));
        config.data.paths = vec![shards.display().to_string()];
        let out = folder.path().join(packing);
        fs::create_dir(&out).expect("the folder is ours");
        assert_resumes(&out, &config, &[5, 19]);
        let setup = Setup::look(&RunDir::open(out.join("whole")).expect("a run")).expect("as before");
        assert!(setup.sources[0].dataset.shards().count() >= 4);
    }
}

/// The learning rates of a run's steps.
fn rates(folder: &Path, name: &str, sets: &[&str]) -> Vec<f64> {
    let usual = ["optimizer.learning_rate=0.01", "sample.every=0", "eval.every=100"];
    let sets: Vec<&str> = usual.iter().chain(sets).copied().collect();
    let mut listener = Listener::default();
    train(begin(&folder.join(name), micro(folder, &sets), &mut ()), &mut listener).expect("it trains");
    let rate = |record: &Record| match record {
        Record::Step(step) => step.values.get("lr").copied(),
        _ => None,
    };
    listener.records.iter().filter_map(rate).collect()
}

#[test]
fn schedules_have_the_form_of_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let close = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - 0.01 * expected).abs() < 1e-12, "{found} {expected}");
        }
    };
    let linear = rates(folder.path(), "linear", &["schedule.kind=linear", "schedule.warmup=2", "schedule.end=0.0"]);
    close(&linear, &[0.45, 0.9, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]);
    let sets = ["schedule.kind=stable_sqrt", "schedule.warmup=2", "schedule.decay=0.5", "schedule.end=0.1"];
    let root = |part: f64| 0.1 + 0.9 * (1.0 - part.sqrt());
    let fall = [0.2, 0.4, 0.6, 0.8, 1.0].map(root);
    close(&rates(folder.path(), "stable_sqrt", &sets), &[&[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0][..], &fall].concat());
    let cycle = rates(folder.path(), "one_cycle", &["schedule.kind=one_cycle"]);
    assert!((cycle[0] - 0.01 / 25.0).abs() < 1e-12 && (cycle[11] - 0.01 / 25e4).abs() < 1e-12, "{cycle:?}");
    assert!(cycle[..3].is_sorted() && cycle[3..].iter().rev().is_sorted() && cycle[3] > 0.0095, "{cycle:?}");
    let constant = rates(folder.path(), "constant", &["schedule.kind=constant", "schedule.warmup=4"]);
    close(&constant, &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
}

#[test]
fn the_last_checkpoints_and_the_best_are_kept_and_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    // Nothing after the first measurement is better by so much.
    let sets = ["checkpoint.every=2", "checkpoint.keep=2", "eval.every=5", "eval.min_delta=1e6"];
    let outcome = whole(&out, micro(folder.path(), &sets)).expect("it trains");
    assert_eq!(outcome.best.map(|best| best.step), Some(5));
    let run = RunDir::open(&out).expect("a run");
    assert_eq!(run.checkpoints().expect("a list"), [5, 10, 12]);
    let names = ["best", "last"].map(|name| run.checkpoint(name).expect("it has the name"));
    assert_eq!(names, [5, 12].map(|step| run.checkpoint_path(step)));
    // One that is pruned leaves nothing behind.
    let mut left: Vec<String> = fs::read_dir(out.join("checkpoints"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["best", "last", "step-000005", "step-000010", "step-000012"]);
}

#[test]
fn a_run_writes_samples_that_go_on_from_its_prompts_and_the_same_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let samples = |name: &str, sets: &[&str]| -> Vec<(u64, String, String)> {
        let out = folder.path().join(name);
        whole(&out, micro(folder.path(), sets)).expect("it trains");
        let mut tail = RunDir::open(&out).and_then(|run| run.tail()).expect("a log");
        let mut all = Vec::new();
        while let Some(record) = tail.read().expect("readable") {
            if let Record::Sample(sample) = record {
                all.push((sample.step, sample.prompt, sample.text));
            }
        }
        all
    };
    let prompts = ["sample.prompts=[\"the fur\", \"is \"]", "sample.tokens=9"];
    let made = samples("one", &prompts);
    let told: Vec<(u64, &str)> = made.iter().map(|(step, prompt, _)| (*step, prompt.as_str())).collect();
    assert_eq!(told, [(6, "the fur"), (6, "is "), (12, "the fur"), (12, "is ")]);
    assert!(
        made.iter().all(|(_, _, text)| text.chars().count() <= 9) && made.iter().any(|made| !made.2.is_empty()),
        "{made:?}"
    );
    assert_eq!(samples("two", &prompts), made);
    // Without prompts they go on from the beginning of what is held out.
    let made = samples("three", &[]);
    let held = text();
    let held = &held[held.len() * 9 / 10..];
    assert!(
        made.len() == 2 && made.iter().all(|(_, prompt, _)| prompt.len() > 8 && held.contains(prompt.as_str())),
        "{made:?}"
    );
}

#[test]
fn a_time_becomes_a_number_of_steps_and_an_ordinary_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let mut config = micro(folder.path(), &["batch.rows=32", "batch.micro_rows=32", "sample.every=0"]);
    (config.steps, config.time) = (None, Some(2.0));
    (config.eval.every, config.checkpoint.every, config.schedule.warmup) = (None, None, None);
    let mut setup = Setup::prepare(config, &out, &mut |_| {}).expect("text");
    assert_eq!(setup.config.steps, None);
    fix_steps(&mut setup).expect("it can be measured");
    let steps = setup.config.steps.expect("they are fixed");
    assert!(steps > 0);
    let often = Some((steps / 8).clamp(1, 1000));
    assert_eq!((setup.config.eval.every, setup.config.checkpoint.every), (often, often));
    assert_eq!(setup.config.schedule.warmup, Some((steps / 20).clamp(1, 1000)));
    // What was measured with has left no trace: the run is that of so many steps.
    let run = RunDir::create(&out, &setup.info("timed")).expect("the folder is ours");
    let lock = cupola_train::lock::Lock::take(&out).expect("it is free");
    let trainer = cupola_train::Trainer::open(setup, run, lock, &mut ());
    let first = train(trainer, &mut Listener::until(2)).expect("it trains");
    assert_eq!((first.steps, first.interrupted), (2, true));
    assert_eq!(RunDir::open(&out).and_then(|run| run.info()).expect("a run").config["steps"], steps);
    let two: PathBuf = folder.path().join("two");
    let mut config = micro(folder.path(), &["batch.rows=32", "batch.micro_rows=32", "sample.every=0"]);
    config.steps = Some(steps);
    (config.eval.every, config.checkpoint.every, config.schedule.warmup) = (None, None, None);
    train(begin(&two, config, &mut ()), &mut Listener::until(2)).expect("it trains");
    assert_same(&last(&two), &last(&out));
    // Without a time nothing is measured.
    let mut setup = Setup::prepare(micro(folder.path(), &[]), &folder.path().join("plain"), &mut |_| {}).expect("text");
    fix_steps(&mut setup).expect("there is nothing to do");
    assert_eq!(setup.config.steps, Some(12));
}

#[test]
fn presets_whose_positions_need_no_table_have_a_context_of_4096() {
    let mut counts = [0, 0];
    for name in preset_names() {
        let spec = ModelSpec::preset(&name, 300).expect("it is listed");
        let table = matches!(spec.position, PositionKind::Learned | PositionKind::Sinusoidal);
        counts[usize::from(table)] += 1;
        assert!(table || spec.max_position_embeddings == 4096, "{name}: {}", spec.max_position_embeddings);
    }
    assert!(counts[0] > 20 && counts[1] > 0, "{counts:?}");
}
