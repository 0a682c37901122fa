//! Signals, readers that go away, limits of the system, other time zones.
#![cfg(unix)]

mod common;

use common::micro::{Micro, assert_same, wait_for};
use common::{arg, cupola};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn send(signal: &str, id: u32) {
    let sent = Command::new("kill").args([signal, &id.to_string()]).status().expect("there is a kill");
    assert!(sent.success());
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let micro = Micro::new();
    // A step that takes long: the first interrupt waits for it, the second does not.
    let slow = ["--steps", "100000", "--set", "batch.rows=65536", "--set", "batch.micro_rows=4"];
    let mut child = micro.spawn("run", &slow);
    assert!(wait_for(&mut child, &micro.path("run").join("run.json"), 10));
    // The handler is there as soon as the trainer has opened its event file.
    let events = micro.path("run").join("tensorboard");
    while fs::read_dir(&events).map_or(0, Iterator::count) == 0 {
        assert!(child.try_wait().expect("the child is ours").is_none());
        std::thread::yield_now();
    }
    send("-INT", child.id());
    let began = Instant::now();
    while child.try_wait().expect("the child is ours").is_none() {
        send_again(child.id());
        // Within a second; twice that for a machine that has other things to do.
        assert!(began.elapsed() < Duration::from_secs(2), "it does not end");
    }
    let status = child.wait().expect("the child is ours");
    assert_eq!(status.code(), Some(130), "{status}");
}

/// Signals of one kind that arrive together count once, so that the second may have to be sent again.
fn send_again(id: u32) {
    let _ = Command::new("kill").args(["-INT", &id.to_string()]).stderr(Stdio::null()).status();
}

