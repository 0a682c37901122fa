//! Numbers that go wrong, folders that vanish, clocks that jump: what is planted is found, named and survived.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Listener, assert_same, begin, events, last, micro, resume, text, train, whole};
use cupola_io::run::{Record, RunDir, Status};
use cupola_models::Decoder;
use cupola_nn::Module;
use cupola_nn::files::load_tensors;
use cupola_tensor::{Gradients, Rng, Tensor};
use cupola_train::{Config, Error, Outcome, Result, Stop, Watch};

/// What is planted, at which step.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Loss(f64),
    Gradient(f32),
    Weight(f32),
    /// The loss and its gradients so many times as large.
    Spike(f64),
}

const VICTIM: &str = "layers.1.self_attn.o_proj.weight";

struct Planter {
    fault: Fault,
    at: u64,
    planted: bool,
    records: Vec<Record>,
}

impl Watch for Planter {
    fn record(&mut self, record: &Record) {
        self.records.push(record.clone());
    }

    fn gradients(&mut self, step: u64, model: &mut Decoder, loss: &mut f64, gradients: &mut Gradients) {
        // Once: a run that goes back passes the step again.
        if step != self.at || std::mem::replace(&mut self.planted, true) {
            return;
        }
        let victim = model.parameter_mut(VICTIM).expect("the model has it");
        let poisoned = |value: &Tensor, poison: f32| {
            let mut values = value.to_vec::<f32>();
            values[7] = poison;
            Tensor::from_vec(values, *value.shape())
        };
        match self.fault {
            Fault::Loss(poison) => *loss = poison,
            Fault::Gradient(poison) => {
                let grad = poisoned(&gradients[&**victim], poison);
                gradients.insert(victim, grad);
            }
            Fault::Weight(poison) => {
                let value = poisoned(victim, poison);
                victim.set(&value);
            }
            Fault::Spike(times) => {
                *loss *= times;
                for (_, gradient) in gradients.iter_mut() {
                    *gradient = &*gradient * times;
                }
            }
        }
    }
}

impl Planter {
    fn new(fault: Fault, at: u64) -> Self {
        Self { fault, at, planted: false, records: Vec::new() }
    }

    fn events(&self, name: &str) -> Vec<String> {
        events(&self.records, name)
    }

    fn run(&mut self, out: &Path, config: Config) -> Result<Outcome> {
        begin(out, config, &mut ())?.train(&Stop::default(), self)
    }
}

/// Every number of the last checkpoint, optimiser included, is finite.
#[track_caller]
fn assert_sound(out: &Path) {
    let place = RunDir::open(out).and_then(|run| run.checkpoint("last")).expect("a checkpoint");
    for file in ["model.safetensors", "training/optimizer.safetensors"] {
        for (name, tensor) in load_tensors(place.join(file)).expect("tensors") {
            assert!(tensor.to_f64_vec().iter().all(|value| value.is_finite()), "{name}");
        }
    }
}

#[test]
fn a_planted_number_is_named_and_followed_by_the_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let gradient = format!("the first gradient that is not finite is that of `{VICTIM}`");
    let weight = format!("the weight `{VICTIM}` is not finite");
    let cases = [
        (Fault::Loss(f64::NAN), "loss NaN", 6),
        (Fault::Loss(f64::INFINITY), "loss inf", 6),
        (Fault::Gradient(f32::NAN), gradient.as_str(), 6),
        (Fault::Gradient(f32::NEG_INFINITY), gradient.as_str(), 6),
        // It shows in the step behind the one that changed it.
        (Fault::Weight(f32::NAN), weight.as_str(), 7),
    ];
    for (index, (fault, message, step)) in cases.into_iter().enumerate() {
        for policy in ["skip", "rewind", "stop"] {
            let out = folder.path().join(format!("{index}-{policy}"));
            let config = micro(folder.path(), &[&format!("guard.nan={policy}"), "guard.most=3"]);
            let mut planter = Planter::new(fault, 6);
            let result = planter.run(&out, config);
            let told = planter.events("nan");
            assert!(told[0].starts_with(&format!("step {step}: ")) && told[0].contains(message), "{fault:?}: {told:?}");
            let info = RunDir::open(&out).and_then(|run| run.info()).expect("a run");
            match (policy, fault) {
                ("stop", _) => {
                    let error = result.expect_err("the policy says so");
                    assert!(matches!(error, Error::Diverged(_)) && error.to_string() == told[0], "{error}");
                    assert_eq!((info.status, told.len()), (Status::Failed, 1));
                }
                // Nothing that is left out mends a weight.
                ("skip", Fault::Weight(_)) => {
                    let error = result.expect_err("every step is wrong").to_string();
                    assert!(error.contains("3 times in a row") && error.contains(VICTIM), "{error}");
                }
                _ => {
                    assert_eq!(result.expect("it goes on").steps, 12);
                    assert_eq!((info.status, told.len()), (Status::Finished, 1));
                    assert!(policy == "skip" || told[0].contains("back to step 5"), "{told:?}");
                    assert_sound(&out);
                }
            }
        }
    }
}

