//! `cupola demo` without a server, on a clean clone but for the time that it takes; readers that go away.

mod common;

use common::{arg, cupola};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn the_demo_trains_on_the_carried_text_and_records_its_first_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("runs/first");
    let demo = ["demo", "--no-serve", "--steps", "5", "--port", "0", "--out", arg(&out), "--json"];
    let run = cupola(&demo, b"").ok();
    let result = &run.json()[0];
    assert_eq!(result["steps"], 5);
    assert!(result["val_loss"].as_f64().is_some_and(|loss| loss > 1.0 && loss < 10.0), "{result}");
    for word in
        ["the text that this program carries", "dashboard: http://127.0.0.1:", "llama-nano", "next: cupola generate"]
    {
        assert!(run.err.contains(word), "{word}: {}", run.err);
    }
    let log = fs::read_to_string(out.join("metrics.jsonl")).expect("it was written");
    let first: serde_json::Value = log
        .lines()
        .find(|line| line.contains("\"kind\":\"step\""))
        .and_then(|line| serde_json::from_str(line).ok())
        .expect("a step");
    assert_eq!(first["step"], 1);
    // About the logarithm of the vocabulary: nothing is learnt yet.
    let loss = first["loss"].as_f64().expect("a loss");
    assert!((loss - 1024f64.ln()).abs() < 0.7, "{loss}");
    assert!(log.contains("\"kind\":\"sample\""));
}

#[test]
fn a_demo_whose_messages_nobody_reads_ends_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("runs/first");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["demo", "--no-serve", "--steps", "1", "--port", "0", "--out", arg(&out)]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("the child is ours").code(), Some(0));
}

#[test]
fn a_dashboard_whose_reader_has_gone_ends_quietly() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(["dash", arg(folder.path()), "--port", "0"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    let mut said = String::new();
    let mut err = BufReader::new(child.stderr.take().expect("it was asked for"));
    err.read_line(&mut said).expect("text");
    assert_eq!((child.wait().expect("the child is ours").code(), said.as_str()), (Some(0), ""));
}
