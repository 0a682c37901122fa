//! A run that is stopped and gone on with is the run that was not.

mod common;

use common::{Listener, assert_same, begin, last, micro, resume, train, whole};
use cupola_core::pool::with_threads;
use cupola_io::run::{RunDir, Status};

/// Different ways to train, each with all that it has to remember.
const WAYS: [&[&str]; 3] = [
    &["model.dropout=0.2", "optimizer.ema=0.9", "optimizer.kind=muon"],
    &["dtype=bf16", "optimizer.kind=adamw", "data.packing=best_fit", "schedule.kind=cosine"],
    &["optimizer.kind=sgd", "schedule.kind=plateau", "model.gradient_checkpointing=all", "checkpoint.background=false"],
];

#[test]
fn a_stopped_run_ends_with_the_bits_of_the_whole_one_on_any_threads() {
    for way in WAYS {
        let folder = tempfile::tempdir().expect("a folder");
        let reference = folder.path().join("whole");
        let outcome = with_threads(1, || whole(&reference, micro(folder.path(), way))).expect("it trains");
        assert_eq!((outcome.steps, outcome.interrupted), (12, false));
        assert!(outcome.val_loss.is_some_and(f64::is_finite));
        let expected = last(&reference);
        for stop in [1, 5, 11] {
            let out = folder.path().join(stop.to_string());
            let mut listener = Listener::until(stop);
            let first = with_threads(2, || train(begin(&out, micro(folder.path(), way), &mut ()), &mut listener));
            let first = first.expect("it trains");
            assert_eq!((first.steps, first.interrupted), (stop, true));
            let run = RunDir::open(&out).expect("a run");
            assert_eq!(run.info().expect("readable").status, Status::Interrupted);
            let mut listener = Listener::default();
            let rest = with_threads(3, || train(resume(&out, &mut listener), &mut Listener::default()));
            assert_eq!(rest.expect("it trains").steps, 12);
            assert_eq!(listener.events("resume"), [format!("going on from step {stop}")]);
            assert_eq!(run.info().expect("readable").status, Status::Finished);
            assert_same(&expected, &last(&out));
        }
    }
}

#[test]
fn without_its_last_checkpoint_a_run_takes_the_one_before_and_ends_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let reference = folder.path().join("whole");
    whole(&reference, micro(folder.path(), &[])).expect("it trains");
    let out = folder.path().join("part");
    train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(10)).expect("it trains");
    let run = RunDir::open(&out).expect("a run");
    let damaged = run.checkpoint_path(10).join("model.safetensors");
    let mut bytes = std::fs::read(&damaged).expect("a checkpoint");
    let at = bytes.len() - 3;
    bytes[at] ^= 4;
    std::fs::write(&damaged, bytes).expect("the folder is ours");
    let mut listener = Listener::default();
    train(resume(&out, &mut listener), &mut Listener::default()).expect("it trains");
    let message = listener.events("damaged").concat();
    assert!(message.contains("model.safetensors") && message.contains("tensor `"), "{message}");
    assert_eq!(listener.events("resume"), ["going on from step 8"]);
    assert_same(&last(&reference), &last(&out));
}

#[test]
fn what_an_ended_process_left_half_written_is_swept() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("run");
    train(begin(&out, micro(folder.path(), &[]), &mut ()), &mut Listener::until(4)).expect("it trains");
    let left = out.join("checkpoints/.step-000005.77-0.tmp");
    std::fs::create_dir(&left).expect("the folder is ours");
    std::fs::write(left.join("model.safetensors"), "half").expect("as above");
    let mut listener = Listener::default();
    train(resume(&out, &mut listener), &mut Listener::default()).expect("it trains");
    assert!(!left.exists());
    assert!(listener.events("sweep").concat().contains("half written"));
}

#[test]
fn micro_batches_add_up_to_the_bits_of_the_whole_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("text.txt"), common::text().repeat(4)).expect("the folder is ours");
    let made = [1, 2].map(|micro_rows| {
        let out = folder.path().join(micro_rows.to_string());
        let rows = format!("batch.micro_rows={micro_rows}");
        // Norms add up in blocks of 256 tokens, and the head is a matrix of its own.
        let sets = ["batch.window=256", "batch.rows=2", &rows, "steps=4"];
        whole(&out, micro(folder.path(), &sets)).expect("it trains");
        last(&out).remove(std::path::Path::new("model.safetensors")).expect("a model")
    });
    assert!(made[0] == made[1]);
}