/// A loss that is wrong whenever the run comes to a step.
struct Wall(u64, u32);

impl Watch for Wall {
    fn record(&mut self, _: &Record) {}

    fn gradients(&mut self, step: u64, _: &mut Decoder, loss: &mut f64, _: &mut Gradients) {
        if step == self.0 {
            *loss = f64::NAN;
            self.1 += 1;
            assert!(self.1 < 50, "the run goes back for ever");
        }
    }
}

#[test]
fn a_run_that_always_goes_back_to_one_checkpoint_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let config = micro(folder.path(), &["guard.nan=rewind", "guard.most=3", "eval.every=100", "checkpoint.every=4"]);
    // Behind the checkpoint of step 4 come two good steps each time, so that nothing is wrong twice in a row.
    let mut wall = Wall(7, 0);
    let error = begin(&out, config, &mut ()).expect("it begins").train(&Stop::default(), &mut wall);
    let error = error.expect_err("it never comes to step 8").to_string();
    assert!(error.starts_with("step 7: ") && error.ends_with(", after 3 returns to step 4"), "{error}");
    assert_eq!(wall.1, 4);
}

#[test]
fn a_step_left_out_leaves_no_trace_in_the_optimiser() {
    let folder = tempfile::tempdir().expect("a folder");
    // At step 4 there is a checkpoint: what is planted there is left out, so that it holds what step 3 left behind.
    let ends = |name: &str, fault: Option<Fault>, steps: &str| {
        let out = folder.path().join(name);
        let config = micro(folder.path(), &[&format!("steps={steps}"), "schedule.kind=constant", "schedule.warmup=0"]);
        match fault {
            Some(fault) => Planter::new(fault, 4).run(&out, config).map(drop),
            None => whole(&out, config).map(drop),
        }
        .expect("it trains");
        last(&out)
    };
    let plain = ends("three", None, "3");
    for (name, fault) in [("loss", Fault::Loss(f64::NAN)), ("gradient", Fault::Gradient(f32::NAN))] {
        let left_out = ends(name, Some(fault), "4");
        for file in ["model.safetensors", "training/optimizer.safetensors"] {
            assert!(plain[Path::new(file)] == left_out[Path::new(file)], "{name}: {file}");
        }
    }
}

#[test]
fn a_tenfold_loss_is_left_out_or_gone_back_from_and_the_run_ends_as_a_clean_one() {
    let folder = tempfile::tempdir().expect("a folder");
    // Letters drawn at random, each half as often as the one before: there is a loss that nobody comes below, and nothing to be
    // learnt by heart.
    let rng = Rng::seed(7);
    let letters = (0..80_000).map(|i| [b'a', b'b', b'c', b'\n', b'd'][rng.u32(i).leading_zeros().min(4) as usize]);
    fs::write(folder.path().join("text.txt"), letters.collect::<Vec<u8>>()).expect("the folder is ours");
    let sets =
        ["steps=300", "eval.every=300", "checkpoint.every=20", "sample.every=0", "optimizer.learning_rate=0.002"];
    let clean = whole(&folder.path().join("clean"), micro(folder.path(), &sets)).expect("it trains");
    let clean = clean.val_loss.expect("a text was held out");
    for policy in ["skip", "rewind"] {
        let policy_set = format!("guard.spike={policy}");
        let sets: Vec<&str> = sets.iter().copied().chain([policy_set.as_str()]).collect();
        let mut planter = Planter::new(Fault::Spike(10.0), 50);
        let outcome = planter.run(&folder.path().join(policy), micro(folder.path(), &sets)).expect("it trains");
        let told = planter.events("spike");
        assert!(told.len() == 1 && told[0].contains("far above what it was"), "{told:?}");
        assert!(policy == "skip" || told[0].contains("back to step 40"), "{told:?}");
        assert_eq!(outcome.steps, 300);
        let loss = outcome.val_loss.expect("a text was held out");
        assert!((loss - clean).abs() < 0.01 * clean, "{policy}: {loss}, clean {clean}");
    }
}

#[test]
fn an_id_outside_the_vocabulary_ends_the_run_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(3)).expect("it trains");
    let shard = out.join("data/train-0/00000.shard");
    let mut bytes = fs::read(&shard).expect("a shard");
    // Behind the header, tokens of two bytes.
    bytes[160..160 + 2000].fill(0xFF);
    fs::write(&shard, bytes).expect("the folder is ours");
    let error = train(resume(&out, &mut ()), &mut Listener::default()).expect_err("an id of 65535");
    assert_eq!(error.exit_code(), 3);
    let error = error.to_string();
    assert!(
        error.contains("00000.shard: token ") && error.contains("found the id 65535, expected an id below"),
        "{error}"
    );
}

/// Does something to a path behind a step.
struct Meddler<F: FnMut(u64)>(F);

