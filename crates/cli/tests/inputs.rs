//! What a model is trained and measured on: standard input, shards of others, damaged files, paths from another folder.

mod common;

use common::micro::{Micro, SETS, wait_for};
use common::{Run, arg, cupola};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The arguments with the settings of [`Micro`] but for the tokenizer, and more of them.
fn with_sets<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    let usual = SETS.iter().copied().filter(|set| !set.starts_with("tokenizer"));
    let sets = usual.chain(more.iter().copied()).flat_map(|set| ["--set", set]);
    arguments.iter().copied().chain(sets).collect()
}

fn tokenize(micro: &Micro, tokenizer: &Path, out: &str) -> PathBuf {
    let shards = micro.path(out);
    cupola(&["data", "tokenize", arg(&micro.path("text.txt")), "-t", arg(tokenizer), "-o", arg(&shards)], b"").ok();
    shards.join("00000.shard")
}

#[test]
fn a_model_is_not_measured_on_tokens_of_another_tokenizer_or_on_ids_that_it_has_not() {
    let micro = Micro::new();
    micro.train("run", &["--steps", "2"]).ok();
    micro.train("bytes", &["--steps", "1", "--tokenizer", "bytes"]).ok();
    let run = micro.path("run");
    let own = tokenize(&micro, &run.join("data/tokenizer"), "own");
    let others = tokenize(&micro, &micro.path("bytes").join("data/tokenizer"), "others");
    cupola(&["eval", arg(&run), arg(&own), "--window", "16"], b"").ok();
    cupola(&["eval", arg(&run), arg(&others), "--window", "16"], b"").fails(3, "the shards are of the tokenizer ");
    // A model directory whose tokenizer has more tokens than the model.
    let mixed = micro.path("mixed");
    fs::create_dir(&mixed).expect("the folder is ours");
    let last = |name: &str| {
        let root = micro.path(name).join("checkpoints");
        root.join(fs::read_to_string(root.join("last")).expect("there is a checkpoint").trim())
    };
    for (from, file) in [("run", "config.json"), ("run", "model.safetensors"), ("bytes", "tokenizer.json")] {
        fs::copy(last(from).join(file), mixed.join(file)).expect("a file");
    }
    let text = micro.path("text.txt");
    cupola(&["eval", arg(&mixed), arg(&text), "--window", "16"], b"").fails(3, "the size of the model's vocabulary");
    let questions = micro.path("questions.jsonl");
    fs::write(&questions, r#"{"prompt": "the f", "choices": ["ur", "ff"], "answer": 0}"#).expect("the folder is ours");
    cupola(&["eval", arg(&mixed), "--choices", arg(&questions)], b"").fails(3, "line 1: the tokenizer gives the id");
    for option in [["--dtype", "bf16"], ["--window", "16"], ["--rows", "2"]] {
        let run = cupola(&["eval", arg(&run), "--choices", arg(&questions), option[0], option[1]], b"");
        assert!(run.err.contains("--choices") && run.err.contains(option[0]), "{}", run.err);
        run.fails(2, "cannot be used with");
    }
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name_wherever_a_model_is_taken() {
    let micro = Micro::new();
    micro.train("run", &["--steps", "2"]).ok();
    let (run, text, out) = (micro.path("run"), micro.path("text.txt"), micro.path("out"));
    let (tuned, merged) = (micro.path("tuned"), micro.path("merged"));
    let from = ["train", arg(&text), "--from", arg(&run), "--steps", "1"];
    let with = |more: &[&'static str], out: &Path| {
        let mut arguments = from.to_vec();
        arguments.extend(["--set", "batch.window=16", "--set", "batch.rows=4", "--out", arg(out)]);
        arguments.extend(more);
        cupola(&arguments, b"")
    };
    with(&["--lora=2"], &tuned).ok();
    let root = run.join("checkpoints");
    let place = root.join(fs::read_to_string(root.join("best")).expect("a checkpoint").trim());
    let all = |message: &str| {
        let refused = |run: Run| run.fails(3, message);
        refused(cupola(&["generate", arg(&run), "--prompt", "the", "--tokens", "3"], b""));
        refused(cupola(&["eval", arg(&run)], b""));
        refused(cupola(&["eval", arg(&place), arg(&text), "--window", "16"], b""));
        refused(cupola(&["serve", arg(&run), "--port", "0"], b""));
        refused(with(&[], &out));
        refused(with(&["--lora=2"], &out));
        refused(cupola(&["model", "merge", arg(&tuned), "--base", arg(&run), "--out", arg(&merged)], b""));
    };
    for (name, message) in [
        ("model.safetensors", "model.safetensors: tensor `"),
        ("tokenizer.json", "tokenizer.json: the checksum is"),
        ("training/checksums.json", "checksums.json"),
    ] {
        let path = place.join(name);
        let whole = fs::read(&path).expect("a file");
        let mut damaged = whole.clone();
        // In the last number, in a name, in the structure.
        let at = if name.ends_with("safetensors") { whole.len() - 1 } else { 0 };
        damaged[at] ^= 2;
        fs::write(&path, damaged).expect("the folder is ours");
        all(message);
        fs::write(&path, whole).expect("the folder is ours");
    }
    cupola(&["generate", arg(&run), "--prompt", "the", "--tokens", "3"], b"").ok();
    // Of a run of additions, those.
    let root = tuned.join("checkpoints");
    let place = root.join(fs::read_to_string(root.join("best")).expect("a checkpoint").trim());
    let path = place.join("adapter_model.safetensors");
    let mut damaged = fs::read(&path).expect("a file");
    let last = damaged.len() - 1;
    damaged[last] ^= 2;
    fs::write(&path, damaged).expect("the folder is ours");
    cupola(&["model", "merge", arg(&tuned), "--out", arg(&merged)], b"")
        .fails(3, "adapter_model.safetensors: tensor `");
}

#[test]
fn a_run_is_gone_on_with_from_another_folder_than_it_began_in() {
    let micro = Micro::new();
    micro.train("first", &["--steps", "1"]).ok();
    tokenize(&micro, &micro.path("first").join("data/tokenizer"), "shards");
    // Ready shards are read where they are, and the model's own folder is asked again.
    let mut child = Command::new(env!("CARGO_BIN_EXE_cupola"));
    child.current_dir(micro.folder.path());
    let arguments = ["train", "shards/00000.shard", "--tokenizer", "first/data/tokenizer", "--out", "run"];
    child.args(with_sets(&arguments, &["steps=300"]));
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().expect("the program starts");
    assert!(wait_for(&mut child, &micro.path("run").join("metrics.jsonl"), 2000));
    child.kill().expect("the child is ours");
    child.wait().expect("as above");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .current_dir(elsewhere.path())
        .args(["resume", arg(&micro.path("run"))])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The same run by another way to write the same path.
    let output = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .current_dir(micro.path("shards"))
        .args(["train", "00000.shard", "--out", "../run", "--resume", "--json"])
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn standard_input_is_read_as_what_it_is_said_to_be() {
    let micro = Micro::new();
    let lines: String = (0..60).map(|n| format!("{{\"text\": \"the furnace is lit, {n} times\"}}\n")).collect();
    let out = micro.path("run");
    let arguments = ["train", "-", "--tokenizer", "chars", "--out", arg(&out), "--steps", "2"];
    cupola(&with_sets(&arguments, &["data.format=jsonl"]), lines.as_bytes()).ok();
    let read = |arguments: &[&str], input: &str| cupola(arguments, input.as_bytes()).ok().json().remove(0);
    let stats = read(&["data", "stats", "-", "--format", "jsonl", "--json"], &lines);
    assert_eq!((stats["documents"].as_u64(), stats["lines"].as_u64()), (Some(60), Some(0)));
    let stats = read(&["data", "stats", "-", "--json"], &lines);
    assert_eq!((stats["documents"].as_u64(), stats["lines"].as_u64()), (Some(1), Some(60)));
    let (tokenizer, shards) = (out.join("data/tokenizer"), micro.path("shards"));
    let common = ["-t", arg(&tokenizer), "--json"];
    let mut arguments = vec!["data", "tokenize", "-", "--format", "jsonl", "-o", arg(&shards)];
    arguments.extend(common);
    let made = read(&arguments, &lines);
    let inner: usize = (0..60).map(|n| format!("the furnace is lit, {n} times").len()).sum();
    assert_eq!((made["documents"].as_u64(), made["bytes"].as_u64()), (Some(60), Some(inner as u64)));
    // In the run as well: 54 lines or so are trained on, not their brackets.
    let info: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("run.json")).expect("a run")).expect("JSON");
    assert!(info["data"]["bytes"].as_u64().is_some_and(|bytes| (bytes as usize) < inner), "{info}");
    let eval = read(&["eval", arg(&out), "-", "--window", "16", "--json"], "the furnace is lit, 3 times");
    assert_eq!(eval["bytes"].as_u64(), Some(27));
    cupola(&["data", "stats", "-", "--format", "yaml"], b"").fails(2, "unknown variant `yaml`");
}

#[test]
fn what_was_left_out_is_said_before_the_first_step() {
    let micro = Micro::new();
    let line = |n: usize| if n % 10 == 3 { "{\n".to_string() } else { format!("\"the furnace is lit, {n} times\"\n") };
    let file = micro.path("lines.jsonl");
    fs::write(&file, (0..100).map(line).collect::<String>()).expect("the folder is ours");
    let out = micro.path("run");
    let arguments = ["train", arg(&file), "--tokenizer", "chars", "--out", arg(&out), "--steps", "1"];
    let run = cupola(&with_sets(&arguments, &["data.on_bad=skip"]), b"").ok();
    assert!(run.err.contains("  10 bad lines and files were left out"), "{}", run.err);
}

#[test]
fn of_prompts_and_completions_a_model_learns_the_completions() {
    let micro = Micro::new();
    let words = ["lit", "cold", "open"];
    let noise = |n: usize| (0..20).map(|i| char::from(b'a' + ((n * n * 7 + i * i * n) % 26) as u8)).collect::<String>();
    let line = |n: usize| serde_json::json!({ "prompt": noise(n), "completion": format!(" it is {}", words[n % 3]) });
    let file = micro.path("pairs.jsonl");
    fs::write(&file, (0..300).map(|n| line(n).to_string() + "\n").collect::<String>()).expect("the folder is ours");
    let out = micro.path("run");
    let arguments = ["train", arg(&file), "--tokenizer", "chars", "--out", arg(&out), "--steps", "80", "--json"];
    let sets = ["batch.window=32", "optimizer.ema=0.0", "model.dropout=0.0"];
    let run = cupola(&with_sets(&arguments, &sets), b"").ok();
    // Nobody could guess the letters of the prompts, which cost more than two nats each.
    assert!(run.json()[0]["val_loss"].as_f64().is_some_and(|loss| loss < 1.0), "{}", run.text());
}
