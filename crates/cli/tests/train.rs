//! `cupola train` and what follows it, run as a user runs them: killed, stopped, gone on with.

mod common;

use common::micro::{Micro, SETS, assert_same, wait_for};
use common::{arg, cupola};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[test]
fn a_run_killed_at_many_moments_ends_with_the_bits_of_one_that_was_not() {
    let micro = Micro::new();
    let steps = ["--steps", "300"];
    micro.train("whole", &steps).ok();
    let metrics = micro.path("killed").join("metrics.jsonl");
    let mut kills = 0;
    let wanted = if cfg!(feature = "long-tests") { 50 } else { 20 };
    // Moments from a fixed sequence, so that a failure can be repeated.
    let mut moment = 7u64;
    while kills < wanted {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child =
            micro.spawn("killed", &["--steps", "300", "--resume", "--threads", if kills % 2 == 0 { "1" } else { "2" }]);
        let alive = wait_for(&mut child, &metrics, 300 + (moment >> 33) % 2000);
        child.kill().expect("the child is ours");
        child.wait().expect("as above");
        assert!(alive, "the run ended after {kills} kills");
        kills += 1;
        // No half file ever has a final name: what is there can be read.
        let root = micro.path("killed").join("checkpoints");
        let mut saved = 0;
        if let Ok(name) = fs::read_to_string(root.join("last")) {
            assert!(root.join(name.trim()).join("training/state.json").is_file());
            saved = name.trim().trim_start_matches("step-").parse().expect("a step");
        }
        // There is a checkpoint every third step, and the next is not begun before the last is complete: at most the interval that
        // was being written is lost, and the one before it at its very end.
        let log = fs::read_to_string(&metrics).expect("it was written");
        let step =
            |line: &str| serde_json::from_str::<Value>(line).ok().filter(|r| r["kind"] == "step")?["step"].as_u64();
        let reached = log.lines().rev().find_map(step).unwrap_or(0);
        assert!(reached <= saved + 6, "step {reached} was reached, step {saved} is kept");
    }
    let run = micro.train("killed", &["--steps", "300", "--resume", "--json"]).ok();
    assert_eq!(run.json()[0]["steps"], 300);
    assert_same(&micro.last("whole"), &micro.last("killed"));
    let log = fs::read_to_string(&metrics).expect("it was written");
    assert!(log.matches("\"resume\"").count() >= 10, "most processes went on with a checkpoint");
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_ends_with_130_and_the_run_goes_on_where_it_was() {
    let micro = Micro::new();
    micro.train("whole", &["--steps", "400"]).ok();
    for (index, signal) in ["-INT", "-TERM", "-HUP"].into_iter().enumerate() {
        let out = format!("stopped{index}");
        let mut child = micro.spawn(&out, &["--steps", "400"]);
        assert!(wait_for(&mut child, &micro.path(&out).join("metrics.jsonl"), 2000));
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("there is a kill");
        assert!(sent.success());
        let status = child.wait().expect("the child is ours");
        assert_eq!(status.code(), Some(130));
        let info: Value =
            serde_json::from_slice(&fs::read(micro.path(&out).join("run.json")).expect("a run")).expect("JSON");
        assert_eq!(info["status"], "interrupted");
        cupola(&["resume", arg(&micro.path(&out))], b"").ok();
        assert_same(&micro.last("whole"), &micro.last(&out));
    }
}

#[test]
fn from_text_to_a_model_that_writes_is_measured_and_looked_at() {
    let micro = Micro::new();
    let run = micro.train("run", &["--steps", "60", "--json"]).ok();
    let result = &run.json()[0];
    for key in ["steps", "tokens", "seconds", "train_loss", "val_loss", "val_bits_per_byte"] {
        assert!(result[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {result}");
    }
    assert!(result["checkpoint"].as_str().is_some_and(|path| path.contains("checkpoints/step-")), "{result}");
    assert!(run.err.contains("text") && run.err.contains("held-out loss"), "{}", run.err);
    let out = micro.path("run");
    let write = |seed: &str, threads: &str| {
        let arguments =
            ["generate", arg(&out), "--prompt", "the fur", "--tokens", "20", "--seed", seed, "--threads", threads];
        cupola(&arguments, b"").ok().text().to_string()
    };
    assert_eq!(write("1", "1"), write("1", "2"));
    assert_ne!(write("1", "1"), write("2", "1"));
    assert!(write("1", "1").chars().count() <= 20);
    let eval = cupola(&["eval", arg(&out), "--checkpoint", "last", "--json"], b"").ok().json();
    let (found, expected) = (eval[0]["loss"].as_f64(), result["val_loss"].as_f64());
    assert!(found.zip(expected).is_some_and(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
    let text = micro.path("text.txt");
    let eval = cupola(&["eval", arg(&out), arg(&text), "--window", "16", "--json"], b"").ok().json();
    assert!(eval[0]["perplexity"].as_f64().is_some_and(|value| value > 1.0 && value < 80.0), "{eval:?}");
    let questions = micro.path("questions.jsonl");
    let question =
        r#"{"prompt": "before the furnace is l", "choices": ["it, ", "qqq"], "answer": 0}"#.replace("qqq", "fff");
    fs::write(&questions, question).expect("the folder is ours");
    let eval = cupola(&["eval", arg(&out), "--choices", arg(&questions), "--json"], b"").ok().json();
    assert_eq!(eval[0]["accuracy"], 1.0);
    let model = cupola(&["model", "inspect", arg(&out), "--json"], b"").ok().json();
    assert_eq!(model[0]["spec"]["hidden_size"], 16);
    let names: Vec<&str> =
        model[0]["tensors"].as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(names.iter().any(|name| name.ends_with("layers.0.self_attn.q_proj.weight")), "{names:?}");
    let tree = cupola(&["model", "inspect", arg(&out)], b"").ok();
    assert!(tree.text().contains("self_attn"), "{}", tree.text());
    // A run that is finished is left alone; one that is there is not begun again; another length is not the same run.
    let again = micro.train("run", &["--steps", "60", "--resume", "--json"]).ok().json().remove(0);
    for key in ["steps", "tokens", "train_loss", "val_loss", "val_bits_per_byte", "best_val_loss", "checkpoint"] {
        assert_eq!(again[key], result[key], "{key}");
    }
    let seconds = |of: &Value| of["seconds"].as_f64().expect("a number");
    assert!(seconds(&again) > 0.0 && seconds(&again) <= seconds(result), "{again} {result}");
    micro.train("run", &["--steps", "60"]).fails(3, "there is a run already");
    micro.train("run", &["--steps", "61", "--resume"]).fails(2, "the run has steps=60, and cannot go on with steps=61");
    let log = fs::read_to_string(out.join("metrics.jsonl")).expect("it was written");
    assert!(log.starts_with("{\"kind\":\"header\",\"schema\":1}\n"));
    assert_eq!(log.matches("\"kind\":\"step\"").count(), 60);
    assert!(fs::read_dir(out.join("tensorboard")).expect("a folder").count() >= 1);
}

#[test]
fn what_is_wrong_ends_with_its_exit_code() {
    let micro = Micro::new();
    let file = micro.path("run.toml");
    fs::write(&file, "[optimizer]\nlearning_rat = 1\n").expect("the folder is ours");
    let wrong = "run.toml:2:1: unknown key `learning_rat` in [optimizer]; did you mean `learning_rate`?";
    micro.train("a", &["--config", arg(&file)]).fails(2, wrong);
    cupola(&["config", "check", arg(&file)], b"").fails(2, wrong);
    cupola(&["train", "nothing-there.txt", "--out", arg(&micro.path("a"))], b"").fails(2, "nothing-there.txt");
    micro.train("a", &["--set", "batch.window=4097"]).fails(3, "batch.window = 4097 is longer than");
    fs::write(micro.path("bad.txt"), b"abc\xff").expect("the folder is ours");
    cupola(&["train", arg(&micro.path("bad.txt")), "--out", arg(&micro.path("b"))], b"").fails(3, "byte 3");
    micro.train("text.txt", &[]).fails(3, "text.txt: cannot create the run's folder");
    cupola(&["generate", arg(&micro.path("a"))], b"").fails(3, "config.json");
    cupola(&["train", "--time", "soon"], b"").fails(2, "no time");
    let shown = cupola(&["config", "show", "--set", "steps=5"], b"").ok();
    assert!(shown.text().starts_with("seed = 1\n") && shown.text().contains("steps = 5"), "{}", shown.text());
    let schema = cupola(&["config", "schema"], b"").ok();
    let schema: Value = serde_json::from_str(schema.text()).expect("JSON");
    assert_eq!(schema["properties"]["checkpoint"]["properties"]["every"]["type"], "integer");
}

#[test]
fn a_folder_in_use_is_refused_with_its_owner() {
    let micro = Micro::new();
    let mut child = micro.spawn("run", &["--steps", "1000000"]);
    assert!(wait_for(&mut child, &micro.path("run").join("metrics.jsonl"), 1000));
    let refused = cupola(&["resume", arg(&micro.path("run"))], b"");
    child.kill().expect("the child is ours");
    let id = child.id();
    child.wait().expect("as above");
    refused.fails(3, &format!("in use by process {id} on "));
    // The lock of a process that is gone is no lock.
    let mut child = micro.spawn("run", &["--steps", "1000000", "--resume"]);
    let alive = wait_for(&mut child, &micro.path("run").join("metrics.jsonl"), 1000);
    child.kill().expect("the child is ours");
    child.wait().expect("as above");
    assert!(alive);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_run_with_the_path_and_leaves_the_last_checkpoint() {
    let micro = Micro::new();
    let arguments = micro.arguments("full", &["--steps", "300"]);
    // Files may grow to 48 KiB: enough for checkpoints, not for the metrics of all steps.
    let script = "trap '' XFSZ; ulimit -f 48; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    let output = command.args(["-c", script, env!("CARGO_BIN_EXE_cupola")]).args(&arguments).output().expect("a shell");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let line = err.lines().find(|line| line.contains("cannot write")).unwrap_or_else(|| panic!("{err}"));
    assert!(line.contains("a line of the metrics with ") && line.contains(" bytes could not be written: "), "{line}");
    assert!(line.contains("metrics.jsonl") && line.contains(arg(&micro.path("full"))), "{line}");
    // With room again it goes on.
    let run = micro.train("full", &["--steps", "300", "--resume", "--json"]).ok();
    assert_eq!(run.json()[0]["steps"], 300);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_too_full_for_a_checkpoint_ends_the_run_with_path_and_bytes_and_leaves_the_one_before() {
    let micro = Micro::new();
    // A model of 300 KB; its optimiser's state is larger.
    let larger = "model.spec={hidden_size=80,num_hidden_layers=1,attention={num_attention_heads=2}}";
    let arguments = |out: &str, more: &[&str]| {
        let sets = ["--steps", "60", "--set", larger, "--set", "eval.every=100"];
        micro.arguments(out, &[&sets, more].concat())
    };
    let whole = |arguments: &[String]| cupola(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), b"").ok();
    whole(&arguments("whole", &[]));
    let mut child = Command::new(env!("CARGO_BIN_EXE_cupola"))
        .args(arguments("full", &[]))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let last = micro.path("full").join("checkpoints/last");
    while !last.exists() {
        assert!(child.try_wait().expect("the child is ours").is_none());
        std::thread::yield_now();
    }
    child.kill().expect("the child is ours");
    child.wait().expect("as above");
    let before = micro.last("full");
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" \"$@\"";
    let mut command = Command::new("bash");
    command.args(["-c", script, env!("CARGO_BIN_EXE_cupola")]).args(arguments("full", &["--resume"]));
    let output = command.output().expect("a shell");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let line = err.lines().find(|line| line.contains("could not be written")).unwrap_or_else(|| panic!("{err}"));
    let bytes = line.split(" with ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(line.contains("the checkpoint of step ") && bytes.is_some_and(|bytes| bytes > 300_000), "{line}");
    assert!(line.contains(arg(&micro.path("full").join("checkpoints"))) && line.contains(".safetensors: "), "{line}");
    assert_same(&before, &micro.last("full"));
    whole(&arguments("full", &["--resume"]));
    assert_same(&micro.last("whole"), &micro.last("full"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_refused_before_the_first_step() {
    use std::os::unix::fs::PermissionsExt;
    let micro = Micro::new();
    let refused = |out: &str| {
        let run = micro.train(out, &["--steps", "1000000"]);
        assert!(run.err.contains("cannot ") && !run.err.contains("step 1/"), "{}", run.err);
        assert!(matches!(run.code, Some(1 | 3)), "{:?}", run.code);
        assert!(run.err.contains(out), "{}", run.err);
    };
    #[cfg(target_os = "linux")]
    refused("/proc/self/run");
    let folder = micro.path("locked");
    fs::create_dir(&folder).expect("the folder is ours");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).expect("the folder is ours");
    // Those who may do everything are stopped by no permission.
    if fs::write(folder.join("probe"), "").is_err() {
        refused("locked");
        refused("locked/inside");
    } else {
        println!("half skipped: this user may write everywhere");
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
}

#[test]
fn text_becomes_shards_that_are_counted_read_checked_and_trained_on() {
    let micro = Micro::new();
    micro.train("run", &["--steps", "1"]).ok();
    let tokenizer = micro.path("run").join("data/tokenizer");
    let (text, shards) = (micro.path("text.txt"), micro.path("shards"));
    let made =
        cupola(&["data", "tokenize", arg(&text), "-t", arg(&tokenizer), "-o", arg(&shards), "--json"], b"").ok().json();
    let bytes = fs::metadata(&text).expect("a file").len();
    assert_eq!((made[0]["bytes"].as_u64(), made[0]["documents"].as_u64()), (Some(bytes), Some(1)));
    let stats = cupola(&["data", "stats", arg(&text), "-t", arg(&tokenizer), "--json"], b"").ok().json();
    assert_eq!((stats[0]["tokens"].as_u64(), stats[0]["characters"].as_u64()), (Some(bytes), Some(bytes)));
    let shown = cupola(&["data", "inspect", arg(&shards), "-t", arg(&tokenizer), "--tokens", "12"], b"").ok();
    assert!(shown.text().contains("<|endoftext|>before the"), "{}", shown.text());
    cupola(&["data", "validate", arg(&shards.join("00000.shard")), arg(&text)], b"").ok();
    let (a, b) = (micro.path("a.txt"), micro.path("b.txt"));
    cupola(&["data", "split", arg(&text), "--train", arg(&a), "--val", arg(&b)], b"").ok();
    let joined = [fs::read(&a).expect("a file"), fs::read(&b).expect("a file")].concat();
    assert!(joined == fs::read(&text).expect("a file") && !fs::read(&b).expect("a file").is_empty());
    let sets: Vec<&str> =
        SETS.iter().filter(|set| !set.starts_with("tokenizer")).flat_map(|set| ["--set", set]).collect();
    let shard = shards.join("00000.shard");
    let out = micro.path("from-shards");
    let mut arguments = vec!["train", arg(&shard), "--tokenizer", arg(&tokenizer), "--out", arg(&out), "--steps", "4"];
    arguments.extend(&sets);
    cupola(&arguments, b"").ok();
    let mut damaged = fs::read(&shard).expect("a file");
    damaged[200] ^= 1;
    fs::write(&shard, damaged).expect("the folder is ours");
    cupola(&["data", "validate", arg(&shard)], b"").fails(3, "00000.shard: the checksum");
}

#[test]
fn tiny_shakespeare_trains_where_it_is_there() {
    let Some(data) = std::env::var_os("CUPOLA_TEST_DATA") else {
        println!("skipped: CUPOLA_TEST_DATA is not set");
        return;
    };
    let micro = Micro::new();
    let text = PathBuf::from(data).join("tinyshakespeare.txt");
    let out = micro.path("run");
    let mut arguments = vec!["train", arg(&text), "--out", arg(&out), "--steps", "3", "--json", "--tokenizer", "chars"];
    let sets: Vec<&str> = SETS[..1].iter().flat_map(|set| ["--set", set]).collect();
    arguments.extend(&sets);
    let run = cupola(&arguments, b"").ok();
    assert_eq!(run.json()[0]["steps"], 3);
    assert!(run.err.contains("66 tokens") && run.err.contains("1,003,855 tokens, 111,540 held out"), "{}", run.err);
}