impl<F: FnMut(u64)> Watch for Meddler<F> {
    fn record(&mut self, record: &Record) {
        if let Record::Step(step) = record {
            (self.0)(step.step);
        }
    }
}

#[test]
fn a_shard_that_is_removed_while_it_is_read_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = folder.path().join("whole");
    whole(&reference, micro(folder.path(), &[])).expect("it trains");
    let out = folder.path().join("run");
    let mut trainer = begin(&out, micro(folder.path(), &[]), &mut ()).expect("it begins");
    let shard = out.join("data/train-0/00000.shard");
    let remove = |step| {
        if step == 3 {
            fs::remove_file(&shard).expect("it is there")
        }
    };
    trainer.train(&Stop::default(), &mut Meddler(remove)).expect("it is mapped");
    assert_same(&last(&reference), &last(&out));
}

#[test]
fn a_run_s_folder_that_vanishes_ends_it_with_the_path() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, gone) in [("run", ""), ("log", "metrics.jsonl")] {
        let out = folder.path().join(name);
        let mut trainer = begin(&out, micro(folder.path(), &["steps=40"]), &mut ()).expect("it begins");
        let victim: PathBuf = out.join(gone);
        let remove = |step| {
            if step == 6 {
                // Moved, as a checkpoint may be being written into it.
                fs::rename(&victim, folder.path().join(format!("{name}-gone"))).expect("it is there");
            }
        };
        let result = trainer.train(&Stop::default(), &mut Meddler(remove));
        if name == "run" {
            let error = result.expect_err("there is nowhere to write").to_string();
            assert!(error.contains(out.to_str().expect("UTF-8")), "{error}");
            assert!(!RunDir::is_run(&out), "nothing that looks like a run is made in its place");
        } else {
            // Its lines go where nobody sees them; the run itself is whole.
            assert_eq!(result.expect("checkpoints have their place").steps, 40);
        }
    }
}

#[test]
fn a_place_for_checkpoints_that_comes_back_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = folder.path().join("whole");
    whole(&reference, micro(folder.path(), &[])).expect("it trains");
    let out = folder.path().join("run");
    let mut trainer = begin(&out, micro(folder.path(), &["eval.every=100"]), &mut ()).expect("it begins");
    let place = out.join("checkpoints");
    let meddle = |step| match step {
        // A file where the folder belongs: nothing can be written until step 5.
        4 => fs::write(&place, "").expect("no checkpoint has been written yet"),
        5 => fs::remove_file(&place).expect("it is ours"),
        _ => {}
    };
    let outcome = trainer.train(&Stop::default(), &mut Meddler(meddle)).expect("it was tried again");
    assert_eq!(outcome.steps, 12);
    let weights = |out: &Path| last(out).remove(Path::new("model.safetensors")).expect("a model");
    assert!(weights(&reference) == weights(&out));
}

#[test]
fn a_place_that_takes_no_folder_is_refused_before_the_first_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, text()).expect("the folder is ours");
    let error = begin(&file.join("run"), micro(folder.path(), &[]), &mut ()).err().expect("a file holds no folder");
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn a_log_from_a_clock_that_jumped_makes_no_rate_negative_or_infinite() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, time) in [("back", "-1e9"), ("ahead", "1e300"), ("still", "0.0")] {
        let out = folder.path().join(name);
        train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(5)).expect("it trains");
        let log = out.join("metrics.jsonl");
        let lines = fs::read_to_string(&log).expect("a log");
        let jumped: Vec<String> = lines
            .lines()
            .map(|line| match line.split_once("\"time\":") {
                Some((before, after)) if line.contains("\"step\":5") => {
                    let end = after.find([',', '}']).expect("the value ends");
                    format!("{before}\"time\":{time}{}", &after[end..])
                }
                _ => line.to_string(),
            })
            .collect();
        assert_ne!(jumped.join("\n"), lines.trim_end());
        fs::write(&log, jumped.join("\n") + "\n").expect("the folder is ours");
        let mut listener = Listener::default();
        let outcome = train(resume(&out, &mut ()), &mut listener).expect("it trains");
        assert!((0.0..1000.0).contains(&outcome.seconds), "{name}: {}", outcome.seconds);
        let mut before = 0.0;
        for record in &listener.records {
            if let Record::Step(step) = record {
                let rate = step.values["tokens_per_s"];
                assert!(rate > 0.0 && rate.is_finite() && (before..1000.0).contains(&step.time), "{name}: {step:?}");
                before = step.time;
            }
        }
    }
}

/// Rates and times to come are differences of a clock that is never set; only names and stamps of files know the date.
#[test]
fn the_loop_knows_no_clock_that_can_be_set() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for (name, bytes) in common::files(&source) {
        let text = String::from_utf8(bytes).expect("source text");
        seen += usize::from(text.contains("Instant"));
        assert!(!text.contains("SystemTime") || name == Path::new("tensorboard.rs"), "{}", name.display());
    }
    assert!(seen >= 3);
}
