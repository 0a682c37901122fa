//! What is written about the layers is what happened to them.

mod common;

use std::collections::BTreeMap;

use common::{Listener, assert_same, begin, last, micro, train, whole};
use cupola_core::pool::with_threads;
use cupola_io::run::{Histogram, Record, RunDir, Step};
use cupola_nn::Module;

type Weights = BTreeMap<String, Vec<f64>>;

/// The weights of a checkpoint by layer.
fn layers(run: &RunDir, step: u64) -> Weights {
    let folder = run.checkpoint(&format!("step-{step:06}")).expect("a checkpoint");
    let model = cupola_models::load(folder).expect("it can be read");
    let mut layers = Weights::new();
    for (name, param) in model.named_parameters() {
        let parts: Vec<&str> = name.split('.').collect();
        let layer = if parts[0] == "layers" { parts[..2].join(".") } else { parts[0].to_owned() };
        layers.entry(layer).or_default().extend(param.value().expect("it was loaded").to_f64_vec());
    }
    layers
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

fn written(run: &RunDir) -> (Vec<Step>, Vec<Histogram>) {
    let mut tail = run.tail().expect("readable");
    let (mut steps, mut histograms) = (Vec::new(), Vec::new());
    while let Some(record) = tail.read().expect("no damaged line") {
        match record {
            Record::Step(step) => steps.push(step),
            Record::Histogram(histogram) => histograms.push(histogram),
            _ => {}
        }
    }
    (steps, histograms)
}

#[test]
fn ratios_and_histograms_are_those_of_the_checkpoints_around_the_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let sets = ["metrics.histograms_every=4", "checkpoint.every=1", "checkpoint.keep=12", "optimizer.clip=0.01"];
    whole(&out, micro(folder.path(), &sets)).expect("it trains");
    let run = RunDir::open(&out).expect("a run");
    let (steps, histograms) = written(&run);
    for step in &steps {
        let names: Vec<&str> = step.values.keys().filter_map(|name| name.strip_prefix("update_ratio")).collect();
        if step.step % 4 != 0 {
            assert!(names.is_empty(), "{step:?}");
            continue;
        }
        let (before, after) = (layers(&run, step.step - 1), layers(&run, step.step));
        assert_eq!(names.len(), before.len() + 1, "{names:?}");
        let all = |weights: &Weights| weights.values().flatten().copied().collect::<Vec<f64>>();
        let check = |name: &str, old: &[f64], new: &[f64]| {
            let expected = norm(old.iter().zip(new).map(|(a, b)| b - a)) / norm(old.iter().copied());
            let found = step.values[name];
            assert!(expected > 0.0 && (found / expected - 1.0).abs() < 1e-9, "{name}: {found}, expected {expected}");
        };
        check("update_ratio", &all(&before), &all(&after));
        for (layer, old) in &before {
            let new = &after[layer];
            check(&format!("update_ratio/{layer}"), old, new);
            let of = |what: &str| {
                let mut all =
                    histograms.iter().filter(|h| (h.step, &h.name, h.what.as_str()) == (step.step, layer, what));
                all.next().unwrap_or_else(|| panic!("no histogram of {layer} {what}"))
            };
            let count = |what: &str| of(what).counts.iter().sum::<u64>();
            assert_eq!(
                *of("weight"),
                Histogram::of(step.step, layer, "weight", || new.iter().copied()).expect("values")
            );
            let change = || old.iter().zip(new).map(|(a, b)| b - a);
            assert_eq!(*of("update"), Histogram::of(step.step, layer, "update", change).expect("values"));
            assert_eq!(count("gradient"), old.len() as u64);
        }
        // Gradients are shown as they came: their norm is the one that was written down, far above what it was clipped to.
        let middle = |h: &Histogram, bar: usize| (h.edges[bar] + h.edges[bar + 1]) / 2.0;
        let gradients = histograms.iter().filter(|h| h.step == step.step && h.what == "gradient");
        let squares =
            gradients.flat_map(|h| (0..h.counts.len()).map(|bar| h.counts[bar] as f64 * middle(h, bar).powi(2)));
        // A bar stands for its middle, so this is no more than about right.
        let about = squares.sum::<f64>().sqrt() / step.values["grad_norm"];
        assert!((0.7..1.4).contains(&about), "{about} of the norm {}", step.values["grad_norm"]);
    }
    assert_eq!(histograms.len(), 3 * 3 * layers(&run, 1).len());
}

#[test]
fn looking_changes_no_bit_of_the_run_and_sees_the_same_on_any_threads() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Vec::new();
    for (name, every, threads) in [("none", "0", 1), ("each", "1", 1), ("more", "1", 3)] {
        let sets = [format!("metrics.histograms_every={every}")];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let out = folder.path().join(name);
        with_threads(threads, || whole(&out, micro(folder.path(), &sets))).expect("it trains");
        let run = RunDir::open(&out).expect("a run");
        let (steps, histograms) = written(&run);
        let ratios: Vec<_> = steps
            .iter()
            .map(|step| {
                step.values.iter().filter(|(name, _)| name.starts_with("update_ratio")).map(|(_, x)| x.to_bits())
            })
            .map(Iterator::collect::<Vec<u64>>)
            .collect();
        seen.push((ratios, histograms, weights(&out)));
    }
    assert!(seen[0].0.iter().all(Vec::is_empty) && seen[0].1.is_empty());
    assert!(seen[0].2 == seen[1].2 && seen[1].2 == seen[2].2, "the model's bytes differ");
    assert!(seen[1].0 == seen[2].0 && seen[1].1 == seen[2].1);
    assert_eq!(seen[1].0.len(), 12);
}

/// The bytes of the last model.
fn weights(out: &std::path::Path) -> Vec<u8> {
    last(out).remove(std::path::Path::new("model.safetensors")).expect("a model")
}

#[test]
fn frozen_layers_are_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    let config = micro(folder.path(), &["metrics.histograms_every=6", "model.freeze=[\"layers.0.*\"]"]);
    let mut listener = Listener::default();
    train(begin(&out, config, &mut ()), &mut listener).expect("it trains");
    let names: Vec<&str> = listener
        .records
        .iter()
        .filter_map(
            |record| if let Record::Histogram(histogram) = record { Some(histogram.name.as_str()) } else { None },
        )
        .collect();
    assert!(names.contains(&"layers.1") && !names.contains(&"layers.0"), "{names:?}");
    // The rest of the run is as it always was.
    let other = folder.path().join("other");
    whole(&other, micro(folder.path(), &["metrics.histograms_every=6", "model.freeze=[\"layers.0.*\"]"]))
        .expect("it trains");
    assert_same(&last(&out), &last(&other));
}
