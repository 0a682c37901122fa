//! Every family of presets learns, through the whole trainer. Takes minutes, so it is a feature.
#![cfg(feature = "long-tests")]

mod common;

use common::{Listener, begin, micro, train};
use cupola_io::run::Record;
use cupola_models::spec::FAMILIES;

#[test]
fn every_preset_s_loss_falls_within_fifty_steps_on_the_carried_text() {
    let folder = tempfile::tempdir().expect("a folder");
    for family in FAMILIES {
        let preset = format!("{family}-nano");
        let sets = [
            "steps=50",
            "batch.window=64",
            "batch.rows=8",
            "batch.micro_rows=8",
            "sample.every=0",
            "eval.every=50",
            "data.held_out=0.02",
        ];
        let mut config = micro(folder.path(), &sets);
        config.model.spec = None;
        config.model.preset = Some(preset.clone());
        config.data.paths.clear();
        config.checkpoint.every = Some(50);
        let mut listener = Listener::default();
        let outcome = train(begin(&folder.path().join(&preset), config, &mut ()), &mut listener);
        let outcome = outcome.unwrap_or_else(|error| panic!("{preset}: {error}"));
        let first = listener.records.iter().find_map(|record| match record {
            Record::Step(step) => step.values.get("loss").copied(),
            _ => None,
        });
        let (first, last) = (first.expect("a first step"), outcome.val_loss.expect("a text was held out"));
        println!("{preset}: {first:.3} -> {last:.3}");
        assert!(last < first - 0.8, "{preset}: {first} -> {last}");
    }
}