#[test]
fn a_reader_that_goes_away_ends_nothing_loudly() {
    let micro = Micro::new();
    // Of what it says on its way: training goes on, and nothing is lost.
    micro.train("whole", &["--steps", "60"]).ok();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
    command.args(micro.arguments("deaf", &["--steps", "60"])).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut first = String::new();
    BufReader::new(child.stderr.take().expect("it was asked for")).read_line(&mut first).expect("a line");
    assert!(!first.is_empty());
    let status = child.wait().expect("the child is ours");
    assert_eq!(status.code(), Some(0), "{status}");
    assert_same(&micro.last("whole"), &micro.last("deaf"));
    // Of its results: a quiet end.
    let run = micro.path("whole");
    for arguments in [
        vec!["train", "--resume", "--json", "--out", arg(&run)],
        vec!["eval", arg(&run), "--json"],
        vec!["model", "inspect", arg(&run)],
        vec!["generate", arg(&run), "--tokens", "400"],
        vec!["config", "schema"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.args(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().expect("it was asked for").read_to_string(&mut err).expect("text");
        let status = child.wait().expect("the child is ours");
        assert!(!err.contains("panicked") && !err.contains("error"), "{arguments:?}: {err}");
        assert!(status.code() == Some(0), "{arguments:?}: {status}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_limit_on_memory_refuses_what_does_not_fit_and_never_aborts_without_a_word() {
    let micro = Micro::new();
    let text = micro.path("text.txt");
    let limited = |kib: u64, out: &str, more: &[&str]| {
        let script = format!("ulimit -v {kib}; exec \"$0\" \"$@\"");
        let mut command = Command::new("bash");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_cupola"), "train", arg(&text), "--out"]);
        command.arg(micro.path(out)).args(["--threads", "1", "--steps", "2", "--tokenizer", "bytes"]).args(more);
        // The standard library's backtrace wants memory itself: without any it may wait for its own lock for ever.
        command.env("RUST_BACKTRACE", "0").output().expect("a shell")
    };
    // 124 million parameters need gigabytes.
    let refused = limited(1_500_000, "large", &["--preset", "llama-124m"]);
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{err}");
    assert!(err.contains("the run would take about") && err.contains("of the machine's 1464 MB"), "{err}");
    assert!(err.contains("smaller batch.micro_rows") && err.contains("or a smaller preset"), "{err}");
    // A small model has room, and what the estimate cannot know ends with a message.
    let small = ["--set", "model.spec={hidden_size=16,num_hidden_layers=1,attention={num_attention_heads=2}}"];
    let mut ends = Vec::new();
    for kib in [1_500_000, 400_000, 200_000, 120_000, 90_000] {
        let output = limited(kib, &format!("small-{kib}"), &small);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || err.contains("memory"), "{kib} KiB: {} {err:?}", output.status);
        assert_ne!(output.status.signal(), Some(11), "{kib} KiB: {err}");
        ends.push(output.status.success());
    }
    assert!(ends[0] && !ends[4], "a small model trains in 1.5 GB, and not in 90 MB: {ends:?}");
}

#[test]
fn the_time_zone_and_the_language_change_nothing() {
    let micro = Micro::new();
    let run = |out: &str, zone: &str, language: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cupola"));
        command.args(micro.arguments(out, &["--steps", "20", "--json"]));
        let output = command.env("TZ", zone).env("LC_ALL", language).output().expect("the program starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let info = fs::read(micro.path(out).join("run.json")).expect("a run");
        let info: serde_json::Value = serde_json::from_slice(&info).expect("JSON");
        assert_eq!(info["code"]["hash"].as_str().map(str::len), Some(64));
        info["created"].as_str().expect("a time").to_string()
    };
    let (here, there) = (run("a", "UTC", "C"), run("b", "Pacific/Kiritimati", "tr_TR.ISO-8859-9"));
    // Both in UTC, in one minute of this test.
    assert!(here.ends_with('Z') && there.ends_with('Z') && here[..13] <= there[..13], "{here} {there}");
    assert_same(&micro.last("a"), &micro.last("b"));
}

#[test]
fn low_rank_additions_are_trained_measured_merged_and_looked_at() {
    let micro = Micro::new();
    micro.train("base", &["--steps", "40"]).ok();
    let (text, base, tuned) = (micro.path("text.txt"), micro.path("base"), micro.path("tuned"));
    let mut arguments =
        vec!["train", arg(&text), "--from", arg(&base), "--lora=2", "--out", arg(&tuned), "--steps", "30"];
    arguments.extend(["--set", "batch.window=16", "--set", "batch.rows=4", "--set", "optimizer.learning_rate=0.02"]);
    let run = cupola(&arguments, b"").ok();
    assert!(run.err.contains("of them trained"), "{}", run.err);
    let loss = |model: &std::path::Path, more: &[&str]| {
        let mut arguments = vec!["eval", arg(model), arg(&text), "--window", "16", "--json"];
        arguments.extend(more);
        cupola(&arguments, b"").ok().json()[0]["loss"].as_f64().expect("a number")
    };
    let (before, after) = (loss(&base, &["--checkpoint", "last"]), loss(&tuned, &["--checkpoint", "last"]));
    assert!(after < before, "{after} {before}");
    let merged = micro.path("merged");
    let done =
        cupola(&["model", "merge", arg(&tuned), "--checkpoint", "last", "--out", arg(&merged), "--json"], b"").ok();
    assert_eq!(done.json()[0]["merged"], 7);
    assert!((loss(&merged, &[]) - after).abs() < 1e-5);
    let write = |model: &std::path::Path, more: &[&str]| {
        let mut arguments = vec!["generate", arg(model), "--prompt", "the fur", "--tokens", "12", "--temperature", "0"];
        arguments.extend(more);
        cupola(&arguments, b"").ok().text().to_string()
    };
    assert_eq!(write(&merged, &[]), write(&tuned, &["--checkpoint", "last"]));
    let shown = cupola(&["model", "inspect", arg(&tuned), "--json"], b"").ok().json();
    let names: Vec<&str> =
        shown[0]["tensors"].as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(names.iter().all(|name| name.contains(".lora_")) && names.len() == 14, "{names:?}");
    cupola(&["model", "merge", arg(&tuned), "--out", arg(&merged)], b"").fails(2, "there is a model already");
    cupola(&["model", "merge", arg(&base), "--out", arg(&micro.path("x"))], b"")
        .fails(2, "expected low-rank additions");
    // A finished run of additions is a model to go on from only when it is merged.
    let out = micro.path("y");
    let again = ["train", arg(&text), "--from", arg(&tuned), "--lora", "--out", arg(&out)];
    cupola(&again, b"").fails(2, "`cupola model merge` makes one of them");
}
